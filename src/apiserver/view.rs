//! The form in which a client sees the objects of a resource: version, encoding, and what a Table or PartialObjectMetadata leaves of them.

use bytes::Bytes;
use coracle_api::codec::TypeMeta;
use coracle_api::codec::protobuf::envelop;
use coracle_api::object::Encoding;
use coracle_api::{Object, Resource, Status, columns};
use http::header;
use serde_json::Value;

use crate::body::Body;
use crate::call::Call;
use crate::encode;
use crate::negotiate::{self, Accepted, Form};
use crate::registry::entry;
use crate::table::{self, Include};

/// One answer is one buffer up to this size; above it goes out in pieces.
const WHOLE: usize = 1 << 20;
const PIECE: usize = 256 << 10;

const META: &str = "meta.k8s.io/v1";

#[derive(Clone, PartialEq, Debug)]
pub struct View {
    pub resource: Resource,
    pub accepted: Accepted,
    pub include: Include,
}

/// What a list says besides its items.
#[derive(Debug, Clone, Default)]
pub struct ListMeta {
    pub revision: u64,
    pub continue_token: String,
    pub remaining: Option<usize>,
}

impl ListMeta {
    /// As `metadata` of the list.
    pub fn json(&self) -> String {
        let mut fields = Vec::new();
        if self.revision > 0 {
            fields.push(format!("\"resourceVersion\":\"{}\"", self.revision));
        }
        if !self.continue_token.is_empty() {
            fields.push(format!("\"continue\":\"{}\"", self.continue_token));
        }
        if let Some(remaining) = self.remaining {
            fields.push(format!("\"remainingItemCount\":{remaining}"));
        }
        format!("{{{}}}", fields.join(","))
    }
}

impl View {
    /// What `call` accepts; 406 for forms that make no sense of one object, or of a list.
    pub fn of(call: &Call, resource: &Resource, is_list: bool) -> Result<Self, Status> {
        let accepted = negotiate::accepted(call.header(header::ACCEPT), true)?;
        let package = resource.group.split('.').next().filter(|group| !group.is_empty()).unwrap_or("core");
        let kind = if is_list { &resource.list_kind } else { &resource.kind };
        match accepted.form {
            Form::MetadataList if !is_list => Err(Status::plain(
                406,
                "NotAcceptable",
                format!(
                    "you requested PartialObjectMetadataList, but the requested object is not a list (*{package}.{kind})"
                ),
            )),
            Form::Metadata if is_list && call.info.verb != "watch" => Err(Status::plain(
                406,
                "NotAcceptable",
                format!("you requested PartialObjectMetadata, but the requested object is a list (*{package}.{kind})"),
            )),
            Form::Table => Ok(Self { resource: resource.clone(), accepted, include: Include::parse(call)? }),
            _ => Ok(Self { resource: resource.clone(), accepted, include: Include::Metadata }),
        }
    }

    /// One object as a document of its own. `columns` says whether a Table comes with their definitions.
    pub fn document(&self, object: &Object, columns: bool) -> Result<Bytes, Status> {
        let encoding = self.accepted.encoding;
        let json = match self.accepted.form {
            Form::Object if encoding == Encoding::Protobuf => {
                return Ok(envelop(&self.type_meta(), &encode::message(&self.resource, object)?).into());
            }
            Form::Metadata | Form::MetadataList if encoding == Encoding::Protobuf => {
                let message = encode::message(&self.resource, object)?;
                return Ok(envelop(&self.type_meta(), encode::metadata_field(&message)).into());
            }
            Form::Object => encode::json(&self.resource, object)?,
            Form::Metadata | Form::MetadataList => metadata_object(object.json()),
            Form::Table => {
                let meta = ListMeta { revision: object.revision(), ..ListMeta::default() };
                let definitions = if columns { columns::definitions(&self.resource) } else { Value::Null };
                let mut text = table::head(&meta, &definitions).into_bytes();
                table::push_row(&mut text, &self.resource, object, self.include)?;
                text.extend_from_slice(b"]}");
                text.into()
            }
        };
        encode::document(&json, encoding)
    }

    /// A list of the chosen objects in their order.
    pub fn list(&self, items: Vec<Object>, meta: &ListMeta) -> Result<Body, Status> {
        let encoding = self.accepted.encoding;
        let kind = self.list_type_meta();
        let head = match self.accepted.form {
            Form::Table if items.is_empty() => {
                let definitions = columns::definitions(&self.resource);
                let head = table::head(meta, &definitions);
                let text = match columns::lists_no_rows(&self.resource) {
                    true => format!("{head}]}}"),
                    false => format!("{}null}}", head.trim_end_matches('[')),
                };
                return encode::document(&text.into(), encoding).map(Body::from);
            }
            Form::Table => table::head(meta, &columns::definitions(&self.resource)),
            _ if encoding == Encoding::Protobuf => return self.protobuf_list(&kind, items, meta),
            _ => format!(
                "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{},\"items\":[",
                kind.kind,
                kind.api_version,
                meta.json()
            ),
        };
        let size = items.iter().map(|object| object.json().len()).sum();
        let view = self.clone();
        let mut first = true;
        let push = move |text: &mut Vec<u8>, object: &Object| {
            if !std::mem::take(&mut first) {
                text.push(b',');
            }
            view.push_item(text, object)
        };
        if encoding == Encoding::Json {
            return pieces(head.into_bytes(), items, size, push, b"]}");
        }
        let mut push = push;
        let mut text = head.into_bytes();
        for object in &items {
            push(&mut text, object)?;
        }
        text.extend_from_slice(b"]}");
        encode::document(&text.into(), encoding).map(Body::from)
    }

    fn push_item(&self, text: &mut Vec<u8>, object: &Object) -> Result<(), Status> {
        match self.accepted.form {
            Form::Table => table::push_row(text, &self.resource, object, self.include)?,
            Form::Metadata | Form::MetadataList => text.extend_from_slice(&metadata_object(object.json())),
            Form::Object => {
                // Items of typed lists carry no type of their own.
                text.push(b'{');
                text.extend_from_slice(entry::item(&encode::json(&self.resource, object)?));
            }
        }
        Ok(())
    }

    /// Lengths come before what they measure, so all messages are there before the first goes out.
    fn protobuf_list(&self, kind: &TypeMeta, items: Vec<Object>, meta: &ListMeta) -> Result<Body, Status> {
        let metadata_only = self.accepted.form != Form::Object;
        let message = |object: &Object| {
            let message = encode::message(&self.resource, object)?;
            Ok(if metadata_only { message.slice_ref(encode::metadata_field(&message)) } else { message })
        };
        let messages: Vec<Bytes> = items.iter().map(message).collect::<Result<_, Status>>()?;
        let size = messages.iter().map(|message| encode::field_length(message.len())).sum();
        let (head, tail) = encode::list_envelope(kind, meta, size)?;
        let push = |text: &mut Vec<u8>, message: &Bytes| {
            encode::field(text, 2, message);
            Ok(())
        };
        pieces(head, messages, size, push, tail)
    }

    fn type_meta(&self) -> TypeMeta {
        match self.accepted.form {
            Form::Object => TypeMeta { api_version: self.resource.api_version(), kind: self.resource.kind.to_string() },
            _ => TypeMeta { api_version: META.to_owned(), kind: "PartialObjectMetadata".to_owned() },
        }
    }

    fn list_type_meta(&self) -> TypeMeta {
        match self.accepted.form {
            Form::Object => {
                TypeMeta { api_version: self.resource.api_version(), kind: self.resource.list_kind.to_string() }
            }
            _ => TypeMeta { api_version: META.to_owned(), kind: "PartialObjectMetadataList".to_owned() },
        }
    }
}

/// `head`, what `push` writes of each item, and `tail`: in one buffer, or in pieces that are made as they are sent. `size` estimates
/// all items.
fn pieces<T: Send + 'static>(
    head: Vec<u8>,
    items: Vec<T>,
    size: usize,
    mut push: impl FnMut(&mut Vec<u8>, &T) -> Result<(), Status> + Send + 'static,
    tail: &'static [u8],
) -> Result<Body, Status> {
    if size <= WHOLE {
        let mut text = head;
        text.reserve(size + tail.len());
        for item in &items {
            push(&mut text, item)?;
        }
        text.extend_from_slice(tail);
        return Ok(text.into());
    }
    let mut items = items.into_iter();
    let mut piece = Some(head);
    let pieces = std::iter::from_fn(move || {
        let mut buffer = piece.take()?;
        buffer.reserve(PIECE);
        while buffer.len() < PIECE {
            let Some(item) = items.next() else {
                buffer.extend_from_slice(tail);
                return Some(Ok(Bytes::from(buffer)));
            };
            if let Err(status) = push(&mut buffer, &item) {
                return Some(Err(status.into()));
            }
        }
        piece = Some(Vec::new());
        Some(Ok(Bytes::from(buffer)))
    });
    Ok(Body::Stream(Box::pin(futures::stream::iter(pieces))))
}

/// PartialObjectMetadata of canonical bytes.
pub fn metadata_object(json: &[u8]) -> Bytes {
    let metadata = entry::metadata(json);
    let mut text = Vec::with_capacity(metadata.len() + 80);
    text.extend_from_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":");
    text.extend_from_slice(metadata);
    text.push(b'}');
    Bytes::from(text)
}
