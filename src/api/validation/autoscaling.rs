//! Horizontal pod autoscalers, in their second version. Upstream: pkg/apis/autoscaling/validation.

use super::pod;
use crate::causes::Causes;
use crate::names;
use crate::node::Node;

const MAX_PERIOD: i64 = 1800;
const MAX_WINDOW: i64 = 3600;

pub(super) fn autoscaler(autoscaler: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (spec, before) = (autoscaler.get("spec"), old.get("spec"));
    let (min, max, target) = (spec.get("minReplicas"), spec.get("maxReplicas"), spec.get("scaleTargetRef"));
    if min.is_present() && max.number() < min.number() {
        max.invalid_number(causes, "must be greater than or equal to `minReplicas`");
    }
    let had = before.get("scaleTargetRef");
    let same =
        old.is_present() && ["apiVersion", "kind"].iter().all(|field| had.get(field).str() == target.get(field).str());
    let any_group = target.get("kind").str() == "ReplicationController";
    reference(target, same, any_group, causes);
    let metrics = spec.get("metrics");
    metrics.items().for_each(|metric| one_metric(metric, causes));
    let scales_to_zero = metrics.items().any(|metric| matches!(metric.get("type").str(), "Object" | "External"));
    if min.int() == Some(0) && !scales_to_zero {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        metrics.forbidden(causes, why);
    }
    let behavior = spec.get("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        if behavior.get(direction).is_present() {
            rules(behavior.get(direction), causes);
        }
    }
}

pub(super) fn status(autoscaler: Node<'_, '_>, causes: &mut Causes) {
    let status = autoscaler.get("status");
    for condition in status.get("conditions").items() {
        condition.get("observedGeneration").not_negative(causes);
    }
    status.get("currentReplicas").not_negative(causes);
    status.get("desiredReplicas").not_negative(causes);
}

/// `any_version`: whether the group and version is not judged; `any_group`: whether it may be of the core group.
fn reference(target: Node<'_, '_>, any_version: bool, any_group: bool, causes: &mut Causes) {
    target.get("kind").need_name(names::path_segment, causes);
    target.get("name").need_name(names::path_segment, causes);
    let version = target.get("apiVersion");
    let text = version.str();
    if any_version {
        return;
    }
    if text.matches('/').count() > 1 {
        version.invalid_text(causes, format!("unexpected GroupVersion string: {text}"));
    } else if !any_group && !text.contains('/') {
        version.invalid_text(causes, "apiVersion must specify API group");
    }
}

fn rules(rules: Node<'_, '_>, causes: &mut Causes) {
    let (window, policies) = (rules.get("stabilizationWindowSeconds"), rules.get("policies"));
    if window.number() < 0 {
        window.invalid(causes, "must be greater than or equal to zero");
    }
    if window.number() > MAX_WINDOW {
        window.invalid(causes, format!("must be less than or equal to {MAX_WINDOW}"));
    }
    rules.get("selectPolicy").one_of_if_present(&["Disabled", "Max", "Min"], causes);
    if policies.is_empty() {
        policies.required(causes, "must specify at least one Policy");
    }
    for policy in policies.items() {
        policy.get("type").one_of(&["Percent", "Pods"], causes);
        let period = policy.get("periodSeconds");
        policy.get("value").positive(causes);
        period.positive(causes);
        if period.number() > MAX_PERIOD {
            period.invalid(causes, format!("must be less than or equal to {MAX_PERIOD}"));
        }
    }
    rules.get("tolerance").quantity_not_negative(causes);
}

/// Type of a metric, and its field.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

fn one_metric(metric: Node<'_, '_>, causes: &mut Causes) {
    let kind = metric.get("type");
    if kind.is_empty() {
        kind.required(causes, "must specify a metric source type");
    }
    // Upstream says it twice.
    for _ in 0..2 {
        kind.one_of(TYPES, causes);
    }
    let given: Vec<&str> =
        SOURCES.iter().map(|(_, field)| *field).filter(|field| metric.get(field).is_present()).collect();
    if let Some(first) = given.first() {
        source(first, metric.get(first), causes);
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind.str()).map(|(_, field)| *field);
    if let Some(expected) = expected.filter(|field| metric.get(field).is_absent()) {
        metric.get(expected).required(causes, "must populate information for the given metric source");
    }
    if given.len() != 1 {
        for field in given.iter().filter(|field| Some(**field) != expected) {
            metric.get(field).forbidden(causes, "must populate the given metric source only");
        }
    }
}

fn source(kind: &str, source: Node<'_, '_>, causes: &mut Causes) {
    let (target, name, metric) = (source.get("target"), source.get("name"), source.get("metric"));
    if kind == "object" {
        reference(source.get("describedObject"), false, true, causes);
    }
    match kind {
        "resource" | "containerResource" => {
            if name.is_empty() {
                name.required(causes, "must specify a resource name");
            } else if kind == "containerResource" {
                pod::resources::container_resource_name(&name.path(), name.str(), causes);
            }
            let container = source.get("container");
            if kind == "containerResource" {
                if container.is_empty() {
                    container.required(causes, "must specify a container");
                } else {
                    container.keep(names::dns_1123_label, causes);
                }
            }
        }
        _ => {
            if metric.get("name").is_empty() {
                metric.get("name").required(causes, "must specify a metric name");
            } else {
                metric.get("name").keep(names::path_segment, causes);
            }
        }
    }
    metric_target(target, causes);
    let (value, average, utilization) =
        (target.get("value"), target.get("averageValue"), target.get("averageUtilization"));
    let has = |node: Node<'_, '_>| node.is_present();
    match kind {
        "object" if !has(value) && !has(average) => {
            average.required(causes, "must set either a target value or averageValue");
        }
        "external" if !has(value) && !has(average) => {
            average.required(causes, "must set either a target value for metric or a per-pod target");
        }
        "external" if has(value) && has(average) => {
            value.forbidden(causes, "may not set both a target value for metric and a per-pod target");
        }
        "pods" if !has(average) => average.required(causes, "must specify a positive target averageValue"),
        "resource" | "containerResource" if !has(utilization) && !has(average) => {
            utilization.required(causes, "must set either a target raw value or a target utilization");
        }
        "resource" | "containerResource" if has(utilization) && has(average) => {
            average.forbidden(causes, "may not set both a target raw value and a target utilization");
        }
        _ => {}
    }
}

fn metric_target(target: Node<'_, '_>, causes: &mut Causes) {
    let kind = target.get("type");
    if kind.is_empty() {
        kind.required(causes, "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind.str()) {
        kind.invalid_text(causes, "must be either Utilization, Value, or AverageValue");
    }
    for field in ["value", "averageValue"] {
        if target.get(field).amount().is_some_and(|amount| amount.is_zero() || amount.is_negative()) {
            target.get(field).invalid(causes, "must be positive");
        }
    }
    let utilization = target.get("averageUtilization");
    if utilization.int().is_some_and(|percent| percent < 1) {
        utilization.invalid(causes, "must be greater than 0");
    }
}
