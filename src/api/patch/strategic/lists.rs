//! Merging and ordering of lists in strategic merge patches.

use serde_json::{Map, Value};

use super::{DIRECTIVE, PatchError, go_text, merge_map};
use crate::schema::Type;

/// How the elements of one list are told apart: maps by `key`, scalars by themselves.
#[derive(Clone, Copy)]
pub(super) struct Merging<'s> {
    pub(super) key: Option<&'s str>,
    pub(super) element: Option<Type<'s>>,
}

impl Merging<'_> {
    /// The merged list: elements of the patch in the patch's order, the others where they were relative to them.
    pub(super) fn merge(self, original: Vec<Value>, patch: Vec<Value>) -> Result<Vec<Value>, PatchError> {
        let Some(kind) = original.first().or(patch.first()) else { return Ok(original) };
        if kind.is_array() {
            return Err(PatchError::ListOfLists);
        }
        if !kind.is_object() {
            let mut merged = original.clone();
            merged.extend(patch.iter().cloned());
            return self.ordered(deduplicated(merged), &patch, &original);
        }
        let Some(key) = self.key else {
            let name = self.element.map(|ty| ty.name()).unwrap_or_default();
            return Err(PatchError::Other(format!("cannot merge lists without merge key for {name}")));
        };
        let (original, patch) = self.special_elements(original, patch, key)?;
        let mut merged = original.clone();
        for element in &patch {
            let map = as_map(element)?;
            let value = map.get(key).ok_or_else(|| no_merge_key(element, key))?;
            match merged.iter_mut().find(|item| item.get(key) == Some(value)) {
                Some(Value::Object(existing)) => merge_map(existing, map.clone(), self.element)?,
                Some(_) => return Err(PatchError::Other("value for key 0 is not a map".to_owned())),
                None => merged.push(element.clone()),
            }
        }
        self.ordered(merged, &patch, &original)
    }

    /// Carries out the `$patch` elements: what is left of the original, and the ordinary elements of the patch.
    fn special_elements(
        self,
        mut original: Vec<Value>,
        patch: Vec<Value>,
        key: &str,
    ) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
        let mut ordinary = Vec::with_capacity(patch.len());
        let mut replace = false;
        for element in patch {
            let map = as_map(&element)?;
            match map.get(DIRECTIVE).map(|directive| directive.as_str().unwrap_or_default()) {
                None => ordinary.push(element),
                Some("delete") => {
                    let value = map.get(key).ok_or_else(|| no_merge_key(&element, key))?;
                    original.retain(|item| item.get(key) != Some(value));
                }
                Some("replace") => replace = true,
                Some("merge") => {
                    return Err(PatchError::Other("merging lists cannot yet be specified in the patch".to_owned()));
                }
                Some(other) => return Err(PatchError::UnknownDirective(other.to_owned(), go_text(&element))),
            }
        }
        Ok(if replace { (ordinary, Vec::new()) } else { (original, ordinary) })
    }

    /// Elements that `order` names in its order, all others between them as in `server_order`.
    pub(super) fn ordered(
        self,
        merged: Vec<Value>,
        order: &[Value],
        server_order: &[Value],
    ) -> Result<Vec<Value>, PatchError> {
        if let Some(key) = self.key {
            for element in merged.iter().chain(order) {
                if !as_map(element)?.contains_key(key) {
                    return Err(no_merge_key(element, key));
                }
            }
        }
        let (mut named, mut others): (Vec<Value>, Vec<Value>) =
            merged.into_iter().partition(|item| self.index(order, item).is_some());
        named.sort_by_key(|item| self.index(order, item));
        others.sort_by_key(|item| self.index(server_order, item).unwrap_or(usize::MAX));
        let mut all = Vec::with_capacity(named.len() + others.len());
        let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
        while let (Some(other), Some(next)) = (others.peek(), named.peek()) {
            let places = (self.index(server_order, other), self.index(server_order, next));
            let other_first = matches!(places, (Some(other), Some(next)) if other < next);
            all.extend(if other_first { others.next() } else { named.next() });
        }
        all.extend(others);
        all.extend(named);
        Ok(all)
    }

    /// Refuses a patch list whose elements are not in `$setElementOrder`, or in another order.
    pub(super) fn check_order(self, patch: &[Value], order: &[Value]) -> Result<(), PatchError> {
        if patch.is_empty() || order.is_empty() {
            return Ok(());
        }
        let ordinary = |item: &&Value| item.get(DIRECTIVE).is_none();
        let mut places = order.iter();
        for item in patch.iter().filter(ordinary) {
            if !places.any(|place| self.same(place, item)) {
                return Err(PatchError::Other(format!(
                    "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                    go_text(&Value::Array(patch.to_vec())),
                    go_text(&Value::Array(order.to_vec()))
                )));
            }
        }
        Ok(())
    }

    fn index(self, list: &[Value], item: &Value) -> Option<usize> {
        list.iter().position(|candidate| self.same(candidate, item))
    }

    fn same(self, left: &Value, right: &Value) -> bool {
        match self.key {
            Some(key) => left.get(key).is_some_and(|value| Some(value) == right.get(key)),
            None => left == right,
        }
    }
}

fn as_map(element: &Value) -> Result<&Map<String, Value>, PatchError> {
    element
        .as_object()
        .ok_or_else(|| PatchError::Other("expected a map[string]interface {}, but received another type".to_owned()))
}

fn no_merge_key(element: &Value, key: &str) -> PatchError {
    PatchError::NoMergeKey(go_text(element), key.to_owned())
}

fn deduplicated(items: Vec<Value>) -> Vec<Value> {
    let mut unique: Vec<Value> = Vec::with_capacity(items.len());
    for item in items {
        if !unique.contains(&item) {
            unique.push(item);
        }
    }
    unique
}
