//! Workloads. Upstream: pkg/apis/apps/validation, pkg/apis/batch/validation.

use super::{immutable, labels, not_negative, one_of, pod};
use crate::causes::Causes;
use crate::int_or_string::IntOrString;
use crate::names;
use crate::node::Node;
use crate::selector::LabelSelector;

pub(super) fn deployment(object: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let spec = object.get("spec");
    not_negative(spec.get("replicas"), causes);
    selected_template(spec, "deployment", Some("ReplicaSet"), causes);
    strategy(spec.get("strategy"), causes);
    for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        not_negative(spec.get(field), causes);
    }
    let deadline = spec.get("progressDeadlineSeconds");
    let minimum = spec.get("minReadySeconds").int().unwrap_or_default();
    if deadline.int().is_some_and(|deadline| deadline <= minimum) {
        deadline.invalid(causes, "must be greater than minReadySeconds");
    }
    same_selector(spec, old, causes);
}

pub(super) fn replica_set(object: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let spec = object.get("spec");
    not_negative(spec.get("replicas"), causes);
    not_negative(spec.get("minReadySeconds"), causes);
    selected_template(spec, "deployment", Some("ReplicaSet"), causes);
    same_selector(spec, old, causes);
}

pub(super) fn daemon_set(object: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let spec = object.get("spec");
    selected_template(spec, "daemonset", Some("DaemonSet"), causes);
    not_negative(spec.get("minReadySeconds"), causes);
    not_negative(spec.get("revisionHistoryLimit"), causes);
    same_selector(spec, old, causes);
}

pub(super) fn stateful_set(object: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let spec = object.get("spec");
    not_negative(spec.get("replicas"), causes);
    not_negative(spec.get("minReadySeconds"), causes);
    selected_template(spec, "statefulset", Some("StatefulSet"), causes);
    if old.is_present() {
        for field in ["selector", "volumeClaimTemplates", "serviceName", "podManagementPolicy"] {
            immutable(spec.get(field), old.get("spec").get(field), causes);
        }
    }
}

pub(super) fn replication_controller(object: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    let spec = object.get("spec");
    not_negative(spec.get("minReadySeconds"), causes);
    not_negative(spec.get("replicas"), causes);
    labels::labels(spec.get("selector"), causes);
    if spec.get("selector").is_empty() {
        spec.get("selector").required(causes, "");
    }
    pod::template(spec.get("template"), causes);
}

pub(super) fn job(object: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    job_spec(object.get("spec"), causes);
}

pub(super) fn cron_job(object: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let spec = object.get("spec");
    let before = old.get("spec").get("schedule").str();
    schedule(spec.get("schedule"), before, spec.get("timeZone").is_present(), causes);
    one_of(spec.get("concurrencyPolicy"), &["Allow", "Forbid", "Replace"], causes);
    for field in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        not_negative(spec.get(field), causes);
    }
    job_spec(spec.get("jobTemplate").get("spec"), causes);
}

/// Five fields or a name; what the fields hold is found out by the controller.
fn schedule(schedule: Node<'_, '_>, before: &str, has_zone: bool, causes: &mut Causes) {
    let text = schedule.str();
    if text.is_empty() {
        return schedule.required(causes, "");
    }
    let zoned = text.starts_with("TZ=") || text.starts_with("CRON_TZ=");
    let fields: Vec<&str> = text.split_whitespace().skip(usize::from(zoned)).collect();
    if fields.len() != 5 && !fields.first().is_some_and(|first| first.starts_with('@')) {
        let (count, fields) = (fields.len(), fields.join(" "));
        schedule.invalid(causes, format!("expected exactly 5 fields, found {count}: [{fields}]"));
    }
    match (text.contains("TZ"), before.contains("TZ")) {
        (true, true) if has_zone => {
            schedule.invalid(causes, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
        }
        (true, false) => {
            schedule.invalid(causes, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        }
        _ => {}
    }
}

fn job_spec(spec: Node<'_, '_>, causes: &mut Causes) {
    for field in ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"] {
        not_negative(spec.get(field), causes);
    }
    let template = spec.get("template");
    pod::template(template, causes);
    let template_spec = template.get("spec");
    let policy = template_spec.get("restartPolicy");
    if !matches!(policy.str(), "OnFailure" | "Never") {
        let why = "valid values: \"OnFailure\", \"Never\"";
        causes.required(policy.path(), why);
    }
}

/// Selector and template belong together; `kind` runs pods that are always restarted.
fn selected_template(spec: Node<'_, '_>, of: &str, kind: Option<&str>, causes: &mut Causes) {
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    if selector.is_absent() {
        selector.required(causes, "");
    } else {
        labels::label_selector(selector, causes);
        if selector.get("matchLabels").is_empty() && selector.get("matchExpressions").is_empty() {
            selector.invalid(causes, format!("empty selector is invalid for {of}"));
        }
    }
    match LabelSelector::from_object(selector.value()) {
        Err(_) => selector.invalid(causes, "invalid label selector"),
        Ok(wanted) => {
            let meta = template.get("metadata");
            let given = meta.get("labels");
            let empty = serde_json::Map::new();
            let map = given.value().and_then(serde_json::Value::as_object).unwrap_or(&empty);
            if !wanted.is_everything() && !wanted.matches(map) {
                given.invalid(causes, "`selector` does not match template `labels`");
            }
        }
    }
    pod::template(template, causes);
    let pod_spec = template.get("spec");
    let Some(kind) = kind else { return };
    if pod_spec.get("restartPolicy").str() != "Always" {
        pod_spec.get("restartPolicy").not_supported(causes, &["Always"]);
    }
    if pod_spec.get("activeDeadlineSeconds").is_present() {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        pod_spec.get("activeDeadlineSeconds").forbidden(causes, why);
    }
}

fn same_selector(spec: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    if old.is_present() {
        immutable(spec.get("selector"), old.get("spec").get("selector"), causes);
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
            let zero = |node: Node<'_, '_>| {
                node.int_or_string().is_none_or(|amount| amount.scaled(100, true).unwrap_or_default() == 0)
            };
            if zero(unavailable) && zero(surge) {
                unavailable.invalid(causes, "may not be 0 when `maxSurge` is 0");
            }
            if unavailable.int_or_string().and_then(IntOrString::percent).is_some_and(|percent| percent > 100) {
                unavailable.invalid(causes, "must not be greater than 100%");
            }
        }
        _ => strategy.not_supported(causes, &["Recreate", "RollingUpdate"]),
    }
}

fn amount(node: Node<'_, '_>, causes: &mut Causes) {
    match node.int_or_string() {
        Some(IntOrString::Text(text)) => node.invalid_each(causes, names::percent(text)),
        _ => not_negative(node, causes),
    }
}
