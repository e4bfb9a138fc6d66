//! Cells of autoscalers. Upstream: formatHPAMetrics.

use serde_json::Value;

use super::Now;
use crate::node::Node;

pub(super) fn reference(autoscaler: Node<'_, '_>, _: &Now) -> Value {
    let spec = autoscaler.get("spec");
    let target = spec.get("scaleTargetRef");
    format!("{}/{}", target.get("kind").str(), target.get("name").str()).into()
}

pub(super) fn minimum(autoscaler: Node<'_, '_>, _: &Now) -> Value {
    autoscaler.get("spec").get("minReplicas").int().map_or("<unset>".to_owned(), |number| number.to_string()).into()
}

pub(super) fn targets(autoscaler: Node<'_, '_>, _: &Now) -> Value {
    let (spec, status) = (autoscaler.get("spec"), autoscaler.get("status"));
    if let Some(target) = spec.get("targetCPUUtilizationPercentage").int() {
        let current = percent(status.get("currentCPUUtilizationPercentage"), "<unknown>");
        return format!("cpu: {current}/{target}%").into();
    }
    let (metrics, current) = (spec.get("metrics"), status.get("currentMetrics"));
    let shown: Vec<String> =
        metrics.items().enumerate().map(|(index, metric)| target(metric, current.items().nth(index))).collect();
    match shown.len() {
        0 => "<none>".into(),
        1 | 2 => shown.join(", ").into(),
        count => format!("{} + {} more...", shown[..2].join(", "), count - 2).into(),
    }
}

fn target(metric: Node<'_, '_>, current: Option<Node<'_, '_>>) -> String {
    let nothing = Node::nothing();
    let current = current.unwrap_or(nothing);
    let kind = metric.get("type").str();
    let field = match kind {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let (source, current) = (metric.get(field), current.get(field));
    let (target, current) = (source.get("target"), current.get("current"));
    let amount = |node: Node<'_, '_>| match node.str() {
        "" => "<unknown>".to_owned(),
        text => text.to_owned(),
    };
    let prefix = match kind {
        "Resource" | "ContainerResource" => format!("{}: ", source.get("name").str()),
        _ => String::new(),
    };
    let average = target.get("averageValue");
    if average.is_present() {
        let suffix = if matches!(kind, "External" | "Object") { " (avg)" } else { "" };
        return format!("{prefix}{}/{}{suffix}", amount(current.get("averageValue")), average.str());
    }
    if prefix.is_empty() {
        return format!("{}/{}", amount(current.get("value")), target.get("value").str());
    }
    let (now, wanted) = (current.get("averageUtilization"), target.get("averageUtilization"));
    format!("{prefix}{}/{}", percent(now, "<unknown>"), percent(wanted, "<auto>"))
}

fn percent(node: Node<'_, '_>, absent: &str) -> String {
    node.int().map_or_else(|| absent.to_owned(), |number| format!("{number}%"))
}
