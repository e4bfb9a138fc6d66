//! The components of this process: each an ordinary client of the API with an identity of its own.

use std::future::Future;
use std::sync::Arc;

use coracle_agent::node_server::{NodeServer, Trust};
use coracle_apiserver::ApiServer;
use coracle_apiserver::authn::{NODES, User, service_account};
use coracle_base::clock::Clock;
use coracle_base::crypto;
use coracle_base::shutdown::Shutdown;
use coracle_base::task::{self, Task, TaskError};
use coracle_client::lease::{Election, Pace};
use futures::stream::{FuturesUnordered, StreamExt};

use crate::config::Config;
use crate::dialer::LocalDialer;
use crate::error::Error;
use crate::node;
use crate::pki::Pki;
use crate::signer::Signer;
use crate::tls::Tls;

/// What components are made from. Cloning is a few reference counts.
#[derive(Clone)]
pub struct Parts {
    pub config: Arc<Config>,
    pub server: ApiServer,
    pub pki: Arc<Pki>,
    pub dialer: Arc<LocalDialer>,
    /// Of the node's port, where there is a node.
    pub node_tls: Option<Arc<Tls>>,
    pub shutdown: Shutdown,
}

/// What was started, in order.
pub struct Components {
    running: Vec<(&'static str, Task<anyhow::Result<()>>)>,
}

impl Components {
    /// Starts everything that the configuration does not leave out.
    pub fn start(parts: &Parts) -> Result<Self, Error> {
        let mut components = Self { running: Vec::new() };
        components.add("controllers", controllers(parts.clone()));
        components.add("scheduler", scheduler(parts.clone()));
        if let Some(setup) = node::Setup::of(&parts.config, &parts.pki.client.certificate)? {
            components.add("node", own_node(setup, parts.clone()));
        }
        Ok(components)
    }

    fn add(&mut self, name: &'static str, component: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.running.push((name, task::spawn(name, component)));
    }

    /// Completes when shutdown begins, or with an error when a component ends before it.
    pub async fn watch(&mut self, shutdown: &Shutdown) -> Result<(), Error> {
        let tasks = self.running.iter_mut();
        let mut ends: FuturesUnordered<_> = tasks.map(|(name, task)| async move { (*name, task.await) }).collect();
        match shutdown.bound(ends.next()).await {
            None | Some(None) => Ok(()),
            // A component may see the shutdown first.
            Some(Some(_)) if shutdown.has_begun() => Ok(()),
            Some(Some((part, outcome))) => {
                let reason = match outcome {
                    Ok(Ok(())) => "it gave up".to_owned(),
                    Ok(Err(error)) => format!("{error:#}"),
                    Err(error) => TaskError::to_string(&error),
                };
                Err(Error::Ended { part, reason })
            }
        }
    }

    /// Waits for each that still runs, the last one started first.
    pub async fn stop(self) {
        for (name, task) in self.running.into_iter().rev().filter(|(_, task)| !task.is_finished()) {
            match task.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(name, "stopped badly: {error:#}"),
                Err(error) => tracing::warn!(name, %error, "stopped badly"),
            }
        }
    }
}

/// A client that acts as `user`, through the whole chain but without a wire.
pub fn client(server: &ApiServer, user: Arc<User>) -> kube::Client {
    kube::Client::new(server.service(user), "default")
}

/// The user of that name, with the groups that such users have.
pub fn user(name: &str) -> Arc<User> {
    Arc::new(match service_account::split_user_name(name) {
        Some((namespace, account)) => service_account::user(namespace, account, ""),
        None => User::new(name, &[]),
    })
}

/// Runs `work` whenever this process holds the Lease of that name, until shutdown. Upstream: kube-system/NAME.
async fn elected<W: Future<Output = ()>>(parts: &Parts, name: &str, work: impl Fn(Shutdown) -> W) {
    let store = crypto::sha256(parts.pki.server.certificate.as_bytes());
    let election = Election {
        client: client(&parts.server, user(&format!("system:{name}"))),
        namespace: "kube-system".to_owned(),
        name: name.to_owned(),
        identity: format!("{}_{}", parts.config.host, crypto::hex(&store[..8])),
        clock: Clock::system(),
        pace: Pace::ALONE,
    };
    while !parts.shutdown.has_begun() {
        election.lead(&parts.shutdown, &work).await;
    }
}

async fn controllers(parts: Parts) -> anyhow::Result<()> {
    elected(&parts, "kube-controller-manager", |shutdown| {
        let server = parts.server.clone();
        coracle_controllers::run_all(coracle_controllers::Context {
            source: parts.server.source(user("system:kube-controller-manager")),
            client: Arc::new(move |name| client(&server, user(name))),
            clock: Clock::system(),
            shutdown,
            root_ca: parts.pki.server.certificate.clone(),
            authority: Arc::new(Signer::new(parts.pki.clone())),
            pod_ranges: parts.config.network.cluster_cidr.iter().map(node::range).collect(),
        })
    })
    .await;
    Ok(())
}

/// The node in this process: its API is a function call, and so is the API server's way to it.
async fn own_node(setup: node::Setup, parts: Parts) -> anyhow::Result<()> {
    let name = setup.node.name.clone();
    let own = Arc::new(User::new(format!("system:node:{name}"), &[NODES]));
    let access = node::Access {
        agent: parts.server.source(own.clone()),
        network: parts.server.source(user("system:kube-proxy")),
        client: client(&parts.server, own),
    };
    let (dialer, tls) = (parts.dialer.clone(), parts.node_tls.clone());
    let started = move |server: NodeServer| {
        dialer.set_node(
            name,
            Arc::new(move |stream| {
                let server = server.clone();
                Box::pin(server.serve(stream, Trust::Full))
            }),
        );
    };
    node::run(setup, access, tls, started, parts.shutdown.clone()).await
}

async fn scheduler(parts: Parts) -> anyhow::Result<()> {
    elected(&parts, "kube-scheduler", |shutdown| {
        let own = user("system:kube-scheduler");
        coracle_scheduler::run(coracle_scheduler::Context {
            source: parts.server.source(own.clone()),
            client: client(&parts.server, own),
            clock: Clock::system(),
            shutdown,
            host: parts.config.host.clone(),
        })
    })
    .await;
    Ok(())
}
