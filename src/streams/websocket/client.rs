//! The client's handshake for a WebSocket.

use base64::Engine;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{PROTOCOL, limits};
use crate::upgrade::{self, Refused, Stream};

/// Asks the server behind `io` for a WebSocket that speaks `protocol` at `target` (path and query).
///
/// `headers` must hold `host`, and whatever authenticates the caller.
pub async fn connect<IO>(
    io: IO,
    target: &str,
    headers: HeaderMap,
    protocol: &'static str,
) -> Result<WebSocketStream<Stream>, Refused>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let key = base64::engine::general_purpose::STANDARD.encode(coracle_base::crypto::random_bytes::<16>());
    let mut request = Request::new(());
    *request.uri_mut() = target.parse().map_err(|_| Refused::Unknown(format!("bad target {target:?}")))?;
    *request.headers_mut() = headers;
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
    headers.insert("sec-websocket-key", HeaderValue::try_from(&key).expect("base64 is a header value"));
    headers.insert(PROTOCOL, HeaderValue::from_static(protocol));
    let (head, stream) = upgrade::request(io, request).await?;
    let says = |name, wanted: &str| head.headers().get(name).is_some_and(|value| value == wanted);
    if !says("sec-websocket-accept", &derive_accept_key(key.as_bytes())) || !says(PROTOCOL, protocol) {
        return Err(Refused::Unknown(format!("the server answers with another protocol than {protocol}")));
    }
    Ok(WebSocketStream::from_raw_socket(stream, Role::Client, Some(limits())).await)
}
