//! SPDY bytes inside WebSocket messages, as kubectl's port-forward sends them, joined with a plain SPDY stream.
//!
//! Upstream: k8s.io/apiserver pkg/util/proxy/streamtunnel.go.

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::upgrade::Stream;
use crate::websocket::normal_close;

/// Subprotocols of a tunnel start with this; what follows is the SPDY protocol inside.
pub const PREFIX: &str = "SPDY/3.1+";

/// Carries bytes both ways until either side ends.
pub async fn tunnel<IO: AsyncRead + AsyncWrite + Send + 'static>(socket: WebSocketStream<Stream>, far: IO) {
    let (mut to_client, mut from_client) = socket.split();
    let (mut from_far, mut to_far) = tokio::io::split(far);
    let outward = async {
        while let Some(Ok(message)) = from_client.next().await {
            match message {
                Message::Binary(data) if to_far.write_all(&data).await.is_ok() => {}
                Message::Binary(_) | Message::Close(_) => break,
                _ => {}
            }
        }
        let _ = to_far.shutdown().await;
    };
    let inward = async {
        let mut buffer = bytes::BytesMut::with_capacity(32 << 10);
        while let Ok(1..) = from_far.read_buf(&mut buffer).await {
            let data = buffer.split().freeze();
            if to_client.send(Message::Binary(data)).await.is_err() {
                break;
            }
            buffer.reserve(32 << 10);
        }
        let _ = to_client.send(normal_close()).await;
    };
    tokio::select! {
        () = outward => {}
        () = inward => {}
    }
}
