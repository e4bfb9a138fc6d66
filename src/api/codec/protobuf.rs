//! Kubernetes' protobuf: gogo-generated messages after the tables, in the `k8s\0` envelope.
//!
//! Upstream: apimachinery pkg/runtime/serializer/protobuf and the generated.pb.go files. Encoding is byte for byte
//! theirs: fields by number, scalars that are no pointers always written, map entries sorted.

use serde_json::{Map, Value};

use super::{DecodeError, EncodeError, TypeMeta};
use crate::schema::Type;

mod decode;
mod encode;

/// What every encoded object begins with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// Wire types.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// Encodes a normal tree with its envelope; kind and apiVersion are taken from the tree.
pub fn encode(ty: Type<'_>, value: &Value) -> Result<Vec<u8>, EncodeError> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let message = message(ty, value)?;
    let meta = TypeMeta { api_version: text("apiVersion").to_owned(), kind: text("kind").to_owned() };
    Ok(envelop(&meta, &message))
}

/// Encodes a normal tree as a bare message, as it stands within others.
pub fn message(ty: Type<'_>, value: &Value) -> Result<Vec<u8>, EncodeError> {
    let mut buffer = encode::Reverse::default();
    buffer.message(ty, value)?;
    Ok(buffer.finish())
}

/// Puts an encoded message into the envelope (runtime.Unknown).
pub fn envelop(meta: &TypeMeta, message: &[u8]) -> Vec<u8> {
    let mut buffer = encode::Reverse::default();
    buffer.bytes(4, b"");
    buffer.bytes(3, b"");
    buffer.bytes(2, message);
    let end = buffer.len();
    buffer.bytes(2, meta.kind.as_bytes());
    buffer.bytes(1, meta.api_version.as_bytes());
    buffer.close(1, end);
    buffer.raw(&MAGIC);
    buffer.finish()
}

/// Takes an envelope apart: the type and the message.
pub fn envelope(bytes: &[u8]) -> Result<(TypeMeta, &[u8]), DecodeError> {
    let body = bytes.strip_prefix(&MAGIC).ok_or_else(|| {
        DecodeError::Syntax(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]".to_owned(),
        )
    })?;
    let mut meta = TypeMeta::default();
    let mut message: &[u8] = &[];
    for entry in decode::Entries::new(body) {
        match entry? {
            (1, decode::Entry::Bytes(bytes)) => {
                for part in decode::Entries::new(bytes) {
                    match part? {
                        (1, decode::Entry::Bytes(text)) => {
                            meta.api_version = String::from_utf8_lossy(text).into_owned()
                        }
                        (2, decode::Entry::Bytes(text)) => meta.kind = String::from_utf8_lossy(text).into_owned(),
                        _ => {}
                    }
                }
            }
            (2, decode::Entry::Bytes(bytes)) => message = bytes,
            _ => {}
        }
    }
    Ok((meta, message))
}

/// Decodes an envelope into a normal tree; the caller has chosen the type by `envelope`.
pub fn decode(ty: Type<'_>, bytes: &[u8]) -> Result<Value, DecodeError> {
    let (meta, message) = envelope(bytes)?;
    let mut map = Map::new();
    decode::message(ty, message, &mut map, 0)?;
    for (name, text) in [("apiVersion", meta.api_version), ("kind", meta.kind)] {
        if !text.is_empty() && ty.field(name).is_some() {
            map.insert(name.to_owned(), Value::String(text));
        }
    }
    super::finish(ty, &mut map);
    Ok(Value::Object(map))
}
