//! Pods and pod templates. Upstream: pkg/apis/core/validation ValidatePodSpec, ValidatePodUpdate.

use serde_json::Value;

use super::{container, labels, metadata, not_negative, one_of, volume};
use crate::causes::Causes;
use crate::names;
use crate::node::Node;

/// What a pod's spec may change in, as the refusal lists it.
const CHANGEABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                          `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` \
                          (allow it to be set to 1 if it was previously negative)";

pub(super) fn pod(pod: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let spec = pod.get("spec");
    pod_spec(spec, true, causes);
    not_negative(spec.get("terminationGracePeriodSeconds"), causes);
    if old.is_present() {
        return changes(spec, old.get("spec"), causes);
    }
    let ephemeral = spec.get("ephemeralContainers");
    if !ephemeral.is_empty() {
        ephemeral.forbidden(causes, "cannot be set on create");
    }
    if !spec.get("nodeName").is_empty() && !spec.get("schedulingGates").is_empty() {
        spec.get("nodeName").forbidden(causes, "cannot be set until all schedulingGates have been cleared");
    }
}

pub(super) fn pod_template(object: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    template(object.get("template"), causes);
}

/// A `template` field.
pub(super) fn template(template: Node<'_, '_>, causes: &mut Causes) {
    let (meta, spec) = (template.get("metadata"), template.get("spec"));
    labels::labels(meta.get("labels"), causes);
    metadata::annotations(meta.get("annotations"), causes);
    pod_spec(spec, false, causes);
    let ephemeral = spec.get("ephemeralContainers");
    if !ephemeral.is_empty() {
        ephemeral.forbidden(causes, "ephemeral containers not allowed in pod template");
    }
}

fn pod_spec(spec: Node<'_, '_>, is_pod: bool, causes: &mut Causes) {
    if spec.get("terminationGracePeriodSeconds").is_absent() {
        spec.get("terminationGracePeriodSeconds").required(causes, "");
    }
    volume::volumes(spec.get("volumes"), causes);
    container::containers(spec, causes);
    if spec.get("hostNetwork").bool() {
        for container in spec.get("containers").items() {
            for port in container.get("ports").items() {
                let host = port.get("hostPort");
                let number = host.int().unwrap_or_default();
                if (is_pod || number != 0) && Some(number) != port.get("containerPort").int() {
                    let why = "must match `containerPort` when `hostNetwork` is true";
                    causes.invalid(host.path(), number, why);
                }
            }
        }
    }
    one_of(spec.get("restartPolicy"), &["Always", "OnFailure", "Never"], causes);
    one_of(spec.get("dnsPolicy"), &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], causes);
    labels::labels(spec.get("nodeSelector"), causes);
    for (field, rule) in [
        ("serviceAccountName", names::dns_1123_subdomain as super::NameRule),
        ("nodeName", names::dns_1123_subdomain),
        ("hostname", names::dns_1123_label),
        ("subdomain", names::dns_1123_label),
        ("priorityClassName", names::dns_1123_subdomain),
        ("runtimeClassName", names::dns_1123_subdomain),
    ] {
        let node = spec.get(field);
        if !node.is_empty() {
            node.invalid_each(causes, rule(node.str()));
        }
    }
    let deadline = spec.get("activeDeadlineSeconds");
    if let Some(seconds) = deadline.int() {
        deadline.invalid_each(causes, names::in_range(seconds, 1, i32::MAX.into()));
    }
    labels::tolerations(spec.get("tolerations"), causes);
}

/// Most of a pod's spec is fixed once it exists.
fn changes(new: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    for list in ["containers", "initContainers"] {
        if new.get(list).len() != old.get(list).len() {
            return new.get(list).forbidden(causes, "pod updates may not add or remove containers");
        }
        for container in new.get(list).items() {
            let image = container.get("image");
            if image.str().trim() != image.str() {
                image.invalid(causes, "must not have leading or trailing whitespace");
            }
        }
    }
    let (deadline, before) = (new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds"));
    match (deadline.int(), before.int()) {
        (Some(now), Some(before)) if now > before => {
            return deadline.invalid(causes, "must be less than or equal to previous value");
        }
        (None, Some(_)) => deadline.invalid(causes, "must not update from a positive integer to nil value"),
        _ => {}
    }
    let (Some(Value::Object(wanted)), Some(Value::Object(had))) = (new.value(), old.value()) else { return };
    if wanted == had {
        return;
    }
    let mut rest = wanted.clone();
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        match had.get(field) {
            Some(value) => rest.insert(field.to_owned(), value.clone()),
            None => rest.remove(field),
        };
    }
    for list in ["containers", "initContainers"] {
        let Some(Value::Array(containers)) = rest.get_mut(list) else { continue };
        for (container, before) in containers.iter_mut().zip(old.get(list).items()) {
            if let (Some(fields), Some(image)) = (container.as_object_mut(), before.get("image").value()) {
                fields.insert("image".to_owned(), image.clone());
            }
        }
    }
    if old.get("terminationGracePeriodSeconds").int().is_some_and(|seconds| seconds < 0)
        && new.get("terminationGracePeriodSeconds").int() == Some(1)
    {
        let before = had.get("terminationGracePeriodSeconds").cloned().unwrap_or_default();
        rest.insert("terminationGracePeriodSeconds".to_owned(), before);
    }
    if rest != *had {
        new.forbidden(causes, format!("pod updates may not change fields other than {CHANGEABLE}"));
    }
}
