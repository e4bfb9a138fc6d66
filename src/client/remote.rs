//! `ObjectSource` by HTTP list and watch, over any transport of `kube::Client`.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coracle_api::{Resource, Status};
use coracle_base::backoff::{Backoff, Shape, random_share};
use coracle_base::task::{self, Task};
use coracle_base::url;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::sync::mpsc;

use crate::path;
use crate::source::{ObjectEvent, ObjectSource, Selection};

mod parse;
#[cfg(test)]
mod tests;

use parse::Frame;

/// Reads through a `kube::Client`, as the client's user.
#[derive(Clone)]
pub struct RemoteSource {
    client: kube::Client,
}

impl RemoteSource {
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }
}

impl ObjectSource for RemoteSource {
    fn list_watch(&self, resource: &Resource, selection: Selection) -> BoxStream<'static, Result<ObjectEvent, Status>> {
        let (sender, receiver) = mpsc::channel(EVENTS_AHEAD);
        let reader = Reader { client: self.client.clone(), resource: resource.clone(), selection, sender };
        let task = task::spawn("watch", reader.run());
        let state: (_, Task<()>) = (receiver, task);
        futures::stream::unfold(state, |(mut receiver, task)| async {
            Some((receiver.recv().await?, (receiver, task)))
        })
        .boxed()
    }
}

/// How many events may wait for a slow reader before the connection is read no further.
const EVENTS_AHEAD: usize = 64;
/// Objects a page.
const PAGE: usize = 500;
/// The server ends a watch after this time, stretched by up to as much again, so that watches spread over servers.
const WATCH_SECONDS: f64 = 300.0;
/// As client-go's reflector.
const RETRY: Shape =
    Shape { initial: Duration::from_millis(800), cap: Duration::from_secs(30), factor: 2.0, jitter: 1.0 };

struct Reader {
    client: kube::Client,
    resource: Resource,
    selection: Selection,
    sender: mpsc::Sender<Result<ObjectEvent, Status>>,
}

/// Why a watch ended.
enum Ended {
    /// Go on from the last revision.
    Resume,
    /// The revision is too old.
    Relist,
    /// Nobody listens any more.
    Dropped,
    Failed(Status),
}

type Step<T> = Result<T, Ended>;

impl Reader {
    async fn run(self) {
        let mut retry = Backoff::new(RETRY);
        let mut revision = None;
        loop {
            let ended = match &mut revision {
                None => match self.list().await {
                    Ok(listed) => {
                        revision = Some(listed);
                        continue;
                    }
                    Err(ended) => ended,
                },
                Some(revision) => self.watch(revision, &mut retry).await,
            };
            match ended {
                Ended::Dropped => return,
                Ended::Resume => {}
                Ended::Relist => revision = None,
                Ended::Failed(status) => {
                    if self.sender.send(Err(status)).await.is_err() {
                        return;
                    }
                }
            }
            // A server that ends every watch at once must not be asked in a tight loop either.
            tokio::time::sleep(retry.next_delay()).await;
        }
    }

    /// Sends a whole list and returns its revision.
    async fn list(&self) -> Step<u64> {
        self.tell(ObjectEvent::Restarted).await?;
        let mut next = String::new();
        loop {
            let query = format!("limit={PAGE}&continue={}", url::encode(&next));
            let body = self.ask(&query).await?.collect().await.map_err(unreachable)?.to_bytes();
            let page = parse::page(&self.resource, &body)?;
            for object in page.objects {
                self.tell(ObjectEvent::Applied(object)).await?;
            }
            if page.next.is_empty() {
                self.tell(ObjectEvent::Synced(page.revision)).await?;
                return Ok(page.revision);
            }
            next = page.next;
        }
    }

    /// Sends changes after `revision`, which it moves on.
    async fn watch(&self, revision: &mut u64, retry: &mut Backoff) -> Ended {
        let seconds = (WATCH_SECONDS * (1.0 + random_share())) as u64;
        let query = format!("watch=true&allowWatchBookmarks=true&resourceVersion={revision}&timeoutSeconds={seconds}");
        let mut body = match self.ask(&query).await {
            Ok(body) => body,
            Err(ended) => return ended,
        };
        let mut lines = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Ended::Resume };
            if let Ok(data) = frame.into_data() {
                lines.extend_from_slice(&data);
            }
            while let Some(line) = take_line(&mut lines) {
                retry.reset();
                let event = match parse::frame(&self.resource, &line) {
                    Ok(Frame::Bookmark(seen)) => {
                        *revision = seen;
                        continue;
                    }
                    Ok(Frame::Event(event)) => event,
                    Err(ended) => return ended,
                };
                if let ObjectEvent::Applied(object) | ObjectEvent::Deleted(object) = &event {
                    *revision = object.revision();
                }
                if let Err(ended) = self.tell(event).await {
                    return ended;
                }
            }
        }
        Ended::Resume
    }

    async fn tell(&self, event: ObjectEvent) -> Step<()> {
        self.sender.send(Ok(event)).await.map_err(|_| Ended::Dropped)
    }

    /// Sends a request; the body of a good answer.
    async fn ask(&self, query: &str) -> Step<Body> {
        let mut uri = format!("{}?{query}", path::collection(&self.resource, self.selection.namespace.as_deref()));
        for (name, value) in [("labelSelector", &self.selection.labels), ("fieldSelector", &self.selection.fields)] {
            if !value.is_empty() {
                uri.push_str(&format!("&{name}={}", url::encode(value)));
            }
        }
        let request = Request::builder().method(Method::GET).uri(uri).header("accept", "application/json");
        let request = request.body(Body::empty()).map_err(unreachable)?;
        let answer = self.client.send(request).await.map_err(unreachable)?;
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(unreachable)?.to_bytes();
        Err(refused(parse::status(code, &body)))
    }
}

/// 410 asks for a new list; anything else is told and tried again.
fn refused(status: Status) -> Ended {
    if status.code == 410 { Ended::Relist } else { Ended::Failed(status) }
}

fn unreachable(error: impl std::error::Error) -> Ended {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        message = format!("{message}: {error}");
        source = error.source();
    }
    Ended::Failed(Status::plain(503, "ServiceUnavailable", message))
}

fn take_line(bytes: &mut BytesMut) -> Option<Bytes> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = bytes.split_to(end + 1);
    Some(line.freeze())
}
