//! Whether an applied tree is one of its type.

use serde_json::Value;

use super::{Shape, Slot};
use crate::field_set::{Element, path_text};
use crate::schema::{Kind, Merge, Type};

/// The error says what does not fit, in upstream's words.
pub(in crate::managed_fields) fn check(tree: &Value, ty: Type<'_>) -> Result<(), String> {
    let mut errors = Vec::new();
    check_at(tree, Slot::root(ty), "", &mut errors);
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(format!("errors:\n  {}", errors.join("\n  "))),
    }
}

fn check_at(value: &Value, slot: Slot<'_>, path: &str, errors: &mut Vec<String>) {
    let Some(kind) = slot.ty.map(|ty| ty.kind()).filter(|_| !value.is_null()) else { return };
    let mut refuse = |message: String| {
        errors.push(if path.is_empty() { message } else { format!("{path}: {message}") });
    };
    match (kind, value) {
        (Kind::Struct | Kind::Map, Value::Object(fields)) => {
            for (key, value) in fields {
                let child = slot.child(key);
                let path = format!("{path}.{key}");
                if kind == Kind::Struct && child.field.is_none() {
                    errors.push(format!("{path}: field not declared in schema"));
                    return;
                }
                check_at(value, child, &path, errors);
            }
        }
        (Kind::Struct | Kind::Map, _) => refuse(format!("expected map, got &{{{}}}", go_text(value))),
        (Kind::List, Value::Array(items)) => check_items(items, slot, path, errors),
        (Kind::List, _) => refuse(format!("expected list, got &{{{}}}", go_text(value))),
        (Kind::String | Kind::Bytes, value) if !value.is_string() => {
            refuse(format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_text(value)));
        }
        (Kind::Bool, value) if !value.is_boolean() => refuse(format!("expected boolean, got &{{{}}}", go_text(value))),
        (Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Float64, value) if !value.is_number() => {
            refuse(format!("expected numeric (int or float), got {}", go_type(value)));
        }
        (Kind::Quantity | Kind::IntOrString | Kind::Time | Kind::MicroTime | Kind::Duration, value)
            if value.is_object() || value.is_array() =>
        {
            refuse(format!("expected any scalar, got &{{{}}}", go_text(value)));
        }
        _ => {}
    }
}

fn check_items(items: &[Value], slot: Slot<'_>, path: &str, errors: &mut Vec<String>) {
    let keyed = slot.shape() == Shape::List && matches!(slot.merge, Merge::Set | Merge::Associative);
    let mut seen: Vec<Element> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let element = match slot.item(item) {
            _ if !keyed => Element::Index(i64::try_from(index).unwrap_or(i64::MAX)),
            Ok(element) => element,
            Err(message) => {
                errors.push(format!("{path}: element {index}: {message}"));
                return;
            }
        };
        let text = path_text(std::slice::from_ref(&element));
        if seen.contains(&element) {
            errors.push(format!("{path}: duplicate entries for key {text}"));
        }
        seen.push(element);
        check_at(item, slot.element(), &format!("{path}{text}"), errors);
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Array(_) => "[]interface {}",
        _ => "map[string]interface {}",
    }
}

fn go_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
