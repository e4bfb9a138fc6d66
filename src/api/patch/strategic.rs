//! Strategic merge patch: a merge patch whose lists merge by the keys that the schema table names.
//!
//! Upstream: k8s.io/apimachinery pkg/util/strategicpatch. Directives: `$patch`, `$retainKeys`,
//! `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`.

mod lists;

use serde_json::{Map, Value};

use crate::Status;
use crate::codec::json::described;
use crate::patch::strategic::lists::Merging;
use crate::schema::{Field, Kind, Type};
use crate::status::Details;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";

/// Why a patch is refused, in upstream's words.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PatchError {
    #[error("invalid patch format of primitive list")]
    PrimitiveListFormat,
    #[error("invalid patch format of retainKeys")]
    RetainKeysFormat,
    #[error("invalid patch format of setElementOrder list")]
    SetElementOrderFormat,
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("map: {0} does not contain declared merge key: {1}")]
    NoMergeKey(String, String),
    #[error("unknown patch type: {0} in map: {1}")]
    UnknownDirective(String, String),
    #[error("{0}")]
    Other(String),
}

impl From<PatchError> for Status {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::PrimitiveListFormat | PatchError::RetainKeysFormat | PatchError::SetElementOrderFormat => {
                Status::bad_request(error.to_string())
            }
            PatchError::ListOfLists => {
                let message = "the server rejected our request due to an error in our request";
                let mut status = Status::plain(422, "Invalid", message);
                status.details = Some(Box::new(Details::default()));
                status
            }
            // Upstream lets these through as they are, which is a 500 without a reason.
            other => Status::plain(500, "", other.to_string()),
        }
    }
}

/// Merges `patch` into `target`, an object of type `ty`.
pub fn apply(target: &mut Value, patch: Value, ty: Type<'_>) -> Result<(), Status> {
    match (target, patch) {
        (Value::Object(original), Value::Object(patch)) => Ok(merge_map(original, patch, Some(ty))?),
        (_, Value::Null) => Ok(()),
        (_, other) => Err(Status::bad_request(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            described(&other)
        ))),
    }
}

/// The schema's view of one field; nothing is known of fields that the schema does not have.
#[derive(Clone, Copy)]
struct Place<'s> {
    ty: Option<Type<'s>>,
    field: Option<Field<'s>>,
}

impl<'s> Place<'s> {
    fn of(parent: Option<Type<'s>>, key: &str) -> Self {
        match parent {
            Some(ty) if ty.kind() == Kind::Map => Self { ty: ty.element(), field: None },
            Some(ty) => {
                let field = ty.field(key);
                Self { ty: field.map(|field| field.ty()), field }
            }
            None => Self { ty: None, field: None },
        }
    }

    fn strategy(self, name: &str) -> bool {
        let strategies = self.field.and_then(|field| field.patch_strategy()).unwrap_or_default();
        strategies.split(',').any(|strategy| strategy == name)
    }

    fn element(self) -> Option<Type<'s>> {
        self.ty.and_then(|ty| ty.element())
    }

    fn merge_key(self) -> Option<&'s str> {
        self.field.and_then(|field| field.patch_merge_key())
    }
}

fn merge_map(
    original: &mut Map<String, Value>,
    mut patch: Map<String, Value>,
    ty: Option<Type<'_>>,
) -> Result<(), PatchError> {
    match patch.get(DIRECTIVE).map(|directive| directive.as_str().unwrap_or_default()) {
        None => {}
        Some("replace") => {
            patch.remove(DIRECTIVE);
            *original = patch;
            return Ok(());
        }
        Some("delete") => {
            original.clear();
            return Ok(());
        }
        Some(other) => {
            return Err(PatchError::UnknownDirective(other.to_owned(), go_text(&Value::Object(patch.clone()))));
        }
    }
    retain_keys(original, &mut patch)?;
    set_element_order(original, &mut patch, ty)?;
    for (key, value) in patch {
        let (key, deleting) = match key.strip_prefix(DELETE_FROM_LIST) {
            Some(list) => (list.to_owned(), true),
            None if key.starts_with("$deleteFromPrimitiveList") => return Err(PatchError::PrimitiveListFormat),
            None => (key, false),
        };
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let place = Place::of(ty, &key);
        match (original.get_mut(&key), value) {
            (Some(Value::Object(original)), Value::Object(patch)) => {
                if place.strategy("replace") {
                    *original = patch;
                } else {
                    merge_map(original, patch, place.ty)?;
                }
            }
            (Some(Value::Array(original)), Value::Array(patch)) => {
                if deleting {
                    original.retain(|item| !patch.contains(item));
                } else if place.strategy("merge") {
                    let merging = Merging { key: place.merge_key(), element: place.element() };
                    *original = merging.merge(std::mem::take(original), patch)?;
                } else {
                    *original = patch;
                }
            }
            _ if deleting => {}
            (_, mut value) => {
                discard_nulls(&mut value);
                if remove_directives(&mut value) {
                    original.insert(key, value);
                } else {
                    original.remove(&key);
                }
            }
        }
    }
    Ok(())
}

/// `$retainKeys`: fields that it does not list are cleared.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), PatchError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keys) = keys else { return Err(PatchError::RetainKeysFormat) };
    let retained = |name: &str| keys.iter().any(|key| key.as_str() == Some(name));
    let listed = |(name, value): (&String, &Value)| {
        value.is_null() || name.starts_with(DELETE_FROM_LIST) || name.starts_with(SET_ELEMENT_ORDER) || retained(name)
    };
    if !patch.iter().all(listed) {
        return Err(PatchError::RetainKeysFormat);
    }
    original.retain(|name, _| retained(name));
    Ok(())
}

/// `$setElementOrder/<list>`: merges the list named and puts it in order; takes both out of the patch.
fn set_element_order(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    ty: Option<Type<'_>>,
) -> Result<(), PatchError> {
    let orders: Vec<String> = patch.keys().filter(|key| key.starts_with("$setElementOrder")).cloned().collect();
    for name in orders {
        let list = name.strip_prefix(SET_ELEMENT_ORDER).ok_or(PatchError::SetElementOrderFormat)?;
        let place = Place::of(ty, list);
        let merging = Merging { key: place.merge_key(), element: place.element() };
        let Some(Value::Array(order)) = patch.remove(&name) else {
            return Err(PatchError::Other("expected a []interface {}, but received another type".to_owned()));
        };
        let ours = match original.get_mut(list) {
            None | Some(Value::Null) => None,
            Some(Value::Array(items)) => Some(std::mem::take(items)),
            Some(_) => {
                return Err(PatchError::Other("expected a []interface {}, but received another type".to_owned()));
            }
        };
        let theirs = match patch.remove(list) {
            None => None,
            Some(Value::Array(items)) => Some(items),
            Some(_) => return Err(PatchError::SetElementOrderFormat),
        };
        merging.check_order(theirs.as_deref().unwrap_or_default(), &order)?;
        let before = ours.clone().unwrap_or_default();
        let merged = match (ours, theirs) {
            (None, None) => continue,
            (Some(ours), None) => ours,
            (None, Some(theirs)) => {
                let mut theirs = Value::Array(theirs);
                remove_directives(&mut theirs);
                match theirs {
                    Value::Array(items) => items,
                    _ => Vec::new(),
                }
            }
            (Some(ours), Some(theirs)) if place.strategy("merge") => merging.merge(ours, theirs)?,
            (Some(_), Some(theirs)) => theirs,
        };
        original.insert(list.to_owned(), Value::Array(merging.ordered(merged, &order, &before)?));
    }
    Ok(())
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// Whether the value is kept: maps with a directive are not.
fn remove_directives(value: &mut Value) -> bool {
    match value {
        Value::Object(map) => {
            if map.contains_key(DIRECTIVE) {
                return false;
            }
            map.retain(|_, value| remove_directives(value));
            true
        }
        Value::Array(items) => {
            items.retain_mut(remove_directives);
            true
        }
        _ => true,
    }
}

/// A tree as Go's `%v` prints it.
pub fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let fields: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", go_text(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
