//! exec and attach over WebSocket: channels of a client become SPDY streams of the container runtime; `client` is the other end.
//!
//! Upstream: k8s.io/apiserver pkg/util/proxy/streamtranslator.go, KEP-4006; the far side speaks `v4.channel.k8s.io`.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;

use crate::spdy::{Closed, Connection, Receiver, Sender};
use crate::upgrade::Stream;
use crate::websocket::{ChannelReceiver, ChannelSender, Framing, channels};

pub mod client;

pub const V5: &str = "v5.channel.k8s.io";
pub const V4: &str = "v4.channel.k8s.io";

/// What a client may speak, by the name of its subprotocol (upstream: k8s.io/cri-streaming pkg/streaming/remotecommand/websocket.go).
pub const PROTOCOLS: &[(&str, Protocol)] = &[
    (V5, Protocol { framing: Framing::Binary, outcome: Outcome::Status }),
    (V4, Protocol { framing: Framing::Binary, outcome: Outcome::Status }),
    ("v4.base64.channel.k8s.io", Protocol { framing: Framing::Base64, outcome: Outcome::Status }),
    ("channel.k8s.io", Protocol { framing: Framing::Binary, outcome: Outcome::Message }),
    ("base64.channel.k8s.io", Protocol { framing: Framing::Base64, outcome: Outcome::Message }),
    ("", Protocol { framing: Framing::Binary, outcome: Outcome::Message }),
];

#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    framing: Framing,
    outcome: Outcome,
}

/// What the error channel carries at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// A Status in any case.
    Status,
    /// The message of a failure.
    Message,
}

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// v5 only: the data byte names the channel that is closed.
const CLOSE: u8 = 255;

/// A Status of an exec is a few hundred bytes.
const LARGEST_STATUS: usize = 64 << 10;

/// Which streams the client asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// Carries channels until the command ends or either side goes away; says on the error channel how it ended.
pub async fn translate<IO>(socket: WebSocketStream<Stream>, protocol: Protocol, runtime: IO, streams: Streams)
where
    IO: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut client, from_client) = channels(socket, protocol.framing);
    // An empty message tells the client that the connection stands.
    let first = [(streams.stdout, STDOUT), (streams.stderr, STDERR)].into_iter().find(|(wanted, _)| *wanted);
    if client.send(first.map_or(ERROR, |(_, channel)| channel), &[]).await.is_err() {
        return;
    }
    let status = match run(&mut client, from_client, runtime, streams).await {
        Ok(status) if !status.is_empty() => status,
        Ok(_) => br#"{"metadata":{},"status":"Success"}"#.to_vec(),
        Err(Closed) => br#"{"metadata":{},"status":"Failure","message":"the container runtime closed the stream","reason":"InternalError","code":500}"#.to_vec(),
    };
    match protocol.outcome {
        Outcome::Status => drop(client.send(ERROR, &status).await),
        Outcome::Message => {
            if let Some(message) = failure(&status) {
                let _ = client.send(ERROR, message.as_bytes()).await;
            }
        }
    }
    client.close().await;
}

/// The message of a Status that is no success.
fn failure(status: &[u8]) -> Option<String> {
    let status: serde_json::Value = serde_json::from_slice(status).ok()?;
    (status["status"] != "Success").then(|| status["message"].as_str().unwrap_or_default().to_owned())
}

/// The runtime's Status, empty for success in versions that send none.
async fn run<IO>(
    client: &mut ChannelSender,
    from_client: ChannelReceiver,
    runtime: IO,
    streams: Streams,
) -> Result<Vec<u8>, Closed>
where
    IO: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut connection = Connection::new(runtime);
    let (_, error) = connection.open(&[("streamtype", "error")]).await?;
    let mut to_runtime = ToRuntime { stdin: None, resize: None };
    if streams.stdin {
        to_runtime.stdin = Some(connection.open(&[("streamtype", "stdin")]).await?.0);
    }
    let mut stdout = open_output(&mut connection, streams.stdout, "stdout").await?;
    let mut stderr = open_output(&mut connection, streams.stderr && !streams.tty, "stderr").await?;
    if streams.tty {
        to_runtime.resize = Some(connection.open(&[("streamtype", "resize")]).await?.0);
    }
    let input = to_runtime.run(from_client);
    tokio::pin!(input);
    while stdout.is_some() || stderr.is_some() {
        let (channel, chunk) = tokio::select! {
            chunk = next(&mut stdout), if stdout.is_some() => (STDOUT, chunk),
            chunk = next(&mut stderr), if stderr.is_some() => (STDERR, chunk),
            () = &mut input => return Ok(Vec::new()),
        };
        match chunk {
            Some(chunk) => client.send(channel, &chunk).await.map_err(|_| Closed)?,
            None if channel == STDOUT => stdout = None,
            None => stderr = None,
        }
    }
    tokio::select! {
        status = error.collect(LARGEST_STATUS) => Ok(status),
        () = &mut input => Ok(Vec::new()),
    }
}

async fn open_output(connection: &mut Connection, wanted: bool, kind: &str) -> Result<Option<Receiver>, Closed> {
    if !wanted {
        return Ok(None);
    }
    Ok(Some(connection.open(&[("streamtype", kind)]).await?.1))
}

async fn next(receiver: &mut Option<Receiver>) -> Option<Bytes> {
    receiver.as_mut()?.next().await
}

struct ToRuntime {
    stdin: Option<Sender>,
    resize: Option<Sender>,
}

impl ToRuntime {
    /// Carries what the client sends; ends when the client is gone.
    async fn run(mut self, mut client: ChannelReceiver) {
        while let Some((channel, data)) = client.next().await {
            let sent = match channel {
                STDIN => match &self.stdin {
                    Some(stdin) => stdin.send(data).await,
                    None => Ok(()),
                },
                RESIZE => match &self.resize {
                    Some(resize) => resize.send(data).await,
                    None => Ok(()),
                },
                CLOSE if data.first() == Some(&STDIN) => match self.stdin.take() {
                    Some(stdin) => stdin.finish().await,
                    None => Ok(()),
                },
                _ => Ok(()),
            };
            if sent.is_err() {
                // The command ended; its Status is on the way, so wait for the client to go.
                while client.next().await.is_some() {}
                return;
            }
        }
    }
}
