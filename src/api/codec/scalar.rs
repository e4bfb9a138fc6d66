//! Canonical forms of scalars that JSON carries as text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::time;
use crate::quantity::Quantity;
use crate::schema::Kind;

/// The canonical form of a string for a kind that has one; an error is Go's text.
pub(super) fn from_text(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Bytes => Ok(Value::String(STANDARD.encode(bytes(text)?))),
        Kind::Quantity => match Quantity::parse(text.trim()) {
            Ok(quantity) => Ok(Value::String(quantity.to_string())),
            Err(error) => Err(error.to_string()),
        },
        Kind::Time | Kind::MicroTime => {
            let micro = kind == Kind::MicroTime;
            let Some((seconds, nanos)) = time::parse(text, micro)? else { return Ok(Value::Null) };
            if time::is_canonical(text, micro) {
                return Ok(Value::String(text.to_owned()));
            }
            let text = time::format(seconds, nanos, micro).ok_or("Time.MarshalJSON: year outside of range [0,9999]")?;
            Ok(Value::String(text))
        }
        Kind::Duration => time::parse_duration(text).map(|nanos| Value::String(time::format_duration(nanos))),
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Base64 as Go reads it: line ends are skipped.
pub(super) fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let decoded = if text.contains(['\r', '\n']) {
        STANDARD.decode(text.replace(['\r', '\n'], ""))
    } else {
        STANDARD.decode(text)
    };
    decoded.map_err(|error| match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => {
            format!("illegal base64 data at input byte {at}")
        }
        _ => format!("illegal base64 data at input byte {}", text.len()),
    })
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
