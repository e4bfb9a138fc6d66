//! Resources that are served in more than one version: from the stored one to the one asked for, and back.

use std::borrow::Cow;

use coracle_api::{Resource, convert};
use serde_json::Value;

/// Whether `resource`'s version is the one that is stored.
pub fn is_stored(resource: &Resource) -> bool {
    (&resource.storage.0, &resource.storage.1) == (&resource.group, &resource.version)
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
