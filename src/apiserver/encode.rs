//! From the JSON that is stored to the other encodings; those of objects are kept in the object's slot.

use bytes::{BufMut, Bytes, BytesMut};
use coracle_api::codec::protobuf::{MAGIC, message as encode_message};
use coracle_api::codec::{self, TypeMeta};
use coracle_api::object::Encoding;
use coracle_api::object::forms::{Form, FormKind};
use coracle_api::schema::{Schema, Type};
use coracle_api::{Object, Resource, Status};
use serde_json::{Value, json};

use crate::convert;
use crate::negotiate::MEDIA_TYPES;
use crate::registry::entry;
use crate::view::ListMeta;

/// `object` as canonical JSON of `resource`'s version; shared when it is the stored one.
pub fn json(resource: &Resource, object: &Object) -> Result<Bytes, Status> {
    if convert::is_stored(resource) {
        return Ok(object.json().clone());
    }
    object.form(Form { resource: resource.clone(), kind: FormKind::Json }, || {
        let tree = convert::serve(resource, object.decode()?);
        Ok(entry::frame_as(resource, &tree).spliced(object.revision()).to_vec().into())
    })
}

/// `object` as a protobuf message of `resource`'s version, without an envelope.
pub fn message(resource: &Resource, object: &Object) -> Result<Bytes, Status> {
    object.form(Form { resource: resource.clone(), kind: FormKind::Protobuf }, || {
        let tree: Value = serde_json::from_slice(&json(resource, object)?).map_err(Status::internal)?;
        let ty = resource.ty(Schema::builtin()).ok_or_else(no_protobuf)?;
        Ok(encode_message(ty, &tree).map_err(Status::internal)?.into())
    })
}

/// The first field of an object's message, which is its metadata: a message of PartialObjectMetadata.
pub fn metadata_field(message: &[u8]) -> &[u8] {
    let (mut length, mut at) = (0_usize, 1);
    for (index, &byte) in message.iter().skip(1).take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        at += 1;
        if byte < 0x80 {
            break;
        }
    }
    match message.first() {
        Some(&METADATA) => &message[..(at + length).min(message.len())],
        _ => &[],
    }
}

/// The key of field 1, length-delimited.
const METADATA: u8 = 1 << 3 | 2;

/// What stands before and behind the items of a list in protobuf, `size` bytes with their keys and lengths.
pub fn list_envelope(kind: &TypeMeta, meta: &ListMeta, size: usize) -> Result<(Vec<u8>, &'static [u8]), Status> {
    let mut tree = json!({ "resourceVersion": meta.revision.to_string() });
    if !meta.continue_token.is_empty() {
        tree["continue"] = json!(meta.continue_token);
    }
    if let Some(remaining) = meta.remaining {
        tree["remainingItemCount"] = json!(remaining);
    }
    let list_meta = meta_type("ListMeta").ok_or_else(no_protobuf)?;
    let list_meta = encode_message(list_meta, &tree).map_err(Status::internal)?;
    let mut type_meta = Vec::new();
    field(&mut type_meta, 1, kind.api_version.as_bytes());
    field(&mut type_meta, 2, kind.kind.as_bytes());
    let mut head = MAGIC.to_vec();
    field(&mut head, 1, &type_meta);
    head.push(2 << 3 | 2);
    varint(&mut head, field_length(list_meta.len()) + size);
    field(&mut head, 1, &list_meta);
    // The envelope's content encoding and type, both empty.
    Ok((head, &[3 << 3 | 2, 0, 4 << 3 | 2, 0]))
}

/// A whole document that is no object; its type is the one it says.
pub fn document(json: &Bytes, encoding: Encoding) -> Result<Bytes, Status> {
    if encoding == Encoding::Json {
        return Ok(json.clone());
    }
    let tree: Value = serde_json::from_slice(json).map_err(Status::internal)?;
    if encoding == Encoding::Yaml {
        return codec::yaml::encode(&tree).map(Bytes::from).map_err(Status::internal);
    }
    let text = |name: &str| tree[name].as_str().unwrap_or_default().to_owned();
    let meta = TypeMeta { api_version: text("apiVersion"), kind: text("kind") };
    let ty = codec::type_of(Schema::builtin(), &meta).or_else(|| meta_type(&meta.kind)).ok_or_else(no_protobuf)?;
    codec::encode(ty, encoding, &tree).map(Bytes::from).map_err(Status::internal)
}

fn no_protobuf() -> Status {
    Status::not_acceptable(&MEDIA_TYPES[..2])
}

/// Kinds that every group has.
fn meta_type(kind: &str) -> Option<Type<'static>> {
    Schema::builtin().find(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"))
}

/// One event of a watch around a whole document. JSON: a line. Protobuf: the length (four bytes, big-endian), then a WatchEvent
/// without envelope, in which the object stands with its own.
pub fn watch_event(kind: &str, document: &[u8], encoding: Encoding, frame: &mut BytesMut) {
    if encoding != Encoding::Protobuf {
        frame.reserve(document.len() + 40);
        frame.extend_from_slice(b"{\"type\":\"");
        frame.extend_from_slice(kind.as_bytes());
        frame.extend_from_slice(b"\",\"object\":");
        frame.extend_from_slice(document);
        frame.extend_from_slice(b"}\n");
        return;
    }
    let mut raw = Vec::with_capacity(document.len() + 8);
    field(&mut raw, 1, document);
    let mut event = Vec::with_capacity(raw.len() + 24);
    field(&mut event, 1, kind.as_bytes());
    field(&mut event, 2, &raw);
    frame.put_u32(event.len() as u32);
    frame.extend_from_slice(&event);
}

/// A length-delimited protobuf field.
pub fn field(text: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    text.push(number << 3 | 2);
    varint(text, bytes.len());
    text.extend_from_slice(bytes);
}

/// Bytes of a length-delimited field with its key.
pub fn field_length(length: usize) -> usize {
    let bits = usize::BITS - (length | 1).leading_zeros();
    1 + bits.div_ceil(7) as usize + length
}

fn varint(text: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        text.push(value as u8 | 0x80);
        value >>= 7;
    }
    text.push(value as u8);
}
