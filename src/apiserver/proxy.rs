//! Requests that are answered by a node, a pod or a Service: logs, exec, attach, port-forward and plain proxying.
//!
//! Upstream: kubernetes pkg/registry/core/pod/strategy.go (locations) and rest/{log,subresources}.go.

mod location;

use bytes::Bytes;
use coracle_api::{Object, Status};
use coracle_base::task;
use coracle_streams::websocket::byte_stream;
use coracle_streams::{Refused, forward};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;

use crate::body::Body;
use crate::dialer::{ByteStream, Dialer};
use coracle_base::url::Query;

pub use location::node_path;

/// Errors of a backend are quoted up to this length.
const LONGEST_QUOTE: usize = 64 << 10;

/// `pods/{exec,attach,portforward}` of `pod`: asks the pod's node.
pub async fn pod(
    dialer: &dyn Dialer,
    pod: &Object,
    subresource: &str,
    query: &Query,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let (node, target) = location::node_request(pod, subresource, query)?;
    upgrade(request, &target, dialer.node(&node).await?).await
}

/// `pods/log` of `pod`, from the pod's node.
pub async fn log(dialer: &dyn Dialer, pod: &Object, query: &Query) -> Result<Response<Body>, Status> {
    let Some((node, target)) = location::log_request(pod, query)? else {
        // A pod without a node has no log yet.
        return Ok(text(StatusCode::OK, Bytes::new()));
    };
    let stream = dialer.node(&node).await?;
    log_answer(pod, exchange(stream, Request::get(target), Body::Empty).await?).await
}

/// An answer's content as a WebSocket's messages.
pub fn over_websocket(mut request: Request<Body>, answer: Response<Body>) -> Result<Response<Body>, Status> {
    let response = byte_stream::answer(&mut request, answer.into_body().into_data_stream());
    response.map(|head| head.map(|()| Body::Empty)).map_err(|error| Status::bad_request(error.to_string()))
}

/// Passes a plain request or an upgrade on to `target` (path and query) behind `stream`.
pub async fn pass(stream: Box<dyn ByteStream>, target: &str, request: Request<Body>) -> Result<Response<Body>, Status> {
    if request.headers().contains_key(header::UPGRADE) {
        return upgrade(request, target, stream).await;
    }
    let (head, body) = request.into_parts();
    let mut asked = Request::builder().method(head.method).uri(target);
    for (name, value) in head.headers.iter().filter(|(name, _)| travels(name)) {
        asked = asked.header(name, value);
    }
    exchange(stream, asked, body).await
}

/// Hop-by-hop headers and the caller's credentials stay here.
fn travels(name: &header::HeaderName) -> bool {
    let stays = [
        header::CONNECTION,
        header::AUTHORIZATION,
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::TE,
        header::HOST,
        header::PROXY_AUTHORIZATION,
        header::UPGRADE,
    ];
    !stays.contains(name) && name != "keep-alive"
}

async fn exchange(
    stream: Box<dyn ByteStream>,
    request: http::request::Builder,
    body: Body,
) -> Result<Response<Body>, Status> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(unreachable_backend)?;
    let driver = task::spawn("proxied-connection", connection);
    let request =
        request.header(header::HOST, "localhost").body(body).map_err(|error| Status::bad_request(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(unreachable_backend)?;
    driver.detach();
    let (mut head, body) = response.into_parts();
    for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    Ok(Response::from_parts(head, Body::Incoming(body)))
}

async fn upgrade(request: Request<Body>, target: &str, stream: Box<dyn ByteStream>) -> Result<Response<Body>, Status> {
    match forward(request, target, stream).await {
        Ok(response) => Ok(response.map(|()| Body::Empty)),
        Err(Refused::Answered { code, headers, body }) => {
            let mut response = text(code, body);
            if let Some(kind) = headers.get(header::CONTENT_TYPE) {
                response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
            }
            Ok(response)
        }
        Err(Refused::Unknown(why)) => Err(Status::bad_request(why)),
        Err(error) => Err(Status::internal(format!("error dialing backend: {error}"))),
    }
}

/// A log that the node refused becomes the Status that upstream's response checker makes of it.
async fn log_answer(pod: &Object, answer: Response<Body>) -> Result<Response<Body>, Status> {
    let code = answer.status();
    if code.is_success() {
        let mut response = text(StatusCode::OK, Bytes::new());
        *response.body_mut() = answer.into_body();
        return Ok(response);
    }
    let said = http_body_util::Limited::new(answer.into_body(), LONGEST_QUOTE).collect().await;
    let said = said.map(|body| body.to_bytes()).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let name = &pod.meta().name;
    Err(match code.as_u16() {
        400 => Status::bad_request(said.trim()),
        404 => Status::plain(
            404,
            "NotFound",
            format!("the server could not find the requested resource (get pods {name}): {}", said.trim()),
        ),
        _ => Status::plain(
            500,
            "InternalError",
            format!(
                "an error on the server ({:?}) has prevented the request from succeeding (get pods {name})",
                said.trim()
            ),
        ),
    })
}

fn text(code: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = code;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    *response.headers_mut() = headers;
    response
}

fn unreachable_backend(error: hyper::Error) -> Status {
    Status::service_unavailable(format!("error trying to reach the backend: {error}"))
}
