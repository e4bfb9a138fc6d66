//! Claims for volumes, and templates of them. Upstream: pkg/apis/core/validation ValidatePersistentVolumeClaim*.

use serde_json::Value;

use super::{labels, metadata, volume};
use crate::causes::Causes;
use crate::names;
use crate::node::Node;

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn claim(claim: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (spec, before) = (claim.get("spec"), old.get("spec"));
    claim_spec(spec, before, causes);
    if old.is_present() {
        changes(claim, old, causes);
    }
}

/// `volumeClaimTemplate` of a pod's ephemeral volume.
pub(super) fn template(template: Node<'_, '_>, causes: &mut Causes) {
    let meta = template.get("metadata");
    metadata::annotations(meta.get("annotations"), causes);
    labels::labels(meta.get("labels"), causes);
    for (field, value) in meta.entries() {
        if !matches!(field, "annotations" | "labels" | "creationTimestamp") && !value.is_empty() {
            meta.get(field).forbidden(causes, "cannot be set");
        }
    }
    claim_spec(template.get("spec"), Node::nothing(), causes);
}

pub(super) fn claim_spec(spec: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    volume::access_modes(spec, "at least 1 access mode is required", causes);
    labels::label_selector(spec.get("selector"), causes);
    let resources = spec.get("resources");
    let (size, path) = (resources.get("requests"), format!("{}[storage]", resources.path()));
    match size.key("storage").amount() {
        None => causes.required(path, ""),
        Some(size) if size.is_negative() || size.is_zero() => {
            causes.invalid(path, size.to_string(), "must be greater than zero");
        }
        Some(_) => {}
    }
    spec.get("storageClassName").keep_if_set(names::dns_1123_subdomain, causes);
    spec.get("volumeMode").one_of_if_present(volume::VOLUME_MODES, causes);
    let any_group = ["dataSource", "dataSourceRef"].iter().any(|field| old.get(field).get("apiGroup").is_present());
    for field in ["dataSource", "dataSourceRef"] {
        data_source(spec.get(field), any_group, causes);
    }
    let (source, reference) = (spec.get("dataSource"), spec.get("dataSourceRef"));
    // Upstream shows the path in the place of the value.
    let shown = source.path();
    let differs =
        ["apiGroup", "kind", "name"].iter().any(|field| source.get(field).value() != reference.get(field).value());
    if !reference.get("namespace").is_empty() {
        if source.is_present() {
            causes.invalid(spec.path(), shown, "may not be specified when dataSourceRef.namespace is specified");
        }
    } else if source.is_present() && reference.is_present() && differs {
        causes.invalid(spec.path(), shown, "must match dataSourceRef");
    }
    spec.get("volumeAttributesClassName").keep_if_set(names::dns_1123_subdomain, causes);
}

fn data_source(source: Node<'_, '_>, any_group: bool, causes: &mut Causes) {
    if source.is_absent() {
        return;
    }
    let (group, kind) = (source.get("apiGroup"), source.get("kind"));
    source.get("name").need(causes);
    kind.need(causes);
    if group.is_empty() && kind.str() != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        causes.invalid(source.path(), kind.str(), why);
    }
    if !any_group {
        group.keep_if_set(names::dns_1123_subdomain, causes);
    }
    source.get("namespace").keep_if_set(names::dns_1123_label, causes);
}

fn changes(claim: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (spec, before, status) = (claim.get("spec"), old.get("spec"), claim.get("status"));
    let mut kept = spec.value().cloned().unwrap_or_default();
    let mut put = |field: &str, value: Option<&Value>| {
        if let Some(fields) = kept.as_object_mut() {
            match value {
                Some(value) => fields.insert(field.to_owned(), value.clone()),
                None => fields.remove(field),
            };
        }
    };
    if before.get("volumeName").is_empty() {
        put("volumeName", before.get("volumeName").value());
    }
    storage_class(claim, old, &mut put, causes);
    let bound = status.get("phase").str() == "Bound";
    if bound {
        put("volumeAttributesClassName", before.get("volumeAttributesClassName").value());
    }
    let (requests, had) = (spec.get("resources"), before.get("resources"));
    let (requests, had) = (requests.get("requests"), had.get("requests"));
    let (size, old_size) = (requests.key("storage"), had.key("storage"));
    if bound && requests.is_present() {
        kept["resources"]["requests"]["storage"] = old_size.value().cloned().unwrap_or_default();
    }
    if Some(&kept) != before.value() {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n";
        causes.forbidden("spec", why);
    }
    let capacity = status.get("capacity");
    let capacity = old.get("status").get("capacity").key("storage").amount().or(capacity.key("none").amount());
    // What is not asked for is zero.
    let size = size.amount().unwrap_or(crate::quantity::Quantity::ZERO);
    if let Some(old) = old_size.amount()
        && size < old
        && capacity.map_or(size.is_zero() || size.is_negative(), |capacity| size <= capacity)
    {
        causes.forbidden("spec.resources.requests.storage", "field can not be less than status.capacity");
    }
    let (mode, old_mode) = (spec.get("volumeMode"), before.get("volumeMode"));
    if mode.value() != old_mode.value() {
        let shown = mode.value().cloned().unwrap_or_default();
        causes.invalid("volumeMode", shown, super::checks::IMMUTABLE);
    }
    let class = spec.get("volumeAttributesClassName");
    let current = old.get("status").get("currentVolumeAttributesClassName").is_present();
    if current && class.value() != before.get("volumeAttributesClassName").value() && class.is_empty() {
        let what = if class.is_absent() { "nil" } else { "empty string" };
        let why = format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil");
        class.forbidden(causes, why);
    }
}

/// Resizing is in one of these states, in upstream's order.
const RESIZES: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

pub(super) fn status(claim: Node<'_, '_>, causes: &mut Causes) {
    let status = claim.get("status");
    let positive = |amount: Node<'_, '_>, causes: &mut Causes| {
        let fits = amount.amount().is_none_or(|amount| !amount.is_negative());
        if !fits {
            causes.invalid(
                amount.path(),
                amount.amount().map_or(0, |amount| amount.value()),
                "must be a valid resource quantity",
            );
        }
    };
    status.get("capacity").entries().for_each(|(_, amount)| positive(amount, causes));
    let (states, allocated) = (status.get("allocatedResourceStatuses"), status.get("allocatedResources"));
    for (name, state) in states.entries() {
        storage_name(states, name, causes);
        if !RESIZES.contains(&state.str()) {
            causes.not_supported(states.path(), name, RESIZES);
        }
    }
    for (name, amount) in allocated.entries() {
        if storage_name(allocated, name, causes) {
            positive(amount, causes);
        }
    }
}

/// Of native resources only storage is one of a claim's.
fn storage_name(map: Node<'_, '_>, name: &str, causes: &mut Causes) -> bool {
    let messages = names::qualified_name(name);
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    let known = messages.is_empty() && (!native || name == "storage");
    if messages.is_empty() && !known {
        causes.not_supported(map.path(), name, &["storage"]);
    }
    for message in messages {
        causes.invalid(map.path(), name, message);
    }
    known
}

/// A class that was given by annotation, or not at all, may be given by name later.
fn storage_class(
    claim: Node<'_, '_>,
    old: Node<'_, '_>,
    put: &mut dyn FnMut(&str, Option<&Value>),
    causes: &mut Causes,
) {
    let annotation = |of: Node<'_, '_>| -> Option<String> {
        let meta = of.get("metadata");
        let annotations = meta.get("annotations");
        annotations.key(BETA_CLASS).value().and_then(Value::as_str).map(str::to_owned)
    };
    let (now, before) = (annotation(claim), annotation(old));
    let (class, old_class) =
        (claim.get("spec").get("storageClassName").value(), old.get("spec").get("storageClassName").value());
    let named = class.and_then(Value::as_str);
    let unnamed = old_class.is_none();
    let from_annotation = before.is_some() && unnamed && named == before.as_deref() && (now.is_none() || now == before);
    if from_annotation {
        return put("storageClassName", None);
    }
    if now.clone().unwrap_or_default() != before.clone().unwrap_or_default() {
        let path = format!("metadata.annotations.{BETA_CLASS}");
        causes.invalid(path, now.unwrap_or_default(), super::checks::IMMUTABLE);
    }
    if named.is_some() && unnamed && (before.is_none() || named == before.as_deref()) {
        put("storageClassName", old_class);
    }
}
