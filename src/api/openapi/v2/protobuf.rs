//! The same document as gnostic's protobuf (`application/com.github.proto-openapi.spec.v2.v1.0+protobuf`), which kubectl
//! and client-go ask for.
//!
//! Upstream: github.com/google/gnostic-models openapiv2/OpenAPIv2.proto. Parts of one message may follow each other on
//! the wire, so each path and each definition is written as it comes, and no length of the whole is needed.

use std::io::{self, Write};

use serde_json::Value;

use super::super::writer::Writer;
use super::super::{Dialect, Served, definition, operation, path};

/// The content type of the answer; clients also ask for it with `@v1.0` in the place of `.v1.0`.
pub const CONTENT_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Document's fields.
const SWAGGER: u32 = 1;
const INFO: u32 = 2;
const PATHS: u32 = 8;
const DEFINITIONS: u32 = 9;

/// Writes the document: definitions in full, of the paths what clients look up (kinds, actions, media types, query
/// parameters).
pub fn document(served: Served<'_>, mut out: impl Write) -> io::Result<()> {
    let versions = served.group_versions();
    let mut head = Message::default();
    head.text(SWAGGER, "2.0");
    let mut info = Message::default();
    info.text(1, "Kubernetes");
    info.text(2, "v1.37.2");
    head.message(INFO, &info);
    out.write_all(&head.0)?;
    for resource in served.resources {
        for path in path::of(resource) {
            let members = members(|writer| operation::path(writer, Dialect::V2, served, resource, &path))?;
            write_part(&mut out, PATHS, 2, &members, path_item)?;
        }
    }
    for ty in served.types(None) {
        let members = members(|writer| definition::write(writer, Dialect::V2, ty, &versions))?;
        write_part(&mut out, DEFINITIONS, 1, &members, schema)?;
    }
    let members = members(|writer| definition::scalars(writer, Dialect::V2))?;
    write_part(&mut out, DEFINITIONS, 1, &members, schema)
}

/// The members that `write` puts into an object.
fn members(write: impl FnOnce(&mut Writer<&mut Vec<u8>>) -> io::Result<()>) -> io::Result<Value> {
    let mut text = Vec::new();
    Writer::new(&mut text).object(write)?;
    Ok(serde_json::from_slice(&text)?)
}

/// One part of a field of the document: named entries at number `entry` of its message.
fn write_part(
    out: &mut impl Write,
    field: u32,
    entry: u32,
    members: &Value,
    encode: fn(&Value) -> Message,
) -> io::Result<()> {
    for (name, value) in members.as_object().into_iter().flatten() {
        let mut part = Message::default();
        part.message(entry, &named(name, &encode(value)));
        let mut whole = Message::default();
        whole.message(field, &part);
        out.write_all(&whole.0)?;
    }
    Ok(())
}

/// NamedSchema, NamedPathItem, NamedAny: name and value.
fn named(name: &str, value: &Message) -> Message {
    let mut message = Message::default();
    message.text(1, name);
    message.message(2, value);
    message
}

/// gnostic's Any: YAML, of which JSON is a part.
fn open(value: &Value) -> Message {
    let mut message = Message::default();
    message.text(2, &value.to_string());
    message
}

fn schema(value: &Value) -> Message {
    let mut message = Message::default();
    for (key, value) in value.as_object().into_iter().flatten() {
        match key.as_str() {
            "$ref" => message.text(1, value.as_str().unwrap_or_default()),
            "format" => message.text(2, value.as_str().unwrap_or_default()),
            "required" => message.texts(19, value),
            "enum" => value.as_array().into_iter().flatten().for_each(|value| message.message(20, &open(value))),
            "additionalProperties" => message.message(21, &within(1, &schema(value))),
            "type" => {
                let mut kind = Message::default();
                kind.text(1, value.as_str().unwrap_or_default());
                message.message(22, &kind);
            }
            "items" => message.message(23, &within(1, &schema(value))),
            "properties" => {
                let mut properties = Message::default();
                for (name, value) in value.as_object().into_iter().flatten() {
                    properties.message(1, &named(name, &schema(value)));
                }
                message.message(25, &properties);
            }
            extension if extension.starts_with("x-") => message.message(31, &named(key, &open(value))),
            _ => {}
        }
    }
    message
}

fn path_item(value: &Value) -> Message {
    let mut message = Message::default();
    let methods = [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("options", 6), ("head", 7), ("patch", 8)];
    for (method, number) in methods {
        if let Some(value) = value.get(method) {
            message.message(number, &operation(value));
        }
    }
    message
}

fn operation(value: &Value) -> Message {
    let mut message = Message::default();
    message.texts(1, &value["tags"]);
    message.text(5, value["operationId"].as_str().unwrap_or_default());
    message.texts(6, &value["produces"]);
    message.texts(7, &value["consumes"]);
    for parameter in value["parameters"].as_array().into_iter().flatten().filter(|one| one["in"] == "query") {
        let mut query = Message::default();
        for (number, name) in [(2, "in"), (4, "name"), (6, "type")] {
            query.text(number, parameter[name].as_str().unwrap_or_default());
        }
        // ParametersItem.parameter, Parameter.non_body_parameter, NonBodyParameter.query_parameter_sub_schema.
        message.message(8, &within(1, &within(2, &within(3, &query))));
    }
    message.texts(10, &value["schemes"]);
    for name in ["x-kubernetes-action", "x-kubernetes-group-version-kind"] {
        message.message(13, &named(name, &open(&value[name])));
    }
    message
}

fn within(number: u32, inner: &Message) -> Message {
    let mut message = Message::default();
    message.message(number, inner);
    message
}

/// An encoded message.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn text(&mut self, number: u32, text: &str) {
        self.bytes(number, text.as_bytes());
    }

    fn texts(&mut self, number: u32, list: &Value) {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).for_each(|text| self.text(number, text));
    }

    fn message(&mut self, number: u32, message: &Message) {
        self.bytes(number, &message.0);
    }
}
