//! `/openapi/v2` and `/openapi/v3`: the tables as documents, written as a stream and not kept.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::LazyLock;

use bytes::Bytes;
use coracle_api::openapi::{self, Served, v2, v3};
use coracle_api::schema::Schema;
use coracle_api::{Resource, Status};
use coracle_base::task;
use http::{HeaderValue, Response, header};
use tokio::sync::mpsc;

use crate::body::{Body, BoxError};
use crate::call::Call;
use crate::failure;
use crate::paths::typed;

const PIECE: usize = 64 << 10;
/// Pieces that wait for a slow client.
const WAITING: usize = 4;

static RESOURCES: LazyLock<Vec<Resource>> = LazyLock::new(|| Resource::all().collect());

/// The hash of each group version's document; made once, for it takes writing them all.
static HASHES: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let mut hashes = HashMap::new();
    for resource in RESOURCES.iter() {
        let key = v3::key(&resource.group, &resource.version);
        hashes.entry(key).or_insert_with(|| v3::document_hash(served(), &resource.group, &resource.version));
    }
    hashes
});

fn served() -> Served<'static> {
    Served { schema: Schema::builtin(), resources: &RESOURCES }
}

/// The answer for `/openapi/...`, split at slashes.
pub async fn answer(call: &Call, parts: &[&str]) -> Result<Response<Body>, Status> {
    let mut response = document(call, parts).await?;
    if parts == ["openapi", "v2"] {
        let headers = response.headers_mut();
        headers.remove(header::VARY);
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        headers.append(header::VARY, HeaderValue::from_static("Accept"));
    }
    Ok(response)
}

async fn document(call: &Call, parts: &[&str]) -> Result<Response<Body>, Status> {
    let accept = call.header(header::ACCEPT);
    let json = accept.is_empty() || accept.contains("application/json") || accept.contains("*/*");
    match parts {
        ["openapi", "v2"] if !json && accept.contains("com.github.proto-openapi.spec.v2") => {
            let tag = tag(&V2_PROTOBUF_TAG).await?;
            let write = |out: Pieces| v2::protobuf::document(served(), out);
            Ok(tagged(call, tag, || stream(v2::protobuf::CONTENT_TYPE, write)))
        }
        ["openapi", _, ..] if !json => {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = http::StatusCode::NOT_ACCEPTABLE;
            Ok(response)
        }
        ["openapi", "v2"] => {
            let tag = tag(&V2_TAG).await?;
            Ok(tagged(call, tag, || stream("application/json", |out| v2::document(served(), out))))
        }
        ["openapi", "v3"] => {
            let index = task::blocking(|| {
                let mut text = Vec::new();
                let hash = |group: &str, version: &str| HASHES[&v3::key(group, version)].clone();
                v3::index(served(), hash, &mut text).map(|()| text)
            });
            let index = index.await.map_err(Status::internal)?.map_err(Status::internal)?;
            Ok(typed(index, "application/json"))
        }
        ["openapi", "v3", ..] => group_version(call, &parts[2..].join("/")).await,
        _ => Ok(failure::no_such_page()),
    }
}

async fn group_version(call: &Call, key: &str) -> Result<Response<Body>, Status> {
    let Some((group, version)) = v3::parse_key(key) else { return Ok(nothing()) };
    let wanted = key.to_owned();
    let hash = task::blocking(move || HASHES.get(&wanted).cloned()).await.map_err(Status::internal)?;
    let Some(hash) = hash else { return Ok(nothing()) };
    let (group, version) = (group.to_owned(), version.to_owned());
    let mut response =
        tagged(call, &hash, || stream("application/json", move |out| v3::document(served(), &group, &version, out)));
    // The index names documents by their hash, so what it names never changes.
    let immutable = call.query.get("hash").is_some_and(|given| given == hash);
    let control = if immutable { "public, immutable" } else { "no-cache, private" };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(control));
    Ok(response)
}

/// Upstream says no word about a group version that it does not have.
fn nothing() -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = http::StatusCode::NOT_FOUND;
    response
}

/// The document under its hash, or 304 when the client has it.
fn tagged(call: &Call, hash: &str, document: impl FnOnce() -> Response<Body>) -> Response<Body> {
    let tag = format!("\"{hash}\"");
    let known = call.header(header::IF_NONE_MATCH).split(',').any(|own| own.trim() == tag);
    let mut response = if known { Response::new(Body::Empty) } else { document() };
    if known {
        *response.status_mut() = http::StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// Hashes of the old documents; each made once, when it is asked for.
static V2_TAG: LazyLock<String> = LazyLock::new(|| openapi::hash(|out| v2::document(served(), out)));
static V2_PROTOBUF_TAG: LazyLock<String> = LazyLock::new(|| openapi::hash(|out| v2::protobuf::document(served(), out)));

async fn tag(tag: &'static LazyLock<String>) -> Result<&'static str, Status> {
    task::blocking(|| LazyLock::force(tag).as_str()).await.map_err(Status::internal)
}

/// Writes a document on the blocking pool while it is sent.
fn stream(media: &'static str, write: impl FnOnce(Pieces) -> io::Result<()> + Send + 'static) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(WAITING);
    task::spawn("openapi document", async move {
        let pieces = Pieces { sender, buffer: Vec::with_capacity(PIECE) };
        if let Ok(Err(error)) = task::blocking(move || write(pieces)).await {
            tracing::debug!(%error, "openapi document not written to its end");
        }
    })
    .detach();
    let pieces = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (Ok::<Bytes, BoxError>(piece), receiver))
    });
    typed(Body::Stream(Box::pin(pieces)), media)
}

/// Collects what is written into pieces; the rest goes out when it is dropped.
struct Pieces {
    sender: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        self.sender.blocking_send(Bytes::from(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        let _ = self.send();
    }
}
