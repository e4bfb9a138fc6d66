//! WebSocket: the server's handshake with a Kubernetes subprotocol, and the channel messages of both sides.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
pub use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::upgrade::{Refused, Stream, asks_for};

pub mod byte_stream;
pub mod client;

const PROTOCOL: &str = "sec-websocket-protocol";

/// Whether the request asks to become a WebSocket.
pub fn is_websocket<B>(request: &Request<B>) -> bool {
    asks_for(request.headers(), "websocket")
}

/// The subprotocols that the client offers, in its order.
pub fn offered(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).collect()
}

/// A connection that becomes a WebSocket once its 101 was sent.
pub struct Accepted {
    upgrade: hyper::upgrade::OnUpgrade,
}

impl Accepted {
    pub async fn socket(self) -> Result<WebSocketStream<Stream>, Refused> {
        let stream = TokioIo::new(self.upgrade.await?);
        Ok(WebSocketStream::from_raw_socket(stream, Role::Server, Some(limits())).await)
    }
}

/// Bytes that one message may have.
fn limits() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(4 << 20)).max_frame_size(Some(4 << 20))
}

/// Which of `known` (names first) a client speaks: the first of those that it offers. One that offers none speaks the nameless one.
pub fn negotiate<'a, T>(headers: &HeaderMap, known: &'a [(&'a str, T)]) -> Option<&'a (&'a str, T)> {
    let offered = offered(headers);
    let name = if offered.is_empty() {
        Some("")
    } else {
        offered.into_iter().find(|name| known.iter().any(|(own, _)| own == name))
    };
    known.iter().find(|(own, _)| Some(*own) == name)
}

/// Accepts the request with `protocol` (empty for none): the 101 to send, and what it becomes.
pub fn accept<B>(request: &mut Request<B>, protocol: &str) -> Result<(Response<()>, Accepted), Refused> {
    let key = request.headers().get("sec-websocket-key").ok_or(Refused::Unknown("no Sec-WebSocket-Key".to_owned()))?;
    let accept = derive_accept_key(key.as_bytes());
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-accept", HeaderValue::try_from(accept).expect("base64 is a header value"));
    if !protocol.is_empty() {
        let protocol = HeaderValue::try_from(protocol).map_err(|_| Refused::Unknown("bad protocol".to_owned()))?;
        headers.insert(PROTOCOL, protocol);
    }
    Ok((response, Accepted { upgrade: hyper::upgrade::on(request) }))
}

/// Clients take only this close for an end; one without a code is an error to them.
pub(crate) fn normal_close() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }))
}

/// How bytes travel in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Binary,
    /// As text, for clients that cannot take binary messages.
    Base64,
}

/// Sends messages that begin with a channel.
pub struct ChannelSender {
    sink: SplitSink<WebSocketStream<Stream>, Message>,
    framing: Framing,
}

/// Receives them.
pub struct ChannelReceiver {
    stream: SplitStream<WebSocketStream<Stream>>,
    framing: Framing,
}

pub fn channels(socket: WebSocketStream<Stream>, framing: Framing) -> (ChannelSender, ChannelReceiver) {
    let (sink, stream) = socket.split();
    (ChannelSender { sink, framing }, ChannelReceiver { stream, framing })
}

impl ChannelSender {
    pub async fn send(&mut self, channel: u8, data: &[u8]) -> Result<(), Refused> {
        let message = match self.framing {
            Framing::Binary => {
                let mut message = BytesMut::with_capacity(data.len() + 1);
                message.put_u8(channel);
                message.put_slice(data);
                Message::Binary(message.freeze())
            }
            Framing::Base64 => {
                let mut message = String::from(char::from(b'0'.wrapping_add(channel)));
                STANDARD.encode_string(data, &mut message);
                Message::text(message)
            }
        };
        self.sink.send(message).await.map_err(|error| Refused::Broken(error.to_string()))
    }

    pub async fn close(&mut self) {
        let _ = self.sink.send(normal_close()).await;
        let _ = self.sink.close().await;
    }
}

impl ChannelReceiver {
    /// The next message as channel and data; `None` at the end. Pings are answered underneath.
    pub async fn next(&mut self) -> Option<(u8, Bytes)> {
        loop {
            let mut data = match self.stream.next().await? {
                Ok(Message::Binary(data)) => data,
                Ok(Message::Text(text)) if self.framing == Framing::Base64 => text.into(),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => continue,
            };
            if data.is_empty() {
                continue;
            }
            let channel = data.split_to(1)[0];
            match self.framing {
                Framing::Binary => return Some((channel, data)),
                Framing::Base64 => return Some((channel.wrapping_sub(b'0'), STANDARD.decode(data).ok()?.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests;
