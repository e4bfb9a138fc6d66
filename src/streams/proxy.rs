//! The node's answer to an exec, attach or port-forward request: whatever the client speaks, towards the container runtime.

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Method, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::remote_command::{PROTOCOLS, Protocol, Streams, V4, translate};
use crate::tunnel::{self, PREFIX};
use crate::upgrade::{self, Refused, asks_for};
use crate::websocket::{accept, is_websocket, negotiate, offered};
use coracle_base::task;

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    RemoteCommand(Streams),
    PortForward,
}

/// What a WebSocket carries.
enum Speech {
    Channels(Protocol, Streams),
    /// SPDY as it is.
    Tunnel,
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
    let (name, speech) = match kind {
        Kind::RemoteCommand(streams) => {
            negotiate(client.headers(), PROTOCOLS).map(|(name, protocol)| (*name, Speech::Channels(*protocol, streams)))
        }
        Kind::PortForward => {
            let tunnel = offered(client.headers()).into_iter().find(|name| name.starts_with(PREFIX));
            tunnel.map(|name| (name, Speech::Tunnel))
        }
    }
    .ok_or_else(|| {
        let offered = offered(client.headers());
        Refused::Unknown(format!("unable to upgrade: none of the subprotocols {offered:?} is served"))
    })?;
    let name = name.to_owned();
    let spoken = name.strip_prefix(PREFIX).unwrap_or(V4);
    let (_, far) = upgrade::request(runtime, spdy_request(target, spoken)?).await?;
    let (response, accepted) = accept(&mut client, &name)?;
    task::spawn("stream", async move {
        match (accepted.socket().await, speech) {
            (Ok(socket), Speech::Channels(protocol, streams)) => translate(socket, protocol, far, streams).await,
            (Ok(socket), Speech::Tunnel) => tunnel::tunnel(socket, far).await,
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
