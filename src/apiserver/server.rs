//! The API server as one value: what the chain and the verbs share.

use std::sync::{Arc, OnceLock};

use coracle_api::Status;
use coracle_base::shutdown::Shutdown;
use coracle_store::Store;
use tokio::sync::watch;

use crate::admission::Admission;
use crate::authn::{Authenticator, BootstrapTokens, Lookup, TokenIssuer, User};
use crate::authz::Authorizer;
use crate::dialer::Dialer;
use crate::flight::Flight;
use crate::health::Health;
use crate::load::Load;
use crate::registry::{Networks, Registry, Stored};
use crate::request_metrics::RequestMetrics;

/// Cheap to clone; every clone is the same server.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) inner: Arc<Inner>,
}

/// What is decided before the server starts.
pub struct Options {
    pub store: Store<Stored>,
    /// Signs and verifies service account tokens.
    pub issuer: TokenIssuer,
    /// The secret with which machines ask to become nodes.
    pub join_secret: String,
    /// Where Service addresses and node ports come from.
    pub networks: Networks,
}

pub(crate) struct Inner {
    pub registry: Registry,
    pub lookup: Arc<dyn Lookup>,
    pub authenticator: Authenticator,
    pub authorizer: Arc<Authorizer>,
    pub issuer: TokenIssuer,
    pub admission: Admission,
    pub flight: Flight,
    pub dialer: OnceLock<Arc<dyn Dialer>>,
    pub health: Health,
    pub metrics: RequestMetrics,
    pub load: Load,
    /// Begins when what clients hold open has to end.
    pub stopping: Shutdown,
}

impl ApiServer {
    pub fn new(options: Options) -> Self {
        let registry = Registry::new(options.store, options.networks);
        let lookup: Arc<dyn Lookup> = Arc::new(registry.clone());
        let authorizer = Arc::new(Authorizer::new(lookup.clone()));
        let inner = Inner {
            registry,
            authenticator: Authenticator::new(
                options.issuer.authenticator(lookup.clone()),
                BootstrapTokens::new(options.join_secret, lookup.clone()),
            ),
            lookup,
            admission: Admission::new(authorizer.clone()),
            authorizer,
            issuer: options.issuer,
            flight: Flight::default(),
            dialer: OnceLock::new(),
            health: Health::default(),
            metrics: RequestMetrics::new(),
            load: Load::default(),
            stopping: Shutdown::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    pub fn authorizer(&self) -> &Arc<Authorizer> {
        &self.inner.authorizer
    }

    pub fn authenticator(&self) -> &Authenticator {
        &self.inner.authenticator
    }

    /// Changes with every few hundred requests.
    pub fn bursts(&self) -> watch::Receiver<u64> {
        self.inner.load.bursts()
    }

    /// Named checks that `/readyz` and `/livez` show.
    pub fn health(&self) -> &Health {
        &self.inner.health
    }

    /// How nodes, pods and Services are reached; once. Without it their subresources answer 503.
    pub fn set_dialer(&self, dialer: Arc<dyn Dialer>) {
        let _ = self.inner.dialer.set(dialer);
    }

    /// 503 while nothing can be reached.
    pub(crate) fn dialer(&self) -> Result<&Arc<dyn Dialer>, Status> {
        self.inner
            .dialer
            .get()
            .ok_or_else(|| Status::service_unavailable("no node can be reached from this server yet"))
    }

    /// Keeps the rule base of authorization current until shutdown, then ends the watches and logs that clients follow.
    pub async fn run(&self, shutdown: Shutdown) {
        self.inner.authorizer.rbac().run(self.source(Arc::new(User::api_server())), shutdown).await;
        self.inner.stopping.begin();
    }
}
