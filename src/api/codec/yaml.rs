//! YAML by way of JSON, as upstream does it.
//!
//! Upstream: sigs.k8s.io/yaml YAMLToJSON. Aliases, nesting and size are bounded by the parser's budget
//! (64 levels: its frames are large, and a worker's stack is 2 MiB).

use serde_json::Value;
use serde_yaml::{DuplicateKeyPolicy, Options};

use super::{DecodeError, Decoded, EncodeError};
use crate::schema::Type;

/// YAML made JSON.
pub struct Converted {
    pub json: Vec<u8>,
    /// The parser's text on keys that stand twice in a mapping; the last one counts.
    pub duplicate: Option<String>,
}

/// The first document as JSON.
pub fn to_json(bytes: &[u8]) -> Result<Converted, DecodeError> {
    let (value, duplicate) = match parse(bytes, DuplicateKeyPolicy::Error) {
        Ok(value) => (value, None),
        // Read again: either the error is of another kind and comes again, or it was about a duplicate.
        Err(first) => (parse(bytes, DuplicateKeyPolicy::LastWins).map_err(syntax)?, Some(first)),
    };
    let json = serde_json::to_vec(&value).map_err(|error| syntax(error.to_string()))?;
    Ok(Converted { json, duplicate })
}

fn parse(bytes: &[u8], duplicate_keys: DuplicateKeyPolicy) -> Result<Value, String> {
    let options: Options = serde_yaml::options! {
        duplicate_keys: duplicate_keys,
        legacy_octal_numbers: true,
    };
    serde_yaml::from_slice_with_options(bytes, options).map_err(|error| error.to_string())
}

fn syntax(text: String) -> DecodeError {
    DecodeError::Syntax(format!("yaml: {text}"))
}

/// Decodes an object of a type.
pub fn decode(ty: Type<'_>, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let converted = to_json(bytes)?;
    let mut decoded = super::json::decode(ty, &converted.json)?;
    if let Some(text) = converted.duplicate {
        decoded.strict.insert(0, format!("yaml: unmarshal errors:\n  {text}"));
    }
    Ok(decoded)
}

/// YAML with sorted keys.
pub fn encode(value: &Value) -> Result<Vec<u8>, EncodeError> {
    serde_yaml::to_string(value).map(String::into_bytes).map_err(|error| EncodeError(error.to_string()))
}
