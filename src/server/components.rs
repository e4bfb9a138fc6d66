//! The components of this process: each an ordinary client of the API with an identity of its own.

use std::sync::Arc;

use coracle_apiserver::ApiServer;
use coracle_apiserver::authn::User;
use coracle_base::shutdown::Shutdown;
use coracle_base::task::Task;

use crate::config::Config;
use crate::data_directory::DataDirectory;
use crate::dialer::LocalDialer;
use crate::error::Error;

/// A client that acts as `user`, through the whole chain but without a wire.
pub fn client(server: &ApiServer, user: Arc<User>) -> kube::Client {
    kube::Client::new(server.service(user), "default")
}

/// What was started, in order.
pub struct Components {
    running: Vec<(&'static str, Task<()>)>,
}

impl Components {
    pub fn start(
        _config: &Config,
        _server: &ApiServer,
        _dialer: &Arc<LocalDialer>,
        _directory: &DataDirectory,
        _shutdown: &Shutdown,
    ) -> Self {
        Self { running: Vec::new() }
    }

    /// Completes when shutdown begins, or with an error when a component ends before.
    pub async fn watch(&self, shutdown: &Shutdown) -> Result<(), Error> {
        shutdown.begun().await;
        Ok(())
    }

    /// Waits for each, the last one started first.
    pub async fn stop(self) {
        for (_, task) in self.running.into_iter().rev() {
            let _ = task.await;
        }
    }
}
