//! The door to the API: health from the first moment, everything else once the API is open, ready when all is made.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use coracle_api::Status;
use coracle_apiserver::{ApiServer, Body, Peer, failure};
use http::{Request, Response, StatusCode, header};

use crate::tunnel::{self, Tunnels};

/// Answers with the certificate of the authority behind this server, as in k3s.
pub const AUTHORITY_PATH: &str = "/cacerts";

/// Shared by all connections.
#[derive(Clone)]
pub struct Gate {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// PEM; a machine that joins checks it against its token.
    authority: String,
    tunnels: Tunnels,
    server: OnceLock<ApiServer>,
    ready: AtomicBool,
}

impl Gate {
    /// `authority` (PEM) signs what this server shows.
    pub fn new(authority: &str, tunnels: Tunnels) -> Self {
        let inner = Inner { authority: authority.to_owned(), tunnels, ..Inner::default() };
        Self { inner: Arc::new(inner) }
    }

    /// From now on `server` answers; `/readyz` fails until `set_ready`.
    pub fn open(&self, server: ApiServer) {
        let gate = self.clone();
        let ready = move || match gate.inner.ready.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err("the cluster's own objects are being made".to_owned()),
        };
        server.health().add_readiness("bootstrap", Arc::new(ready));
        let _ = self.inner.server.set(server);
    }

    pub fn set_ready(&self) {
        self.inner.ready.store(true, Ordering::Release);
    }

    pub async fn answer(&self, request: Request<Body>, peer: &Peer) -> Response<Body> {
        match request.uri().path() {
            AUTHORITY_PATH => return plain(StatusCode::OK, self.inner.authority.clone()),
            tunnel::PATH => return self.inner.tunnels.accept(request, peer),
            _ => {}
        }
        match self.inner.server.get() {
            Some(server) => server.handle(request, peer).await,
            None => starting(request.uri().path()),
        }
    }
}

/// Before the API is open, the process is alive and nothing more.
fn starting(path: &str) -> Response<Body> {
    let (code, text) = match path {
        "/livez" | "/healthz" => (StatusCode::OK, "ok"),
        "/readyz" => (StatusCode::INTERNAL_SERVER_ERROR, "[-]starting failed: reason withheld\nreadyz check failed\n"),
        _ => return failure::response(&Status::service_unavailable("the server is starting").retry_after(1), ""),
    };
    plain(code, text.to_owned())
}

fn plain(code: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
