//! Label selectors: the text of `-l`, and metav1.LabelSelector objects.
//!
//! Upstream: k8s.io/apimachinery pkg/labels/selector.go, pkg/apis/meta/v1/helpers.go.

mod parse;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::causes::Causes;
use crate::names;

/// Requirements that must all hold, sorted by key; or nothing at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

/// One condition on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// Where labels are looked up.
pub trait Labels {
    fn lookup(&self, key: &str) -> Option<&str>;
}

impl LabelSelector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects no object: what an absent metav1.LabelSelector means.
    pub fn nothing() -> Self {
        Self { nothing: true, ..Self::default() }
    }

    /// The syntax of the `labelSelector` parameter. Errors are upstream's messages.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::selector(text).map(Self::of)
    }

    /// A map of labels that must all be there (Service and ReplicationController selectors).
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self::of(
            labels
                .into_iter()
                .map(|(key, value)| Requirement {
                    key: key.to_owned(),
                    operator: Operator::Equals,
                    values: vec![value.to_owned()],
                })
                .collect(),
        )
    }

    /// A metav1.LabelSelector; absent or null selects nothing, empty selects everything.
    pub fn from_object(selector: Option<&Value>) -> Result<Self, String> {
        let Some(Value::Object(selector)) = selector else { return Ok(Self::nothing()) };
        let mut requirements = Vec::new();
        if let Some(Value::Object(labels)) = selector.get("matchLabels") {
            for (key, value) in labels {
                let values = vec![value.as_str().unwrap_or_default().to_owned()];
                requirements.push(Requirement::new(key, Operator::Equals, values)?);
            }
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            let text = |field: &str| expression.get(field).and_then(Value::as_str).unwrap_or_default();
            let operator = match text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(format!("{} is not a valid label selector operator", crate::quoting::quote(other)));
                }
            };
            let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
            let values = values.filter_map(Value::as_str).map(str::to_owned).collect();
            requirements.push(Requirement::new(text("key"), operator, values)?);
        }
        Ok(Self::of(requirements))
    }

    fn of(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|left, right| left.key.cmp(&right.key));
        Self { requirements, nothing: false }
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

impl std::fmt::Display for LabelSelector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                formatter.write_str(",")?;
            }
            requirement.fmt(formatter)?;
        }
        Ok(())
    }
}

impl Requirement {
    /// Checks operator, key and values; the error joins every broken rule as upstream does.
    pub fn new(key: &str, operator: Operator, values: Vec<String>) -> Result<Self, String> {
        let mut causes = Causes::new();
        let messages = names::qualified_name(key);
        if !messages.is_empty() {
            causes.invalid("key", key, messages.join("; "));
        }
        let count = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        };
        if let Some(detail) = count {
            causes.invalid("values", values.clone(), detail);
        }
        for (index, value) in values.iter().enumerate() {
            if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err() {
                let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                causes.invalid(format!("values[{index}]"), value.as_str(), detail);
            }
        }
        for (index, value) in values.iter().enumerate() {
            let messages = names::label_value(value);
            if !messages.is_empty() {
                causes.invalid(format!("values[{index}][{key}]"), value.as_str(), messages.join("; "));
            }
        }
        if causes.is_empty() { Ok(Self { key: key.to_owned(), operator, values }) } else { Err(causes.aggregate()) }
    }

    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        let value = labels.lookup(&self.key);
        let listed = |value: &str| self.values.iter().any(|wanted| wanted == value);
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = || self.values.first().and_then(|text| number(text));
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => value.is_some_and(listed),
            Operator::NotEquals | Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => value.and_then(number).zip(bound()).is_some_and(|(value, bound)| value > bound),
            Operator::LessThan => value.and_then(number).zip(bound()).is_some_and(|(value, bound)| value < bound),
        }
    }
}

impl std::fmt::Display for Requirement {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = &self.key;
        let mut values = self.values.clone();
        values.sort();
        let values = values.join(",");
        match self.operator {
            Operator::Equals => write!(formatter, "{key}={values}"),
            Operator::DoubleEquals => write!(formatter, "{key}=={values}"),
            Operator::NotEquals => write!(formatter, "{key}!={values}"),
            Operator::In => write!(formatter, "{key} in ({values})"),
            Operator::NotIn => write!(formatter, "{key} notin ({values})"),
            Operator::Exists => formatter.write_str(key),
            Operator::DoesNotExist => write!(formatter, "!{key}"),
            Operator::GreaterThan => write!(formatter, "{key}>{values}"),
            Operator::LessThan => write!(formatter, "{key}<{values}"),
        }
    }
}

/// Sorted by key, as `object::Meta` keeps them.
impl Labels for [(Box<str>, Box<str>)] {
    fn lookup(&self, key: &str) -> Option<&str> {
        let index = self.binary_search_by(|(label, _)| (**label).cmp(key)).ok()?;
        Some(&self[index].1)
    }
}

impl Labels for BTreeMap<String, String> {
    fn lookup(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for Map<String, Value> {
    fn lookup(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(selector: &str, labels: Value) -> bool {
        LabelSelector::parse(selector).unwrap().matches(labels.as_object().unwrap())
    }

    #[test]
    fn every_operator_selects() {
        for (selector, expected) in [
            ("", true),
            ("a=1", true),
            ("a==1,b", true),
            ("a!=1", false),
            ("c!=1", true),
            ("a in (1,2),b notin (y)", true),
            ("c notin (x)", true),
            ("!c", true),
            ("!a", false),
            ("a>0", true),
            ("a<1", false),
            ("b>0", false),
            ("in in (in)", true),
            ("e=", true),
            ("e in (,x)", true),
        ] {
            assert_eq!(matches(selector, json!({"a": "1", "b": "x", "in": "in", "e": ""})), expected, "{selector}");
        }
    }

    #[test]
    fn text_is_normalised() {
        for (text, shown) in [
            (" z , a in ( y , x )", "a in (x,y),z"),
            ("x==a", "x==a"),
            ("x notin ()", "x notin ()"),
            ("x>1,!y", "x>1,!y"),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn errors_are_upstreams() {
        for (text, message) in [
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("a,,b", "found ',', expected: identifier after ','"),
            ("=b", "found '=', expected: !, identifier, or 'end of string'"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap_err(), message, "{text}");
        }
        let message = LabelSelector::parse("_a=1").unwrap_err();
        assert!(
            message.starts_with("unable to parse requirement: <nil>: Invalid value: \"_a\": name part must"),
            "{message}"
        );
        let message = LabelSelector::parse("a=-").unwrap_err();
        assert!(
            message.starts_with("unable to parse requirement: values[0][a]: Invalid value: \"-\": a valid"),
            "{message}"
        );
    }

    #[test]
    fn objects_select() {
        let selector = |value: Value| LabelSelector::from_object(Some(&value));
        let labels = json!({"a": "1"});
        let labels = labels.as_object().unwrap();
        assert!(selector(json!({})).unwrap().matches(labels));
        assert!(!LabelSelector::from_object(None).unwrap().matches(labels));
        let object = json!({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]});
        assert!(selector(object).unwrap().matches(labels));
        let object = json!({"matchExpressions": [{"key": "b", "operator": "gt"}]});
        assert_eq!(selector(object).unwrap_err(), "\"gt\" is not a valid label selector operator");
    }
}
