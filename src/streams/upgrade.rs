//! HTTP/1.1 upgrades: asking for one over any byte stream, and passing one on.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use coracle_base::task;

/// A stream after its upgrade.
pub type Stream = TokioIo<Upgraded>;

/// The far side did not switch protocols.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It answered; `body` is what it said, 64 KiB at most.
    #[error("{code}: {}", String::from_utf8_lossy(body))]
    Answered { code: StatusCode, headers: Box<HeaderMap>, body: Bytes },
    #[error("the request asks for no upgrade that is known here: {0}")]
    Unknown(String),
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl From<hyper::Error> for Refused {
    fn from(error: hyper::Error) -> Self {
        Refused::Broken(error.to_string())
    }
}

/// Sends `request` (with its upgrade headers) over `io` and gives the stream behind the 101, with its head.
pub async fn request<IO>(io: IO, request: Request<()>) -> Result<(Response<()>, Stream), Refused>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    let driver = task::spawn("upgrade", connection.with_upgrades());
    let response = sender.send_request(request.map(|()| Empty::<Bytes>::new())).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (head, body) = response.into_parts();
        let body = http_body_util::Limited::new(body, 64 << 10).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        return Err(Refused::Answered { code: head.status, headers: Box::new(head.headers), body });
    }
    let mut head = Response::new(());
    *head.status_mut() = response.status();
    *head.headers_mut() = response.headers().clone();
    let stream = hyper::upgrade::on(response).await?;
    driver.detach();
    Ok((head, TokioIo::new(stream)))
}

/// Passes an upgrade on as it is: asks the far side of `io`, and when it switches, joins both streams until either ends.
///
/// `target` is the path and query for the far side. The answer is the 101 to give to the client; it must be sent for the
/// streams to be joined.
pub async fn forward<B, IO>(mut client: Request<B>, target: &str, io: IO) -> Result<Response<()>, Refused>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let asked = far_request(&client, target)?;
    let (head, mut far) = request(io, asked).await?;
    let upgrade = hyper::upgrade::on(&mut client);
    task::spawn("forward", async move {
        match upgrade.await {
            Ok(near) => join(&mut TokioIo::new(near), &mut far).await,
            Err(error) => tracing::debug!(%error, "client did not upgrade"),
        }
    })
    .detach();
    Ok(head)
}

/// Copies both ways until either side ends or fails.
pub async fn join<A, B>(near: &mut A, far: &mut B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    if let Err(error) = tokio::io::copy_bidirectional(near, far).await {
        tracing::debug!(%error, "stream ended");
    }
}

/// The same request for the far side: same method and headers, `target` as its path.
pub(crate) fn far_request<B>(client: &Request<B>, target: &str) -> Result<Request<()>, Refused> {
    let mut asked = Request::new(());
    *asked.method_mut() = client.method().clone();
    *asked.uri_mut() = target.parse().map_err(|_| Refused::Unknown(format!("bad target {target:?}")))?;
    for (name, value) in client.headers() {
        if name != CONTENT_LENGTH && name != TRANSFER_ENCODING && name != http::header::AUTHORIZATION {
            asked.headers_mut().append(name, value.clone());
        }
    }
    asked.headers_mut().entry(http::header::HOST).or_insert(HeaderValue::from_static("localhost"));
    Ok(asked)
}

/// Whether the request's headers ask for an upgrade to `protocol` (compared without case).
pub fn asks_for(headers: &HeaderMap, protocol: &str) -> bool {
    let says = |name, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    says(CONNECTION, "upgrade") && says(UPGRADE, protocol)
}
