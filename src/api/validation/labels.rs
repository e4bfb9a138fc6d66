//! Labels, selectors and conditions. Upstream: k8s.io/apimachinery pkg/apis/meta/v1/validation.

use super::checks::Seen;
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
            _ => operator.invalid_text(causes, "not a valid selector operator"),
        }
        expression.get("key").keep(names::qualified_name, causes);
        values.items().for_each(|value| value.keep(names::label_value, causes));
    }
}

const MAX_REASON: usize = 1024;
const MAX_MESSAGE: usize = 32 * 1024;

/// `metav1.Condition`s. Upstream: ValidateConditions.
pub(super) fn conditions(conditions: Node<'_, '_>, causes: &mut Causes) {
    let mut seen = Seen::new();
    for condition in conditions.items() {
        let (kind, status, reason, message) =
            (condition.get("type"), condition.get("status"), condition.get("reason"), condition.get("message"));
        if !seen.insert(kind.str()) {
            causes.duplicate(condition.path(), kind.str());
        }
        if kind.is_empty() {
            kind.required(causes, "must be set");
        } else {
            kind.keep(names::qualified_name, causes);
        }
        if !["False", "True", "Unknown"].contains(&status.str()) {
            causes.not_supported(status.path(), status.str(), &["False", "True", "Unknown"]);
        }
        condition.get("observedGeneration").not_negative(causes);
        if condition.get("lastTransitionTime").is_empty() {
            condition.get("lastTransitionTime").required(causes, "must be set");
        }
        if reason.is_empty() {
            reason.required(causes, "must be set");
        } else {
            reason.keep(names::condition_reason, causes);
            if reason.str().len() > MAX_REASON {
                reason.too_long(causes, MAX_REASON);
            }
        }
        if message.str().len() > MAX_MESSAGE {
            message.too_long(causes, MAX_MESSAGE);
        }
    }
}
