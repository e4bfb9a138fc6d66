//! How connections reach the node server: TLS on its port, or a stream of the API server in this process.

use std::sync::Arc;
use std::time::Duration;

use coracle_base::shutdown::Shutdown;
use coracle_base::task;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::{NodeServer, Trust};

/// A client that does not finish its handshake or its head in this time is dropped.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a client's certificates make it an API server or an administrator.
pub type Trusted = Arc<dyn Fn(&[CertificateDer<'static>]) -> bool + Send + Sync>;

impl NodeServer {
    /// Serves one stream until it ends.
    pub async fn serve<IO>(self, stream: IO, trust: Trust)
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(move |request| {
            let server = self.clone();
            async move { Ok::<_, std::convert::Infallible>(server.answer(request, trust).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        if let Err(error) = connection.await {
            tracing::debug!(%error, "node server connection ended");
        }
    }

    /// Accepts connections until shutdown. `tls` must check that clients hold the keys of their certificates; `trusted` judges
    /// these, the client's own first.
    pub async fn listen(
        self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        trusted: Trusted,
        shutdown: Shutdown,
    ) {
        let acceptor = TlsAcceptor::from(tls);
        while let Some(accepted) = shutdown.bound(listener.accept()).await {
            let Ok((stream, _)) = accepted else {
                // Out of file descriptors: closing connections will bring some back.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            let (server, acceptor, shutdown) = (self.clone(), acceptor.clone(), shutdown.clone());
            let trusted = trusted.clone();
            task::spawn("node-server", async move {
                let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await else { return };
                let trust = match stream.get_ref().1.peer_certificates() {
                    Some(chain) if trusted(chain) => Trust::Full,
                    _ => Trust::None,
                };
                shutdown.bound(server.serve(stream, trust)).await;
            })
            .detach();
        }
    }
}
