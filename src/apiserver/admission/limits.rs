//! LimitRanger: default requests and limits for containers, and bounds for containers, pods and claims.
//!
//! Upstream: kubernetes plugin/pkg/admission/limitranger.

use std::sync::LazyLock;

use coracle_api::quantity::Quantity;
use coracle_api::quota::{Amounts, containers_total, quantities};
use coracle_api::{Resource, Status};
use serde_json::{Map, Value, json};

use super::{Operation, Request};
use crate::registry::{Registry, metadata, tree};

static RANGES: LazyLock<Resource> =
    LazyLock::new(|| Resource::find("", "v1", "limitranges").expect("the catalog holds limitranges"));

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

fn is_limited(request: &Request<'_>, old: Option<&Value>) -> bool {
    let pod = request.is("", "pods");
    let asked = match (request.subresource, request.operation) {
        ("resize", Operation::Update) => pod,
        ("", Operation::Create) => pod || request.is("", "persistentvolumeclaims"),
        ("", Operation::Update) => request.is("", "persistentvolumeclaims"),
        _ => false,
    };
    asked && !old.is_some_and(metadata::is_deleting)
}

fn ranges(registry: &Registry, object: &Value) -> Vec<Value> {
    let found = registry.all(&RANGES, metadata::text(object, "namespace"));
    found.iter().filter_map(|object| tree(object).ok()).collect()
}

/// Gives containers the requests and limits that they lack.
pub fn mutate(registry: &Registry, request: &Request<'_>, pod: &mut Value, old: Option<&Value>) {
    if !is_limited(request, old) || !request.is("", "pods") {
        return;
    }
    for range in ranges(registry, pod) {
        let mut said = Vec::new();
        for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
            let Some(containers) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) else { continue };
            for container in containers {
                let name = container["name"].as_str().unwrap_or_default().to_owned();
                for (field, source, word) in [("requests", "defaultRequest", "request"), ("limits", "default", "limit")]
                {
                    let set = fill(container, field, &defaults(&range, source));
                    if !set.is_empty() {
                        said.push(format!("{} {word} for {what} {name}", set.join(", ")));
                    }
                }
            }
        }
        if !said.is_empty() {
            let text = format!("LimitRanger plugin set: {}", said.join("; "));
            let annotations = metadata::of(pod).entry("annotations").or_insert_with(|| json!({}));
            if !annotations.is_object() {
                *annotations = json!({});
            }
            annotations[ANNOTATION] = text.into();
        }
    }
}

/// What a range gives to every container.
fn defaults(range: &Value, field: &str) -> Map<String, Value> {
    let limits = range["spec"]["limits"].as_array().into_iter().flatten();
    let own = limits.filter(|limit| limit["type"] == "Container").filter_map(|limit| limit[field].as_object());
    own.flatten().map(|(name, amount)| (name.clone(), amount.clone())).collect()
}

/// The names of what was missing, sorted.
fn fill(container: &mut Value, field: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let mut set = Vec::new();
    for (name, amount) in defaults {
        if container["resources"][field].get(name).is_none() {
            for part in [&["resources"][..], &["resources", field]] {
                let place = part.iter().fold(&mut *container, |place, name| &mut place[*name]);
                if !place.is_object() {
                    *place = json!({});
                }
            }
            container["resources"][field][name] = amount.clone();
            set.push(name.clone());
        }
    }
    set.sort();
    set
}

/// Refuses what is out of bounds.
pub fn check(registry: &Registry, request: &Request<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    if !is_limited(request, old) {
        return Ok(());
    }
    for range in ranges(registry, new) {
        let mut wrong = Vec::new();
        for limit in range["spec"]["limits"].as_array().into_iter().flatten() {
            check_limit(limit, new, &mut wrong);
        }
        let mut said: Vec<String> = Vec::new();
        for message in wrong {
            if !said.contains(&message) {
                said.push(message);
            }
        }
        match said.len() {
            0 => {}
            1 => return Err(Status::forbidden(request.resource, metadata::text(new, "name"), said.remove(0))),
            _ => {
                let all = format!("[{}]", said.join(", "));
                return Err(Status::forbidden(request.resource, metadata::text(new, "name"), all));
            }
        }
    }
    Ok(())
}

fn check_limit(limit: &Value, object: &Value, wrong: &mut Vec<String>) {
    let spec = &object["spec"];
    match (limit["type"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default()) {
        ("PersistentVolumeClaim", "PersistentVolumeClaim") => {
            let requests = quantities(&spec["resources"]["requests"]);
            let bounds = Bounds { kind: "PersistentVolumeClaim", requests: &requests, limits: &Amounts::new() };
            wrong.extend(quantities(&limit["min"]).iter().filter_map(|(name, least)| bounds.min(name, *least)));
            wrong.extend(quantities(&limit["max"]).iter().filter_map(|(name, most)| bounds.max_request(name, *most)));
        }
        ("Container", "Pod") => {
            for container in ["containers", "initContainers"].iter().filter_map(|list| spec[*list].as_array()).flatten()
            {
                let own = |field: &str| quantities(&container["resources"][field]);
                bound("Container", limit, &own("requests"), &own("limits"), wrong);
            }
        }
        ("Pod", "Pod") => {
            bound("Pod", limit, &containers_total(object, "requests"), &containers_total(object, "limits"), wrong);
        }
        _ => {}
    }
}

fn bound(kind: &str, limit: &Value, requests: &Amounts, limits: &Amounts, wrong: &mut Vec<String>) {
    let bounds = Bounds { kind, requests, limits };
    wrong.extend(quantities(&limit["min"]).iter().filter_map(|(name, least)| bounds.min(name, *least)));
    wrong.extend(quantities(&limit["max"]).iter().filter_map(|(name, most)| bounds.max(name, *most)));
    wrong
        .extend(quantities(&limit["maxLimitRequestRatio"]).iter().filter_map(|(name, most)| bounds.ratio(name, *most)));
}

/// What is asked for, against one bound at a time.
struct Bounds<'a> {
    /// `Container`
    kind: &'a str,
    requests: &'a Amounts,
    limits: &'a Amounts,
}

impl Bounds<'_> {
    fn min(&self, name: &str, least: Quantity) -> Option<String> {
        let start = format!("minimum {name} usage per {} is {least}", self.kind);
        match (self.requests.get(name), self.limits.get(name)) {
            (None, _) => Some(format!("{start}.  No request is specified")),
            (Some(request), _) if *request < least => Some(format!("{start}, but request is {request}")),
            (_, Some(limit)) if *limit < least => Some(format!("{start}, but limit is {limit}")),
            _ => None,
        }
    }

    fn max(&self, name: &str, most: Quantity) -> Option<String> {
        let start = format!("maximum {name} usage per {} is {most}", self.kind);
        match (self.requests.get(name), self.limits.get(name)) {
            (_, None) => Some(format!("{start}.  No limit is specified")),
            (_, Some(limit)) if *limit > most => Some(format!("{start}, but limit is {limit}")),
            (Some(request), _) if *request > most => Some(format!("{start}, but request is {request}")),
            _ => None,
        }
    }

    fn max_request(&self, name: &str, most: Quantity) -> Option<String> {
        let start = format!("maximum {name} usage per {} is {most}", self.kind);
        match self.requests.get(name) {
            None => Some(format!("{start}.  No request is specified")),
            Some(request) if *request > most => Some(format!("{start}, but request is {request}")),
            _ => None,
        }
    }

    fn ratio(&self, name: &str, most: Quantity) -> Option<String> {
        let start = format!("{name} max limit to request ratio per {} is {most}", self.kind);
        let given = |amounts: &Amounts| amounts.get(name).copied().filter(|amount| !amount.is_zero());
        let (Some(request), Some(limit)) = (given(self.requests), given(self.limits)) else {
            let what = if given(self.requests).is_none() { "request" } else { "limit" };
            return Some(format!("{start}, but no {what} is specified or {what} is 0"));
        };
        let ratio = limit.as_f64() / request.as_f64();
        (ratio > most.as_f64()).then(|| format!("{start}, but provided ratio is {ratio:.6}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(limit: Value, object: Value) -> Vec<String> {
        let mut wrong = Vec::new();
        check_limit(&limit, &object, &mut wrong);
        wrong
    }

    #[test]
    fn bounds_hold_for_containers_pods_and_claims() {
        let pod = |requests: Value, limits: Value| {
            let container = json!({"name": "c", "resources": {"requests": requests, "limits": limits}});
            json!({"kind": "Pod", "spec": {"containers": [container, container]}})
        };
        let limit = |kind: &str| json!({"type": kind, "min": {"cpu": "100m"}, "max": {"cpu": "1"}});
        let good = pod(json!({"cpu": "200m"}), json!({"cpu": "400m"}));
        assert_eq!(wrong(limit("Container"), good.clone()), [""; 0]);
        assert_eq!(wrong(limit("Pod"), good), [""; 0]);
        let big = pod(json!({"cpu": "200m"}), json!({"cpu": "800m"}));
        assert_eq!(wrong(limit("Pod"), big), ["maximum cpu usage per Pod is 1, but limit is 1600m"]);
        let small = pod(json!({"cpu": "50m"}), json!({}));
        let said = wrong(limit("Container"), small);
        assert_eq!(
            said[..2],
            [
                "minimum cpu usage per Container is 100m, but request is 50m",
                "maximum cpu usage per Container is 1.  No limit is specified",
            ]
        );
        let ratio = json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}});
        let said = wrong(ratio, pod(json!({"cpu": "1"}), json!({"cpu": "3"})));
        assert_eq!(said[0], "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000");
        let claim = json!({"kind": "PersistentVolumeClaim", "spec": {"resources": {"requests": {"storage": "2Gi"}}}});
        let most = json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}});
        assert_eq!(wrong(most, claim), ["maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"]);
    }

    #[test]
    fn what_is_missing_is_filled_in() {
        let mut container = json!({"name": "c", "resources": {"requests": {"cpu": "1"}}});
        let defaults = |value: Value| value.as_object().cloned().unwrap_or_default();
        let set = fill(&mut container, "requests", &defaults(json!({"cpu": "2", "memory": "1Gi"})));
        assert_eq!(set, ["memory"]);
        assert_eq!(fill(&mut container, "limits", &defaults(json!({"memory": "2Gi"}))), ["memory"]);
        let expected = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}});
        assert_eq!(container["resources"], expected);
    }
}
