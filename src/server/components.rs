//! The components of this process: each an ordinary client of the API with an identity of its own.

use std::sync::Arc;

use coracle_apiserver::ApiServer;
use coracle_apiserver::authn::{User, service_account};
use coracle_base::clock::Clock;
use coracle_base::shutdown::Shutdown;
use coracle_base::task::{self, Task, TaskError};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};

use crate::config::Config;
use crate::error::Error;
use crate::pki::Pki;

/// What components are made from.
pub struct Parts<'a> {
    pub config: &'a Config,
    pub server: &'a ApiServer,
    pub pki: &'a Pki,
    pub shutdown: &'a Shutdown,
}

/// What was started, in order.
pub struct Components {
    running: Vec<(&'static str, Task<()>)>,
}

impl Components {
    /// Starts everything that the configuration does not leave out.
    pub fn start(parts: &Parts<'_>) -> Self {
        let mut components = Self { running: Vec::new() };
        components.add("controllers", controllers(parts));
        components.add("scheduler", scheduler(parts));
        components
    }

    fn add(&mut self, name: &'static str, component: BoxFuture<'static, ()>) {
        self.running.push((name, task::spawn(name, component)));
    }

    /// Completes when shutdown begins, or with an error when a component ends before it.
    pub async fn watch(&mut self, shutdown: &Shutdown) -> Result<(), Error> {
        let mut ends: FuturesUnordered<_> =
            self.running.iter_mut().map(|(name, task)| async move { (*name, task.await) }).collect();
        match shutdown.bound(ends.next()).await {
            None => Ok(()),
            Some(None) => {
                shutdown.begun().await;
                Ok(())
            }
            // A component may see the shutdown first.
            Some(Some(_)) if shutdown.has_begun() => Ok(()),
            Some(Some((part, outcome))) => {
                let reason = outcome.map_or_else(|error: TaskError| error.to_string(), |()| "it gave up".to_owned());
                Err(Error::Ended { part, reason })
            }
        }
    }

    /// Waits for each that still runs, the last one started first.
    pub async fn stop(self) {
        for (name, task) in self.running.into_iter().rev().filter(|(_, task)| !task.is_finished()) {
            if let Err(error) = task.await {
                tracing::warn!(name, %error, "stopped badly");
            }
        }
    }
}

/// A client that acts as `user`, through the whole chain but without a wire.
pub fn client(server: &ApiServer, user: Arc<User>) -> kube::Client {
    kube::Client::new(server.service(user), "default")
}

/// The user of that name, with the groups that such users have.
fn user(name: &str) -> Arc<User> {
    Arc::new(match service_account::split_user_name(name) {
        Some((namespace, account)) => service_account::user(namespace, account, ""),
        None => User::new(name, &[]),
    })
}

fn controllers(parts: &Parts<'_>) -> BoxFuture<'static, ()> {
    let server = parts.server.clone();
    Box::pin(coracle_controllers::run_all(coracle_controllers::Context {
        source: parts.server.source(user("system:kube-controller-manager")),
        client: Arc::new(move |name| client(&server, user(name))),
        clock: Clock::system(),
        shutdown: parts.shutdown.child(),
        root_ca: parts.pki.server.certificate.clone(),
    }))
}

fn scheduler(parts: &Parts<'_>) -> BoxFuture<'static, ()> {
    let own = user("system:kube-scheduler");
    Box::pin(coracle_scheduler::run(coracle_scheduler::Context {
        source: parts.server.source(own.clone()),
        client: client(parts.server, own),
        clock: Clock::system(),
        shutdown: parts.shutdown.child(),
        host: parts.config.host.clone(),
    }))
}
