//! GET of a collection with `watch`: changes as they happen, from a revision on or from the current state.
//!
//! Upstream: k8s.io/apiserver pkg/endpoints/handlers/watch.go, pkg/storage/cacher.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coracle_api::object::Encoding;
use coracle_api::{Object, Resource, Status};
use coracle_base::crypto;
use coracle_base::shutdown::Shutdown;
use coracle_store::{Change, Watch};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderValue, Response, header};
use tokio::time::{Instant, sleep_until};

use super::answer::metadata_object;
use super::list;
use super::options::{Age, Chosen, ListOptions};
use crate::body::Body;
use crate::call::Call;
use crate::failure;
use crate::negotiate::{self, Accepted, Form};
use crate::registry::{Registry, Stored, entry};
use crate::server::ApiServer;
use crate::{convert, encode, table};

/// A watcher takes what is pending into one frame up to this size.
const FRAME: usize = 64 << 10;
/// Between bookmarks, so that a client's revision does not grow too old.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// Upstream's least timeout of a watch; the most is twice that, by chance, so that clients do not come back together.
const LEAST_TIMEOUT: u64 = 1800;

pub async fn watch(server: &ApiServer, call: &Call, resource: &Resource) -> Result<Response<Body>, Status> {
    let options = ListOptions::parse(call, resource)?;
    let accepted = negotiate::accepted(call.header(header::ACCEPT), true)?;
    let registry = &server.inner.registry;
    let (initial, cursor) = start(registry, resource, &options).await?;
    let seconds = options.timeout.unwrap_or_else(|| {
        let chance = u64::from(u16::from_le_bytes(crypto::random_bytes())) * LEAST_TIMEOUT / 65536;
        Duration::from_secs(LEAST_TIMEOUT + chance)
    });
    let encoder =
        Encoder { resource: resource.clone(), accepted, columns_sent: false, include: table::Include::parse(call)? };
    let now = Instant::now();
    let events = Events {
        initial,
        cursor,
        chosen: options.chosen,
        encoder,
        bookmarks: options.bookmarks,
        end: now + seconds,
        next_bookmark: now + BOOKMARK_PERIOD,
        stopping: server.inner.stopping.clone(),
    };
    let frames: BoxStream<'static, _> = futures::stream::unfold(events, Events::next).boxed();
    let mut response = Response::new(Body::Stream(frames));
    let media_type = match accepted.encoding {
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        other => negotiate::media_type(other),
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(response)
}

/// What a watch begins with: objects that exist already, and perhaps the bookmark after them.
#[derive(Default)]
pub struct Initial {
    pub objects: VecDeque<Object>,
    pub end: Option<u64>,
}

/// Where a watch starts, by its options.
pub async fn start(
    registry: &Registry,
    resource: &Resource,
    options: &ListOptions,
) -> Result<(Initial, Watch<Stored>), Status> {
    let snapshot = registry.snapshot(resource).await?;
    let current = snapshot.revision();
    let from = match options.age {
        Age::Latest | Age::Any => None,
        Age::Exact(revision) | Age::NotOlderThan(revision) => Some(revision),
    };
    if let Some(from) = from.filter(|&from| from > current) {
        return Err(failure::too_large_revision(from, current));
    }
    let wants_state = options.send_initial_events.unwrap_or(from.is_none());
    if !wants_state {
        let after = from.unwrap_or(current);
        return Ok((Initial::default(), registry.watch(resource, options.chosen.scope(), after)?));
    }
    let objects = list::chosen(&snapshot, &options.chosen);
    let marks_end = options.send_initial_events == Some(true) && options.bookmarks;
    let initial = Initial { objects: objects.into(), end: marks_end.then_some(current) };
    Ok((initial, registry.watch(resource, options.chosen.scope(), current)?))
}

/// The state of one watcher.
struct Events {
    initial: Initial,
    cursor: Watch<Stored>,
    chosen: Chosen,
    encoder: Encoder,
    bookmarks: bool,
    end: Instant,
    next_bookmark: Instant,
    stopping: Shutdown,
}

type Frame = Result<Bytes, crate::body::BoxError>;

impl Events {
    /// The next frame; ends at the timeout, and with the server.
    async fn next(mut self) -> Option<(Frame, Self)> {
        let mut frame = BytesMut::new();
        while let Some(object) = self.initial.objects.pop_front() {
            self.encoder.event("ADDED", &object, None, &mut frame);
            if frame.len() >= FRAME {
                return Some((Ok(frame.freeze()), self));
            }
        }
        if let Some(revision) = self.initial.end.take() {
            self.encoder.bookmark(revision, true, &mut frame);
        }
        if !frame.is_empty() {
            return Some((Ok(frame.freeze()), self));
        }
        loop {
            let deadline = self.end.min(if self.bookmarks { self.next_bookmark } else { self.end });
            tokio::select! {
                changes = self.cursor.next() => {
                    let changes = match changes {
                        Ok(Some(changes)) => changes,
                        // The store was closed: the client comes back when there is one again.
                        Ok(None) => return None,
                        Err(expired) => {
                            // It was too slow: the client has to list again.
                            let status = Status::expired(expired.to_string());
                            self.encoder.write("ERROR", &serde_json::to_vec(&status).unwrap_or_default(), &mut frame);
                            self.end = Instant::now();
                            return Some((Ok(frame.freeze()), self));
                        }
                    };
                    for change in &changes {
                        if let Some((kind, object, at)) = judge(&self.chosen, change) {
                            self.encoder.event(kind, object, at, &mut frame);
                        }
                    }
                    if !frame.is_empty() {
                        return Some((Ok(frame.freeze()), self));
                    }
                }
                () = self.stopping.begun() => return None,
                () = sleep_until(deadline) => {
                    if Instant::now() >= self.end {
                        return None;
                    }
                    self.next_bookmark += BOOKMARK_PERIOD;
                    let revision = self.cursor.progress();
                    self.encoder.bookmark(revision, false, &mut frame);
                    return Some((Ok(frame.freeze()), self));
                }
            }
        }
    }
}

/// What a change is to someone who sees only the chosen objects: its type, the object to show, and the revision to show it
/// at when that is not the object's own.
pub fn judge<'a>(chosen: &Chosen, change: &'a Change<Stored>) -> Option<(&'static str, &'a Object, Option<u64>)> {
    let now = change.entry.as_ref().map(|stored| &stored.0).filter(|object| chosen.matches(object));
    let before = change.previous.as_ref().map(|stored| &stored.0).filter(|object| chosen.matches(object));
    match (before, now) {
        (None, Some(now)) => Some(("ADDED", now, None)),
        (Some(_), Some(now)) => Some(("MODIFIED", now, None)),
        (Some(before), None) => Some(("DELETED", before, Some(change.revision))),
        (None, None) => None,
    }
}

/// Writes events in the form and encoding that the client accepts.
struct Encoder {
    resource: Resource,
    accepted: Accepted,
    /// Column definitions come with the first Table only.
    columns_sent: bool,
    include: table::Include,
}

impl Encoder {
    fn event(&mut self, kind: &str, object: &Object, at: Option<u64>, frame: &mut BytesMut) {
        let shown = match at {
            Some(revision) => {
                let json = entry::at_revision(object.json(), revision);
                Object::new(object.resource().clone(), revision, json, object.meta().clone())
            }
            None => object.clone(),
        };
        let json = match self.accepted.form {
            Form::Object => convert::json(&self.resource, &shown),
            Form::Metadata => Ok(metadata_object(shown.json())),
            Form::Table => {
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                table::event(&self.resource, &shown, self.include, columns)
            }
        };
        match json {
            Ok(json) => self.write(kind, &json, frame),
            Err(status) => self.write("ERROR", &serde_json::to_vec(&status).unwrap_or_default(), frame),
        }
    }

    fn bookmark(&mut self, revision: u64, initial_end: bool, frame: &mut BytesMut) {
        let annotations = if initial_end { ",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}" } else { "" };
        let (kind, version) = match self.accepted.form {
            Form::Metadata => ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned()),
            _ => (self.resource.kind.to_string(), self.resource.api_version()),
        };
        let json = match self.accepted.form {
            Form::Table => format!(
                "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{{\"resourceVersion\":\"{revision}\"}},\"columnDefinitions\":null,\"rows\":[]}}"
            ),
            _ => format!(
                "{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{{\"resourceVersion\":\"{revision}\",\"creationTimestamp\":null{annotations}}}}}"
            ),
        };
        self.write("BOOKMARK", json.as_bytes(), frame);
    }

    fn write(&self, kind: &str, json: &[u8], frame: &mut BytesMut) {
        match self.accepted.encoding {
            Encoding::Json => {
                frame.reserve(json.len() + 40);
                frame.extend_from_slice(b"{\"type\":\"");
                frame.extend_from_slice(kind.as_bytes());
                frame.extend_from_slice(b"\",\"object\":");
                frame.extend_from_slice(json);
                frame.extend_from_slice(b"}\n");
            }
            other => encode::watch_event(kind, json, other, frame),
        }
    }
}
