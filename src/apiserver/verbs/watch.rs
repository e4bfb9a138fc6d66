//! GET of a collection with `watch`: changes as they happen, from a revision on or from the current state.
//!
//! A watcher is a cursor: into the names while it reads the state, into the ring after that, so one that does not read costs nothing
//! but its connection. What a commit's changes look like is rendered once for all watchers that see the same (`Frames`).
//! Upstream: k8s.io/apiserver pkg/endpoints/handlers/watch.go, pkg/storage/cacher.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coracle_api::object::{Encoding, Meta};
use coracle_api::schema::Schema;
use coracle_api::{Object, Resource, Status, codec};
use coracle_base::crypto;
use coracle_store::{Change, Extent, Pending, ReadError, Watch};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderValue, Response, header};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::options::{self, Age, Chosen, ListOptions};
use crate::body::{Body, BoxError};
use crate::call::Call;
use crate::encode;
use crate::failure;
use crate::negotiate::{self, Form};
use crate::registry::{Registry, Stored, entry};
use crate::server::ApiServer;
use crate::table::Include;
use crate::view::View;

/// A watcher takes what is pending into one frame up to this size.
const FRAME: usize = 64 << 10;
/// Names of the state that are looked at in one go.
const EXTENT: usize = 500;
/// Between bookmarks, so that a client's revision does not grow too old.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// Upstream's least timeout of a watch; the most is twice that, by chance, so that clients do not come back together.
const LEAST_TIMEOUT: u64 = 1800;

pub async fn watch(server: &ApiServer, call: &Call, resource: &Resource) -> Result<Response<Body>, Status> {
    let view = View::of(call, resource, true)?;
    if view.accepted.encoding == Encoding::Yaml {
        return Err(Status::not_acceptable(&negotiate::STREAMED));
    }
    let options = ListOptions::parse(call, resource)?;
    let (state, cursor) = start(call, &server.inner.registry, resource, &options)?;
    let seconds = options.timeout.unwrap_or_else(|| {
        let chance = u64::from(u16::from_le_bytes(crypto::random_bytes())) * LEAST_TIMEOUT / 65536;
        Duration::from_secs(LEAST_TIMEOUT + chance)
    });
    let now = Instant::now();
    let encoding = view.accepted.encoding;
    let events = Events {
        server: server.clone(),
        state,
        cursor,
        lens: Arc::new(Lens { begun: view.accepted.form != Form::Table, view, chosen: options.chosen }),
        bookmarks: options.bookmarks,
        end: now + seconds,
        next_bookmark: now + BOOKMARK_PERIOD,
    };
    let frames: BoxStream<'static, _> = futures::stream::unfold(events, Events::next).boxed();
    let mut response = Response::new(Body::Stream(frames));
    let media_type = match encoding {
        Encoding::Protobuf => negotiate::STREAMED[1],
        other => negotiate::media_type(other),
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(response)
}

/// The state that a watch begins with, as far as it is not sent yet.
struct State {
    revision: u64,
    /// The last name that was looked at.
    after: String,
    /// Whether a bookmark says that it is over.
    marks_end: bool,
}

/// Where a watch starts, by its options.
fn start(
    call: &Call,
    registry: &Registry,
    resource: &Resource,
    options: &ListOptions,
) -> Result<(Option<State>, Watch<Stored>), Status> {
    let current = registry.store().revision();
    options::revision(call).map_err(|why| Status::plain(500, "", why))?;
    let from = match options.age {
        Age::Latest | Age::Any => None,
        Age::Exact(revision) | Age::NotOlderThan(revision) => Some(revision),
    };
    if let Some(from) = from.filter(|&from| from > current) {
        return Err(failure::too_large_revision(from, current));
    }
    let wants_state = options.send_initial_events.unwrap_or(from.is_none());
    let after = if wants_state { current } else { from.unwrap_or(current) };
    let cursor = registry.watch(resource, options.chosen.scope(), after)?;
    let marks_end = options.send_initial_events == Some(true) && options.bookmarks;
    let state = wants_state.then(|| State { revision: current, after: String::new(), marks_end });
    Ok((state, cursor))
}

/// What a watcher sees, and how. Watchers whose lenses are equal see the same bytes.
#[derive(Clone, PartialEq)]
struct Lens {
    view: View,
    chosen: Chosen,
    /// Whether the first Table, the one with the columns, was sent.
    begun: bool,
}

/// The state of one watcher.
struct Events {
    server: ApiServer,
    state: Option<State>,
    cursor: Watch<Stored>,
    lens: Arc<Lens>,
    bookmarks: bool,
    end: Instant,
    next_bookmark: Instant,
}

type Sent = Result<Bytes, BoxError>;

impl Events {
    /// The next frame; ends at the timeout, and with the server.
    async fn next(mut self) -> Option<(Sent, Self)> {
        if let Some(state) = self.state.take() {
            let frame = self.state(state).await;
            if !frame.is_empty() {
                return Some((Ok(frame), self));
            }
        }
        loop {
            let deadline = self.end.min(if self.bookmarks { self.next_bookmark } else { self.end });
            tokio::select! {
                pending = self.cursor.pending() => {
                    let frame = match pending {
                        Ok(Some(pending)) => {
                            let (frame, until) = self.lens.shared(&pending);
                            self.cursor.advance(until);
                            frame
                        }
                        // The store was closed: the client comes back when there is one again.
                        Ok(None) => return None,
                        // It was too slow: the client has to list again.
                        Err(expired) => self.fail(&Status::expired(expired.to_string())),
                    };
                    if !frame.is_empty() {
                        self.begin();
                        return Some((Ok(frame), self));
                    }
                }
                () = self.server.inner.stopping.begun() => return None,
                () = sleep_until(deadline) => {
                    if Instant::now() >= self.end {
                        return None;
                    }
                    self.next_bookmark += BOOKMARK_PERIOD;
                    let mut frame = BytesMut::new();
                    self.lens.bookmark(self.cursor.progress(), false, &mut frame);
                    self.begin();
                    return Some((Ok(frame.freeze()), self));
                }
            }
        }
    }

    /// What was sent first had the columns.
    fn begin(&mut self) {
        if !self.lens.begun {
            self.lens = Arc::new(Lens { begun: true, ..(*self.lens).clone() });
        }
    }

    /// The last event.
    fn fail(&mut self, status: &Status) -> Bytes {
        let mut frame = BytesMut::new();
        self.end = Instant::now();
        self.state = None;
        self.lens.error(status, &mut frame);
        frame.freeze()
    }

    /// A frame of the state's objects, read at the state's revision; empty when there are none.
    async fn state(&mut self, mut state: State) -> Bytes {
        let prefix = self.lens.chosen.prefix();
        let mut frame = BytesMut::new();
        loop {
            let extent = Extent { prefix: &prefix, after: &state.after, limit: EXTENT };
            let snapshot =
                match self.server.inner.registry.extent(&self.lens.view.resource, extent, Some(state.revision)).await {
                    Ok(snapshot) => snapshot,
                    Err(error) => {
                        let expired = matches!(error, ReadError::Expired(_));
                        let why = error.to_string();
                        return self.fail(&if expired { Status::expired(why) } else { Status::internal(why) });
                    }
                };
            let mut cut = None;
            for (name, stored) in snapshot.range(&prefix, &state.after) {
                if self.lens.chosen.matches(&stored.0) {
                    self.lens.event("ADDED", &stored.0, &mut frame);
                    self.begin();
                    if frame.len() >= FRAME {
                        cut = Some(name.to_string());
                        break;
                    }
                }
            }
            if let Some(after) = cut {
                self.state = Some(State { after, ..state });
                return frame.freeze();
            }
            match snapshot.end() {
                Some(end) => state.after = end.to_string(),
                None => break,
            }
        }
        if state.marks_end {
            self.lens.bookmark(state.revision, true, &mut frame);
            self.begin();
        }
        frame.freeze()
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

/// Frames that end with a commit, each for a lens and from a revision on.
#[derive(Default)]
pub struct Frames(Vec<Joined>);

struct Joined {
    lens: Arc<Lens>,
    after: u64,
    bytes: Bytes,
    /// Where the frame ends when that is before the commit's end.
    cut: Option<u64>,
}

/// Frames that one commit keeps: the first comers' lenses are those of the many.
const FRAMES: usize = 8;

impl Lens {
    /// What is pending as one frame of about `FRAME` bytes at most, and the revision up to which it tells everything.
    fn shared(self: &Arc<Self>, pending: &Pending<Stored>) -> (Bytes, u64) {
        let Some(last) = pending.batches.last() else { return (Bytes::new(), pending.until) };
        // Others who want the same wait here for the one who renders it.
        let mut frames = last.rendering();
        let same = |joined: &&Joined| {
            joined.after == pending.after && (Arc::ptr_eq(&joined.lens, self) || *joined.lens == **self)
        };
        if let Some(joined) = frames.0.iter().find(same) {
            return (joined.bytes.clone(), joined.cut.unwrap_or(pending.until));
        }
        let (bytes, cut) = self.render(pending);
        if frames.0.len() < FRAMES {
            frames.0.push(Joined { lens: self.clone(), after: pending.after, bytes: bytes.clone(), cut });
        }
        (bytes, cut.unwrap_or(pending.until))
    }

    /// The frame, and where it ends when that is before the end.
    fn render(&self, pending: &Pending<Stored>) -> (Bytes, Option<u64>) {
        let mut frame = BytesMut::new();
        let mut lens = std::borrow::Cow::Borrowed(self);
        for change in pending.batches.iter().flat_map(|batch| batch.after(pending.after)) {
            if frame.len() >= FRAME {
                return (frame.freeze(), Some(change.revision - 1));
            }
            let Some((kind, object, at)) = judge(&self.chosen, change) else { continue };
            match at {
                None => lens.event(kind, object, &mut frame),
                Some(revision) => {
                    let json = entry::at_revision(object.json(), revision);
                    let shown = Object::new(object.resource().clone(), revision, json, object.meta().clone());
                    lens.event(kind, &shown, &mut frame);
                }
            }
            if !lens.begun {
                lens.to_mut().begun = true;
            }
        }
        (frame.freeze(), None)
    }

    fn event(&self, kind: &str, object: &Object, frame: &mut BytesMut) {
        match self.view.document(object, !self.begun) {
            Ok(document) => encode::watch_event(kind, &document, self.view.accepted.encoding, frame),
            Err(status) => self.error(&status, frame),
        }
    }

    fn error(&self, status: &Status, frame: &mut BytesMut) {
        let encoding = self.view.accepted.encoding;
        let json = Bytes::from(serde_json::to_vec(status).unwrap_or_default());
        encode::watch_event("ERROR", &encode::document(&json, encoding).unwrap_or(json), encoding, frame);
    }

    /// An object of the kind with nothing in it but a revision.
    fn bookmark(&self, revision: u64, initial_end: bool, frame: &mut BytesMut) {
        let resource = &self.view.resource;
        let mut tree = resource.ty(Schema::builtin()).map_or_else(|| json!({}), codec::zero);
        tree["metadata"] = match initial_end {
            true => json!({ "annotations": { "k8s.io/initial-events-end": "true" } }),
            false => Value::Object(serde_json::Map::new()),
        };
        let json = entry::frame_as(resource, &tree).spliced(revision);
        // Its annotation is in its metadata.
        let view = View { include: Include::Metadata, ..self.view.clone() };
        let object = Object::new(resource.clone(), revision, json, Meta::default());
        Lens { view, ..self.clone() }.event("BOOKMARK", &object, frame);
    }
}
