//! Claims: their first phase, and what fills a new volume, which two fields say.
//!
//! Upstream: kubernetes pkg/registry/core/persistentvolumeclaim/strategy.go, pkg/api/persistentvolumeclaim.

use serde_json::{Value, json};

pub fn prepare_create(tree: &mut Value) {
    tree["status"] = json!({ "phase": "Pending" });
    prepare_source(&mut tree["spec"], &Value::Null);
}

pub fn prepare_update(new: &mut Value, old: &Value, subresource: &str) {
    if subresource.is_empty() {
        prepare_source(&mut new["spec"], &old["spec"]);
    }
}

/// Drops what no cluster of this version serves, and makes both fields say the same.
fn prepare_source(spec: &mut Value, old: &Value) {
    let Some(fields) = spec.as_object_mut() else { return };
    let text = |of: &Value, field: &str| of[field].as_str().unwrap_or_default().to_owned();
    let elsewhere = |of: Option<&Value>| of.is_some_and(|reference| !text(reference, "namespace").is_empty());
    if elsewhere(fields.get("dataSourceRef")) && !elsewhere(old.get("dataSourceRef")) {
        fields.remove("dataSourceRef");
    }
    let known = |source: &Value| {
        let (group, kind) = (text(source, "apiGroup"), text(source, "kind"));
        matches!((&*group, &*kind), ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot"))
    };
    if old.get("dataSource").is_none() && fields.get("dataSource").is_some_and(|source| !known(source)) {
        fields.remove("dataSource");
    }
    match (fields.get("dataSource").cloned(), fields.get("dataSourceRef").cloned()) {
        (Some(source), None) => {
            fields.insert("dataSourceRef".to_owned(), source);
        }
        (None, Some(reference)) if !elsewhere(Some(&reference)) => {
            fields.insert("dataSource".to_owned(), reference);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_fields_name_the_same_source() {
        let prepared = |mut spec: Value| {
            prepare_source(&mut spec, &Value::Null);
            spec
        };
        let claim = json!({"kind": "PersistentVolumeClaim", "name": "a"});
        let both = json!({"dataSource": claim, "dataSourceRef": claim});
        assert_eq!(prepared(json!({"dataSource": claim})), both);
        assert_eq!(prepared(json!({"dataSourceRef": claim})), both);
        assert_eq!(prepared(json!({"dataSource": {"apiGroup": "x.example", "kind": "Y", "name": "a"}})), json!({}));
        let far = json!({"kind": "PersistentVolumeClaim", "name": "a", "namespace": "b"});
        assert_eq!(prepared(json!({"dataSourceRef": far})), json!({}));
    }
}
