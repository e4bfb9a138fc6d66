//! One stream of bytes to a client over WebSocket, as of a pod's log (upstream: k8s.io/streaming pkg/httpstream/wsstream/stream.go).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use coracle_base::task;
use futures::{SinkExt, Stream, StreamExt};
use http::{Request, Response};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::{Framing, accept, negotiate, normal_close, offered};
use crate::upgrade::{self, Refused};

const PROTOCOLS: &[(&str, Framing)] =
    &[("", Framing::Binary), ("binary.k8s.io", Framing::Binary), ("base64.binary.k8s.io", Framing::Base64)];

/// Accepts the WebSocket that `request` asks for, and sends it an empty message and then `content` until either side ends.
/// Gives the 101 to send.
pub fn answer<B, S, E>(request: &mut Request<B>, content: S) -> Result<Response<()>, Refused>
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    E: Send + 'static,
{
    let Some(&(name, framing)) = negotiate(request.headers(), PROTOCOLS) else {
        let offered = offered(request.headers());
        return Err(Refused::Unknown(format!("unable to upgrade: none of the subprotocols {offered:?} is served")));
    };
    let (response, accepted) = accept(request, name)?;
    task::spawn("byte stream", async move {
        match accepted.socket().await {
            Ok(socket) => send(socket, framing, content).await,
            Err(error) => tracing::debug!(%error, "client did not upgrade"),
        }
    })
    .detach();
    Ok(response)
}

async fn send<S, E>(socket: WebSocketStream<upgrade::Stream>, framing: Framing, mut content: S)
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    let (mut sink, mut client) = socket.split();
    let message = |bytes: Bytes| match framing {
        Framing::Binary => Message::Binary(bytes),
        Framing::Base64 => Message::text(STANDARD.encode(bytes)),
    };
    let outward = async {
        sink.send(message(Bytes::new())).await?;
        while let Some(Ok(bytes)) = content.next().await {
            sink.send(message(bytes)).await?;
        }
        sink.send(normal_close()).await?;
        sink.close().await
    };
    // A client has nothing to say but that it goes.
    let gone = async { while let Some(Ok(_)) = client.next().await {} };
    tokio::select! {
        sent = outward => if let Err(error) = sent {
            tracing::debug!(%error, "stream ended");
        },
        () = gone => {}
    }
}
