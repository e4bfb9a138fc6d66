//! Pods: their first status, QoS class, grace.
//!
//! Upstream: kubernetes pkg/registry/core/pod/strategy.go, pkg/apis/core/helper/qos.

use serde_json::{Map, Value, json};

use crate::registry::metadata;

pub fn prepare_create(tree: &mut Value) {
    let mut status = json!({ "phase": "Pending", "qosClass": qos_class(tree) });
    if tree["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": null,
        }]);
    }
    tree["status"] = status;
}

pub fn prepare_update(new: &mut Value, old: &Value, subresource: &str) {
    if subresource == "status" {
        // Old kubelets corrupt them in a way that breaks garbage collection.
        match old["metadata"].get("ownerReferences") {
            Some(owners) => metadata::of(new).insert("ownerReferences".to_owned(), owners.clone()),
            None => metadata::of(new).remove("ownerReferences"),
        };
        if !new["status"].is_object() {
            new["status"] = Value::Object(Map::new());
        }
        if new["status"].get("qosClass").is_none_or(|class| class == "")
            && let Some(class) = old["status"].get("qosClass")
        {
            new["status"]["qosClass"] = class.clone();
        }
    }
}

/// The client's wish, else the pod's own; none for pods that run nowhere or no more.
pub fn grace(tree: &Value, asked: Option<i64>) -> i64 {
    let own = tree["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(0);
    let unscheduled = tree["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let ended = matches!(tree["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
    match asked.unwrap_or(own) {
        _ if unscheduled || ended => 0,
        seconds if seconds < 0 => 1,
        seconds => seconds,
    }
}

/// Guaranteed when every container's limits for cpu and memory are set and equal its requests, BestEffort when none has
/// any, else Burstable. Quantities are compared as they are written, after canonicalisation by the decoder.
pub fn qos_class(tree: &Value) -> &'static str {
    const NAMES: [&str; 2] = ["cpu", "memory"];
    let is_zero = |quantity: &Value| matches!(quantity.as_str(), Some("0") | None);
    let containers = ["initContainers", "containers"].into_iter().filter_map(|field| tree["spec"][field].as_array());
    let resources: Vec<&Value> = match tree["spec"].get("resources") {
        Some(whole) if whole.is_object() => vec![whole],
        _ => containers.flatten().map(|container| &container["resources"]).collect(),
    };
    let (mut any, mut guaranteed) = (false, !resources.is_empty());
    for resource in resources {
        for name in NAMES {
            let (request, limit) = (&resource["requests"][name], &resource["limits"][name]);
            any |= !is_zero(request) || !is_zero(limit);
            guaranteed &= !is_zero(limit) && (is_zero(request) || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
