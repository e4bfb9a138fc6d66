//! Resizing pods in place. Upstream: pkg/apis/core/validation ValidatePodResize.

use serde_json::{Map, Value, json};

use super::annotations;
use crate::causes::Causes;
use crate::node::Node;

const MUTABLE: &str = "only cpu and memory resources are mutable";

pub(super) fn resize(pod: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (meta, spec, before) = (old.get("metadata"), pod.get("spec"), old.get("spec"));
    let mut only = |why: &str| {
        *causes = Causes::new();
        causes.forbidden("", why);
    };
    if meta.get("annotations").key(annotations::MIRROR).is_present() {
        return only("static pods cannot be resized");
    }
    if before.get("os").get("name").str() == "windows" {
        return only("windows pods cannot be resized");
    }
    let class = crate::qos::class(spec);
    let status = old.get("status");
    let had = status.get("qosClass");
    if class != if had.is_empty() { crate::qos::class(before) } else { had.str() } {
        let shown = pod.get("status").get("qosClass").str();
        causes.invalid("spec", shown, "Pod QOS Class may not change as a result of resizing");
    }
    let statuses = status.get("containerStatuses");
    let running = statuses.items().find(|status| status.get("state").get("running").is_present());
    if running.is_some_and(|status| status.get("resources").is_absent()) {
        causes.forbidden("spec", "Pod running on node without support for resize");
    }
    let mut rest = spec.value().cloned().unwrap_or_default();
    of_pod(spec, before, &mut rest, causes);
    if !same_containers(spec, before, causes) {
        return;
    }
    for list in ["initContainers", "containers"] {
        for (now, before) in spec.get(list).items().zip(before.get(list).items()) {
            let (now, before) = (now.get("resources"), before.get("resources"));
            removed(now, before, "resource", causes);
        }
    }
    containers(spec, before, &mut rest, causes);
    if spec.get("volumes").value() != before.get("volumes").value() {
        let why = "volumes are immutable on resize when InPlacePodVerticalScalingMemoryBackedVolumes feature gate is disabled";
        spec.get("volumes").forbidden(causes, why);
    }
    if causes.is_empty() && Some(&rest) != before.value() {
        spec.forbidden(causes, MUTABLE);
    }
}

fn of_pod(spec: Node<'_, '_>, old: Node<'_, '_>, rest: &mut Value, causes: &mut Causes) {
    let (now, before) = (spec.get("resources"), old.get("resources"));
    let set = |node: Node<'_, '_>| node.get("requests").len() + node.get("limits").len() > 0;
    if !set(now) && !set(before) {
        return;
    }
    if before.is_present() && now.is_absent() {
        return now.forbidden(causes, "pod-level resources cannot be removed");
    }
    if before.is_present() {
        removed(now, before, "pod-level resource", causes);
    }
    let mut kept = keep_compute(now, before);
    if before.is_absent()
        && ["requests", "limits", "claims"].iter().all(|list| kept[list].as_object().is_none_or(Map::is_empty))
    {
        kept = Value::Null;
    }
    if (before.is_absent() != kept.is_null()) || before.is_present() && Some(&kept) != before.value() {
        spec.forbidden(causes, "only cpu and memory resources are mutable at pod-level");
    }
    match before.value() {
        Some(before) => rest["resources"] = before.clone(),
        None => {
            rest.as_object_mut().map(|fields| fields.remove("resources"));
        }
    }
}

fn removed(now: Node<'_, '_>, before: Node<'_, '_>, what: &str, causes: &mut Causes) {
    for list in ["requests", "limits"] {
        let gone = before.get(list).entries().any(|(name, _)| now.get(list).key(name).is_absent());
        if gone {
            now.get(list).forbidden(causes, format!("{what} {list} cannot be removed"));
        }
    }
}

fn same_containers(spec: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) -> bool {
    let before = causes.len();
    for list in ["containers", "initContainers"] {
        if spec.get(list).len() != old.get(list).len() {
            spec.get(list).forbidden(causes, format!("{list} may not be added or removed on resize"));
            continue;
        }
        for (now, before) in spec.get(list).items().zip(old.get(list).items()) {
            if now.get("name").str() != before.get("name").str() {
                now.get("name").forbidden(causes, format!("{list} may not be renamed or reordered on resize"));
            }
        }
    }
    causes.len() == before
}

fn containers(spec: Node<'_, '_>, old: Node<'_, '_>, rest: &mut Value, causes: &mut Causes) {
    for list in ["containers", "initContainers"] {
        for (index, (now, before)) in spec.get(list).items().zip(old.get(list).items()).enumerate() {
            let (own, had) = (now.get("resources"), before.get("resources"));
            let changed = now.value() != before.value();
            let mut kept = now.value().cloned().unwrap_or_default();
            kept["resources"] = keep_compute(own, had);
            let same = Some(&kept) == before.value();
            rest[list][index] = kept;
            if list == "containers" {
                if !same {
                    spec.forbidden(causes, MUTABLE);
                }
                continue;
            }
            if !same {
                now.forbidden(causes, "only cpu and memory resources for init or sidecar containers are mutable");
            }
            let restarts =
                now.get("resizePolicy").items().any(|policy| policy.get("restartPolicy").str() == "RestartContainer");
            if changed && restarts && now.get("restartPolicy").str() != "Always" {
                let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                now.forbidden(causes, why);
            }
        }
    }
}

/// The new resources with the old cpu and memory.
fn keep_compute(now: Node<'_, '_>, before: Node<'_, '_>) -> Value {
    let mut kept = now.value().cloned().unwrap_or_else(|| json!({}));
    for list in ["requests", "limits"] {
        if now.get(list).is_absent() && before.get(list).is_absent() {
            continue;
        }
        let mut amounts = now.get(list).value().and_then(Value::as_object).cloned().unwrap_or_default();
        for name in ["cpu", "memory"] {
            match before.get(list).key(name).value() {
                Some(amount) => amounts.insert(name.to_owned(), amount.clone()),
                None => amounts.remove(name),
            };
        }
        kept[list] = Value::Object(amounts);
    }
    kept
}
