//! `Dialer`: the only way from the API server to anything else: nodes, pods, Services.

use async_trait::async_trait;
use coracle_api::Status;
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes both ways. Carries whatever protocol the far side speaks, already authenticated where it is the node's own server.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// Opens streams for exec, logs, port-forward, proxies, webhooks and aggregation; in process, direct, or through the
/// tunnel that a node's agent keeps open. Nothing else in this crate opens a socket.
#[async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// A stream on which the node's server (kubelet API, port 10250) reads HTTP/1.1 requests, as `system:apiserver`.
    async fn node(&self, name: &str) -> Result<Box<dyn ByteStream>, Status>;

    /// A stream to a ready endpoint of a Service port (name or number).
    async fn service(&self, namespace: &str, name: &str, port: &str) -> Result<Box<dyn ByteStream>, Status>;

    /// A stream to a pod's port.
    async fn pod(&self, namespace: &str, name: &str, port: u16) -> Result<Box<dyn ByteStream>, Status>;
}
