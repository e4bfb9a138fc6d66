//! What of a pod may change once it exists. Upstream: pkg/apis/core/validation ValidatePodUpdate, ValidatePodEphemeralContainersUpdate.

use serde_json::{Map, Value};

use super::{annotations, scheduling};
use crate::causes::Causes;
use crate::node::Node;

/// What a pod's spec may change in, as the refusal lists it.
const CHANGEABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                          `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` \
                          (allow it to be set to 1 if it was previously negative)";

pub(super) fn pod(new: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    for list in ["containers", "initContainers"] {
        if new.get(list).len() != old.get(list).len() {
            return new.get(list).forbidden(causes, "pod updates may not add or remove containers");
        }
        for container in new.get(list).items() {
            container.get("image").need(causes);
            super::container::trimmed_image(container, causes);
        }
    }
    let (deadline, before) = (new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds"));
    match (deadline.int(), before.int()) {
        (Some(now), _) if !(0..=i32::MAX.into()).contains(&now) => {
            return deadline.invalid(causes, format!("must be between 0 and {}, inclusive", i32::MAX));
        }
        (Some(now), Some(before)) if now > before => {
            return deadline.invalid(causes, "must be less than or equal to previous value");
        }
        (None, Some(_)) => deadline.invalid(causes, "must not update from a positive integer to nil value"),
        _ => {}
    }
    only_added_tolerations(new.get("tolerations"), old.get("tolerations"), causes);
    for gate in new.get("schedulingGates").items() {
        let name = gate.get("name");
        if old.get("schedulingGates").find("name", name.str()).is_none() {
            let why = format!("only deletion is allowed, but found new scheduling gate '{}'", name.str());
            name.forbidden(causes, why);
        }
    }
    let (Some(Value::Object(wanted)), Some(Value::Object(had))) = (new.value(), old.value()) else { return };
    let mut rest = wanted.clone();
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        put(&mut rest, field, had.get(field));
    }
    for list in ["containers", "initContainers"] {
        let Some(Value::Array(containers)) = rest.get_mut(list) else { continue };
        for (container, before) in containers.iter_mut().zip(old.get(list).items()) {
            if let Some(fields) = container.as_object_mut() {
                put(fields, "image", before.get("image").value());
            }
        }
    }
    let (grace, before) = (new.get("terminationGracePeriodSeconds"), old.get("terminationGracePeriodSeconds"));
    if before.number() < 0 && grace.int() == Some(1) {
        put(&mut rest, "terminationGracePeriodSeconds", before.value());
    }
    if !old.get("schedulingGates").is_empty() {
        gated(new, old, &mut rest, causes);
    }
    if rest != *had {
        new.forbidden(causes, format!("pod updates may not change fields other than {CHANGEABLE}"));
    }
}

fn put(fields: &mut Map<String, Value>, name: &str, value: Option<&Value>) {
    match value {
        Some(value) => fields.insert(name.to_owned(), value.clone()),
        None => fields.remove(name),
    };
}

/// Old tolerations stay, but for their seconds.
fn only_added_tolerations(new: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let without = |node: Node<'_, '_>| {
        let mut fields = node.value().and_then(Value::as_object).cloned().unwrap_or_default();
        fields.remove("tolerationSeconds");
        fields
    };
    if !old.items().all(|old| new.items().any(|new| without(new) == without(old))) {
        return new.forbidden(causes, "existing toleration can not be modified except its tolerationSeconds");
    }
    scheduling::tolerations(new, causes);
}

/// A pod that is held back may still be bound to fewer nodes.
fn gated(new: Node<'_, '_>, old: Node<'_, '_>, rest: &mut Map<String, Value>, causes: &mut Causes) {
    let (selector, before) = (new.get("nodeSelector"), old.get("nodeSelector"));
    if before.entries().any(|(key, value)| selector.key(key).value() != value.value()) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        selector.invalid(causes, why);
    }
    put(rest, "nodeSelector", before.value());
    let (affinity, had) = (new.get("affinity"), old.get("affinity"));
    let (nodes, before) = (affinity.get("nodeAffinity"), had.get("nodeAffinity"));
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let (terms, old_terms) = (nodes.get(required), before.get(required));
    let (terms, old_terms) = (terms.get("nodeSelectorTerms"), old_terms.get("nodeSelectorTerms"));
    if nodes.value() != before.value() && !old_terms.is_empty() {
        if terms.len() != old_terms.len() {
            terms.invalid(causes, "no additions/deletions to non-empty NodeSelectorTerms list are allowed");
        } else {
            for (term, old) in terms.items().zip(old_terms.items()) {
                if !only_adds(term, old) {
                    term.invalid(causes, "only additions are allowed (no mutations or deletions)");
                }
            }
        }
    }
    let mut kept = affinity.value().and_then(Value::as_object).cloned().unwrap_or_default();
    put(&mut kept, "nodeAffinity", before.value());
    let kept = Value::Object(kept);
    put(rest, "affinity", if had.is_absent() && kept == serde_json::json!({}) { None } else { Some(&kept) });
}

fn only_adds(new: Node<'_, '_>, old: Node<'_, '_>) -> bool {
    let lists = ["matchExpressions", "matchFields"];
    let empty = |node: Node<'_, '_>| lists.iter().all(|list| node.get(list).is_empty());
    if empty(old) {
        return empty(new);
    }
    lists.iter().all(|list| {
        let (new, old) = (new.get(list), old.get(list));
        new.len() >= old.len() && new.items().zip(old.items()).all(|(new, old)| new.value() == old.value())
    })
}

/// Containers can be added to a running pod, but neither changed nor taken away.
pub(super) fn ephemeral_containers(pod: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (meta, spec) = (old.get("metadata"), pod.get("spec"));
    if meta.get("annotations").key(annotations::MIRROR).is_present() {
        *causes = Causes::new();
        return causes.forbidden("", "static pods do not support ephemeral containers");
    }
    let list = spec.get("ephemeralContainers");
    for before in old.get("spec").get("ephemeralContainers").items() {
        let name = before.get("name").str();
        let shown = crate::quoting::quote(name);
        match list.find("name", name) {
            None => list.forbidden(causes, format!("existing ephemeral containers {shown} may not be removed\n")),
            Some(now) if now.value() != before.value() => {
                list.forbidden(causes, format!("existing ephemeral containers {shown} may not be changed\n"));
            }
            Some(_) => {}
        }
    }
}
