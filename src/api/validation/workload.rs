//! Workloads that run for ever. Upstream: pkg/apis/apps/validation, ReplicationController in pkg/apis/core/validation.

use serde_json::{Value, json};

use super::{claim, labels, pod};
use crate::causes::Causes;
use crate::int_or_string::IntOrString;
use crate::names;
use crate::node::Node;
use crate::selector::LabelSelector;

pub(super) fn deployment(object: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let spec = object.get("spec");
    spec.get("replicas").not_negative(causes);
    selector(spec, "deployment", causes);
    matching_template(spec, "invalid label selector", causes);
    always(spec, "ReplicaSet", causes);
    strategy(spec.get("strategy"), causes);
    for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        spec.get(field).not_negative(causes);
    }
    let deadline = spec.get("progressDeadlineSeconds");
    if deadline.int().is_some_and(|deadline| deadline <= spec.get("minReadySeconds").number()) {
        deadline.invalid(causes, "must be greater than minReadySeconds");
    }
    same(spec, old, &["selector"], causes);
}

pub(super) fn replica_set(object: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let spec = object.get("spec");
    spec.get("replicas").not_negative(causes);
    spec.get("minReadySeconds").not_negative(causes);
    selector(spec, "deployment", causes);
    matching_template(spec, "invalid label selector", causes);
    always(spec, "ReplicaSet", causes);
    same(spec, old, &["selector"], causes);
}

pub(super) fn daemon_set(object: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let spec = object.get("spec");
    same(spec, old, &["selector"], causes);
    if spec.get("selector").is_present() {
        selector(spec, "daemonset", causes);
    }
    if let Ok(wanted) = LabelSelector::from_object(spec.get("selector").value()) {
        check_labels(&wanted, spec, spec.get("selector").is_absent(), causes);
    }
    pod::template(spec.get("template"), causes);
    always(spec, "DaemonSet", causes);
    spec.get("minReadySeconds").not_negative(causes);
    daemon_strategy(spec.get("updateStrategy"), causes);
    spec.get("revisionHistoryLimit").not_negative(causes);
}

fn daemon_strategy(strategy: Node<'_, '_>, causes: &mut Causes) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").str() {
        "OnDelete" => {}
        "RollingUpdate" if rolling.is_absent() => rolling.required(causes, ""),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            for node in [unavailable, surge] {
                amount(node, causes);
            }
            for node in [unavailable, surge] {
                at_most_all(node, causes);
            }
            match (is_zero(unavailable), is_zero(surge)) {
                (false, false) => surge.invalid(causes, "may not be set when maxUnavailable is non-zero"),
                (true, true) => unavailable.required(causes, "cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }
        _ => shown_as_go(strategy, &["RollingUpdate", "OnDelete"], causes),
    }
}

/// Upstream shows the whole struct of a strategy that it does not know.
fn shown_as_go(strategy: Node<'_, '_>, supported: &[&str], causes: &mut Causes) {
    let rolling = strategy.get("rollingUpdate");
    let rolling = rolling.value().map_or(Value::Null, |rolling| {
        let field = |name: &str| rolling.get(name).cloned().unwrap_or_else(|| json!(0));
        json!({ "MaxUnavailable": field("maxUnavailable"), "MaxSurge": field("maxSurge") })
    });
    let (kind, rolling) = (crate::quoting::quote(strategy.get("type").str()), crate::quoting::json(&rolling));
    let detail = format!(
        "{{\"Type\":{kind},\"RollingUpdate\":{rolling}}}: supported values: {}",
        crate::quoting::quote_all(supported.iter().copied())
    );
    causes.push(crate::causes::FieldError {
        broken: crate::causes::Broken::NotSupported,
        field: strategy.path(),
        value: None,
        detail,
    });
}

pub(super) fn stateful_set(object: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let spec = object.get("spec");
    let (management, strategy, templates) =
        (spec.get("podManagementPolicy"), spec.get("updateStrategy"), spec.get("volumeClaimTemplates"));
    if management.need(causes) && !["OrderedReady", "Parallel"].contains(&management.str()) {
        management.invalid(causes, "must be 'OrderedReady' or 'Parallel'");
    }
    stateful_strategy(strategy, causes);
    let retention = spec.get("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        if retention.is_present() {
            retention.get(field).one_of(&["Retain", "Delete"], causes);
        }
    }
    for template in templates.items().filter(|_| old.is_absent()) {
        claim::claim_spec(template.get("spec"), Node::nothing(), causes);
    }
    spec.get("replicas").not_negative(causes);
    spec.get("minReadySeconds").not_negative(causes);
    let ordinals = spec.get("ordinals");
    if ordinals.get("start").number() < 0 {
        causes.invalid("spec.ordinals.start", ordinals.get("start").number(), super::checks::NOT_NEGATIVE);
    }
    spec.get("serviceName").keep_if_set(names::dns_1123_label, causes);
    selector(spec, "statefulset", causes);
    stateful_template(spec, causes);
    always(spec, "StatefulSet", causes);
    same(spec, old, &["selector", "volumeClaimTemplates", "serviceName", "podManagementPolicy"], causes);
}

/// Claims of the set are volumes of its pods, which get their names from the set.
fn stateful_template(spec: Node<'_, '_>, causes: &mut Causes) {
    let mut tree = json!({ "spec": { "template": spec.get("template").value() } });
    let claims = spec.get("volumeClaimTemplates");
    if let Some(pod) = tree["spec"]["template"]["spec"].as_object_mut() {
        pod.remove("subdomain");
        pod.remove("hostname");
        if !claims.is_empty() {
            let name = |claim: Node<'_, '_>| claim.get("metadata").get("name").str().to_owned();
            let mut own: Vec<String> = claims.items().map(name).collect();
            own.sort();
            own.dedup();
            let mut volumes: Vec<Value> = own
                .iter()
                .map(|name| json!({ "name": name, "persistentVolumeClaim": { "claimName": name } }))
                .collect();
            let given = pod.remove("volumes");
            let others = given.as_ref().and_then(Value::as_array).into_iter().flatten();
            volumes.extend(others.filter(|volume| !own.iter().any(|name| volume["name"] == **name)).cloned());
            pod.insert("volumes".to_owned(), volumes.into());
        }
    }
    let root = Node::root(&tree);
    let inner = root.get("spec");
    match LabelSelector::from_object(spec.get("selector").value()) {
        Err(_) => spec.get("selector").invalid(causes, ""),
        Ok(wanted) => {
            check_labels(&wanted, inner, false, causes);
            pod::template(inner.get("template"), causes);
        }
    }
}

fn stateful_strategy(strategy: Node<'_, '_>, causes: &mut Causes) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").str() {
        "" => strategy.required(causes, ""),
        "OnDelete" if rolling.is_present() => {
            rolling.invalid(causes, "only allowed for updateStrategy 'RollingUpdate'");
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            let unavailable = rolling.get("maxUnavailable");
            rolling.get("partition").not_negative(causes);
            if unavailable.is_present() {
                amount(unavailable, causes);
                if is_zero(unavailable) {
                    unavailable.invalid(causes, "cannot be 0");
                }
                at_most_all(unavailable, causes);
            }
        }
        _ => strategy.invalid(causes, "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

pub(super) fn replication_controller(object: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    let spec = object.get("spec");
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    selector.need(causes);
    if template.is_absent() {
        return template.required(causes, "");
    }
    let wanted: Vec<(&str, &str)> = selector.entries().map(|(key, value)| (key, value.str())).collect();
    check_labels(&LabelSelector::from_labels(wanted), spec, false, causes);
    pod::template(template, causes);
    always(spec, "ReplicationController", causes);
}

pub(super) fn controller_revision(object: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    object.get("revision").not_negative(causes);
    let data = object.get("data");
    if old.is_present() {
        return data.immutable(old.get("data"), causes);
    }
    match data.value() {
        None => data.required(causes, "data is mandatory"),
        Some(Value::Object(_)) => {}
        Some(_) => data.required(causes, "data must be a valid JSON object"),
    }
}

/// A selector is required and selects something.
fn selector(spec: Node<'_, '_>, of: &str, causes: &mut Causes) {
    let selector = spec.get("selector");
    if selector.is_absent() {
        return selector.required(causes, "");
    }
    labels::label_selector(selector, causes);
    if selector.get("matchLabels").is_empty() && selector.get("matchExpressions").is_empty() {
        selector.invalid(causes, format!("empty selector is invalid for {of}"));
    }
}

fn matching_template(spec: Node<'_, '_>, why: &str, causes: &mut Causes) {
    match LabelSelector::from_object(spec.get("selector").value()) {
        Err(_) => spec.get("selector").invalid(causes, why),
        Ok(wanted) => {
            check_labels(&wanted, spec, false, causes);
            pod::template(spec.get("template"), causes);
        }
    }
}

/// `nothing`: whether the selector is one that selects nothing.
fn check_labels(wanted: &LabelSelector, spec: Node<'_, '_>, nothing: bool, causes: &mut Causes) {
    let meta = spec.get("template");
    let meta = meta.get("metadata");
    let given = meta.get("labels");
    let none = serde_json::Map::new();
    let map = given.value().and_then(Value::as_object).unwrap_or(&none);
    if nothing || !wanted.is_everything() && !wanted.matches(map) {
        given.invalid(causes, "`selector` does not match template `labels`");
    }
}

/// `kind` runs pods that are always restarted.
fn always(spec: Node<'_, '_>, kind: &str, causes: &mut Causes) {
    let template = spec.get("template");
    let pod = template.get("spec");
    pod.get("restartPolicy").one_of(&["Always"], causes);
    if pod.get("activeDeadlineSeconds").is_present() {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        pod.get("activeDeadlineSeconds").forbidden(causes, why);
    }
}

fn same(spec: Node<'_, '_>, old: Node<'_, '_>, fields: &[&str], causes: &mut Causes) {
    if old.is_present() {
        for field in fields {
            spec.get(field).immutable(old.get("spec").get(field), causes);
        }
    }
}

fn strategy(strategy: Node<'_, '_>, causes: &mut Causes) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").str() {
        "Recreate" if rolling.is_present() => {
            rolling.forbidden(causes, "may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" if rolling.is_absent() => rolling.required(causes, "this should be defaulted and never be nil"),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            amount(unavailable, causes);
            amount(surge, causes);
            if is_zero(unavailable) && is_zero(surge) {
                unavailable.invalid(causes, "may not be 0 when `maxSurge` is 0");
            }
            at_most_all(unavailable, causes);
        }
        _ => shown_as_go(strategy, &["Recreate", "RollingUpdate"], causes),
    }
}

/// A number or a percentage, not negative.
pub(super) fn amount(node: Node<'_, '_>, causes: &mut Causes) {
    match node.int_or_string() {
        Some(IntOrString::Text(text)) => node.invalid_each(causes, names::percent(text)),
        _ => node.not_negative(causes),
    }
}

pub(super) fn at_most_all(node: Node<'_, '_>, causes: &mut Causes) {
    if node.int_or_string().and_then(IntOrString::percent).is_some_and(|percent| percent > 100) {
        node.invalid(causes, "must not be greater than 100%");
    }
}

fn is_zero(node: Node<'_, '_>) -> bool {
    match node.int_or_string() {
        None => true,
        Some(IntOrString::Int(number)) => number == 0,
        Some(text @ IntOrString::Text(_)) => text.percent().unwrap_or(0) == 0,
    }
}

/// Counts of a workload's status, none negative.
const COUNTS: &[&str] = &[
    "replicas",
    "fullyLabeledReplicas",
    "updatedReplicas",
    "currentReplicas",
    "readyReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "terminatingReplicas",
    "observedGeneration",
    "collisionCount",
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
];

/// Writes to the status of any of them.
pub(super) fn status(object: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (status, before) = (object.get("status"), old.get("status"));
    COUNTS.iter().for_each(|field| status.get(field).not_negative(causes));
    let all = status.get("replicas").number();
    for field in ["fullyLabeledReplicas", "updatedReplicas", "currentReplicas", "readyReplicas", "availableReplicas"] {
        if status.get(field).number() > all {
            status.get(field).invalid(causes, "cannot be greater than status.replicas");
        }
    }
    let available = status.get("availableReplicas");
    if available.number() > status.get("readyReplicas").number() {
        let stateful = object.get("kind").str() == "StatefulSet";
        let what = if stateful { "status.readyReplicas" } else { "readyReplicas" };
        available.invalid(causes, format!("cannot be greater than {what}"));
    }
    let (collisions, had) = (status.get("collisionCount"), before.get("collisionCount"));
    if had.is_present() && (collisions.is_absent() || collisions.number() < had.number()) {
        collisions.invalid_number(causes, "cannot be decremented");
    }
}
