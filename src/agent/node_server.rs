//! The node's own server (kubelet API, port 10250): logs, exec, attach and port-forward of its pods, and what it knows of itself.
//!
//! Invariants: every caller but the health check is an authenticated API server or administrator; what runs is asked of the
//! runtime for each request, nothing is remembered. Upstream: kubernetes pkg/kubelet/server/server.go.

mod listener;
pub mod log_file;
mod logs;
mod target;
mod usage;

use bytes::Bytes;
use coracle_base::url::Query;
use coracle_streams::remote_command::Streams;
use coracle_streams::{Kind, Refused};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use tokio::net::TcpStream;

use crate::cri::RuntimeError;
use crate::handle::NodeHandle;
use crate::proto::cri as wire;
use target::{Asked, Target};

type Body = BoxBody<Bytes, std::io::Error>;

/// Serves streams that the listener accepted or that come from the API server in this process. Cloning is a reference count.
#[derive(Clone)]
pub struct NodeServer {
    node: NodeHandle,
}

/// Whether the far side has proved to be an API server or an administrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Only the health check is answered.
    None,
    Full,
}

/// Why a request is not carried out, as the text and code that the API server passes on.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Failure {
    code: StatusCode,
    message: String,
}

impl Failure {
    fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl NodeServer {
    pub fn new(node: NodeHandle) -> Self {
        Self { node }
    }

    async fn answer(&self, request: Request<Incoming>, trust: Trust) -> Response<Body> {
        let outcome = match (request.uri().path(), trust) {
            ("/healthz", _) => Ok(text(StatusCode::OK, "ok")),
            (_, Trust::None) => Err(Failure::new(StatusCode::UNAUTHORIZED, "Unauthorized")),
            _ => self.route(request).await,
        };
        outcome.unwrap_or_else(|failure| text(failure.code, failure.message))
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        if let Some(answer) = self.of_node(request.uri().path()).await {
            return answer;
        }
        let Some(target) = Target::parse(request.uri().path()) else {
            return Err(Failure::new(StatusCode::NOT_FOUND, "404 page not found"));
        };
        match target.asked {
            Asked::Logs if request.method() == Method::GET => logs::answer(&self.node.cri, &target, &query).await,
            Asked::Logs => Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")),
            Asked::Exec | Asked::Attach => self.remote_command(request, &target, &query).await,
            Asked::PortForward => self.port_forward(request, &target).await,
        }
    }

    /// What is asked of the node, not of one of its pods.
    async fn of_node(&self, path: &str) -> Option<Result<Response<Body>, Failure>> {
        let answer = match path.trim_end_matches('/') {
            "/pods" => Ok(json_text(pod_list(&self.node))),
            "/stats/summary" => usage::summary(&self.node).await.map(|summary| json_text(summary.to_string())),
            "/metrics/resource" => usage::metrics(&self.node).await.map(|metrics| text(StatusCode::OK, metrics)),
            "/metrics" => Ok(text(StatusCode::OK, coracle_base::metrics::registry().text())),
            _ => return None,
        };
        Some(answer.map_err(Failure::from))
    }

    async fn remote_command(
        &self,
        request: Request<Incoming>,
        target: &Target,
        query: &Query,
    ) -> Result<Response<Body>, Failure> {
        let streams = Streams {
            stdin: query.flag("input"),
            stdout: query.flag("output"),
            stderr: query.flag("error") && !query.flag("tty"),
            tty: query.flag("tty"),
        };
        if !streams.stdin && !streams.stdout && !streams.stderr {
            let message = "you must specify at least 1 of stdin, stdout, stderr";
            return Err(Failure::new(StatusCode::BAD_REQUEST, message));
        }
        let container = target.running_container(&self.node.cri).await?;
        let mut runtime = self.node.cri.runtime();
        let url = if target.asked == Asked::Exec {
            let asked = wire::ExecRequest {
                container_id: container,
                cmd: query.all("command").map(str::to_owned).collect(),
                tty: streams.tty,
                stdin: streams.stdin,
                stdout: streams.stdout,
                stderr: streams.stderr,
            };
            runtime.exec(asked).await.map_err(runtime_failure)?.into_inner().url
        } else {
            let asked = wire::AttachRequest {
                container_id: container,
                stdin: streams.stdin,
                tty: streams.tty,
                stdout: streams.stdout,
                stderr: streams.stderr,
            };
            runtime.attach(asked).await.map_err(runtime_failure)?.into_inner().url
        };
        join(request, Kind::RemoteCommand(streams), &url).await
    }

    async fn port_forward(&self, request: Request<Incoming>, target: &Target) -> Result<Response<Body>, Failure> {
        let pod_sandbox_id = target.sandbox(&self.node.cri).await?;
        // The ports are named by the streams; older clients name them here, which adds nothing.
        let asked = wire::PortForwardRequest { pod_sandbox_id, port: Vec::new() };
        let url = self.node.cri.runtime().port_forward(asked).await.map_err(runtime_failure)?.into_inner().url;
        join(request, Kind::PortForward, &url).await
    }
}

/// Joins the client's stream with the runtime's streaming server at `url` (`http://127.0.0.1:PORT/...`).
async fn join(request: Request<Incoming>, kind: Kind, url: &str) -> Result<Response<Body>, Failure> {
    let bad =
        || Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the runtime gave a URL without address: {url}"));
    let uri: http::Uri = url.parse().map_err(|_| bad())?;
    let address = uri.authority().ok_or_else(bad)?.as_str();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let stream = TcpStream::connect(address).await.map_err(|error| {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("runtime's streaming server {address}: {error}"))
    })?;
    let _ = stream.set_nodelay(true);
    match coracle_streams::proxy(request, kind, path, stream).await {
        Ok(response) => Ok(response.map(|()| empty())),
        Err(Refused::Answered { code, body, .. }) => Err(Failure::new(code, String::from_utf8_lossy(&body))),
        Err(Refused::Unknown(why)) => Err(Failure::new(StatusCode::BAD_REQUEST, why)),
        Err(Refused::Broken(why)) => Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, why)),
    }
}

fn runtime_failure(status: tonic::Status) -> Failure {
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, status.message())
}

/// The pods of every source, in the form that was last known.
fn pod_list(node: &NodeHandle) -> String {
    let pods = node.pods();
    let items: Vec<_> = pods.iter().map(|pod| String::from_utf8_lossy(pod.json())).collect();
    format!(r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{}},"items":[{}]}}"#, items.join(","))
}

fn json_text(body: String) -> Response<Body> {
    let mut response = text(StatusCode::OK, body);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn empty() -> Body {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed()
}

fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let body = http_body_util::Full::new(text.into()).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
