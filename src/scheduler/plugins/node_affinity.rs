//! NodeAffinity: which nodes a pod selects, and which it prefers.
//!
//! Upstream: k8s.io/component-helpers/scheduling/corev1/nodeaffinity.

use crate::framework::{Happened, Judge, Plugin, Prepared, by_highest};
use crate::pod::{Expression, PodView, Term, Wants};
use crate::snapshot::{NodeInfo, Snapshot};

pub(super) struct NodeAffinity;

struct Affinity<'a>(&'a Wants);

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn weight(&self) -> i64 {
        2
    }

    fn prepare<'a>(&self, pod: &'a PodView, _: &'a Snapshot) -> Prepared<'a> {
        let Some(wants) = &pod.wants else { return Prepared::Skip };
        let asks = !wants.node_selector.is_empty()
            || wants.affinity.required.is_some()
            || !wants.affinity.preferred.is_empty();
        if asks { Prepared::Judge(Box::new(Affinity(wants))) } else { Prepared::Skip }
    }

    fn may_help(&self, happened: Happened) -> bool {
        matches!(happened, Happened::NodeAdded | Happened::NodeLabels)
    }
}

impl Judge for Affinity<'_> {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        let label = |key: &str| label(node, key);
        let selected = self.0.node_selector.iter().all(|(key, value)| label(key) == Some(value));
        let required = self.0.affinity.required.as_ref();
        let required = required.is_none_or(|it| it.node_selector_terms.iter().any(|term| matches(term, node)));
        if selected && required {
            Vec::new()
        } else {
            vec!["node(s) didn't match Pod's node affinity/selector".to_owned()]
        }
    }

    fn score(&self, node: &NodeInfo) -> Option<i64> {
        let preferred = self.0.affinity.preferred.iter();
        // Unlike a required one, an empty preference is met by every node; its weight then counts for all alike.
        Some(preferred.filter(|it| matches(&it.preference, node)).map(|it| it.weight).sum())
    }

    fn normalize(&self, scores: &mut [i64]) {
        by_highest(scores, false);
    }
}

fn label<'a>(node: &'a NodeInfo, key: &str) -> Option<&'a str> {
    let labels = &node.node.labels;
    labels.iter().find(|(label, _)| &**label == key).map(|(_, value)| &**value)
}

fn matches(term: &Term, node: &NodeInfo) -> bool {
    if term.match_expressions.is_empty() && term.match_fields.is_empty() {
        return false;
    }
    let field = |key: &str| (key == "metadata.name").then_some(&*node.name);
    term.match_expressions.iter().all(|expression| holds(expression, label(node, &expression.key)))
        && term.match_fields.iter().all(|expression| holds(expression, field(&expression.key)))
}

fn holds(expression: &Expression, value: Option<&str>) -> bool {
    let listed = |value: &str| expression.values.iter().any(|it| &**it == value);
    let compares = |with: fn(i64, i64) -> bool| {
        let number = expression.values.first().and_then(|text| text.parse::<i64>().ok());
        value.and_then(|text| text.parse().ok()).zip(number).is_some_and(|(value, number)| with(value, number))
    };
    match &*expression.operator {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compares(|value, number| value > number),
        "Lt" => compares(|value, number| value < number),
        _ => false,
    }
}
