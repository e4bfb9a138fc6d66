//! Resources that are served in more than one version: from the stored one to the one asked for, and back.

use std::borrow::Cow;

use bytes::Bytes;
use coracle_api::{Object, Resource, Status, convert};
use serde_json::Value;

use crate::registry::entry;

/// Whether `resource`'s version is the one that is stored.
pub fn is_stored(resource: &Resource) -> bool {
    (&resource.storage.0, &resource.storage.1) == (&resource.group, &resource.version)
}

/// `object` as canonical JSON of `resource`'s version; shared when it is the stored one.
pub fn json(resource: &Resource, object: &Object) -> Result<Bytes, Status> {
    if is_stored(resource) {
        return Ok(object.json().clone());
    }
    let tree = serve(resource, object.decode()?);
    Ok(entry::frame_as(resource, &tree).spliced(object.revision()))
}

/// From the stored version to `resource`'s.
pub fn serve(resource: &Resource, tree: Value) -> Value {
    if is_stored(resource) { tree } else { convert::from_stored(resource, tree) }
}

/// From `resource`'s version to the stored one.
pub fn store(resource: &Resource, tree: Value) -> Value {
    if is_stored(resource) { tree } else { convert::to_stored(resource, tree) }
}

/// A field selector in the words of the stored version.
pub fn field_selector<'a>(resource: &Resource, text: &'a str) -> Cow<'a, str> {
    if is_stored(resource) || &*resource.kind != "Event" {
        return Cow::Borrowed(text);
    }
    let text = text.replace("regarding.", "involvedObject.");
    Cow::Owned(text.replace("reportingController", "reportingComponent"))
}
