//! Merging an applied tree into a live one, and taking fields out of a tree.

use serde_json::{Map, Value};

use super::{Shape, Slot};
use crate::field_set::{Element, FieldSet};
use crate::schema::Type;

/// Merges `applied`, which has been checked, into `live`.
pub(in crate::managed_fields) fn merge(live: &mut Value, applied: &Value, ty: Type<'_>) {
    merge_at(live, applied, Slot::root(ty));
}

fn merge_at(live: &mut Value, applied: &Value, slot: Slot<'_>) {
    match (slot.shape(), &mut *live, applied) {
        // An absent or empty side changes nothing of a side that holds something.
        (Shape::Map, Value::Object(live), Value::Object(applied)) if !live.is_empty() => {
            merge_maps(live, applied, slot)
        }
        (Shape::Map, Value::Object(live), Value::Null) if !live.is_empty() => {}
        (Shape::List, Value::Array(live), Value::Array(applied)) if !live.is_empty() => {
            merge_lists(live, applied, slot)
        }
        (Shape::List, Value::Array(live), Value::Null) if !live.is_empty() => {}
        _ => *live = applied.clone(),
    }
}

fn merge_maps(live: &mut Map<String, Value>, applied: &Map<String, Value>, slot: Slot<'_>) {
    for (key, value) in applied {
        match live.get_mut(key) {
            Some(existing) => merge_at(existing, value, slot.child(key)),
            None => {
                live.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Applied elements come in the applied order; the others keep their place between the shared ones.
fn merge_lists(live: &mut Vec<Value>, applied: &[Value], slot: Slot<'_>) {
    let ours: Vec<Option<Element>> = live.iter().map(|item| slot.item(item).ok()).collect();
    let theirs: Vec<Option<Element>> = applied.iter().map(|item| slot.item(item).ok()).collect();
    let in_ours = |element: &Option<Element>| ours.contains(element);
    let mut shared = theirs.iter().filter(|element| in_ours(element));
    let mut next_shared = shared.next();
    let mut taken: Vec<&Option<Element>> = Vec::new();
    let mut merged = Vec::with_capacity(live.len().max(applied.len()));
    let combine = |element: &Option<Element>, item: &Value| {
        // Live elements that share their key are not merged with the applied one.
        let mut same = live.iter().zip(&ours).filter(|(_, other)| *other == element);
        match (same.next(), same.next()) {
            (Some((existing, _)), None) => {
                let mut existing = existing.clone();
                merge_at(&mut existing, item, slot.element());
                existing
            }
            _ => item.clone(),
        }
    };
    let (mut left, mut right) = (0, 0);
    while left < ours.len() || right < theirs.len() {
        if left < ours.len() && right < theirs.len() {
            if ours[left] == theirs[right] {
                taken.push(&theirs[right]);
                merged.push(combine(&theirs[right], &applied[right]));
                left += 1;
                right += 1;
                next_shared = shared.next();
                continue;
            }
            if theirs.contains(&ours[left]) && next_shared.is_some_and(|next| *next != ours[left]) {
                left += 1;
                continue;
            }
        }
        if left < ours.len() {
            if !theirs.contains(&ours[left]) {
                merged.push(live[left].clone());
                left += 1;
                continue;
            }
            if taken.contains(&&ours[left]) {
                left += 1;
            }
        }
        if right < theirs.len() {
            taken.push(&theirs[right]);
            merged.push(combine(&theirs[right], &applied[right]));
            if next_shared == Some(&theirs[right]) {
                next_shared = shared.next();
            }
            right += 1;
        }
    }
    *live = merged;
}

/// Takes the fields of a set out of a tree; what is empty then goes too.
pub(in crate::managed_fields) fn remove(tree: &mut Value, set: &FieldSet, ty: Type<'_>) {
    remove_at(tree, set, Slot::root(ty));
}

fn remove_at(value: &mut Value, set: &FieldSet, slot: Slot<'_>) {
    let empty = match (slot.shape(), &mut *value) {
        (Shape::Map, Value::Object(fields)) => {
            fields.retain(|key, value| {
                let element = Element::field(key);
                if set.has(&element) {
                    return false;
                }
                if let Some(below) = set.below(&element) {
                    remove_at(value, below, slot.child(key));
                    return !value.is_null();
                }
                true
            });
            fields.is_empty()
        }
        (Shape::List, Value::Array(items)) => {
            items.retain_mut(|item| {
                let Ok(element) = slot.item(item) else { return true };
                if set.has(&element) {
                    return false;
                }
                if let Some(below) = set.below(&element) {
                    remove_at(item, below, slot.element());
                }
                true
            });
            items.is_empty()
        }
        (_, Value::Object(_) | Value::Array(_)) => true,
        _ => false,
    };
    if empty {
        *value = Value::Null;
    }
}
