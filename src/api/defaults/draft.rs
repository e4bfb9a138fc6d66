//! The one way for defaulting rules to change an untyped tree.

use serde_json::{Map, Value};

/// A struct that a rule may change.
pub(super) struct Draft<'v> {
    fields: &'v mut Map<String, Value>,
}

impl<'v> Draft<'v> {
    /// `None` when the value is no struct.
    pub(super) fn of(value: &'v mut Value) -> Option<Self> {
        value.as_object_mut().map(|fields| Draft { fields })
    }

    /// Neither there nor anything but null.
    pub(super) fn is_absent(&self, field: &str) -> bool {
        self.fields.get(field).is_none_or(Value::is_null)
    }

    /// Absent, or Go's zero value.
    pub(super) fn is_zero(&self, field: &str) -> bool {
        match self.fields.get(field) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Number(number)) => number.as_i64() == Some(0),
            Some(Value::Bool(flag)) => !flag,
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(fields)) => fields.is_empty(),
        }
    }

    pub(super) fn value(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// `""` where it is absent.
    pub(super) fn str(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn bool(&self, field: &str) -> bool {
        self.fields.get(field).and_then(Value::as_bool).unwrap_or_default()
    }

    pub(super) fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.fields.insert(field.to_owned(), value.into());
    }

    pub(super) fn remove(&mut self, field: &str) {
        self.fields.remove(field);
    }

    /// For pointers: sets what is absent.
    pub(super) fn default(&mut self, field: &str, value: impl Into<Value>) {
        if self.is_absent(field) {
            self.set(field, value);
        }
    }

    /// For values: sets what is absent or zero.
    pub(super) fn default_zero(&mut self, field: &str, value: impl Into<Value>) {
        if self.is_zero(field) {
            self.set(field, value);
        }
    }

    /// A struct that is there.
    pub(super) fn get(&mut self, field: &str) -> Option<Draft<'_>> {
        Draft::of(self.fields.get_mut(field)?)
    }

    /// A struct, made when it is absent.
    pub(super) fn make(&mut self, field: &str) -> Draft<'_> {
        let value = self.fields.entry(field.to_owned()).or_insert(Value::Null);
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        Draft::of(value).expect("made an object above")
    }

    /// The structs of a list; none when it is absent.
    pub(super) fn items(&mut self, field: &str) -> impl Iterator<Item = Draft<'_>> {
        let items = self.fields.get_mut(field).and_then(Value::as_array_mut);
        items.into_iter().flatten().filter_map(Draft::of)
    }

    /// The values of a map.
    pub(super) fn values(&mut self) -> impl Iterator<Item = &mut Value> {
        self.fields.values_mut()
    }

    /// Adds the entries of `from` whose keys `to` lacks; `to` is made when it is absent, nothing happens without `from`.
    pub(super) fn fill_map(&mut self, to: &str, from: &str) {
        let Some(Value::Object(source)) = self.fields.get(from) else { return };
        let source = source.clone();
        let target = self.make(to);
        for (key, value) in source {
            target.fields.entry(key).or_insert(value);
        }
    }
}
