//! A SPDY/3.1 client connection: opens streams to a container runtime's streaming server.
//!
//! There is no flow control: the servers of this protocol (moby/spdystream) have none.

mod dictionary;
mod frame;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use coracle_base::task::{self, Task};
use frame::{Frame, Reader, Writer};

pub use frame::FrameError;

/// Frames that wait for a slow reader or writer before the peer is made to wait.
const QUEUE: usize = 16;

/// Data frames are cut to this size, as moby/spdystream does for its peers' buffers.
const CHUNK: usize = 32 << 10;

type Incoming = Arc<Mutex<HashMap<u32, mpsc::Sender<Bytes>>>>;

/// Dropping it ends the connection and all its streams.
pub struct Connection {
    outgoing: mpsc::Sender<Frame>,
    incoming: Incoming,
    next: u32,
    _reader: Task<()>,
    _writer: Task<()>,
}

/// Writes to one stream.
#[derive(Clone)]
pub struct Sender {
    stream: u32,
    outgoing: mpsc::Sender<Frame>,
}

/// Reads from one stream; `None` is its end.
pub struct Receiver {
    chunks: mpsc::Receiver<Bytes>,
}

#[derive(Debug, thiserror::Error)]
#[error("the SPDY connection is closed")]
pub struct Closed;

impl Connection {
    pub fn new<IO: AsyncRead + AsyncWrite + Send + 'static>(io: IO) -> Self {
        let (read, write) = tokio::io::split(io);
        let (outgoing, frames) = mpsc::channel(QUEUE);
        let incoming = Incoming::default();
        let reader = task::spawn("spdy-read", read_frames(read, incoming.clone(), outgoing.clone()));
        let writer = task::spawn("spdy-write", write_frames(write, frames));
        Self { outgoing, incoming, next: 1, _reader: reader, _writer: writer }
    }

    /// Opens a stream with these headers.
    pub async fn open(&mut self, headers: &[(&str, &str)]) -> Result<(Sender, Receiver), Closed> {
        let stream = self.next;
        self.next += 2;
        let (sender, chunks) = mpsc::channel(QUEUE);
        self.incoming.lock().expect("no holder panics").insert(stream, sender);
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        self.outgoing.send(Frame::SynStream { stream, fin: false, headers }).await.map_err(|_| Closed)?;
        Ok((Sender { stream, outgoing: self.outgoing.clone() }, Receiver { chunks }))
    }
}

impl Sender {
    pub async fn send(&self, mut data: Bytes) -> Result<(), Closed> {
        while !data.is_empty() {
            let chunk = data.split_to(data.len().min(CHUNK));
            let frame = Frame::Data { stream: self.stream, fin: false, data: chunk };
            self.outgoing.send(frame).await.map_err(|_| Closed)?;
        }
        Ok(())
    }

    /// Says that nothing more comes on this stream from here.
    pub async fn finish(self) -> Result<(), Closed> {
        let frame = Frame::Data { stream: self.stream, fin: true, data: Bytes::new() };
        self.outgoing.send(frame).await.map_err(|_| Closed)
    }
}

impl Receiver {
    pub async fn next(&mut self) -> Option<Bytes> {
        self.chunks.recv().await
    }

    /// Everything up to the end, of which `limit` bytes are kept.
    pub async fn collect(mut self, limit: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(chunk) = self.next().await {
            all.extend_from_slice(&chunk[..chunk.len().min(limit - all.len())]);
        }
        all
    }
}

async fn read_frames<R: AsyncRead + Unpin>(mut io: R, incoming: Incoming, outgoing: mpsc::Sender<Frame>) {
    let mut reader = Reader::new();
    loop {
        let frame = match reader.read(&mut io).await {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(%error, "spdy connection ends");
                break;
            }
        };
        let of = |stream| incoming.lock().expect("no holder panics").get(&stream).cloned();
        let forget = |stream| incoming.lock().expect("no holder panics").remove(&stream);
        match frame {
            Frame::Data { stream, fin, data } => {
                if let Some(sender) = of(stream)
                    && !data.is_empty()
                {
                    let _ = sender.send(data).await; // A receiver that went away wants no more of it.
                }
                if fin {
                    forget(stream);
                }
            }
            Frame::SynReply { stream, fin: true, .. } | Frame::Reset { stream, .. } => {
                forget(stream);
            }
            Frame::SynStream { stream, .. } => {
                // Servers of this protocol open no streams; 3 is REFUSED_STREAM.
                let _ = outgoing.send(Frame::Reset { stream, status: 3 }).await;
            }
            Frame::Ping { id } if id % 2 == 0 => {
                let _ = outgoing.send(Frame::Ping { id }).await;
            }
            Frame::GoAway => break,
            _ => {}
        }
    }
    incoming.lock().expect("no holder panics").clear();
}

async fn write_frames<W: AsyncWrite + Unpin>(mut io: W, mut frames: mpsc::Receiver<Frame>) {
    let (mut writer, mut bytes) = (Writer::new(), Vec::new());
    while let Some(frame) = frames.recv().await {
        writer.encode(&frame, &mut bytes);
        while let Ok(frame) = frames.try_recv() {
            writer.encode(&frame, &mut bytes);
        }
        if io.write_all(&bytes).await.is_err() || io.flush().await.is_err() {
            return;
        }
        bytes.clear();
    }
    let _ = io.shutdown().await;
}
