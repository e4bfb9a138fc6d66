//! One probe, once: exec, HTTP, TCP or gRPC (upstream: pkg/probe).

use std::time::Duration;

use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tonic::transport::Endpoint;

use crate::cri::Cri;
use crate::proto::grpc_health::HealthCheckRequest;
use crate::proto::grpc_health::health_check_response::ServingStatus;
use crate::proto::grpc_health::health_client::HealthClient;

/// The error is what the event says.
pub(crate) async fn run(cri: &Cri, id: &str, probe: &Probe, spec: &Container, address: &str) -> Result<(), String> {
    let limit = Duration::from_secs(probe.timeout_seconds.filter(|seconds| *seconds > 0).unwrap_or(1) as u64);
    if let Some(exec) = &probe.exec {
        let command = exec.command.clone().unwrap_or_default();
        return match cri.exec_sync(id, command, limit).await {
            Ok(answer) if answer.exit_code == 0 => Ok(()),
            Ok(answer) => Err(String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat()).into_owned()),
            Err(error) if error.is_timeout() => Err(format!("command timed out after {limit:?}")),
            Err(error) => Err(error.to_string()),
        };
    }
    if let Some(get) = &probe.http_get {
        return http(get, spec, address, limit).await;
    }
    if let Some(socket) = &probe.tcp_socket {
        let host = socket.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(address);
        return connect(host, port(&socket.port, spec)?, limit).await.map(drop);
    }
    if let Some(grpc) = &probe.grpc {
        return health(address, grpc.port as u16, grpc.service.clone().unwrap_or_default(), limit).await;
    }
    Ok(())
}

/// Asks a gRPC server for its health. Upstream: pkg/probe/grpc/grpc.go.
async fn health(host: &str, port: u16, service: String, limit: Duration) -> Result<(), String> {
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let late =
        || format!("timeout: failed to connect service {authority:?} within {limit:?}: context deadline exceeded");
    let ask = async {
        let stream = connect(host, port, limit)
            .await
            .map_err(|error| format!("error: failed to connect service at {authority:?}: {error}"))?;
        let mut stream = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_: Uri| {
            let stream = stream.take().ok_or(std::io::ErrorKind::NotConnected);
            async move { stream.map_err(std::io::Error::from) }
        });
        let endpoint = Endpoint::from_shared(format!("http://{authority}")).map_err(|error| error.to_string())?;
        let endpoint = endpoint.user_agent("kube-probe/1.37").map_err(|error| error.to_string())?;
        let channel = endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|error| format!("error: failed to connect service at {authority:?}: {error}"))?;
        HealthClient::new(channel).check(HealthCheckRequest { service }).await.map_err(|status| match status.code() {
            tonic::Code::Unimplemented => format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
                status.message()
            ),
            _ => format!("error: health rpc probe failed: {status}"),
        })
    };
    let answer = tokio::time::timeout(limit, ask).await.map_err(|_| late())??.into_inner();
    match answer.status() {
        ServingStatus::Serving => Ok(()),
        other => Err(format!("service unhealthy (responded with {:?})", other.as_str_name())),
    }
}

async fn connect(host: &str, port: u16, limit: Duration) -> Result<TcpStream, String> {
    match tokio::time::timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("dial tcp {host}:{port}: {error}")),
        Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout")),
    }
}

/// Success is a code from 200 to 399.
pub(crate) async fn http(get: &HTTPGetAction, spec: &Container, address: &str, limit: Duration) -> Result<(), String> {
    match ask(get, spec, address, "kube-probe/1.37", limit).await? {
        200..400 => Ok(()),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

/// The status code of the answer. The error is what events say.
pub(crate) async fn ask(
    get: &HTTPGetAction,
    spec: &Container,
    address: &str,
    agent: &str,
    limit: Duration,
) -> Result<u16, String> {
    let host = get.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(address);
    let port = port(&get.port, spec)?;
    let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let ask = async {
        let stream = connect(host, port, limit).await?;
        let uri: Uri = path.parse().map_err(|error| format!("{path}: {error}"))?;
        let mut request =
            Request::get(uri).header("user-agent", agent).header("accept", "*/*").header("connection", "close");
        let mut has_host = false;
        for header in get.http_headers.iter().flatten() {
            has_host |= header.name.eq_ignore_ascii_case("host");
            request = request.header(&header.name, &header.value);
        }
        if !has_host {
            request = request
                .header("host", if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") });
        }
        let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|error| error.to_string())?;
        if get.scheme.as_deref() == Some("HTTPS") {
            let stream = crate::probes::tls::connect(stream, host).await.map_err(|error| error.to_string())?;
            exchange(TokioIo::new(stream), request).await
        } else {
            exchange(TokioIo::new(stream), request).await
        }
    };
    match tokio::time::timeout(limit, ask).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("Get \"http://{host}:{port}{path}\": context deadline exceeded")),
    }
}

async fn exchange<S>(stream: S, request: Request<Empty<bytes::Bytes>>) -> Result<u16, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(|error| error.to_string())?;
    let _connection = coracle_base::task::spawn("probe connection", async move {
        // Its error is the request's too.
        let _ = connection.await;
    });
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let code = answer.status().as_u16();
    // Read as far as upstream does, so that a server is not cut off in the middle of a small page.
    let _ = http_body_util::Limited::new(answer.into_body(), 10 << 10).collect().await;
    Ok(code)
}

fn port(port: &IntOrString, spec: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = spec.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("couldn't find port: {port:?}"))
}
