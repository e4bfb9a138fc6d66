//! Trees read with their schema: what two of them differ in, which fields one sets, merging and removing.
//!
//! Upstream: sigs.k8s.io/structured-merge-diff typed.

mod check;
mod compare;
mod merge;

use serde_json::{Map, Value};

pub(super) use check::check;
pub(super) use compare::{Comparison, compare};
pub(super) use merge::{merge, remove};

use crate::field_set::{Element, FieldSet, Scalar};
use crate::schema::{Field, Kind, Merge, Type};

/// A place in a tree as the schema sees it.
#[derive(Clone, Copy)]
struct Slot<'s> {
    ty: Option<Type<'s>>,
    merge: Merge,
    field: Option<Field<'s>>,
}

/// How a place is owned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// As a whole.
    Leaf,
    /// Key by key.
    Map,
    /// Element by element.
    List,
}

impl<'s> Slot<'s> {
    fn root(ty: Type<'s>) -> Self {
        Self { ty: Some(ty), merge: ty.merge(), field: None }
    }

    fn shape(self) -> Shape {
        match (self.ty.map(|ty| ty.kind()), self.merge) {
            (Some(Kind::Struct | Kind::Map), merge) if merge != Merge::Atomic => Shape::Map,
            (Some(Kind::List), Merge::Set | Merge::Associative) => Shape::List,
            _ => Shape::Leaf,
        }
    }

    fn is_struct(self) -> bool {
        self.ty.is_some_and(|ty| ty.kind() == Kind::Struct)
    }

    /// The place of a map's key or a struct's field.
    fn child(self, key: &str) -> Self {
        match self.ty {
            Some(ty) if ty.kind() == Kind::Struct => match ty.field(key) {
                Some(field) => Self { ty: Some(field.ty()), merge: field.merge(), field: Some(field) },
                None => Self { ty: None, merge: Merge::Atomic, field: None },
            },
            _ => self.element(),
        }
    }

    /// The place of a list's element or a map's value.
    fn element(self) -> Self {
        let ty = self.ty.and_then(|ty| ty.element());
        Self { ty, merge: ty.map_or(Merge::Atomic, |ty| ty.merge()), field: None }
    }

    /// The path element of a list's element; the error is upstream's.
    fn item(self, item: &Value) -> Result<Element, String> {
        if self.merge == Merge::Set {
            return match item {
                Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
                Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
                Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
                value => Ok(Element::Value(Scalar::of(value).expect("lists and maps are refused above"))),
            };
        }
        let fields = match item {
            Value::Object(fields) => fields,
            Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
            _ => return Err("associative list with keys may not have non-map elements".to_owned()),
        };
        let names = self.field.map(|field| field.list_keys());
        let element = self.element();
        let mut keys: Vec<(Box<str>, Scalar)> = Vec::with_capacity(2);
        for name in names.clone().into_iter().flatten() {
            let value = match fields.get(name) {
                Some(value) => Scalar::of(value),
                None => element.child(name).field.and_then(key_default).as_ref().and_then(Scalar::of),
            };
            keys.extend(value.map(|value| (Box::from(name), value)));
        }
        if keys.is_empty() {
            let names: Vec<String> = names.into_iter().flatten().map(crate::quoting::quote).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default \
                 values for any key fields)",
                names.join(" ")
            ));
        }
        keys.sort();
        Ok(Element::Key(keys.into()))
    }
}

/// The fields that a tree sets.
pub(super) fn set_of(tree: &Value, ty: Type<'_>) -> FieldSet {
    set_below(tree, Slot::root(ty))
}

fn set_below(value: &Value, slot: Slot<'_>) -> FieldSet {
    let mut set = FieldSet::new();
    match (slot.shape(), value) {
        (Shape::Map, Value::Object(fields)) => {
            for (key, value) in fields {
                let child = slot.child(key);
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                let member = child.shape() == Shape::Leaf || empty || !slot.is_struct();
                set.put(Element::field(key), member, set_below(value, child));
            }
        }
        (Shape::List, Value::Array(items)) => {
            let elements: Vec<(Element, &Value)> =
                items.iter().filter_map(|item| Some((slot.item(item).ok()?, item))).collect();
            for (element, item) in &elements {
                // Of elements with one key only the key is owned, none of their fields.
                let twice = elements.iter().filter(|(other, _)| other == element).count() > 1;
                let below = if twice { FieldSet::new() } else { set_below(item, slot.element()) };
                set.put(element.clone(), true, below);
            }
        }
        _ => {}
    }
    set
}

/// The set with the struct fields that lead to its members.
pub(super) fn with_named_fields(set: &FieldSet, ty: Type<'_>) -> FieldSet {
    set.map_levels(Slot::root(ty), &|slot: Slot<'_>, element: &Element| match element {
        Element::Field(name) => (slot.is_struct() && slot.child(name).field.is_some(), slot.child(name)),
        _ => (false, slot.element()),
    })
}

/// What an absent key counts as: its default, and for what Go always writes its zero value, as upstream's schemas say.
fn key_default(field: Field<'_>) -> Option<Value> {
    let presence = field.presence();
    let always_written = !presence.pointer && !presence.omit_empty && !presence.omit_zero;
    let zero = || always_written.then(|| crate::codec::zero(field.ty()));
    field.default().and_then(|text| serde_json::from_str(text).ok()).or_else(zero)
}
