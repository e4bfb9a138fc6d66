//! The facts of a connection that a request is judged by.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::authn::{Identity, User};

/// Made once when a connection is accepted, or once for a component of this process.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// `None` for callers in this process.
    pub address: Option<SocketAddr>,
    pub identity: Identity,
}

impl Peer {
    /// A component of this process, acting as `user`.
    pub fn component(user: Arc<User>) -> Self {
        Self { address: None, identity: Identity::Known(user) }
    }

    pub fn is_component(&self) -> bool {
        self.address.is_none()
    }

    /// Whether answers travel over no wire, so that compressing them is a loss.
    pub fn is_local(&self) -> bool {
        self.address.is_none_or(|address| address.ip().to_canonical().is_loopback())
    }
}
