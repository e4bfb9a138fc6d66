//! Fields that hold a number or a text: ports by number or name, amounts by count or percentage.
//!
//! Upstream: k8s.io/apimachinery pkg/util/intstr.

use serde_json::Value;

/// An IntOrString read from a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntOrString<'a> {
    Int(i64),
    Text(&'a str),
}

impl<'a> IntOrString<'a> {
    /// `None` for values of other types.
    pub fn read(value: &'a Value) -> Option<Self> {
        match value {
            Value::Number(number) => number.as_i64().map(IntOrString::Int),
            Value::String(text) => Some(IntOrString::Text(text)),
            _ => None,
        }
    }

    /// The percentage in `25%`; `None` for anything else.
    pub fn percent(self) -> Option<i64> {
        match self {
            IntOrString::Text(text) => text.strip_suffix('%')?.parse().ok(),
            IntOrString::Int(_) => None,
        }
    }

    /// The count that an amount means out of `total`; `None` when it is neither a number nor a percentage.
    pub fn scaled(self, total: i64, round_up: bool) -> Option<i64> {
        match self {
            IntOrString::Int(count) => Some(count),
            IntOrString::Text(_) => {
                let product = self.percent()?.saturating_mul(total);
                let floor = product.div_euclid(100);
                Some(floor + i64::from(round_up && product.rem_euclid(100) != 0))
            }
        }
    }
}

impl std::fmt::Display for IntOrString<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            IntOrString::Int(number) => number.fmt(formatter),
            IntOrString::Text(text) => formatter.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_scale() {
        assert_eq!(IntOrString::Text("25%").scaled(10, true), Some(3));
        assert_eq!(IntOrString::Text("25%").scaled(10, false), Some(2));
        assert_eq!(IntOrString::Int(4).scaled(10, true), Some(4));
        assert_eq!(IntOrString::Text("x").scaled(10, true), None);
    }
}
