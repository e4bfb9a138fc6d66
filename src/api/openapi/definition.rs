//! The schema of one type.

use std::io::{self, Write};

use super::writer::Writer;
use super::{Dialect, GroupVersion, META};
use crate::schema::{Field, Kind, Merge, Type};

/// Scalars that have a definition of their own.
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";

/// Structs have definitions; named scalars, lists and maps stand where they are used.
pub(super) fn is_named(ty: Type<'_>) -> bool {
    ty.kind() == Kind::Struct
}

/// Kinds whose content the documents leave open.
pub(super) fn is_open(ty: Type<'_>) -> bool {
    matches!(ty.kind(), Kind::Any | Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStrings)
}

impl Dialect {
    pub(super) fn reference(self, name: &str) -> String {
        match self {
            Dialect::V2 => format!("#/definitions/{name}"),
            Dialect::V3 => format!("#/components/schemas/{name}"),
        }
    }
}

/// The definitions of scalars and of patches, as members of an open object.
pub(super) fn scalars<W: Write>(writer: &mut Writer<W>, dialect: Dialect) -> io::Result<()> {
    let (quantity, int_or_string) = match dialect {
        Dialect::V2 => (r#"{"type":"string"}"#, r#"{"type":"string","format":"int-or-string"}"#),
        Dialect::V3 => (
            r#"{"oneOf":[{"type":"string"},{"type":"number"}]}"#,
            r#"{"format":"int-or-string","oneOf":[{"type":"integer"},{"type":"string"}]}"#,
        ),
    };
    for (name, json) in [
        (QUANTITY, quantity),
        (INT_OR_STRING, int_or_string),
        (TIME, r#"{"type":"string","format":"date-time"}"#),
        (MICRO_TIME, r#"{"type":"string","format":"date-time"}"#),
    ] {
        writer.key(name)?;
        writer.raw(json)?;
    }
    writer.key(&format!("{META}Patch"))?;
    writer.raw(r#"{"type":"object"}"#)
}

/// A struct's definition as a member of an open object. `versions` are all that is served: the kinds of requests
/// (DeleteOptions, WatchEvent) belong to each of them.
pub(super) fn write<W: Write>(
    writer: &mut Writer<W>,
    dialect: Dialect,
    ty: Type<'_>,
    versions: &[GroupVersion<'_>],
) -> io::Result<()> {
    writer.key(ty.name())?;
    writer.object(|writer| {
        writer.field("type", "object")?;
        if ty.field_count() > 0 {
            writer.key("properties")?;
            writer.object(|writer| ty.fields().try_for_each(|field| property(writer, dialect, field)))?;
        }
        if ty.fields().any(Field::required) {
            writer.strings("required", ty.fields().filter(|field| field.required()).map(Field::name))?;
        }
        if ty.merge() == Merge::Atomic {
            writer.field("x-kubernetes-map-type", "atomic")?;
        }
        let Some((group, version, kind)) = ty.gvk() else { return Ok(()) };
        writer.key("x-kubernetes-group-version-kind")?;
        writer.array(|writer| {
            if matches!(kind, "DeleteOptions" | "WatchEvent") {
                return versions.iter().try_for_each(|(group, version)| gvk(writer, group, version, kind));
            }
            gvk(writer, group, version, kind)
        })
    })
}

pub(super) fn gvk<W: Write>(writer: &mut Writer<W>, group: &str, version: &str, kind: &str) -> io::Result<()> {
    writer.object(|writer| {
        writer.field("group", group)?;
        writer.field("kind", kind)?;
        writer.field("version", version)
    })
}

fn property<W: Write>(writer: &mut Writer<W>, dialect: Dialect, field: Field<'_>) -> io::Result<()> {
    writer.key(field.name())?;
    writer.object(|writer| {
        match definition_of(field.ty()) {
            // Siblings of a $ref are ignored in version 3: it goes one level down.
            Some(name) if dialect == Dialect::V3 => {
                writer.key("allOf")?;
                writer.array(|writer| writer.object(|writer| writer.field("$ref", &dialect.reference(name))))?;
            }
            _ => content(writer, dialect, field.ty())?,
        }
        if let Some(default) = field.default().filter(|_| dialect == Dialect::V3) {
            writer.key("default")?;
            writer.raw(default)?;
        }
        if field.merge_is_explicit() {
            let (extension, value) = match (field.ty().kind(), field.merge()) {
                (Kind::List, Merge::Associative) => ("x-kubernetes-list-type", "map"),
                (Kind::List, Merge::Set) => ("x-kubernetes-list-type", "set"),
                (Kind::List | Kind::Bytes, _) => ("x-kubernetes-list-type", "atomic"),
                (_, Merge::Atomic) => ("x-kubernetes-map-type", "atomic"),
                _ => ("x-kubernetes-map-type", "granular"),
            };
            if !field.list_keys().is_empty() {
                writer.strings("x-kubernetes-list-map-keys", field.list_keys())?;
            }
            writer.field(extension, value)?;
        }
        if let Some(key) = field.patch_merge_key() {
            writer.field("x-kubernetes-patch-merge-key", key)?;
        }
        if let Some(strategy) = field.patch_strategy() {
            writer.field("x-kubernetes-patch-strategy", strategy)?;
        }
        Ok(())
    })
}

/// The definition that stands for a type, if it has one.
fn definition_of(ty: Type<'_>) -> Option<&str> {
    match ty.kind() {
        Kind::Struct => Some(ty.name()),
        Kind::Quantity => Some(QUANTITY),
        Kind::IntOrString => Some(INT_OR_STRING),
        Kind::Time => Some(TIME),
        Kind::MicroTime => Some(MICRO_TIME),
        _ => None,
    }
}

/// The members of a type's schema where it is used.
fn content<W: Write>(writer: &mut Writer<W>, dialect: Dialect, ty: Type<'_>) -> io::Result<()> {
    if let Some(name) = definition_of(ty) {
        return writer.field("$ref", &dialect.reference(name));
    }
    let (name, format) = match ty.kind() {
        Kind::List => ("array", ""),
        Kind::Map => ("object", ""),
        Kind::Bytes => ("string", "byte"),
        Kind::Bool => ("boolean", ""),
        Kind::Int32 => ("integer", "int32"),
        Kind::Int64 => ("integer", "int64"),
        Kind::Uint32 | Kind::Uint64 => ("integer", ""),
        Kind::Float64 => ("number", "double"),
        _ if is_open(ty) => return Ok(()),
        _ => ("string", ""),
    };
    writer.field("type", name)?;
    if !format.is_empty() {
        writer.field("format", format)?;
    }
    if !ty.enum_values().is_empty() {
        writer.strings("enum", ty.enum_values())?;
    }
    if let Some(element) = ty.element() {
        writer.key(if ty.kind() == Kind::List { "items" } else { "additionalProperties" })?;
        writer.object(|writer| content(writer, dialect, element))?;
    }
    Ok(())
}
