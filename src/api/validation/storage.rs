//! Classes of storage and the objects of CSI drivers. Upstream: pkg/apis/storage/validation.

use super::checks::Seen;
use super::{labels, volume};
use crate::causes::Causes;
use crate::names;
use crate::node::Node;

const MAX_PARAMETERS: usize = 512;
/// Bytes.
const MAX_PARAMETER_SIZE: usize = 256 * 1024;
const MAX_ERROR: usize = 1024;
const MAX_NODE_ID: usize = 256;

fn parameters(parameters: Node<'_, '_>, causes: &mut Causes) {
    if parameters.len() > MAX_PARAMETERS {
        return parameters.too_long(causes, MAX_PARAMETERS);
    }
    if parameters.key("").is_present() {
        causes.invalid(parameters.path(), "", "field can not be empty.");
    }
    if size(parameters) > MAX_PARAMETER_SIZE {
        parameters.too_long(causes, MAX_PARAMETER_SIZE);
    }
}

fn size(map: Node<'_, '_>) -> usize {
    map.entries().map(|(key, value)| key.len() + value.str().len()).sum()
}

pub(super) fn storage_class(class: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    let (provisioner, policy, mode) =
        (class.get("provisioner"), class.get("reclaimPolicy"), class.get("volumeBindingMode"));
    lower_qualified(provisioner, causes);
    parameters(class.get("parameters"), causes);
    if !policy.is_empty() {
        policy.one_of(&["Delete", "Retain"], causes);
    }
    if mode.is_absent() {
        mode.required(causes, "");
    } else {
        mode.one_of(&["Immediate", "WaitForFirstConsumer"], causes);
    }
    topologies(class.get("allowedTopologies"), causes);
}

/// A name in whatever case.
fn lower_qualified(node: Node<'_, '_>, causes: &mut Causes) {
    let lower = node.str().to_lowercase();
    for message in names::qualified_name(&lower).into_iter().filter(|_| !lower.is_empty()) {
        causes.invalid(node.path(), lower.clone(), message);
    }
}

fn topologies(terms: Node<'_, '_>, causes: &mut Causes) {
    for (index, term) in terms.items().enumerate() {
        let expressions = term.get("matchLabelExpressions");
        let mut keys = Seen::new();
        for expression in expressions.items() {
            let (key, values) = (expression.get("key"), expression.get("values"));
            values.need(causes);
            let mut seen = Seen::new();
            for value in values.items() {
                if !seen.insert(value.str()) {
                    value.duplicate(causes);
                }
            }
            key.keep(names::qualified_name, causes);
            if !keys.insert(key.str()) {
                key.duplicate(causes);
            }
        }
        let same = |other: Node<'_, '_>| other.get("matchLabelExpressions").value() == expressions.value();
        if expressions.is_empty() || terms.items().take(index).any(same) {
            causes.duplicate(expressions.path(), "");
        }
    }
}

pub(super) fn attributes_class(class: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (driver, given) = (class.get("driverName"), class.get("parameters"));
    for field in ["driverName", "parameters"] {
        let node = class.get(field);
        if old.is_present() && node.value() != old.get(field).value() {
            node.forbidden(causes, format!("updates to {field} are forbidden."));
        }
    }
    driver.need(causes);
    lower_qualified(driver, causes);
    parameters(given, causes);
    if given.is_empty() {
        given.required(causes, "must contain at least one key/value pair");
    }
}

pub(super) fn attachment(attachment: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    let (spec, status) = (attachment.get("spec"), attachment.get("status"));
    let source = spec.get("source");
    let (inline, name) = (source.get("inlineVolumeSpec"), source.get("persistentVolumeName"));
    let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (inline.is_present(), name.is_present()) {
        (false, false) => source.required(causes, why),
        (true, true) => source.forbidden(causes, why),
        (false, true) if name.is_empty() => name.required(causes, "must specify non empty persistentVolumeName"),
        (true, false) => volume::inline(inline, causes),
        _ => {}
    }
    spec.get("nodeName").keep(names::dns_1123_subdomain, causes);
    let metadata = status.get("attachmentMetadata");
    if size(metadata) > MAX_PARAMETER_SIZE {
        metadata.too_long(causes, MAX_PARAMETER_SIZE);
    }
    for field in ["attachError", "detachError"] {
        let error = status.get(field);
        if error.get("message").str().len() > MAX_ERROR {
            error.get("message").too_long(causes, MAX_ERROR);
        }
        error.get("errorCode").in_range(0, i32::MAX.into(), causes);
    }
    if name.is_present() {
        name.keep(names::dns_1123_subdomain, causes);
    }
}

pub(super) fn csi_node(node: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (spec, before) = (node.get("spec"), old.get("spec"));
    let drivers = spec.get("drivers");
    let mut seen = Seen::new();
    for driver in drivers.items() {
        let (name, id, allocatable) = (driver.get("name"), driver.get("nodeID"), driver.get("allocatable"));
        volume::csi_driver_name(name, causes);
        id.need(causes);
        if id.str().len() > MAX_NODE_ID {
            id.invalid(causes, format!("must be {MAX_NODE_ID} characters or less"));
        }
        allocatable.get("count").not_negative(causes);
        if !seen.insert(name.str()) {
            name.duplicate(causes);
        }
        let mut keys = Seen::new();
        // Upstream names the driver, not its key.
        for key in driver.get("topologyKeys").items() {
            if key.is_empty() {
                driver.required(causes, "");
            }
            if !keys.insert(key.str()) {
                causes.duplicate(driver.path(), key.str());
            }
            for message in names::qualified_name(key.str()) {
                causes.invalid(driver.path(), key.str(), message);
            }
        }
    }
    for had in before.get("drivers").items() {
        let Some(now) = drivers.find("name", had.get("name").str()) else { continue };
        if ["nodeID", "topologyKeys"].iter().any(|field| now.get(field).value() != had.get(field).value()) {
            let shown = now.value().cloned().unwrap_or_default();
            causes.invalid(drivers.path(), shown, super::checks::IMMUTABLE);
        }
    }
}

pub(super) fn csi_driver(driver: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (spec, before) = (driver.get("spec"), old.get("spec"));
    // Upstream's path has another name for the first.
    for (field, shown) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
        ("seLinuxMount", "seLinuxMount"),
        ("preventPodSchedulingIfMissing", "preventPodSchedulingIfMissing"),
    ] {
        if spec.get(field).is_absent() {
            causes.required(spec.path_of(shown), "");
        }
    }
    spec.get("fsGroupPolicy").one_of_if_present(&["File", "None", "ReadWriteOnceWithFSType"], causes);
    let requests = spec.get("tokenRequests");
    let mut seen = Seen::new();
    for request in requests.items() {
        let (audience, seconds) = (request.get("audience"), request.get("expirationSeconds"));
        if !seen.insert(audience.str()) {
            causes.duplicate(audience.path(), audience.str());
            continue;
        }
        match seconds.int() {
            Some(number) if number < 600 => seconds.invalid(causes, "may not specify a duration less than 10 minutes"),
            Some(number) if number > 1 << 32 => {
                seconds.invalid(causes, "may not specify a duration larger than 2^32 seconds");
            }
            _ => {}
        }
    }
    let modes = spec.get("volumeLifecycleModes");
    for mode in modes.items() {
        if !["Persistent", "Ephemeral"].contains(&mode.str()) {
            causes.not_supported(modes.path(), mode.str(), &["Persistent", "Ephemeral"]);
        }
    }
    let (period, secrets) = (spec.get("nodeAllocatableUpdatePeriodSeconds"), spec.get("serviceAccountTokenInSecrets"));
    if period.int().is_some_and(|seconds| seconds < 10) {
        period.invalid(causes, "must be greater than or equal to 10 seconds");
    }
    if secrets.is_present() && requests.is_empty() {
        let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        secrets.invalid(causes, why);
    }
    if old.is_present() {
        let attach = spec.get_as("attachRequired", "attachedRequired");
        attach.immutable(before.get("attachRequired"), causes);
        modes.immutable(before.get("volumeLifecycleModes"), causes);
    }
}

pub(super) fn storage_capacity(capacity: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    labels::label_selector(capacity.get("nodeTopology"), causes);
    let class = capacity.get("storageClassName");
    class.keep(names::dns_1123_subdomain, causes);
    capacity.get("capacity").quantity_not_negative(causes);
    if old.is_present() {
        capacity.get("nodeTopology").immutable(old.get("nodeTopology"), causes);
        class.immutable(old.get("storageClassName"), causes);
    }
}
