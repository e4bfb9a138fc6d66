//! Broken validation rules as upstream words them, collected before a request is refused.
//!
//! Upstream: k8s.io/apimachinery pkg/util/validation/field/errors.go.

use serde_json::Value;

use crate::quoting;
use crate::status::{Cause, GroupKind, Status};

/// What kind of rule was broken; the variants are upstream's field.ErrorType.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broken {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooShort,
    TooMany,
    TooFew,
    Internal,
    TypeInvalid,
}

impl Broken {
    /// The cause's `reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Broken::NotFound => "FieldValueNotFound",
            Broken::Required => "FieldValueRequired",
            Broken::Duplicate => "FieldValueDuplicate",
            Broken::Invalid => "FieldValueInvalid",
            Broken::NotSupported => "FieldValueNotSupported",
            Broken::Forbidden => "FieldValueForbidden",
            Broken::TooLong => "FieldValueTooLong",
            Broken::TooShort => "FieldValueTooShort",
            Broken::TooMany => "FieldValueTooMany",
            Broken::TooFew => "FieldValueTooFew",
            Broken::Internal => "InternalError",
            Broken::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Broken::NotFound => "Not found",
            Broken::Required => "Required value",
            Broken::Duplicate => "Duplicate value",
            Broken::Invalid | Broken::TypeInvalid => "Invalid value",
            Broken::NotSupported => "Unsupported value",
            Broken::Forbidden => "Forbidden",
            Broken::TooLong => "Too long",
            Broken::TooShort => "Too short",
            Broken::TooMany => "Too many",
            Broken::TooFew => "Too few",
            Broken::Internal => "Internal error",
        }
    }

    fn shows_value(self) -> bool {
        !matches!(self, Broken::Required | Broken::Forbidden | Broken::TooLong | Broken::TooShort | Broken::Internal)
    }
}

/// One broken rule at one field (upstream's field.Error).
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    pub broken: Broken,
    /// `spec.containers[0].image`; `<nil>` for the whole object, as upstream prints it.
    pub field: String,
    /// The offending value; `None` where upstream omits it.
    pub value: Option<Value>,
    pub detail: String,
}

impl FieldError {
    /// The message without the field, as causes carry it.
    pub fn body(&self) -> String {
        let mut body = self.broken.words().to_owned();
        if self.broken.shows_value()
            && let Some(value) = &self.value
        {
            body.push_str(": ");
            match value {
                Value::String(text) => body.push_str(&quoting::quote(text)),
                other => body.push_str(&quoting::json(other)),
            }
        }
        if !self.detail.is_empty() {
            body.push_str(": ");
            body.push_str(&self.detail);
        }
        body
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.field, self.body())
    }
}

/// The broken rules of one object, in the order they were found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Causes {
    errors: Vec<FieldError>,
}

impl Causes {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    pub fn len(&self) -> usize {
        self.errors.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &FieldError> {
        self.errors.iter()
    }

    pub fn push(&mut self, error: FieldError) {
        self.errors.push(error);
    }

    pub fn extend(&mut self, other: Causes) {
        self.errors.extend(other.errors);
    }

    pub fn into_errors(self) -> impl Iterator<Item = FieldError> {
        self.errors.into_iter()
    }

    fn add(&mut self, broken: Broken, field: impl Into<String>, value: Option<Value>, detail: impl Into<String>) {
        self.errors.push(FieldError { broken, field: field.into(), value, detail: detail.into() });
    }

    pub fn required(&mut self, field: impl Into<String>, detail: impl Into<String>) {
        self.add(Broken::Required, field, None, detail);
    }

    pub fn invalid(&mut self, field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) {
        self.add(Broken::Invalid, field, Some(value.into()), detail);
    }

    pub fn type_invalid(&mut self, field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) {
        self.add(Broken::TypeInvalid, field, Some(value.into()), detail);
    }

    /// `supported` in the order upstream lists them: its callers sort, most of them.
    pub fn not_supported(&mut self, field: impl Into<String>, value: impl Into<Value>, supported: &[&str]) {
        let detail = match supported {
            [] => String::new(),
            values => format!("supported values: {}", quoting::quote_all(values.iter().copied())),
        };
        self.add(Broken::NotSupported, field, Some(value.into()), detail);
    }

    pub fn forbidden(&mut self, field: impl Into<String>, detail: impl Into<String>) {
        self.add(Broken::Forbidden, field, None, detail);
    }

    pub fn duplicate(&mut self, field: impl Into<String>, value: impl Into<Value>) {
        self.add(Broken::Duplicate, field, Some(value.into()), "");
    }

    pub fn not_found(&mut self, field: impl Into<String>, value: impl Into<Value>) {
        self.add(Broken::NotFound, field, Some(value.into()), "");
    }

    /// `limit` in bytes.
    pub fn too_long(&mut self, field: impl Into<String>, limit: usize) {
        let unit = if limit == 1 { "byte" } else { "bytes" };
        self.add(Broken::TooLong, field, None, format!("may not be more than {limit} {unit}"));
    }

    /// `limit` in characters.
    pub fn too_many_characters(&mut self, field: impl Into<String>, limit: usize) {
        let unit = if limit == 1 { "character" } else { "characters" };
        self.add(Broken::TooLong, field, None, format!("may not be more than {limit} {unit}"));
    }

    /// `limit` in characters.
    pub fn too_short(&mut self, field: impl Into<String>, limit: usize) {
        let unit = if limit == 1 { "character" } else { "characters" };
        self.add(Broken::TooShort, field, None, format!("must be at least {limit} {unit}"));
    }

    pub fn too_few(&mut self, field: impl Into<String>, actual: usize, limit: usize) {
        let unit = if limit == 1 { "item" } else { "items" };
        self.add(Broken::TooFew, field, Some(actual.into()), format!("must have at least {limit} {unit}"));
    }

    pub fn too_many(&mut self, field: impl Into<String>, actual: usize, limit: usize) {
        let unit = if limit == 1 { "item" } else { "items" };
        self.add(Broken::TooMany, field, Some(actual.into()), format!("must have at most {limit} {unit}"));
    }

    pub fn internal(&mut self, field: impl Into<String>, detail: impl Into<String>) {
        self.add(Broken::Internal, field, None, detail);
    }

    /// `Ok` when no rule was broken, else the 422 that names them all, each once.
    pub fn into_result<'a>(mut self, kind: impl Into<GroupKind<'a>>, name: &str) -> Result<(), Status> {
        let mut errors: Vec<FieldError> = Vec::new();
        for error in self.errors {
            if !errors.contains(&error) {
                errors.push(error);
            }
        }
        self.errors = errors;
        if self.is_empty() { Ok(()) } else { Err(Status::invalid(kind, name, &self)) }
    }

    pub(crate) fn to_status_causes(&self) -> Vec<Cause> {
        self.errors
            .iter()
            .map(|error| Cause {
                reason: error.broken.reason().to_owned(),
                message: error.body(),
                field: error.field.clone(),
            })
            .collect()
    }

    /// The messages as one line: each said once, in brackets when there are several.
    pub(crate) fn aggregate(&self) -> String {
        let mut messages: Vec<String> = Vec::new();
        for message in self.errors.iter().map(ToString::to_string) {
            if !messages.contains(&message) {
                messages.push(message);
            }
        }
        if messages.len() == 1 { messages.remove(0) } else { format!("[{}]", messages.join(", ")) }
    }
}
