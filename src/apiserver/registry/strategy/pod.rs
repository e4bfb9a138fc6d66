//! Pods: their first status, QoS class, grace.
//!
//! Upstream: kubernetes pkg/registry/core/pod/strategy.go.

use coracle_api::node::Node;
use coracle_api::qos;
use serde_json::{Map, Value, json};

use crate::registry::metadata;

pub fn prepare_create(tree: &mut Value) {
    let mut status = json!({ "phase": "Pending", "qosClass": qos::class(Node::root(tree).get("spec")) });
    if tree["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": null,
        }]);
    }
    tree["status"] = status;
    select_by_own_labels(tree);
}

/// Keeps of a resize what it is about: the resources of the pod and of its containers, unless those are others altogether.
fn resized(new: &mut Value, old: &Value) {
    let mut kept = old["spec"].clone();
    for list in ["containers", "initContainers"] {
        let given = new["spec"][list].as_array().cloned().unwrap_or_default();
        let known = kept.get_mut(list).and_then(Value::as_array_mut);
        let known: Vec<&mut Value> = known.into_iter().flatten().collect();
        if known.len() != given.len() || known.iter().zip(&given).any(|(known, given)| known["name"] != given["name"]) {
            return;
        }
        for (known, given) in known.into_iter().zip(&given) {
            put(known, "resources", given.get("resources"));
            put(known, "resizePolicy", given.get("resizePolicy"));
        }
    }
    put(&mut kept, "resources", new["spec"].get("resources").or(old["spec"].get("resources")));
    new["spec"] = kept;
    put(new, "status", old.get("status"));
}

fn put(object: &mut Value, field: &str, value: Option<&Value>) {
    if let Some(fields) = object.as_object_mut() {
        match value {
            Some(value) => fields.insert(field.to_owned(), value.clone()),
            None => fields.remove(field),
        };
    }
}

/// What `matchLabelKeys` and `mismatchLabelKeys` name of the pod's labels becomes part of the selector beside them.
fn select_by_own_labels(tree: &mut Value) {
    let labels = tree["metadata"]["labels"].clone();
    for affinity in ["podAffinity", "podAntiAffinity"] {
        for (list, inner) in [
            ("preferredDuringSchedulingIgnoredDuringExecution", "/podAffinityTerm"),
            ("requiredDuringSchedulingIgnoredDuringExecution", ""),
        ] {
            let terms = tree.pointer_mut(&format!("/spec/affinity/{affinity}/{list}")).and_then(Value::as_array_mut);
            for term in terms.into_iter().flatten().filter_map(|term| term.pointer_mut(inner)) {
                select(term, "matchLabelKeys", "In", &labels);
                select(term, "mismatchLabelKeys", "NotIn", &labels);
            }
        }
    }
    let constraints = tree.pointer_mut("/spec/topologySpreadConstraints").and_then(Value::as_array_mut);
    for constraint in constraints.into_iter().flatten() {
        select(constraint, "matchLabelKeys", "In", &labels);
    }
}

fn select(term: &mut Value, field: &str, operator: &str, labels: &Value) {
    let keys = term[field].as_array().cloned().unwrap_or_default();
    let known = keys.iter().filter_map(|key| Some((key, labels.get(key.as_str()?)?)));
    let more: Vec<Value> =
        known.map(|(key, value)| json!({ "key": key, "operator": operator, "values": [value] })).collect();
    // No selector at all selects nothing.
    if let Some(selector) = term.get_mut("labelSelector").filter(|selector| selector.is_object() && !more.is_empty()) {
        match selector.get_mut("matchExpressions").and_then(Value::as_array_mut) {
            Some(expressions) => expressions.extend(more),
            None => selector["matchExpressions"] = more.into(),
        }
    }
}

pub fn prepare_update(new: &mut Value, old: &Value, subresource: &str) {
    // Clients that do not know the field drop it.
    if subresource.is_empty()
        && new["spec"].get("resources").is_none()
        && let Some(whole) = old["spec"].get("resources")
    {
        new["spec"]["resources"] = whole.clone();
    }
    if subresource == "resize" {
        resized(new, old);
    }
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
