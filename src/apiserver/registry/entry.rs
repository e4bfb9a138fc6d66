//! `Stored`: an `Object` as the store keeps it, and the frame that a tree becomes.
//!
//! A frame is canonical: it begins `{"apiVersion":"..","kind":"..","metadata":{`, and there the revision belongs. So lists
//! cut the type off an item, and events get another revision, without decoding.

use bytes::Bytes;
use coracle_api::object::Meta;
use coracle_api::resource::Text;
use coracle_api::{Object, Resource};
use coracle_store::{Entry, Frame, Key};
use serde::Serialize;
use serde_json::Value;

use super::partition;
use crate::verbs::watch::Frames;

/// What the store holds in memory per key.
#[derive(Clone)]
pub struct Stored(pub Object);

/// What the writer needs beside the frame.
pub struct Draft {
    pub resource: Resource,
    pub meta: Meta,
}

impl Entry for Stored {
    type Draft = Draft;
    type Rendering = Frames;

    fn commit(_: &Key, frame: &Frame, draft: Draft, revision: u64) -> Self {
        Stored(Object::new(draft.resource, revision, frame.spliced(revision), draft.meta))
    }

    fn load(key: &Key, frame: Frame, revision: u64) -> Result<Self, String> {
        let resource = partition::resource(&key.partition).ok_or("no such resource")?;
        let json = frame.spliced(revision);
        let tree: Value = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
        Ok(Stored(Object::new(resource.clone(), revision, json, cut(&resource, &tree))))
    }

    fn revision(&self) -> u64 {
        self.0.revision()
    }

    fn size(&self) -> usize {
        self.0.json().len() + 256
    }

    /// The node of a pod: every agent watches its own pods only.
    fn index(&self) -> Option<&str> {
        let resource = self.0.resource();
        let is_pod = resource.plural == "pods" && resource.group.is_empty();
        is_pod.then(|| field_of(&self.0, "spec.nodeName")).flatten().filter(|node| !node.is_empty())
    }
}

/// An indexed field of an object.
pub fn field_of<'a>(object: &'a Object, label: &str) -> Option<&'a str> {
    let index = object.resource().selectable.iter().position(|(own, _)| own == label)?;
    object.meta().fields.get(index).map(|value| &**value)
}

/// The frame of `tree`, whose `metadata.resourceVersion` is left out.
pub fn frame(resource: &Resource, tree: &Value) -> Frame {
    let (group, version) = &resource.storage;
    canonical(group, version, &resource.kind, tree)
}

/// The same of a version that is not stored.
pub fn frame_as(resource: &Resource, tree: &Value) -> Frame {
    canonical(&resource.group, &resource.version, &resource.kind, tree)
}

fn canonical(group: &str, version: &str, kind: &str, tree: &Value) -> Frame {
    let empty = serde_json::Map::new();
    let fields = tree.as_object().unwrap_or(&empty);
    let metadata = fields.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let slash = if group.is_empty() { "" } else { "/" };
    let mut text = Vec::with_capacity(1024);
    text.extend_from_slice(
        format!("{{\"apiVersion\":\"{group}{slash}{version}\",\"kind\":\"{kind}\",\"metadata\":{{").as_bytes(),
    );
    let splice = text.len() as u32;
    let mut first = true;
    for (name, value) in metadata {
        if name != "resourceVersion" {
            member(&mut text, &mut first, name, value);
        }
    }
    text.push(b'}');
    first = false;
    for (name, value) in fields {
        if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            member(&mut text, &mut first, name, value);
        }
    }
    text.push(b'}');
    Frame { bytes: Bytes::from(text), splice, writer: 0 }
}

fn member(text: &mut Vec<u8>, first: &mut bool, name: &str, value: &Value) {
    if !std::mem::take(first) {
        text.push(b',');
    }
    write(text, name);
    text.push(b':');
    write(text, value);
}

fn write<T: Serialize + ?Sized>(text: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(text, value).expect("a tree of JSON is written into memory");
}

/// Where `metadata`'s members begin in canonical bytes.
fn splice_of(json: &[u8]) -> usize {
    const MARK: &[u8] = b"\"metadata\":{";
    json.windows(MARK.len()).position(|window| window == MARK).map_or(0, |at| at + MARK.len())
}

/// `json` (canonical, with a revision) at another revision: what DELETED events show.
pub fn at_revision(json: &Bytes, revision: u64) -> Bytes {
    const NAME: &[u8] = b"\"resourceVersion\":\"";
    let start = splice_of(json);
    if !json[start..].starts_with(NAME) {
        return json.clone();
    }
    let digits = start + NAME.len();
    let end = digits + json[digits..].iter().position(|&byte| byte == b'"').unwrap_or(0);
    let mut text = Vec::with_capacity(json.len() + 4);
    text.extend_from_slice(&json[..digits]);
    text.extend_from_slice(revision.to_string().as_bytes());
    text.extend_from_slice(&json[end..]);
    Bytes::from(text)
}

/// Canonical bytes without `apiVersion` and `kind`, after the opening brace: an item of a typed list.
pub fn item(json: &[u8]) -> &[u8] {
    const MARK: &[u8] = b"\"metadata\":{";
    &json[splice_of(json).saturating_sub(MARK.len())..]
}

/// The raw text of `metadata`, with its braces.
pub fn metadata(json: &[u8]) -> &[u8] {
    let start = splice_of(json).saturating_sub(1);
    let mut raw = serde_json::Deserializer::from_slice(&json[start..]).into_iter::<&serde_json::value::RawValue>();
    raw.next().and_then(Result::ok).map_or(b"{}", |raw| raw.get().as_bytes())
}

/// Cuts what selections need out of an object.
pub fn cut(resource: &Resource, tree: &Value) -> Meta {
    let metadata = &tree["metadata"];
    let text = |name: &str| metadata[name].as_str().unwrap_or_default().into();
    let labels = metadata["labels"].as_object().into_iter().flatten();
    let mut labels: Vec<(Box<str>, Box<str>)> =
        labels.map(|(key, value)| (key.as_str().into(), value.as_str().unwrap_or_default().into())).collect();
    labels.sort_unstable();
    Meta {
        namespace: text("namespace"),
        name: text("name"),
        uid: text("uid"),
        labels: labels.into(),
        fields: resource.selectable.iter().map(|(_, path)| field(tree, path)).collect(),
    }
}

/// A selectable field's value as Go prints it.
fn field(tree: &Value, path: &[Text]) -> Box<str> {
    let value = path.iter().try_fold(tree, |value, name| value.get(&**name));
    match value {
        Some(Value::String(text)) => text.as_str().into(),
        Some(Value::Bool(flag)) => flag.to_string().into(),
        Some(Value::Number(number)) => number.to_string().into(),
        // An absent bool or number has Go's zero value.
        _ => match path.last().map(|name| &**name) {
            Some("unschedulable" | "hostNetwork") => "false".into(),
            Some("replicas" | "succeeded") => "0".into(),
            _ => "".into(),
        },
    }
}
