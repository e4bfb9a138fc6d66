//! What two trees differ in.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::{Shape, Slot};
use crate::field_set::{Element, FieldSet};
use crate::schema::Type;

/// Paths that the second tree has and the first has not, and so on; no path is in two of the sets.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::managed_fields) struct Comparison {
    pub(in crate::managed_fields) added: FieldSet,
    pub(in crate::managed_fields) modified: FieldSet,
    pub(in crate::managed_fields) removed: FieldSet,
}

impl Comparison {
    pub(in crate::managed_fields) fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// Without some paths and all below them.
    pub(in crate::managed_fields) fn without(self, paths: &FieldSet) -> Self {
        if paths.is_empty() {
            return self;
        }
        Self {
            added: self.added.recursively_without(paths),
            modified: self.modified.recursively_without(paths),
            removed: self.removed.recursively_without(paths),
        }
    }
}

/// Compares two objects but for what nobody owns of their metadata.
pub(in crate::managed_fields) fn compare(before: &Value, after: &Value, ty: Type<'_>) -> Comparison {
    walk(Some(before), Some(after), Slot::root(ty), Place::Root).0
}

/// What became of one path itself, beside what differs below it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    Same,
    Added,
    Modified,
    Removed,
}

impl Own {
    fn of(before: Option<&Value>, after: Option<&Value>) -> Own {
        match (before, after) {
            (None, Some(_)) => Own::Added,
            (Some(_), None) => Own::Removed,
            _ => Own::Same,
        }
    }
}

/// Where the object metadata stands that every write changes and nobody owns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Metadata,
    Elsewhere,
}

impl Place {
    fn child(self, key: &str) -> Place {
        if self == Place::Root && key == "metadata" { Place::Metadata } else { Place::Elsewhere }
    }

    fn is_bookkeeping(self, key: &str) -> bool {
        self == Place::Metadata && matches!(key, "managedFields" | "resourceVersion" | "generation")
    }
}

/// Sets are built from the leaves up, so that what is the same costs nothing and no path is written twice.
fn walk(before: Option<&Value>, after: Option<&Value>, slot: Slot<'_>, place: Place) -> (Comparison, Own) {
    match slot.shape() {
        Shape::Leaf => leaf(before, after),
        Shape::Map => {
            let (ours, theirs) = (before.and_then(Value::as_object), after.and_then(Value::as_object));
            if ours.is_none_or(Map::is_empty) && theirs.is_none_or(Map::is_empty) {
                return leaf(before, after);
            }
            (walk_map(ours, theirs, slot, place), Own::of(before, after))
        }
        Shape::List => {
            let list = |value: Option<&'_ Value>| value.and_then(Value::as_array).is_none_or(Vec::is_empty);
            if list(before) && list(after) {
                return leaf(before, after);
            }
            (walk_list(before, after, slot), Own::of(before, after))
        }
    }
}

fn leaf(before: Option<&Value>, after: Option<&Value>) -> (Comparison, Own) {
    let own = match (before, after) {
        (Some(before), Some(after)) if before != after => Own::Modified,
        _ => Own::of(before, after),
    };
    (Comparison::default(), own)
}

fn walk_map(
    before: Option<&Map<String, Value>>,
    after: Option<&Map<String, Value>>,
    slot: Slot<'_>,
    place: Place,
) -> Comparison {
    let mut level = Comparison::default();
    let mut ours = before.into_iter().flatten().peekable();
    let mut theirs = after.into_iter().flatten().peekable();
    loop {
        let order = match (ours.peek(), theirs.peek()) {
            (None, None) => return level,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((ours, _)), Some((theirs, _))) => ours.cmp(theirs),
        };
        let left = if order.is_le() { ours.next() } else { None };
        let right = if order.is_ge() { theirs.next() } else { None };
        let Some(key) = left.or(right).map(|(key, _)| key.as_str()) else { return level };
        if place.is_bookkeeping(key) {
            continue;
        }
        let (left, right) = (left.map(|(_, value)| value), right.map(|(_, value)| value));
        let (below, own) = walk(left, right, slot.child(key), place.child(key));
        level.put(|| Element::field(key), below, own);
    }
}

fn walk_list(before: Option<&Value>, after: Option<&Value>, slot: Slot<'_>) -> Comparison {
    let mut level = Comparison::default();
    let (ours, theirs) = (by_element(before, slot), by_element(after, slot));
    let none = Vec::new();
    for (index, (element, left)) in ours.iter().enumerate() {
        let right = theirs.get(index).filter(|(other, _)| other == element);
        let right =
            right.or_else(|| theirs.iter().find(|(other, _)| other == element)).map_or(&none, |(_, items)| items);
        walk_items(&mut level, element, left, right, slot);
    }
    for (index, (element, right)) in theirs.iter().enumerate() {
        let known = ours.get(index).is_some_and(|(other, _)| other == element);
        if !known && !ours.iter().any(|(other, _)| other == element) {
            walk_items(&mut level, element, &none, right, slot);
        }
    }
    level
}

/// Elements of one key; lists that hold a key twice are compared as wholes there.
fn walk_items(level: &mut Comparison, element: &Element, before: &[&Value], after: &[&Value], slot: Slot<'_>) {
    let one = |before: Option<&&Value>, after: Option<&&Value>| {
        walk(before.copied(), after.copied(), slot.element(), Place::Elsewhere)
    };
    let mut put = |(below, own)| level.put(|| element.clone(), below, own);
    let whole = |own| (Comparison::default(), own);
    match (before, after) {
        ([] | [_], [] | [_]) => put(one(before.first(), after.first())),
        ([_, _, ..], [_, _, ..]) => {
            if before != after {
                put(whole(Own::Modified));
            }
        }
        ([_, _, ..], _) => {
            if !after.is_empty() {
                put(one(None, after.first()));
            }
            put(whole(Own::Removed));
        }
        (_, [_, _, ..]) => {
            if !before.is_empty() {
                put(one(before.first(), None));
            }
            put(whole(Own::Added));
        }
    }
}

impl Comparison {
    /// Takes in what is known of one element of this level.
    fn put(&mut self, element: impl Fn() -> Element, below: Comparison, own: Own) {
        for (set, children, kind) in [
            (&mut self.added, below.added, Own::Added),
            (&mut self.modified, below.modified, Own::Modified),
            (&mut self.removed, below.removed, Own::Removed),
        ] {
            if own == kind || !children.is_empty() {
                set.put(element(), own == kind, children);
            }
        }
    }
}

/// The elements of a list, those of one key together, in the list's order.
fn by_element<'v>(list: Option<&'v Value>, slot: Slot<'_>) -> Vec<(Element, Vec<&'v Value>)> {
    let mut groups: Vec<(Element, Vec<&Value>)> = Vec::new();
    for item in list.and_then(Value::as_array).into_iter().flatten() {
        let Ok(element) = slot.item(item) else { continue };
        match groups.iter_mut().find(|(other, _)| *other == element) {
            Some((_, items)) => items.push(item),
            None => groups.push((element, vec![item])),
        }
    }
    groups
}
