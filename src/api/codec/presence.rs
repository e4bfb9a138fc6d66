//! Which fields a normal tree holds: Go's omitempty and omitzero over pointers and values.

use serde_json::{Map, Value};

use crate::schema::{Field, Kind, Type};

/// What Go prints for the zero value of a type.
pub fn zero(ty: Type<'_>) -> Value {
    match ty.kind() {
        Kind::Struct => {
            let mut map = Map::new();
            finish(ty, &mut map);
            Value::Object(map)
        }
        Kind::String => Value::String(String::new()),
        Kind::Bool | Kind::SchemaOrBool => Value::Bool(false),
        Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Float64 | Kind::IntOrString => Value::from(0),
        Kind::Quantity => Value::from("0"),
        Kind::Duration => Value::from("0s"),
        Kind::Map
        | Kind::List
        | Kind::Bytes
        | Kind::Time
        | Kind::MicroTime
        | Kind::Any
        | Kind::SchemaOrArray
        | Kind::SchemaOrStrings => Value::Null,
    }
}

/// Adds the zero values that Go prints for the fields an object lacks.
pub fn finish(ty: Type<'_>, map: &mut Map<String, Value>) {
    for field in ty.fields() {
        if appears(field) && !map.contains_key(field.name()) {
            let value = if field.presence().pointer { Value::Null } else { zero(field.ty()) };
            map.insert(field.name().to_owned(), value);
        }
    }
}

/// Whether Go prints a field that was not set.
fn appears(field: Field<'_>) -> bool {
    let presence = field.presence();
    if presence.pointer {
        return !presence.omit_empty && !presence.omit_zero;
    }
    !presence.omit_zero && (!presence.omit_empty || is_struct(field.ty().kind()))
}

/// Whether Go leaves out a field that was set to this value; fields of features that are off go, whatever they hold.
pub(super) fn vanishes(field: Field<'_>, value: &Value) -> bool {
    if field.is_off() {
        return true;
    }
    let presence = field.presence();
    if value.is_null() {
        return presence.pointer || !appears(field);
    }
    if presence.pointer {
        return false;
    }
    presence.omit_empty && !is_struct(field.ty().kind()) && is_empty(value)
        || presence.omit_zero && *value == zero(field.ty())
}

/// Kinds that Go holds as a struct, which is never empty for omitempty.
fn is_struct(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Map
            | Kind::List
            | Kind::String
            | Kind::Bytes
            | Kind::Bool
            | Kind::Int32
            | Kind::Int64
            | Kind::Uint32
            | Kind::Uint64
            | Kind::Float64
    )
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
