//! Bytes to trees and back for the types of a schema: JSON, YAML and protobuf, by Go's rules.
//!
//! A decoded tree is normal: it holds exactly what upstream's server would print after decoding the same bytes
//! into its Go type (canonical scalars, no zero values of `omitempty` fields, every other zero value present).
//! Encoders take normal trees.

use serde_json::Value;

use crate::object::Encoding;
use crate::schema::{Schema, Type};

pub mod json;
mod lexer;
mod presence;
pub mod protobuf;
mod scalar;
mod time;
pub mod yaml;

pub use presence::{finish, zero};

/// The deepest nesting that is read. serde_json reads 127 levels, and an object may stand in a list or an event.
pub const MAX_DEPTH: usize = 120;

/// Why bytes are no object of their type. `Display` is upstream's text where upstream has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, YAML or protobuf at all.
    #[error("{0}")]
    Syntax(String),
    /// A value that its field cannot hold.
    #[error("{0}")]
    Type(String),
    #[error("exceeded max depth")]
    Depth,
}

/// A tree that an encoder cannot write: not a normal tree of the type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EncodeError(pub String);

/// What decoding gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// Breaches of strictness in upstream's words (`unknown field "spec.foo"`, `duplicate field "kind"`), at most
    /// 100. fieldValidation decides what becomes of them: Ignore drops them, Warn makes each a warning, Strict
    /// joins them with `, ` to an error `strict decoding error: ...`.
    pub strict: Vec<String>,
}

/// `apiVersion` and `kind` as the bytes say; empty where they say nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeMeta {
    pub api_version: String,
    pub kind: String,
}

impl TypeMeta {
    /// Group and version of `api_version`: `("apps", "v1")`, `("", "v1")`.
    pub fn group_version(&self) -> (&str, &str) {
        self.api_version.split_once('/').unwrap_or(("", &self.api_version))
    }
}

/// Reads only what the bytes say of their type.
pub fn type_meta(encoding: Encoding, bytes: &[u8]) -> Result<TypeMeta, DecodeError> {
    match encoding {
        Encoding::Json => json::type_meta(bytes),
        Encoding::Yaml => json::type_meta(&yaml::to_json(bytes)?.json),
        Encoding::Protobuf => protobuf::envelope(bytes).map(|(meta, _)| meta),
    }
}

/// Decodes bytes into a normal tree of a type.
pub fn decode(ty: Type<'_>, encoding: Encoding, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    match encoding {
        Encoding::Json => json::decode(ty, bytes),
        Encoding::Yaml => yaml::decode(ty, bytes),
        Encoding::Protobuf => Ok(Decoded { value: protobuf::decode(ty, bytes)?, strict: Vec::new() }),
    }
}

/// Encodes a normal tree.
pub fn encode(ty: Type<'_>, encoding: Encoding, value: &Value) -> Result<Vec<u8>, EncodeError> {
    match encoding {
        Encoding::Json => serde_json::to_vec(value).map_err(|error| EncodeError(error.to_string())),
        Encoding::Yaml => yaml::encode(value),
        Encoding::Protobuf => protobuf::encode(ty, value),
    }
}

/// Makes any tree normal for a type, as decoding does: after patches and other changes by hand.
pub fn normalise(ty: Type<'_>, value: &Value) -> Result<Decoded, DecodeError> {
    let bytes = serde_json::to_vec(value).map_err(|error| DecodeError::Syntax(error.to_string()))?;
    json::decode(ty, &bytes)
}

/// The type that bytes of a kind decode to.
pub fn type_of<'s>(schema: &'s Schema, meta: &TypeMeta) -> Option<Type<'s>> {
    let (group, version) = meta.group_version();
    schema.of_kind(group, version, &meta.kind)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod robustness;
