//! Resources that are served in more than one version: from the stored one to the one asked for, and back.

use bytes::Bytes;
use coracle_api::{Object, Resource, Status};
use serde_json::Value;

/// Whether `resource`'s version is the one that is stored.
pub fn is_stored(resource: &Resource) -> bool {
    resource.storage == (resource.group.clone(), resource.version.clone())
}

/// `object` as JSON of `resource`'s version; shared when it is the stored one.
pub fn json(resource: &Resource, object: &Object) -> Result<Bytes, Status> {
    if is_stored(resource) {
        return Ok(object.json().clone());
    }
    let tree: Value = object.decode()?;
    Ok(Bytes::from(serve(resource, tree).to_string()))
}

/// From the stored version to `resource`'s.
pub fn serve(resource: &Resource, tree: Value) -> Value {
    coracle_api::convert::from_stored(resource, tree)
}

/// From `resource`'s version to the stored one.
pub fn store(resource: &Resource, tree: Value) -> Value {
    coracle_api::convert::to_stored(resource, tree)
}
