//! What binds pods to nodes, as every component that places pods reads it: taints and tolerations, node selectors and
//! affinity.
//!
//! Upstream: k8s.io/component-helpers/scheduling/corev1 and its nodeaffinity, k8s.io/api/core/v1 toleration.go.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Labels, sorted by key.
pub type Labels = [(Box<str>, Box<str>)];

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Taint {
    pub key: Box<str>,
    pub value: Box<str>,
    /// `NoSchedule`, `PreferNoSchedule`, `NoExecute`.
    pub effect: Box<str>,
    pub time_added: Option<Box<str>>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Toleration {
    pub key: Box<str>,
    pub operator: Box<str>,
    pub value: Box<str>,
    pub effect: Box<str>,
    pub toleration_seconds: Option<i64>,
}

impl Toleration {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        (self.effect.is_empty() || self.effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && match &*self.operator {
                "" | "Equal" => self.value == taint.value,
                "Exists" => true,
                _ => false,
            }
    }
}

/// The taints of these effects that nothing tolerates.
pub fn untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &'a [Toleration],
    effects: &'a [&str],
) -> impl Iterator<Item = &'a Taint> {
    let taints = taints.iter().filter(|taint| effects.contains(&&*taint.effect));
    taints.filter(|taint| !tolerations.iter().any(|toleration| toleration.tolerates(taint)))
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub required: Option<Required>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    pub preferred: Box<[Preferred]>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Required {
    /// One of them has to match.
    pub node_selector_terms: Box<[Term]>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Preferred {
    pub weight: i64,
    pub preference: Term,
}

/// All expressions have to match; a term without any matches nothing.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Term {
    pub match_expressions: Box<[Expression]>,
    pub match_fields: Box<[Expression]>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Expression {
    pub key: Box<str>,
    pub operator: Box<str>,
    pub values: Box<[Box<str>]>,
}

/// Whether a pod with this selector and affinity may be on a node.
pub fn selects(
    selector: &BTreeMap<Box<str>, Box<str>>,
    required: Option<&Required>,
    name: &str,
    labels: &Labels,
) -> bool {
    selector.iter().all(|(key, value)| label(labels, key) == Some(value))
        && required.is_none_or(|it| it.node_selector_terms.iter().any(|term| term.matches(name, labels)))
}

impl Term {
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        if self.match_expressions.is_empty() && self.match_fields.is_empty() {
            return false;
        }
        let field = |key: &str| (key == "metadata.name").then_some(name);
        self.match_expressions.iter().all(|expression| expression.holds(label(labels, &expression.key)))
            && self.match_fields.iter().all(|expression| expression.holds(field(&expression.key)))
    }
}

impl Expression {
    fn holds(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|it| &**it == value);
        let compares = |with: fn(i64, i64) -> bool| {
            let number = self.values.first().and_then(|text| text.parse::<i64>().ok());
            value.and_then(|text| text.parse().ok()).zip(number).is_some_and(|(value, number)| with(value, number))
        };
        match &*self.operator {
            "In" => value.is_some_and(listed),
            "NotIn" => !value.is_some_and(listed),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => compares(|value, number| value > number),
            "Lt" => compares(|value, number| value < number),
            _ => false,
        }
    }
}

pub fn label<'a>(labels: &'a Labels, key: &str) -> Option<&'a str> {
    labels.iter().find(|(label, _)| &**label == key).map(|(_, value)| &**value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_meet_taints() {
        let taint = Taint { key: "a".into(), value: "1".into(), effect: "NoExecute".into(), time_added: None };
        let tolerates = |key: &str, operator: &str, value: &str, effect: &str| {
            Toleration {
                key: key.into(),
                operator: operator.into(),
                value: value.into(),
                effect: effect.into(),
                toleration_seconds: None,
            }
            .tolerates(&taint)
        };
        assert!(tolerates("a", "", "1", ""));
        assert!(tolerates("a", "Exists", "", "NoExecute"));
        assert!(tolerates("", "Exists", "", ""));
        assert!(!tolerates("a", "Equal", "2", ""));
        assert!(!tolerates("a", "Exists", "", "NoSchedule"));
        assert!(!tolerates("b", "Exists", "", ""));
        let taints = [taint];
        assert_eq!(untolerated(&taints, &[], &["NoSchedule"]).count(), 0);
        assert_eq!(untolerated(&taints, &[], &["NoExecute"]).count(), 1);
    }
}
