//! Deployments, ReplicaSets, jobs and the like: what a status update cannot touch.
//!
//! Upstream: kubernetes pkg/registry/{apps,batch}.

use serde_json::Value;

use crate::registry::metadata;

pub fn prepare_update(new: &mut Value, old: &Value, subresource: &str) {
    if subresource == "status" && old["kind"] == "Deployment" {
        match old["metadata"].get("labels") {
            Some(labels) => metadata::of(new).insert("labels".to_owned(), labels.clone()),
            None => metadata::of(new).remove("labels"),
        };
    }
}
