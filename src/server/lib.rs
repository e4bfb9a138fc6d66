//! Assembly: the only crate that sees the others.
//!
//! Invariants: `run` is one linear function that reads as the story of a start; the listener is bound and answers
//! health before anything else is ready; every component gets an identity of its own and nothing but the API;
//! what is started here is stopped here, in reverse.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coracle_apiserver::authn::{TokenIssuer, User};
use coracle_apiserver::{ApiServer, Network, Networks, Options};
use coracle_base::shutdown::Shutdown;
use coracle_base::task::{self, Task};

pub mod api;
pub mod bootstrap;
pub mod cidr;
pub mod cluster;
pub mod components;
pub mod config;
pub mod data_directory;
pub mod dialer;
pub mod error;
pub mod gate;
pub mod join;
pub mod joined;
pub mod kubeconfig;
pub mod listener;
pub mod manifests;
pub mod memory;
pub mod node;
pub mod notify;
pub mod persistence;
pub mod pki;
pub mod pod_directories;
pub mod renewal;
pub mod requirements;
pub mod signer;
pub mod sys;
pub mod tls;
pub mod token;
pub mod tunnel;
pub mod uninstall;

pub use cidr::Cidr;
pub use config::{Config, JoinConfig, NetworkConfig, NodeConfig, Part};
pub use coracle_network::Backend;
pub use coracle_network::cni::dispatch as cni_dispatch;
pub use error::Error;

use api::Api;
use components::{Components, Parts};
use data_directory::DataDirectory;
use dialer::LocalDialer;
use gate::Gate;
use listener::Listener;
use pki::Pki;
use renewal::Certificates;
use tls::Tls;
use tunnel::Tunnels;

/// A stop takes no longer than this; what is not finished then is aborted.
const STOP: Duration = Duration::from_secs(5);

/// Runs a server until shutdown begins or a part of it fails.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
    let started = std::time::Instant::now();
    let directory = DataDirectory::open(&config.data_dir)?;
    if config.node.as_ref().is_some_and(|node| node.container_runtime_endpoint.is_none()) {
        requirements::check(&config.data_dir)?;
    }
    let listener = Listener::bind(config.bind_address, config.https_listen_port).await?;
    let port = listener.port();

    let pki = Arc::new(Pki::open(directory.server("tls"))?);
    let certificates = Certificates::new(pki.clone(), &config, port);
    let tls = Arc::new(Tls::api(&certificates.serving()?, &pki.client.certificate)?);
    let token = token::open(&directory.server("token"), config.token.as_deref(), &pki.server.certificate)?;
    let tunnels = Tunnels::default();
    let gate = Gate::new(&pki.server.certificate, tunnels.clone());
    let listening = task::spawn("listener", listener.serve(tls.clone(), gate.clone(), shutdown.child()));

    let store = persistence::open(&directory).await?;
    let server = ApiServer::new(Options {
        store: store.clone(),
        issuer: TokenIssuer::new(pki.token_key()?, issuer_url(&config))
            .reached_at(SocketAddr::new(config.advertise_address, port).to_string()),
        networks: networks(&config),
        join_secret: token::secret_of(&token).to_owned(),
    });
    let own = Arc::new(User::api_server());
    let api = Api::new(components::client(&server, own.clone()), "kube-apiserver");
    let dialer = Arc::new(LocalDialer::new(api.clone(), tunnels));
    server.set_dialer(dialer.clone());
    let rules = task::spawn("rules", {
        let (server, shutdown) = (server.clone(), shutdown.child());
        async move { server.run(shutdown).await }
    });
    gate.open(server.clone());

    bootstrap::run(&api, &config, &pki, port)
        .await
        .map_err(Error::setup("the cluster's own objects cannot be made"))?;
    server.authorizer().rbac().synced().await;
    certificates.write_kubeconfig()?;
    gate.set_ready();
    tracing::info!(port, milliseconds = started.elapsed().as_millis(), "API server ready");

    let config = Arc::new(config);
    let node_tls =
        certificates.node_serving()?.map(|leaf| Tls::node(&leaf, &pki.client.certificate)).transpose()?.map(Arc::new);
    let mut components = Components::start(&Parts {
        config: config.clone(),
        node_tls: node_tls.clone(),
        server: server.clone(),
        pki: pki.clone(),
        dialer,
        shutdown: shutdown.clone(),
    })?;
    let kept = task::spawn(
        "bootstrap",
        bootstrap::keep(api, server.source(own.clone()), config.clone(), pki.clone(), port, shutdown.child()),
    );
    let manifests = task::spawn("manifests", {
        let api = Api::new(components::client(&server, own), "coracle-manifests");
        let (folder, record) = (directory.server("manifests"), directory.server("manifests.json"));
        manifests::run(api, folder, record, shutdown.child())
    });
    let renewal = task::spawn("renewal", certificates.keep(tls, node_tls, shutdown.child()));
    let trimming = task::spawn("memory", memory::keep_small(store.clone(), server.bursts(), shutdown.child()));
    notify::ready();
    tracing::info!(kubeconfig = %config.write_kubeconfig.display(), "coracle is up");

    let outcome = tokio::select! {
        outcome = components.watch(&shutdown) => outcome,
        reason = store.failed() => Err(Error::Ended { part: "the store", reason }),
    };
    shutdown.begin();
    let stopping = async {
        components.stop().await;
        drain([listening, rules, kept, manifests, renewal, trimming]).await;
        store.close().await;
    };
    if tokio::time::timeout(STOP, stopping).await.is_err() {
        tracing::warn!("not everything stopped in time");
    }
    tracing::info!("stopped");
    outcome
}

/// Waits until the tasks have seen the shutdown.
async fn drain(tasks: impl IntoIterator<Item = Task<()>>) {
    for task in tasks {
        let _ = task.await;
    }
}

/// The `iss` of service-account tokens, as kubeadm and k3s name it.
fn issuer_url(config: &Config) -> String {
    format!("https://kubernetes.default.svc.{}", config.network.cluster_domain)
}

fn networks(config: &Config) -> Networks {
    let network = |cidr: &Cidr| Network { address: cidr.address(), length: cidr.prefix() };
    let (first, last) = config.network.service_node_ports;
    Networks { services: config.network.service_cidr.iter().map(network).collect(), node_ports: first..=last }
}
