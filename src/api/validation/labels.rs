//! Labels, selectors and taints. Upstream: k8s.io/apimachinery pkg/apis/meta/v1/validation.

use crate::causes::Causes;
use crate::names;
use crate::node::Node;

pub(super) fn labels(labels: Node<'_, '_>, causes: &mut Causes) {
    for (key, value) in labels.entries() {
        for message in names::qualified_name(key) {
            causes.invalid(labels.path(), key, message);
        }
        for message in names::label_value(value.str()) {
            causes.invalid(labels.path(), value.str(), message);
        }
    }
}

pub(super) fn label_selector(selector: Node<'_, '_>, causes: &mut Causes) {
    labels(selector.get("matchLabels"), causes);
    for expression in selector.get("matchExpressions").items() {
        let (operator, values) = (expression.get("operator"), expression.get("values"));
        match operator.str() {
            "In" | "NotIn" if values.is_empty() => {
                values.required(causes, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                values.forbidden(causes, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => causes.invalid(operator.path(), operator.str(), "not a valid selector operator"),
        }
        let key = expression.get("key");
        for message in names::qualified_name(key.str()) {
            causes.invalid(key.path(), key.str(), message);
        }
        for value in values.items() {
            value.invalid_each(causes, names::label_value(value.str()));
        }
    }
}

pub(super) const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn tolerations(tolerations: Node<'_, '_>, causes: &mut Causes) {
    for toleration in tolerations.items() {
        let (key, operator, effect) = (toleration.get("key"), toleration.get("operator"), toleration.get("effect"));
        let value = toleration.get("value").str();
        if !key.is_empty() {
            key.invalid_each(causes, names::qualified_name(key.str()));
        } else if operator.str() != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            causes.invalid(operator.path(), operator.str(), why);
        }
        if toleration.get("tolerationSeconds").is_present() && effect.str() != "NoExecute" {
            causes.invalid(effect.path(), effect.str(), "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator.str() {
            "" | "Equal" => {
                let messages = names::label_value(value);
                if !messages.is_empty() {
                    causes.invalid(operator.path(), value, messages.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                causes.invalid(operator.path(), value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            _ => operator.not_supported(causes, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect.str()) {
            effect.not_supported(causes, EFFECTS);
        }
    }
}
