//! The TLS transport of `kube::Client`: one pool of HTTP/2 connections to whichever server answers.
//!
//! A connection goes to the server that worked last, else to the next of the list; which one, no caller sees.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::Body;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// How a cluster is reached.
#[derive(Clone)]
pub struct Endpoint {
    /// `host:port` of every server; at least one.
    pub servers: Vec<String>,
    /// With the client certificate, where one is used.
    pub tls: Arc<rustls::ClientConfig>,
    /// A bearer token, where one is used.
    pub token: Option<String>,
}

impl Endpoint {
    /// The header that carries the token, where one is used.
    pub fn authorization(&self) -> Result<Option<HeaderValue>, TransportError> {
        let Some(token) = &self.token else { return Ok(None) };
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| TransportError::BadToken)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("no server to connect to")]
    NoServer,
    #[error("bearer token holds characters that a header cannot")]
    BadToken,
}

/// How long one server may take to accept a connection before the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is probed after this time, and given up when no answer comes as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// TLS towards anybody, for callers who learn in another way whom they talk to, or who do not care.
pub fn unverified() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.dangerous().with_custom_certificate_verifier(Arc::new(Anyone { schemes })).with_no_client_auth())
}

/// Believes every certificate.
#[derive(Debug)]
struct Anyone {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// A client for the cluster at `endpoint`; needs a running tokio runtime.
pub fn client(endpoint: &Endpoint) -> Result<kube::Client, TransportError> {
    Ok(kube::Client::new(Transport::new(endpoint)?, "default"))
}

/// One HTTP/1.1 connection to a server that answers, for requests that become a stream of their own.
pub async fn connect(endpoint: &Endpoint) -> io::Result<TlsStream<TcpStream>> {
    Ok(Connector::new(endpoint, &[b"http/1.1"]).connect().await?.0.into_inner())
}

/// The tower service under `client`.
#[derive(Clone)]
pub struct Transport {
    pool: legacy::Client<Connector, Body>,
    authority: Authority,
    authorization: Option<HeaderValue>,
}

impl Transport {
    pub fn new(endpoint: &Endpoint) -> Result<Self, TransportError> {
        let first = endpoint.servers.first().ok_or(TransportError::NoServer)?;
        let authority = first.parse().map_err(|_| TransportError::NoServer)?;
        let authorization = endpoint.authorization()?;
        let connector = Connector::new(endpoint, &[b"h2", b"http/1.1"]);
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .build(connector);
        Ok(Self { pool, authority, authorization })
    }
}

impl tower::Service<Request<Body>> for Transport {
    type Response = Response<Incoming>;
    type Error = legacy::Error;
    type Future = legacy::ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(self.authority.clone());
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        self.pool.request(request)
    }
}

/// Opens connections to the first server of the list that answers, beginning with the one that did last.
#[derive(Clone)]
struct Connector {
    servers: Arc<[String]>,
    current: Arc<AtomicUsize>,
    tls: tokio_rustls::TlsConnector,
}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.connect().await })
    }
}

impl Connector {
    fn new(endpoint: &Endpoint, protocols: &[&[u8]]) -> Self {
        let mut tls = (*endpoint.tls).clone();
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Self {
            servers: endpoint.servers.clone().into(),
            current: Arc::new(AtomicUsize::new(0)),
            tls: Arc::new(tls).into(),
        }
    }

    async fn connect(&self) -> io::Result<Stream> {
        let start = self.current.load(Ordering::Relaxed);
        let mut failure = io::Error::other("no server to connect to");
        for offset in 0..self.servers.len() {
            let place = (start + offset) % self.servers.len();
            let server = &self.servers[place];
            match tokio::time::timeout(CONNECT_TIMEOUT, self.open(server)).await {
                Ok(Ok(stream)) => {
                    self.current.store(place, Ordering::Relaxed);
                    return Ok(stream);
                }
                Ok(Err(error)) => failure = io::Error::new(error.kind(), format!("{server}: {error}")),
                Err(_) => failure = io::Error::new(io::ErrorKind::TimedOut, format!("{server}: no answer")),
            }
        }
        Err(failure)
    }

    async fn open(&self, server: &str) -> io::Result<Stream> {
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let tcp = TcpStream::connect(server).await?;
        tcp.set_nodelay(true)?;
        Ok(Stream(TokioIo::new(self.tls.connect(name, tcp).await?)))
    }
}

/// A TLS connection that tells hyper which protocol was negotiated.
struct Stream(TokioIo<TlsStream<TcpStream>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let negotiated = self.0.inner().get_ref().1.alpn_protocol();
        if negotiated == Some(b"h2") { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
