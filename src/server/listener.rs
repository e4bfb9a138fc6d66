//! The TLS listener: HTTP/1.1 and HTTP/2 on one port, the client's certificate turned into an identity.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use coracle_apiserver::authn::{Identity, certificate};
use coracle_apiserver::{Body, Peer};
use coracle_base::shutdown::Shutdown;
use coracle_base::task;
use http::{Request, Response};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::error::Error;
use crate::gate::Gate;
use crate::tls::Tls;

/// A client that does not finish its handshake or its request's head in this time is dropped.
const PATIENCE: Duration = Duration::from_secs(10);
/// What open requests get to finish once a stop began; the whole stop takes five seconds at most.
const DRAIN: Duration = Duration::from_millis(1500);

/// A bound port.
pub struct Listener {
    socket: TcpListener,
}

impl Listener {
    /// `address` is `None` for every address of the machine, IPv4 and IPv6 alike.
    pub async fn bind(address: Option<IpAddr>, port: u16) -> Result<Self, Error> {
        let candidates = match address {
            Some(address) => vec![address],
            // A machine without IPv6 has no [::].
            None => vec![IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
        };
        let mut failed = None;
        for candidate in candidates {
            let address = SocketAddr::new(candidate, port);
            match TcpListener::bind(address).await {
                Ok(socket) => return Ok(Self { socket }),
                Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
                    return Err(Error::Listen { address, source });
                }
                Err(source) => failed = Some(Error::Listen { address, source }),
            }
        }
        Err(failed.expect("there is at least one candidate"))
    }

    pub fn port(&self) -> u16 {
        self.socket.local_addr().map(|address| address.port()).unwrap_or_default()
    }

    /// Accepts until shutdown begins, then lets open requests finish for a while.
    pub async fn serve(self, tls: Arc<Tls>, gate: Gate, shutdown: Shutdown) {
        let graceful = GracefulShutdown::new();
        while let Some(accepted) = shutdown.bound(self.socket.accept()).await {
            match accepted {
                Ok((stream, address)) => {
                    let connection = Connection { tls: tls.clone(), gate: gate.clone(), address };
                    task::spawn("connection", connection.serve(stream, graceful.watcher())).detach();
                }
                // Out of file descriptors, most likely: wait for some to be closed instead of spinning.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(self.socket);
        if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::debug!("open requests are cut");
        }
    }
}

struct Connection {
    tls: Arc<Tls>,
    gate: Gate,
    address: SocketAddr,
}

impl Connection {
    async fn serve(self, stream: TcpStream, watcher: Watcher) {
        let address = SocketAddr::new(self.address.ip().to_canonical(), self.address.port());
        let _ = stream.set_nodelay(true);
        let handshake = TlsAcceptor::from(self.tls.config()).accept(stream);
        let stream = match tokio::time::timeout(PATIENCE, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, %address, "no TLS"),
            Err(_) => return tracing::debug!(%address, "the TLS handshake takes too long"),
        };
        let identity = self.identity(stream.get_ref().1.peer_certificates());
        let peer = Peer { address: Some(address), identity };
        let gate = self.gate;
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let (gate, peer) = (gate.clone(), peer.clone());
            async move { Ok::<Response<Body>, std::convert::Infallible>(gate.answer(request.map(Body::from), &peer).await) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(250);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, %address, "connection ended");
        }
    }

    fn identity(&self, chain: Option<&[rustls_pki_types::CertificateDer<'static>]>) -> Identity {
        let Some((leaf, rest)) = chain.and_then(<[_]>::split_first) else { return Identity::Unknown };
        if !self.tls.trusts(leaf, rest) {
            return Identity::Foreign;
        }
        certificate::user(leaf).map_or(Identity::Foreign, |user| Identity::Known(Arc::new(user)))
    }
}
