//! One HTTP/2 connection over TLS, on which any number of requests may be in flight.

use anyhow::{Context, bail};
use bytes::Bytes;
use coracle_base::task;
use h2::RecvStream;
use h2::client::{Builder, SendRequest};
use http::request;
use http::{HeaderValue, Method, Request, StatusCode, header};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::kubeconfig::Target;

/// Large enough that the server never waits for us to say that we read.
const WINDOW: u32 = 1 << 24;

/// Cheap to clone; every clone is the same connection.
#[derive(Clone)]
pub struct Connection {
    requests: SendRequest<Bytes>,
    base: String,
    authorization: Option<HeaderValue>,
}

/// A connection whose frames nobody reads or writes until it is polled.
pub struct Unread {
    connection: Connection,
    driver: h2::client::Connection<TlsStream<TcpStream>, Bytes>,
}

impl Connection {
    pub async fn open(target: &Target) -> anyhow::Result<Self> {
        let Unread { connection, driver } = Self::open_unread(target).await?;
        task::spawn("connection", async move {
            if let Err(error) = driver.await {
                eprintln!("load: connection ended: {error}");
            }
        })
        .detach();
        Ok(connection)
    }

    async fn open_unread(target: &Target) -> anyhow::Result<Unread> {
        let socket = TcpStream::connect((target.host.as_str(), target.port)).await.context("connect")?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(target.host.clone())?;
        let stream = TlsConnector::from(target.tls.clone()).connect(name, socket).await.context("TLS")?;
        let (requests, driver) = Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .enable_push(false)
            .handshake(stream)
            .await?;
        let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
        let authorization = target.authorization.as_deref().map(HeaderValue::from_str).transpose()?;
        let connection = Self { requests, base: format!("https://{host}:{}", target.port), authorization };
        Ok(Unread { connection, driver })
    }

    pub fn request(&self, method: Method, path: &str) -> request::Builder {
        let builder = Request::builder().method(method).uri(format!("{}{path}", self.base));
        let builder = builder.header(header::USER_AGENT, "load/1");
        match &self.authorization {
            Some(value) => builder.header(header::AUTHORIZATION, value),
            None => builder,
        }
    }

    /// Sends a request and gives the head of its answer with its body to read.
    pub async fn send(&self, head: request::Builder, body: Bytes) -> anyhow::Result<(StatusCode, RecvStream)> {
        let mut requests = self.requests.clone().ready().await?;
        let (answer, mut stream) = requests.send_request(head.body(())?, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(body, true)?;
        }
        let (head, body) = answer.await?.into_parts();
        Ok((head.status, body))
    }

    /// Sends a request and reads the whole answer.
    pub async fn exchange(&self, head: request::Builder, body: Bytes) -> anyhow::Result<(StatusCode, Answer)> {
        let (status, mut body) = self.send(head, body).await?;
        let mut answer = Answer::default();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            answer.length += data.len();
            answer.pieces.push(data);
        }
        Ok((status, answer))
    }
}

impl Unread {
    /// Opens a watch and reads the head of its answer, then nothing any more: drop it to end it.
    pub async fn watch(target: &Target, path: &str) -> anyhow::Result<(Self, RecvStream)> {
        let Unread { connection, mut driver } = Connection::open_unread(target).await?;
        let request = connection.request(Method::GET, path);
        let (status, body) = tokio::select! {
            answer = connection.send(request, Bytes::new()) => answer?,
            ended = &mut driver => bail!("the connection ended: {ended:?}"),
        };
        if !status.is_success() {
            bail!("a watch answers {status}");
        }
        Ok((Unread { connection, driver }, body))
    }
}

/// The body of an answer, in the pieces in which it came.
#[derive(Default)]
pub struct Answer {
    pub length: usize,
    pieces: Vec<Bytes>,
}

impl Answer {
    pub fn text(&self) -> String {
        let mut text = Vec::with_capacity(self.length);
        self.pieces.iter().for_each(|piece| text.extend_from_slice(piece));
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The first bytes, as far as they came in one piece.
    pub fn head(&self) -> &[u8] {
        self.pieces.first().map_or(&[], |piece| piece)
    }
}
