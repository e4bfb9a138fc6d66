//! The checks that every kind's rules are made of, as methods of a node, with upstream's words.

use super::NameRule;
use crate::causes::Causes;
use crate::node::Node;

impl Node<'_, '_> {
    /// 0 where it is absent.
    pub(super) fn number(&self) -> i64 {
        self.int().unwrap_or_default()
    }

    /// A value that is neither there nor zero is required; says whether it was given.
    pub(super) fn need(&self, causes: &mut Causes) -> bool {
        if self.is_empty() {
            self.required(causes, "");
        }
        !self.is_empty()
    }

    /// The text keeps a grammar, also where it is absent.
    pub(super) fn keep(&self, rule: NameRule, causes: &mut Causes) {
        for message in rule(self.str()) {
            self.invalid_text(causes, message);
        }
    }

    /// A text that is not empty keeps a grammar.
    pub(super) fn keep_if_set(&self, rule: NameRule, causes: &mut Causes) {
        if !self.is_empty() {
            self.keep(rule, causes);
        }
    }

    /// A text is required and keeps a grammar.
    pub(super) fn need_name(&self, rule: NameRule, causes: &mut Causes) {
        if self.need(causes) {
            self.keep(rule, causes);
        }
    }

    /// Shows the text, `""` where it is absent.
    pub(super) fn invalid_text(&self, causes: &mut Causes, detail: impl Into<String>) {
        causes.invalid(self.path(), self.str(), detail);
    }

    /// Shows the number, 0 where it is absent.
    pub(super) fn invalid_number(&self, causes: &mut Causes, detail: impl Into<String>) {
        causes.invalid(self.path(), self.number(), detail);
    }

    /// Required, and one of a list in upstream's order.
    pub(super) fn need_one_of(&self, supported: &[&str], causes: &mut Causes) {
        if self.need(causes) {
            self.one_of(supported, causes);
        }
    }

    /// One of a list in upstream's order; an absent text is the empty one.
    pub(super) fn one_of(&self, supported: &[&str], causes: &mut Causes) {
        if !supported.contains(&self.str()) {
            causes.not_supported(self.path(), self.str(), supported);
        }
    }

    /// Where it is there at all, one of a list.
    pub(super) fn one_of_if_present(&self, supported: &[&str], causes: &mut Causes) {
        if self.is_present() {
            self.one_of(supported, causes);
        }
    }

    /// Numbers below zero are refused; absent ones are not.
    pub(super) fn not_negative(&self, causes: &mut Causes) {
        if self.number() < 0 {
            self.invalid_number(causes, NOT_NEGATIVE);
        }
    }

    /// Numbers up to zero are refused, and absent ones, which are zero.
    pub(super) fn positive(&self, causes: &mut Causes) {
        if self.number() <= 0 {
            self.invalid_number(causes, "must be greater than zero");
        }
    }

    /// A number, where it is there, lies between two limits.
    pub(super) fn in_range(&self, low: i64, high: i64, causes: &mut Causes) {
        if self.int().is_some_and(|number| !(low..=high).contains(&number)) {
            self.invalid_number(causes, format!("must be between {low} and {high}, inclusive"));
        }
    }

    /// A quantity, where it is there, is not negative.
    pub(super) fn quantity_not_negative(&self, causes: &mut Causes) {
        if self.amount().is_some_and(|amount| amount.is_negative()) {
            self.invalid(causes, NOT_NEGATIVE);
        }
    }

    /// The quantity; `None` where it is absent.
    pub(super) fn amount(&self) -> Option<crate::quantity::Quantity> {
        self.quantity().and_then(Result::ok)
    }

    /// It is what it was.
    pub(super) fn immutable(&self, old: Node<'_, '_>, causes: &mut Causes) {
        if self.value() != old.value() {
            self.invalid(causes, IMMUTABLE);
        }
    }

    /// The named fields that are there may not be: `why`.
    pub(super) fn forbid(&self, fields: &[&str], why: &str, causes: &mut Causes) {
        for field in fields {
            if self.get(field).is_present() {
                self.get(field).forbidden(causes, why);
            }
        }
    }

    /// The path of a field of this struct, of which upstream's source has another name than the API.
    pub(super) fn path_of(&self, field: &str) -> String {
        format!("{}.{field}", self.path())
    }
}

pub(super) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub(super) const IMMUTABLE: &str = "field is immutable";

/// What is wrong with a path that must stay below a directory.
pub(super) fn descending(path: &str) -> Vec<&'static str> {
    let absolute = path.starts_with('/').then_some("must be a relative path");
    absolute.into_iter().chain(backsteps(path)).collect()
}

/// As `descending`, for names that projections write.
pub(super) fn unreserved(path: &str) -> Vec<&'static str> {
    let mut messages = descending(path);
    if path.starts_with("..") && !path.starts_with("../") {
        messages.push("must not start with '..'");
    }
    messages
}

pub(super) fn backsteps(path: &str) -> Option<&'static str> {
    path.split('/').any(|part| part == "..").then_some("must not contain '..'")
}

/// Each message at a node, with its text.
pub(super) fn each(node: Node<'_, '_>, messages: impl IntoIterator<Item = &'static str>, causes: &mut Causes) {
    for message in messages {
        node.invalid_text(causes, message);
    }
}

/// Refuses every text that stands in a list for the second time.
pub(super) struct Seen<'v>(Vec<&'v str>);

impl<'v> Seen<'v> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// Whether the text is new.
    pub(super) fn insert(&mut self, text: &'v str) -> bool {
        let new = !self.0.contains(&text);
        if new {
            self.0.push(text);
        }
        new
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        self.0.contains(&text)
    }
}
