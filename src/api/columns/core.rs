//! Cells of nodes, volumes, quotas and other single kinds.

use serde_json::Value;

use super::{Now, age, labels};
use crate::node::Node;

pub(super) fn node_status(node: Node<'_, '_>, _: &Now) -> Value {
    let status = node.get("status");
    let conditions = status.get("conditions");
    let mut words = vec![match conditions.find("type", "Ready").map(|condition| condition.get("status").str()) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if node.get("spec").get("unschedulable").bool() {
        words.push("SchedulingDisabled");
    }
    words.join(",").into()
}

pub(super) fn node_roles(node: Node<'_, '_>, _: &Now) -> Value {
    let metadata = node.get("metadata");
    let labels = metadata.get("labels");
    let mut roles: Vec<&str> = labels
        .entries()
        .filter_map(|(key, value)| match key {
            "kubernetes.io/role" => Some(value.str()),
            _ => key.strip_prefix("node-role.kubernetes.io/"),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".into() } else { roles.join(",").into() }
}

pub(super) fn node_internal_ip(node: Node<'_, '_>, _: &Now) -> Value {
    node_address(node, "InternalIP")
}

pub(super) fn node_external_ip(node: Node<'_, '_>, _: &Now) -> Value {
    node_address(node, "ExternalIP")
}

fn node_address(node: Node<'_, '_>, kind: &str) -> Value {
    let status = node.get("status");
    let addresses = status.get("addresses");
    addresses.find("type", kind).map_or("<none>", |address| address.get("address").str()).into()
}

pub(super) fn node_kernel(node: Node<'_, '_>, _: &Now) -> Value {
    let status = node.get("status");
    let info = status.get("nodeInfo");
    let version = match info.get("kernelVersion").str() {
        "" => "<unknown>",
        version => version,
    };
    match info.get("architecture").str() {
        "" => version.into(),
        architecture => format!("{version} ({architecture})").into(),
    }
}

pub(super) fn config_map_data(map: Node<'_, '_>, _: &Now) -> Value {
    (map.get("data").len() + map.get("binaryData").len()).into()
}

/// The phase, but for objects that are being deleted.
pub(super) fn phase(object: Node<'_, '_>, _: &Now) -> Value {
    if object.get("metadata").get("deletionTimestamp").is_present() {
        return "Terminating".into();
    }
    object.get("status").get("phase").str().into()
}

pub(super) fn volume_claim(volume: Node<'_, '_>, _: &Now) -> Value {
    let spec = volume.get("spec");
    let claim = spec.get("claimRef");
    if claim.is_absent() {
        return "".into();
    }
    format!("{}/{}", claim.get("namespace").str(), claim.get("name").str()).into()
}

pub(super) fn volume_capacity(volume: Node<'_, '_>, _: &Now) -> Value {
    let spec = volume.get("spec");
    storage(spec.get("capacity"))
}

pub(super) fn volume_modes(volume: Node<'_, '_>, _: &Now) -> Value {
    access_modes(volume.get("spec").get("accessModes")).into()
}

pub(super) fn claim_capacity(claim: Node<'_, '_>, _: &Now) -> Value {
    match claim.get("spec").get("volumeName").str() {
        "" => "".into(),
        _ => storage(claim.get("status").get("capacity")),
    }
}

pub(super) fn claim_modes(claim: Node<'_, '_>, _: &Now) -> Value {
    match claim.get("spec").get("volumeName").str() {
        "" => "".into(),
        _ => access_modes(claim.get("status").get("accessModes")).into(),
    }
}

/// The class of a volume or claim; the annotation of old clients comes first.
pub(super) fn storage_class(object: Node<'_, '_>, _: &Now) -> Value {
    let metadata = object.get("metadata");
    let annotations = metadata.get("annotations");
    let annotated = annotations.key("volume.beta.kubernetes.io/storage-class");
    if annotated.is_present() {
        annotated.str().into()
    } else {
        object.get("spec").get("storageClassName").str().into()
    }
}

fn storage(list: Node<'_, '_>) -> Value {
    match list.key("storage").str() {
        "" => "0".into(),
        amount => amount.into(),
    }
}

fn access_modes(modes: Node<'_, '_>) -> String {
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let listed = |mode: &str| modes.items().any(|item| item.str() == mode);
    let shown: Vec<&str> = short.iter().filter(|(mode, _)| listed(mode)).map(|(_, short)| *short).collect();
    shown.join(",")
}

pub(super) fn quota_requests(quota: Node<'_, '_>, _: &Now) -> Value {
    quota_usage(quota, false)
}

pub(super) fn quota_limits(quota: Node<'_, '_>, _: &Now) -> Value {
    quota_usage(quota, true)
}

fn quota_usage(quota: Node<'_, '_>, limits: bool) -> Value {
    let status = quota.get("status");
    let (hard, used) = (status.get("hard"), status.get("used"));
    let lines: Vec<String> = hard
        .entries()
        .filter(|(name, _)| name.starts_with("limits.") == limits)
        .map(|(name, hard)| {
            let used = match used.key(name).str() {
                "" => "0",
                amount => amount,
            };
            format!("{name}: {used}/{}", hard.str())
        })
        .collect();
    lines.join(", ").into()
}

pub(super) fn template_labels(template: Node<'_, '_>, _: &Now) -> Value {
    labels(template.get("template").get("metadata").get("labels")).into()
}

pub(super) fn role(binding: Node<'_, '_>, _: &Now) -> Value {
    let role = binding.get("roleRef");
    format!("{}/{}", role.get("kind").str(), role.get("name").str()).into()
}

pub(super) fn users(binding: Node<'_, '_>, _: &Now) -> Value {
    subjects(binding, "User")
}

pub(super) fn groups(binding: Node<'_, '_>, _: &Now) -> Value {
    subjects(binding, "Group")
}

pub(super) fn service_accounts(binding: Node<'_, '_>, _: &Now) -> Value {
    subjects(binding, "ServiceAccount")
}

fn subjects(binding: Node<'_, '_>, kind: &str) -> Value {
    let subjects = binding.get("subjects");
    let named: Vec<String> = subjects
        .items()
        .filter(|subject| subject.get("kind").str() == kind)
        .map(|subject| match (kind, subject.get("namespace").str()) {
            ("ServiceAccount", namespace) => format!("{namespace}/{}", subject.get("name").str()),
            _ => subject.get("name").str().to_owned(),
        })
        .collect();
    named.join(", ").into()
}

pub(super) fn signing_state(request: Node<'_, '_>, _: &Now) -> Value {
    let status = request.get("status");
    let conditions = status.get("conditions");
    let has = |kind| conditions.find("type", kind).is_some();
    let mut state = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !status.get("certificate").is_empty() {
        state.push_str(",Issued");
    }
    state.into()
}

pub(super) fn signing_duration(request: Node<'_, '_>, _: &Now) -> Value {
    match request.get("spec").get("expirationSeconds").int() {
        Some(seconds) => age::human_duration(seconds).into(),
        None => "<none>".into(),
    }
}

pub(super) fn controller(revision: Node<'_, '_>, _: &Now) -> Value {
    let metadata = revision.get("metadata");
    let owners = metadata.get("ownerReferences");
    let Some(owner) = owners.items().find(|owner| owner.get("controller").bool()) else { return "<none>".into() };
    let group = owner.get("apiVersion").str().split_once('/').map_or("", |(group, _)| group);
    let kind = owner.get("kind").str().to_lowercase();
    let dot = if group.is_empty() { "" } else { "." };
    format!("{kind}{dot}{group}/{}", owner.get("name").str()).into()
}

pub(super) fn parameter_kind(policy: Node<'_, '_>, _: &Now) -> Value {
    let spec = policy.get("spec");
    let kind = spec.get("paramKind");
    if kind.is_absent() {
        return "<unset>".into();
    }
    format!("{}/{}", kind.get("apiVersion").str(), kind.get("kind").str()).into()
}

pub(super) fn parameter_reference(binding: Node<'_, '_>, _: &Now) -> Value {
    let spec = binding.get("spec");
    let reference = spec.get("paramRef");
    match (reference.get("namespace").str(), reference.get("name").str()) {
        (_, "") => "<unset>".into(),
        ("", name) => format!("*/{name}").into(),
        (namespace, name) => format!("{namespace}/{name}").into(),
    }
}

pub(super) fn taint_added(rule: Node<'_, '_>, now: &Now) -> Value {
    match rule.get("spec").get("taint").get("timeAdded").str() {
        "" => "".into(),
        time => super::age::since(time, now).into(),
    }
}

pub(super) fn claim_state(claim: Node<'_, '_>, _: &Now) -> Value {
    let deleted = claim.get("metadata").get("deletionTimestamp").is_present();
    let status = claim.get("status");
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    if status.get("allocation").is_present() {
        states.push("allocated");
        if !status.get("reservedFor").is_empty() {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    states.join(",").into()
}

pub(super) fn dangling(schema: Node<'_, '_>, _: &Now) -> Value {
    let status = schema.get("status");
    let conditions = status.get("conditions");
    conditions.find("type", "Dangling").map_or("?", |condition| condition.get("status").str()).into()
}

pub(super) fn priority_shares(level: Node<'_, '_>, _: &Now) -> Value {
    level.get("spec").get("limited").get("nominalConcurrencyShares").value().cloned().unwrap_or("<none>".into())
}

pub(super) fn priority_queues(level: Node<'_, '_>, _: &Now) -> Value {
    queuing(level, "queues")
}

pub(super) fn priority_hand(level: Node<'_, '_>, _: &Now) -> Value {
    queuing(level, "handSize")
}

pub(super) fn priority_limit(level: Node<'_, '_>, _: &Now) -> Value {
    queuing(level, "queueLengthLimit")
}

fn queuing(level: Node<'_, '_>, field: &str) -> Value {
    let spec = level.get("spec");
    spec.get("limited").get("limitResponse").get("queuing").get(field).value().cloned().unwrap_or("<none>".into())
}

pub(super) fn audiences(driver: Node<'_, '_>, _: &Now) -> Value {
    let spec = driver.get("spec");
    let requests = spec.get("tokenRequests");
    if requests.is_absent() {
        return "<unset>".into();
    }
    requests.items().map(|request| request.get("audience").str()).collect::<Vec<_>>().join(",").into()
}

pub(super) fn lifecycle_modes(driver: Node<'_, '_>, _: &Now) -> Value {
    let spec = driver.get("spec");
    let modes = spec.get("volumeLifecycleModes");
    if modes.is_empty() {
        return "<none>".into();
    }
    modes.items().map(|mode| mode.str()).collect::<Vec<_>>().join(",").into()
}

pub(super) fn budget_minimum(budget: Node<'_, '_>, _: &Now) -> Value {
    amount(budget.get("spec").get("minAvailable"))
}

pub(super) fn budget_maximum(budget: Node<'_, '_>, _: &Now) -> Value {
    amount(budget.get("spec").get("maxUnavailable"))
}

fn amount(node: Node<'_, '_>) -> Value {
    node.int_or_string().map_or("N/A".to_owned(), |amount| amount.to_string()).into()
}
