//! Namespaces: the finalizer that empties them, the label of their name, the phase.
//!
//! Upstream: kubernetes pkg/registry/core/namespace/strategy.go.

use serde_json::{Value, json};

use super::keep;
use crate::registry::metadata;

const LABEL: &str = "kubernetes.io/metadata.name";

pub fn prepare_create(tree: &mut Value) {
    tree["status"] = json!({ "phase": "Active" });
    if !tree["spec"].is_object() {
        tree["spec"] = json!({});
    }
    if !tree["spec"]["finalizers"].is_array() {
        tree["spec"]["finalizers"] = json!([]);
    }
    if let Some(finalizers) = tree["spec"]["finalizers"].as_array_mut()
        && !finalizers.iter().any(|name| name == "kubernetes")
    {
        finalizers.push(json!("kubernetes"));
    }
    label(tree);
}

pub fn prepare_update(new: &mut Value, old: &Value, subresource: &str) {
    if subresource == "finalize" {
        keep(new, old, "status");
    } else {
        keep(new, old, "spec");
    }
    label(new);
}

fn label(tree: &mut Value) {
    let name = metadata::text(tree, "name").to_owned();
    let metadata = metadata::of(tree);
    if !metadata.get("labels").is_some_and(Value::is_object) {
        metadata.insert("labels".to_owned(), json!({}));
    }
    metadata["labels"][LABEL] = json!(name);
}
