//! The node's answer to an exec, attach or port-forward request: whatever the client speaks, towards the container runtime.

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Method, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::remote_command::{Streams, V4, V5, translate};
use crate::tunnel::{self, PREFIX};
use crate::upgrade::{self, Refused, asks_for};
use crate::websocket::{accept, is_websocket, offered};
use coracle_base::task;

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    RemoteCommand(Streams),
    PortForward,
}

/// Joins the client with the runtime's streaming server behind `runtime`, at `target` (path and query of the URL that CRI gave).
///
/// SPDY is passed on as it is; WebSocket channels are translated, WebSocket tunnels unwrapped. Gives the 101 to send.
pub async fn proxy<B, IO>(
    mut client: Request<B>,
    kind: Kind,
    target: &str,
    runtime: IO,
) -> Result<Response<()>, Refused>
where
    B: 'static,
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if asks_for(client.headers(), "spdy/3.1") {
        return upgrade::forward(client, target, runtime).await;
    }
    if !is_websocket(&client) {
        return Err(Refused::Unknown("Upgrade request required".to_owned()));
    }
    let protocols = offered(client.headers());
    let wanted = |known: &&str| match kind {
        Kind::RemoteCommand(_) => *known == V5 || *known == V4,
        Kind::PortForward => known.starts_with(PREFIX),
    };
    let Some(protocol) = protocols.iter().copied().find(wanted).map(str::to_owned) else {
        return Err(Refused::Unknown(format!("unable to upgrade: none of the subprotocols {protocols:?} is served")));
    };
    let spoken = protocol.strip_prefix(PREFIX).unwrap_or(V4).to_owned();
    let (_, far) = upgrade::request(runtime, spdy_request(target, &spoken)?).await?;
    let (response, accepted) = accept(&mut client, &protocol)?;
    task::spawn("stream", async move {
        match (accepted.socket().await, kind) {
            (Ok(socket), Kind::RemoteCommand(streams)) => translate(socket, far, streams).await,
            (Ok(socket), Kind::PortForward) => tunnel::tunnel(socket, far).await,
            (Err(error), _) => tracing::debug!(%error, "client did not upgrade"),
        }
    })
    .detach();
    Ok(response)
}

fn spdy_request(target: &str, protocol: &str) -> Result<Request<()>, Refused> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.parse().map_err(|_| Refused::Unknown(format!("bad target {target:?}")))?;
    let headers = request.headers_mut();
    headers.insert(http::header::HOST, HeaderValue::from_static("localhost"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    let protocol = HeaderValue::try_from(protocol).map_err(|_| Refused::Unknown("bad protocol".to_owned()))?;
    headers.insert("x-stream-protocol-version", protocol);
    Ok(request)
}
