//! The one way for rules to read an untyped tree: a cursor that knows its value and its field path.
//!
//! Absent fields are nodes too, so rules read without asking first; a path is built only when an error needs it.

use serde_json::Value;

use crate::causes::Causes;
use crate::int_or_string::IntOrString;
use crate::quantity::{ParseError, Quantity};

/// A place in a tree. `'v` is the tree's life, `'p` that of the node it was reached from.
#[derive(Clone, Copy)]
pub struct Node<'v, 'p> {
    value: Option<&'v Value>,
    parent: Option<&'p Node<'v, 'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Field(&'p str),
    Key(&'p str),
    Index(usize),
}

impl<'v, 'p> Node<'v, 'p> {
    /// The whole object.
    pub fn root(value: &'v Value) -> Self {
        Self { value: Some(value), parent: None, step: Step::Root }
    }

    /// No object: what an update rule sees as the old value of something new.
    pub fn nothing() -> Self {
        Self { value: None, parent: None, step: Step::Root }
    }

    /// The field of a struct, or an absent node.
    pub fn get<'n>(&'n self, field: &'n str) -> Node<'v, 'n> {
        self.child(self.value.and_then(|value| value.get(field)), Step::Field(field))
    }

    /// The field of a struct, for which upstream's paths have another name.
    pub fn get_as<'n>(&'n self, field: &str, shown: &'n str) -> Node<'v, 'n> {
        self.child(self.value.and_then(|value| value.get(field)), Step::Field(shown))
    }

    /// The field of a struct that upstream's paths leave out.
    pub fn get_unnamed<'n>(&'n self, field: &str) -> Node<'v, 'n> {
        self.child(self.value.and_then(|value| value.get(field)), Step::Root)
    }

    /// The value of a map's key, or an absent node.
    pub fn key<'n>(&'n self, key: &'n str) -> Node<'v, 'n> {
        self.child(self.value.and_then(|value| value.get(key)), Step::Key(key))
    }

    /// The elements of a list; none when it is absent.
    pub fn items<'n>(&'n self) -> impl DoubleEndedIterator<Item = Node<'v, 'n>> + ExactSizeIterator + use<'v, 'p, 'n> {
        let items: &'v [Value] = self.value.and_then(Value::as_array).map_or(&[], Vec::as_slice);
        items.iter().enumerate().map(|(index, item)| self.child(Some(item), Step::Index(index)))
    }

    /// The keys and values of a map, in the order of keys; none when it is absent.
    pub fn entries<'n>(&'n self) -> impl Iterator<Item = (&'v str, Node<'v, 'n>)> + use<'v, 'p, 'n> {
        let map = self.value.and_then(Value::as_object);
        map.into_iter().flatten().map(|(key, value)| (key.as_str(), self.keyed(key, value)))
    }

    fn keyed<'n>(&'n self, key: &'v str, value: &'v Value) -> Node<'v, 'n>
    where
        'v: 'n,
    {
        self.child(Some(value), Step::Key(key))
    }

    fn child<'n>(&'n self, value: Option<&'v Value>, step: Step<'n>) -> Node<'v, 'n> {
        Node { value: value.filter(|value| !value.is_null()), parent: Some(self), step }
    }

    /// The value; `None` where it is absent or null.
    pub fn value(&self) -> Option<&'v Value> {
        self.value
    }

    /// Neither there nor set to anything but null.
    pub fn is_absent(&self) -> bool {
        self.value.is_none()
    }

    pub fn is_present(&self) -> bool {
        self.value.is_some()
    }

    /// Absent, or Go's zero value: `""`, `0`, `false`, `[]`, `{}`.
    pub fn is_empty(&self) -> bool {
        match self.value {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Bool(flag)) => !flag,
            Some(Value::Number(number)) => number.as_f64() == Some(0.0),
        }
    }

    /// The number of elements or entries.
    pub fn len(&self) -> usize {
        match self.value {
            Some(Value::Array(items)) => items.len(),
            Some(Value::Object(map)) => map.len(),
            _ => 0,
        }
    }

    /// `""` where it is absent.
    pub fn str(&self) -> &'v str {
        self.value.and_then(Value::as_str).unwrap_or_default()
    }

    pub fn int(&self) -> Option<i64> {
        self.value.and_then(Value::as_i64)
    }

    /// `false` where it is absent.
    pub fn bool(&self) -> bool {
        self.value.and_then(Value::as_bool).unwrap_or_default()
    }

    pub fn int_or_string(&self) -> Option<IntOrString<'v>> {
        self.value.and_then(IntOrString::read)
    }

    /// `None` where it is absent.
    pub fn quantity(&self) -> Option<Result<Quantity, ParseError>> {
        self.value.map(Quantity::from_value)
    }

    /// The first element of a list for which `field` has the text `value`.
    pub fn find<'n>(&'n self, field: &'n str, value: &str) -> Option<Node<'v, 'n>> {
        self.items().find(|item| item.get(field).str() == value)
    }

    /// `spec.containers[0].image`, `metadata.labels[app]`; `<nil>` for the whole object.
    pub fn path(&self) -> String {
        let mut path = String::new();
        self.write_path(&mut path);
        if path.is_empty() { "<nil>".to_owned() } else { path }
    }

    fn write_path(&self, path: &mut String) {
        if let Some(parent) = self.parent {
            parent.write_path(path);
        }
        match self.step {
            Step::Root => {}
            Step::Field(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Step::Key(key) => {
                path.push('[');
                path.push_str(key);
                path.push(']');
            }
            Step::Index(index) => {
                path.push('[');
                path.push_str(&index.to_string());
                path.push(']');
            }
        }
    }

    fn bad_value(&self) -> Value {
        self.value.cloned().unwrap_or(Value::Null)
    }

    pub fn required(&self, causes: &mut Causes, detail: impl Into<String>) {
        causes.required(self.path(), detail);
    }

    /// Shows the node's own value.
    pub fn invalid(&self, causes: &mut Causes, detail: impl Into<String>) {
        causes.invalid(self.path(), self.bad_value(), detail);
    }

    /// One `invalid` for each message (see `names`).
    pub fn invalid_each(&self, causes: &mut Causes, messages: Vec<String>) {
        for message in messages {
            self.invalid(causes, message);
        }
    }

    pub fn not_supported(&self, causes: &mut Causes, supported: &[&str]) {
        causes.not_supported(self.path(), self.bad_value(), supported);
    }

    pub fn forbidden(&self, causes: &mut Causes, detail: impl Into<String>) {
        causes.forbidden(self.path(), detail);
    }

    pub fn duplicate(&self, causes: &mut Causes) {
        causes.duplicate(self.path(), self.bad_value());
    }

    pub fn not_found(&self, causes: &mut Causes) {
        causes.not_found(self.path(), self.bad_value());
    }

    /// `limit` in bytes.
    pub fn too_long(&self, causes: &mut Causes, limit: usize) {
        causes.too_long(self.path(), limit);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_upstreams() {
        let tree = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"image": "a", "n": null}]}});
        let root = Node::root(&tree);
        let labels = root.get("metadata");
        let labels = labels.get("labels");
        assert_eq!(labels.key("app").path(), "metadata.labels[app]");
        assert_eq!(
            labels.entries().map(|(key, node)| format!("{key} {}", node.path())).collect::<Vec<_>>(),
            ["app metadata.labels[app]"]
        );
        let spec = root.get("spec");
        let containers = spec.get("containers");
        let images: Vec<&str> = containers.items().map(|container| container.get("image").str()).collect();
        assert_eq!(images, ["a"]);
        let container = containers.items().next().unwrap();
        assert_eq!(container.get("image").path(), "spec.containers[0].image");
        assert!(container.get("n").is_absent());
        assert_eq!(root.get("spec").get("replicas").int(), None);
        assert_eq!(root.path(), "<nil>");
    }
}
