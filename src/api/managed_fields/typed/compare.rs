//! What two trees differ in.

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
            added: self.added.recursive_difference(paths),
            modified: self.modified.recursive_difference(paths),
            removed: self.removed.recursive_difference(paths),
        }
    }
}

/// Compares two objects but for what nobody owns of their metadata.
pub(in crate::managed_fields) fn compare(before: &Value, after: &Value, ty: Type<'_>) -> Comparison {
    let mut comparison = Comparison::default();
    comparison.walk(Some(before), Some(after), Slot::root(ty), None);
    comparison
}

/// The way from the root, made into a path only for what differs.
struct Trail<'t> {
    parent: Option<&'t Trail<'t>>,
    step: Step<'t>,
}

enum Step<'t> {
    Field(&'t str),
    Item(&'t Element),
}

impl Trail<'_> {
    fn path(&self) -> Vec<Element> {
        let mut path = self.parent.map(Trail::path).unwrap_or_default();
        path.push(match self.step {
            Step::Field(name) => Element::field(name),
            Step::Item(element) => element.clone(),
        });
        path
    }
}

fn path(trail: Option<&Trail<'_>>) -> Vec<Element> {
    trail.map(Trail::path).unwrap_or_default()
}

/// Object metadata that every write changes and nobody owns.
fn is_bookkeeping(trail: Option<&Trail<'_>>, key: &str) -> bool {
    let in_metadata =
        trail.is_some_and(|trail| trail.parent.is_none() && matches!(trail.step, Step::Field("metadata")));
    in_metadata && matches!(key, "managedFields" | "resourceVersion" | "generation")
}

impl Comparison {
    fn walk(&mut self, before: Option<&Value>, after: Option<&Value>, slot: Slot<'_>, trail: Option<&Trail<'_>>) {
        match slot.shape() {
            Shape::Leaf => return self.leaf(before, after, trail),
            Shape::Map => {
                let (ours, theirs) = (before.and_then(Value::as_object), after.and_then(Value::as_object));
                if ours.is_none_or(Map::is_empty) && theirs.is_none_or(Map::is_empty) {
                    return self.leaf(before, after, trail);
                }
                self.walk_map(ours, theirs, slot, trail);
            }
            Shape::List => {
                let list = |value: Option<&'_ Value>| value.and_then(Value::as_array).is_none_or(Vec::is_empty);
                if list(before) && list(after) {
                    return self.leaf(before, after, trail);
                }
                self.walk_list(before, after, slot, trail);
            }
        }
        match (before, after) {
            (None, _) => self.added.insert(path(trail)),
            (_, None) => self.removed.insert(path(trail)),
            _ => {}
        }
    }

    fn leaf(&mut self, before: Option<&Value>, after: Option<&Value>, trail: Option<&Trail<'_>>) {
        match (before, after) {
            (None, None) => {}
            (None, Some(_)) => self.added.insert(path(trail)),
            (Some(_), None) => self.removed.insert(path(trail)),
            (Some(before), Some(after)) if before != after => self.modified.insert(path(trail)),
            _ => {}
        }
    }

    fn walk_map(
        &mut self,
        before: Option<&Map<String, Value>>,
        after: Option<&Map<String, Value>>,
        slot: Slot<'_>,
        trail: Option<&Trail<'_>>,
    ) {
        let mut ours = before.into_iter().flatten().peekable();
        let mut theirs = after.into_iter().flatten().peekable();
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (None, None) => return,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((ours, _)), Some((theirs, _))) => ours.cmp(theirs),
            };
            let left = if order.is_le() { ours.next() } else { None };
            let right = if order.is_ge() { theirs.next() } else { None };
            let Some(key) = left.or(right).map(|(key, _)| key.as_str()) else { return };
            if is_bookkeeping(trail, key) {
                continue;
            }
            let trail = Trail { parent: trail, step: Step::Field(key) };
            self.walk(left.map(|(_, value)| value), right.map(|(_, value)| value), slot.child(key), Some(&trail));
        }
    }

    fn walk_list(&mut self, before: Option<&Value>, after: Option<&Value>, slot: Slot<'_>, trail: Option<&Trail<'_>>) {
        let (ours, theirs) = (by_element(before, slot), by_element(after, slot));
        let none = Vec::new();
        for (index, (element, left)) in ours.iter().enumerate() {
            let right = theirs.get(index).filter(|(other, _)| other == element);
            let right =
                right.or_else(|| theirs.iter().find(|(other, _)| other == element)).map_or(&none, |(_, items)| items);
            self.walk_items(element, left, right, slot, trail);
        }
        for (index, (element, right)) in theirs.iter().enumerate() {
            let known = ours.get(index).is_some_and(|(other, _)| other == element);
            if !known && !ours.iter().any(|(other, _)| other == element) {
                self.walk_items(element, &none, right, slot, trail);
            }
        }
    }

    /// Elements of one key; lists that hold a key twice are compared as wholes there.
    fn walk_items(
        &mut self,
        element: &Element,
        before: &[&Value],
        after: &[&Value],
        slot: Slot<'_>,
        trail: Option<&Trail<'_>>,
    ) {
        let trail = Trail { parent: trail, step: Step::Item(element) };
        match (before, after) {
            ([] | [_], [] | [_]) => {
                self.walk(before.first().copied(), after.first().copied(), slot.element(), Some(&trail));
            }
            ([_, _, ..], [_, _, ..]) => {
                if before != after {
                    self.modified.insert(trail.path());
                }
            }
            ([_, _, ..], _) => {
                if let Some(after) = after.first() {
                    self.walk(None, Some(after), slot.element(), Some(&trail));
                }
                self.removed.insert(trail.path());
            }
            (_, [_, _, ..]) => {
                if let Some(before) = before.first() {
                    self.walk(Some(before), None, slot.element(), Some(&trail));
                }
                self.added.insert(trail.path());
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
