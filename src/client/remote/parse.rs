//! What list and watch answers say, cut into objects without decoding them.

use bytes::Bytes;
use coracle_api::object::Meta;
use coracle_api::resource::Text;
use coracle_api::{Object, Resource, Status};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Ended, Step, refused};
use crate::source::ObjectEvent;

pub(super) struct Page {
    pub(super) revision: u64,
    pub(super) objects: Vec<Object>,
    /// The token of the next page; empty on the last one.
    pub(super) next: String,
}

/// One line of a watch.
pub(super) enum Frame {
    Event(ObjectEvent),
    Bookmark(u64),
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    kind: String,
    metadata: HeadMeta,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct HeadMeta {
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
    labels: std::collections::BTreeMap<Box<str>, Box<str>>,
}

pub(super) fn page(resource: &Resource, body: &[u8]) -> Step<Page> {
    let list: List<'_> = serde_json::from_slice(body).map_err(garbled)?;
    let objects = list.items.unwrap_or_default().into_iter().map(|raw| object(resource, raw)).collect::<Step<_>>()?;
    Ok(Page { revision: revision(&list.metadata.resource_version)?, objects, next: list.metadata.next })
}

pub(super) fn frame(resource: &Resource, line: &[u8]) -> Step<Frame> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(garbled)?;
    match line.kind {
        "ADDED" | "MODIFIED" => Ok(Frame::Event(ObjectEvent::Applied(object(resource, line.object)?))),
        "DELETED" => Ok(Frame::Event(ObjectEvent::Deleted(object(resource, line.object)?))),
        "BOOKMARK" => {
            let head: Head = serde_json::from_str(line.object.get()).map_err(garbled)?;
            Ok(Frame::Bookmark(revision(&head.metadata.resource_version)?))
        }
        _ => Err(refused(status(500, line.object.get().as_bytes()))),
    }
}

/// The Status in an answer's body, or one made of a body that holds none.
pub(super) fn status(code: u16, body: &[u8]) -> Status {
    let text = || String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned();
    serde_json::from_slice(body).unwrap_or_else(|_| Status::plain(code, "", text()))
}

fn object(resource: &Resource, raw: &RawValue) -> Step<Object> {
    let head: Head = serde_json::from_str(raw.get()).map_err(garbled)?;
    let meta = Meta {
        namespace: head.metadata.namespace.into(),
        name: head.metadata.name.into(),
        uid: head.metadata.uid.into(),
        labels: head.metadata.labels.into_iter().collect(),
        fields: fields(resource, raw)?,
    };
    let json =
        if head.kind.is_empty() { typed(resource, raw.get()) } else { Bytes::copy_from_slice(raw.get().as_bytes()) };
    Ok(Object::new(resource.clone(), revision(&head.metadata.resource_version)?, json, meta))
}

/// Items of a list come without kind and apiVersion; objects at rest have both.
fn typed(resource: &Resource, json: &str) -> Bytes {
    let rest = json.trim_start().trim_start_matches('{');
    let (kind, version) = (&resource.kind, resource.api_version());
    let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
    Bytes::from(format!(r#"{{"kind":"{kind}","apiVersion":"{version}"{comma}{rest}"#))
}

fn fields(resource: &Resource, raw: &RawValue) -> Step<Box<[Box<str>]>> {
    if resource.selectable.is_empty() {
        return Ok(Box::default());
    }
    let tree: Value = serde_json::from_str(raw.get()).map_err(garbled)?;
    let text = |path: &[Text]| match path.iter().try_fold(&tree, |tree, step| tree.get(&**step)) {
        Some(Value::String(text)) => text.as_str().into(),
        Some(Value::Null) | None => "".into(),
        Some(other) => other.to_string().into(),
    };
    Ok(resource.selectable.iter().map(|(_, path)| text(path)).collect())
}

fn revision(text: &str) -> Step<u64> {
    text.parse().map_err(|_| garbled(format!("resourceVersion {text:?} is no number")))
}

fn garbled(error: impl std::fmt::Display) -> Ended {
    let message = format!("the answer cannot be read: {error}");
    Ended::Failed(Status::plain(500, "InternalError", message))
}
