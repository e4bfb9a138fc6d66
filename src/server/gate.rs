//! The door to the API: health from the first moment, everything else once the API is open.

use std::sync::{Arc, OnceLock};

use coracle_api::Status;
use coracle_apiserver::{Body, Peer};
use futures::future::BoxFuture;
use http::{Request, Response, header};

/// What answers once the API is open.
pub type Handler = Arc<dyn Fn(Request<Body>, Peer) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Shared by all connections.
#[derive(Clone, Default)]
pub struct Gate {
    handler: Arc<OnceLock<Handler>>,
}

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `handler` answers everything, health included. Opens once.
    pub fn open(&self, handler: Handler) {
        let _ = self.handler.set(handler);
    }

    pub async fn answer(&self, request: Request<Body>, peer: Peer) -> Response<Body> {
        match self.handler.get() {
            Some(handler) => handler(request, peer).await,
            None => starting(request.uri().path()),
        }
    }
}

/// Before the API is open, the process is alive and nothing more.
fn starting(path: &str) -> Response<Body> {
    let (code, kind, text) = match path {
        "/livez" | "/healthz" => (200, "text/plain; charset=utf-8", "ok".to_owned()),
        "/readyz" => (500, "text/plain; charset=utf-8", "[-]starting\nreadyz check failed\n".to_owned()),
        _ => {
            let status = Status::service_unavailable("the server is starting").retry_after(1);
            let mut body =
                serde_json::json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure" });
            if let (Some(body), Ok(serde_json::Value::Object(fields))) =
                (body.as_object_mut(), serde_json::to_value(&status))
            {
                body.extend(fields);
            }
            (503, "application/json", body.to_string())
        }
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = http::StatusCode::from_u16(code).expect("these are valid codes");
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    if code == 503 {
        response.headers_mut().insert(header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    }
    response
}
