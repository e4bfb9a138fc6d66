//! `as=Table`: the columns that clients print, computed here.

use bytes::Bytes;
use coracle_api::{Object, Resource, Status, columns};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::call::Call;
use crate::verbs::answer::{ListMeta, metadata_object};

/// A Table of `items`.
pub fn json(resource: &Resource, items: &[Object], meta: &ListMeta, call: &Call) -> Result<Bytes, Status> {
    let include = call.query.get("includeObject").unwrap_or("Metadata");
    let rows: Result<Vec<Value>, Status> = items.iter().map(|object| row(resource, object, include)).collect();
    let mut metadata = json!({ "resourceVersion": meta.revision.to_string() });
    if !meta.continue_token.is_empty() {
        metadata["continue"] = json!(meta.continue_token);
    }
    if let Some(remaining) = meta.remaining {
        metadata["remainingItemCount"] = json!(remaining);
    }
    let table = json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns::definitions(resource),
        "rows": rows?,
    });
    Ok(Bytes::from(table.to_string()))
}

fn row(resource: &Resource, object: &Object, include: &str) -> Result<Value, Status> {
    let tree: Value = object.decode()?;
    let mut row = json!({ "cells": columns::cells(resource, &tree, Timestamp::now()) });
    if resource.kind == "Pod"
        && let Some(conditions) = columns::row_conditions(&tree)
    {
        row["conditions"] = conditions;
    }
    match include {
        "None" => {}
        "Object" => row["object"] = tree,
        _ => {
            row["object"] = serde_json::from_slice(&metadata_object(object.json())).map_err(Status::internal)?;
        }
    }
    Ok(row)
}

/// The Table of one object in a watch; column definitions come with the first one only.
pub fn event(resource: &Resource, object: &Object, include: &str, columns: bool) -> Result<Bytes, Status> {
    let mut table = json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1",
        "metadata": { "resourceVersion": object.revision().to_string() },
        "columnDefinitions": null, "rows": [row(resource, object, include)?],
    });
    if columns {
        table["columnDefinitions"] = columns::definitions(resource);
    }
    Ok(Bytes::from(table.to_string()))
}
