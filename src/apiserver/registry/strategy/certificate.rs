//! Certificate requests: what is asked for never changes; approval writes conditions, the signer everything else of the status.
//!
//! Upstream: kubernetes pkg/registry/certificates/certificates/strategy.go.

use serde_json::{Value, json};

use super::keep;
use crate::registry::metadata;

pub fn prepare_update(new: &mut Value, old: &Value, subresource: &str) {
    keep(new, old, "spec");
    match subresource {
        "approval" => {
            let conditions = new["status"].get("conditions").cloned();
            keep(new, old, "status");
            if !new["status"].is_object() {
                new["status"] = json!({});
            }
            if let Some(conditions) = conditions {
                new["status"]["conditions"] = conditions;
            }
        }
        "status" => keep_decisions(new, old),
        _ => {}
    }
    stamp(new, old);
}

/// Puts approvals and denials back as they were, unless some were added or removed, which validation refuses.
fn keep_decisions(new: &mut Value, old: &Value) {
    for decision in ["Approved", "Denied"] {
        let of = |tree: &Value| -> Vec<usize> {
            let conditions = tree["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
            let found = conditions.iter().enumerate().filter(|(_, condition)| condition["type"] == decision);
            found.map(|(place, _)| place).collect()
        };
        let (before, after) = (of(old), of(new));
        if before.len() == after.len() {
            for (from, to) in before.into_iter().zip(after) {
                new["status"]["conditions"][to] = old["status"]["conditions"][from].clone();
            }
        }
    }
}

/// Dates conditions that have no dates; one that stays keeps the date of its last transition.
fn stamp(new: &mut Value, old: &Value) {
    let Some(conditions) = new.get_mut("status").and_then(|status| status["conditions"].as_array_mut()) else { return };
    let known = old["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    for condition in conditions {
        let same = known.iter().find(|old| old["type"] == condition["type"] && old["status"] == condition["status"]);
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = json!(metadata::now());
        }
        if condition["lastTransitionTime"].is_null() {
            let since = same.map(|old| old["lastTransitionTime"].clone()).filter(|time| !time.is_null());
            condition["lastTransitionTime"] = since.unwrap_or_else(|| json!(metadata::now()));
        }
    }
}
