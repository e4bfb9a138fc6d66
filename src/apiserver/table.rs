//! `as=Table`: the columns that clients print, computed here.

use bytes::Bytes;
use coracle_api::{Object, Resource, Status, columns};
use jiff::Timestamp;
use serde_json::Value;

use crate::call::Call;
use crate::convert;
use crate::verbs::answer::{ListMeta, metadata_object};

/// What a row shows of its object besides the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    Nothing,
    Metadata,
    Object,
}

impl Include {
    /// The query's `includeObject`; 400 for what it cannot be.
    pub fn parse(call: &Call) -> Result<Self, Status> {
        match call.query.get("includeObject") {
            None | Some("Metadata") => Ok(Include::Metadata),
            Some("None") => Ok(Include::Nothing),
            Some("Object") => Ok(Include::Object),
            Some(other) => Err(Status::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        }
    }
}

/// A Table of `items`.
pub fn json(resource: &Resource, items: &[Object], meta: &ListMeta, call: &Call) -> Result<Bytes, Status> {
    let (include, now) = (Include::parse(call)?, Timestamp::now());
    let mut text = Vec::with_capacity(512 + items.len() * 512);
    let (metadata, definitions) = (meta.json(), columns::definitions(resource));
    text.extend_from_slice(
        format!(
            "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{metadata},\"columnDefinitions\":{definitions},\"rows\":["
        )
        .as_bytes(),
    );
    for (index, object) in items.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        push_row(&mut text, resource, object, include, now)?;
    }
    text.extend_from_slice(b"]}");
    Ok(Bytes::from(text))
}

/// The Table of one object in a watch; column definitions come with the first one only.
pub fn event(resource: &Resource, object: &Object, include: Include, with_columns: bool) -> Result<Bytes, Status> {
    let definitions = if with_columns { columns::definitions(resource) } else { Value::Null };
    let revision = object.revision();
    let head = format!(
        "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{{\"resourceVersion\":\"{revision}\"}},\"columnDefinitions\":{definitions},\"rows\":["
    );
    let mut text = head.into_bytes();
    push_row(&mut text, resource, object, include, Timestamp::now())?;
    text.extend_from_slice(b"]}");
    Ok(Bytes::from(text))
}

/// The objects of rows are copied, never encoded again.
fn push_row(
    text: &mut Vec<u8>,
    resource: &Resource,
    object: &Object,
    include: Include,
    now: Timestamp,
) -> Result<(), Status> {
    let json = convert::json(resource, object)?;
    let tree: Value = serde_json::from_slice(&json).map_err(Status::internal)?;
    text.extend_from_slice(b"{\"cells\":");
    text.extend_from_slice(columns::cells(resource, &tree, now).to_string().as_bytes());
    if &*resource.plural == "pods"
        && let Some(conditions) = columns::row_conditions(&tree)
    {
        text.extend_from_slice(b",\"conditions\":");
        text.extend_from_slice(conditions.to_string().as_bytes());
    }
    match include {
        Include::Nothing => text.extend_from_slice(b",\"object\":null"),
        Include::Metadata => {
            text.extend_from_slice(b",\"object\":");
            text.extend_from_slice(&metadata_object(&json));
        }
        Include::Object => {
            text.extend_from_slice(b",\"object\":");
            text.extend_from_slice(&json);
        }
    }
    text.push(b'}');
    Ok(())
}
