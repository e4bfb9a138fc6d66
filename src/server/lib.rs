//! Assembly: the only crate that sees the others.
//!
//! Invariants: `run` is one linear function that reads as the story of a start; the listener is bound and answers
//! health before anything else is ready; every component gets an identity of its own and nothing but the API;
//! what is started here is stopped here, in reverse.

pub mod api;
pub mod bootstrap;
pub mod cidr;
pub mod config;
pub mod data_directory;
pub mod dialer;
pub mod error;
pub mod gate;
pub mod kubeconfig;
pub mod listener;
pub mod manifests;
pub mod pki;
pub mod renewal;
pub mod sys;
pub mod tls;
pub mod token;

pub use cidr::Cidr;
pub use config::{Config, NetworkConfig, NodeConfig, Part};
pub use error::Error;

use coracle_base::shutdown::Shutdown;

/// Runs a server until shutdown begins or a part of it fails.
pub async fn run(_config: Config, shutdown: Shutdown) -> Result<(), Error> {
    shutdown.begun().await;
    Ok(())
}
