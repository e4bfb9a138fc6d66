//! From a request's body to the tree that rules work on.

use bytes::Bytes;
use coracle_api::{Resource, Status};
use http::header;
use serde_json::Value;

use crate::call::Call;
use crate::negotiate::MEDIA_TYPES;

/// Decodes a body that holds an object of `resource`'s kind (or of another kind that a subresource takes).
pub fn object(call: &mut Call, body: &Bytes, group: &str, version: &str, kind: &str) -> Result<Value, Status> {
    let tree = tree(call, body)?;
    check_kind(&tree, group, version, kind)?;
    Ok(tree)
}

pub fn resource(call: &mut Call, body: &Bytes, resource: &Resource) -> Result<Value, Status> {
    object(call, body, &resource.group, &resource.version, &resource.kind)
}

/// Any JSON or YAML document, by Content-Type.
pub fn tree(call: &Call, body: &Bytes) -> Result<Value, Status> {
    let content_type = call.header(header::CONTENT_TYPE);
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let tree: Value = match media_type {
        "" | "application/json" | "*/*" => serde_json::from_slice(body)
            .map_err(|error| Status::bad_request(format!("error decoding JSON: {error}")))?,
        "application/yaml" => {
            let text = std::str::from_utf8(body).map_err(|error| Status::bad_request(error.to_string()))?;
            serde_yaml::from_str(text).map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?
        }
        _ => return Err(Status::unsupported_media_type(&MEDIA_TYPES)),
    };
    if !tree.is_object() {
        return Err(Status::bad_request("the body is no object"));
    }
    Ok(tree)
}

fn check_kind(tree: &Value, group: &str, version: &str, kind: &str) -> Result<(), Status> {
    let (own_kind, own_version) = (&tree["kind"], &tree["apiVersion"]);
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    // Both may be left out: then the path says what it is.
    let fits = |value: &Value, wanted: &str| value.is_null() || *value == "" || *value == *wanted;
    if fits(own_kind, kind) && fits(own_version, &api_version) {
        return Ok(());
    }
    let own_kind = own_kind.as_str().unwrap_or_default();
    let own_version = own_version.as_str().unwrap_or_default();
    if own_kind != kind {
        return Err(Status::bad_request(format!(
            "{own_kind} in version {own_version:?} cannot be handled as a {kind}: no kind {own_kind:?} is registered for this path"
        )));
    }
    Err(Status::bad_request(format!(
        "the API version in the data ({own_version}) does not match the expected API version ({api_version})"
    )))
}
