//! The client's end of exec and attach: `v5.channel.k8s.io` between local input and output and the server.
//!
//! Upstream: k8s.io/client-go tools/remotecommand/websocket.go.

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;

use super::{CLOSE, ERROR, RESIZE, STDERR, STDIN, STDOUT};
use crate::upgrade::{Refused, Stream};
use crate::websocket::{ChannelSender, Framing, channels};

/// What the terminal says: bytes for the command, or a new size.
#[derive(Debug)]
pub enum Input {
    Bytes(Bytes),
    /// Standard input ended.
    End,
    /// Columns and rows.
    Size(u16, u16),
}

/// Carries both ways until the command ends; gives its Status (JSON). Input that ends without `Input::End` leaves the command's
/// input open.
pub async fn carry<Out, Err>(
    socket: WebSocketStream<Stream>,
    mut input: mpsc::Receiver<Input>,
    mut stdout: Out,
    mut stderr: Err,
) -> Result<Bytes, Refused>
where
    Out: AsyncWrite + Unpin,
    Err: AsyncWrite + Unpin,
{
    let (mut to_server, mut from_server) = channels(socket, Framing::Binary);
    let outward = async {
        while let Some(input) = input.recv().await {
            send(&mut to_server, input).await?;
        }
        // Nothing more to say; what the server says decides.
        std::future::pending::<Result<std::convert::Infallible, Refused>>().await
    };
    let inward = async {
        let broken = |error: std::io::Error| Refused::Broken(error.to_string());
        while let Some((channel, data)) = from_server.next().await {
            match channel {
                STDOUT => write(&mut stdout, &data).await.map_err(broken)?,
                STDERR => write(&mut stderr, &data).await.map_err(broken)?,
                ERROR if !data.is_empty() => return Ok(data),
                _ => {}
            }
        }
        Err(Refused::Broken("the server ended it without a status".to_owned()))
    };
    tokio::pin!(inward);
    let status = tokio::select! {
        status = &mut inward => status,
        // A command that ended takes no input; its Status may be on the way.
        Err(_) = outward => inward.await,
    }?;
    to_server.close().await;
    Ok(status)
}

async fn send(server: &mut ChannelSender, input: Input) -> Result<(), Refused> {
    match input {
        Input::Bytes(data) => server.send(STDIN, &data).await,
        Input::End => server.send(CLOSE, &[STDIN]).await,
        Input::Size(width, height) => {
            server.send(RESIZE, format!(r#"{{"Width":{width},"Height":{height}}}"#).as_bytes()).await
        }
    }
}

/// Shows it at once: prompts have no newline.
async fn write(output: &mut (impl AsyncWrite + Unpin), data: &[u8]) -> std::io::Result<()> {
    output.write_all(data).await?;
    output.flush().await
}
