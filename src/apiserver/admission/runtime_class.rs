//! RuntimeClass: a pod takes the overhead of its class, and goes to the nodes that serve it.
//!
//! Upstream: kubernetes plugin/pkg/admission/runtimeclass.

use std::sync::LazyLock;

use coracle_api::{Resource, Status};
use serde_json::{Value, json};

use super::Request;
use crate::registry::{Registry, metadata, tree};

static CLASSES: LazyLock<Resource> =
    LazyLock::new(|| Resource::find("node.k8s.io", "v1", "runtimeclasses").expect("the catalog holds runtimeclasses"));

pub fn mutate(registry: &Registry, request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    if !request.creates("", "pods") || !pod["spec"].is_object() {
        return Ok(());
    }
    let name = metadata::text(pod, "name").to_owned();
    let forbid = |why: String| Err(Status::forbidden(request.resource, &name, why));
    let Some(wanted) = pod["spec"]["runtimeClassName"].as_str().map(str::to_owned) else {
        return if is_empty(&pod["spec"]["overhead"]) {
            Ok(())
        } else {
            forbid("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead".to_owned())
        };
    };
    let Some(class) = registry.resident(&CLASSES, "", &wanted) else {
        return forbid(format!("pod rejected: RuntimeClass \"{wanted}\" not found"));
    };
    match apply(&tree(&class)?, &mut pod["spec"]) {
        Ok(()) => Ok(()),
        Err(why) => forbid(why),
    }
}

fn apply(class: &Value, spec: &mut Value) -> Result<(), String> {
    match class.get("overhead") {
        Some(overhead) if is_empty(&spec["overhead"]) => spec["overhead"] = overhead["podFixed"].clone(),
        Some(overhead) if spec["overhead"] != overhead["podFixed"] => {
            return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned());
        }
        None if !is_empty(&spec["overhead"]) => {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(why.to_owned());
        }
        _ => {}
    }
    let Some(scheduling) = class.get("scheduling") else { return Ok(()) };
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let given = spec["nodeSelector"].get(key).and_then(Value::as_str);
        if let Some(given) = given.filter(|given| *value != **given) {
            let wanted = value.as_str().unwrap_or_default();
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {given}"
            ));
        }
        if !spec["nodeSelector"].is_object() {
            spec["nodeSelector"] = json!({});
        }
        spec["nodeSelector"][key] = value.clone();
    }
    let more = scheduling["tolerations"].as_array().cloned().unwrap_or_default();
    if !more.is_empty() {
        let mut all = spec["tolerations"].as_array().cloned().unwrap_or_default();
        all.extend(more);
        spec["tolerations"] = merged(&all).into();
    }
    Ok(())
}

fn is_empty(list: &Value) -> bool {
    list.as_object().is_none_or(serde_json::Map::is_empty)
}

/// Tolerations without those that a later, or an earlier and wider, one covers.
fn merged(all: &[Value]) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for (index, toleration) in all.iter().enumerate() {
        let later = all[index + 1..].iter().any(|other| other != toleration && covers(other, toleration));
        if !later && !kept.iter().any(|other| covers(other, toleration)) {
            kept.push(toleration.clone());
        }
    }
    kept
}

/// Whether `left` tolerates all that `right` does.
fn covers(left: &Value, right: &Value) -> bool {
    if left == right {
        return true;
    }
    let text = |of: &Value, field: &str| of[field].as_str().unwrap_or_default().to_owned();
    let every_key = text(left, "key").is_empty() && text(left, "operator") == "Exists";
    let every_effect = text(left, "effect").is_empty();
    let seconds = |of: &Value| of["tolerationSeconds"].as_i64().unwrap_or(i64::MAX);
    if text(left, "key") != text(right, "key") && !every_key
        || text(left, "effect") != text(right, "effect") && !every_effect
        || text(left, "effect") == "NoExecute" && seconds(left) < seconds(right)
    {
        return false;
    }
    match text(left, "operator").as_str() {
        "" | "Equal" => text(right, "operator") == "Equal" && text(left, "value") == text(right, "value"),
        operator => operator == "Exists",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_takes_overhead_selector_and_tolerations() {
        let toleration = json!({"key": "a", "operator": "Exists"});
        let class = json!({
            "overhead": {"podFixed": {"cpu": "1"}},
            "scheduling": {"nodeSelector": {"k": "v"}, "tolerations": [toleration]},
        });
        let mut spec =
            json!({"nodeSelector": {"x": "y"}, "tolerations": [{"key": "a", "operator": "Equal", "value": "b"}]});
        assert_eq!(apply(&class, &mut spec), Ok(()));
        let expected =
            json!({"overhead": {"cpu": "1"}, "nodeSelector": {"k": "v", "x": "y"}, "tolerations": [toleration]});
        assert_eq!(spec, expected);
        assert_eq!(
            apply(&class, &mut json!({"nodeSelector": {"k": "w"}})),
            Err("conflict: runtimeClass.scheduling.nodeSelector[k] = v; pod.spec.nodeSelector[k] = w".to_owned())
        );
        assert!(apply(&json!({}), &mut json!({"overhead": {"cpu": "1"}})).is_err());
    }
}
