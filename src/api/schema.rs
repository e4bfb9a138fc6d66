//! The schema table: every type and field of the API level as offset-based data that is read in place.
//!
//! One table drives decoding, pruning, strict checks, defaulting, protobuf, strategic merge, server-side apply,
//! OpenAPI and explain. Types and fields are cursors into the bytes; nothing is unpacked.

/// A compiled table: the built-in one, or one made from a CRD's schema.
pub struct Schema {
    #[allow(dead_code)]
    bytes: &'static [u8],
}

/// What a field or list element holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Struct,
    /// String keys, values of `Type::element`.
    Map,
    /// Elements of `Type::element`.
    List,
    String,
    /// Base64 in JSON.
    Bytes,
    Bool,
    Int32,
    Int64,
    Float64,
    Quantity,
    IntOrString,
    /// RFC 3339, whole seconds.
    Time,
    MicroTime,
    Duration,
    /// RawExtension, FieldsV1, JSON: any tree, kept as it is.
    Any,
}

/// How Go holds a field, which decides what an absent or zero value becomes on decoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Presence {
    pub pointer: bool,
    pub omit_empty: bool,
    pub omit_zero: bool,
}

/// List and map semantics for server-side apply (x-kubernetes-list-type, -map-type).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Merge {
    /// Structs and maps: field by field. Lists: never.
    Granular,
    Atomic,
    /// Lists of scalars.
    Set,
    /// Lists of structs with keys, see `Field::list_keys`.
    Associative,
}
