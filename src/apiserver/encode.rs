//! From the JSON that is stored to the other encodings.

use bytes::{BufMut, Bytes, BytesMut};
use coracle_api::Status;
use coracle_api::codec::{self, TypeMeta};
use coracle_api::object::Encoding;
use coracle_api::schema::Schema;
use serde_json::Value;

use crate::negotiate::MEDIA_TYPES;

/// A whole document; its type is the one it says.
pub fn from_json(json: &Bytes, encoding: Encoding) -> Result<Bytes, Status> {
    if encoding == Encoding::Json {
        return Ok(json.clone());
    }
    let tree: Value = serde_json::from_slice(json).map_err(Status::internal)?;
    encode(&tree, encoding).map(Bytes::from)
}

fn encode(tree: &Value, encoding: Encoding) -> Result<Vec<u8>, Status> {
    if encoding == Encoding::Yaml {
        return codec::yaml::encode(tree).map_err(Status::internal);
    }
    let text = |name: &str| tree[name].as_str().unwrap_or_default().to_owned();
    let meta = TypeMeta { api_version: text("apiVersion"), kind: text("kind") };
    let ty = codec::type_of(Schema::builtin(), &meta).or_else(|| meta_type(&meta.kind));
    let Some(ty) = ty else { return Err(Status::not_acceptable(&MEDIA_TYPES[..2])) };
    codec::encode(ty, encoding, tree).map_err(Status::internal)
}

/// Kinds that every group has.
fn meta_type(kind: &str) -> Option<coracle_api::schema::Type<'static>> {
    Schema::builtin().find(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"))
}

/// One event of a watch whose stream is not JSON. Protobuf: the length (four bytes, big-endian), then a WatchEvent without
/// envelope, in which the object stands with its own.
pub fn watch_event(kind: &str, json: &[u8], encoding: Encoding, frame: &mut BytesMut) {
    let object: Value = serde_json::from_slice(json).unwrap_or_default();
    match encoding {
        Encoding::Json => {}
        Encoding::Yaml => {
            let event = serde_json::json!({ "type": kind, "object": object });
            frame.extend_from_slice(b"---\n");
            frame.extend_from_slice(&codec::yaml::encode(&event).unwrap_or_default());
        }
        Encoding::Protobuf => {
            let object = encode(&object, encoding).unwrap_or_else(|status| {
                let document = serde_json::to_value(&status).unwrap_or_default();
                encode(&document, encoding).unwrap_or_default()
            });
            let mut raw = Vec::with_capacity(object.len() + 8);
            field(&mut raw, 1, &object);
            let mut event = Vec::with_capacity(raw.len() + 24);
            field(&mut event, 1, kind.as_bytes());
            field(&mut event, 2, &raw);
            frame.put_u32(event.len() as u32);
            frame.extend_from_slice(&event);
        }
    }
}

/// A length-delimited protobuf field.
fn field(text: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    text.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        text.push(length as u8 | 0x80);
        length >>= 7;
    }
    text.push(length as u8);
    text.extend_from_slice(bytes);
}
