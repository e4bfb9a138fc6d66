//! Answers that hold objects: one, a list of them, or a Status of success, in the form that the client accepts.

use bytes::Bytes;
use coracle_api::object::Encoding;
use coracle_api::status::Details;
use coracle_api::{Object, Resource, Status};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::body::Body;
use crate::call::Call;
use crate::negotiate::{self, Accepted, Form};
use crate::registry::entry;
use crate::{convert, table};

/// One answer is one buffer up to this size; above it goes out in pieces.
const WHOLE: usize = 1 << 20;
const PIECE: usize = 256 << 10;

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
        let mut text = format!("{{\"resourceVersion\":\"{}\"", self.revision);
        if !self.continue_token.is_empty() {
            text.push_str(&format!(",\"continue\":\"{}\"", self.continue_token));
        }
        if let Some(remaining) = self.remaining {
            text.push_str(&format!(",\"remainingItemCount\":{remaining}"));
        }
        text.push('}');
        text
    }
}

/// One object of `resource`, the version that the client asked for.
pub fn object(call: &Call, resource: &Resource, object: &Object, code: StatusCode) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(call.header(header::ACCEPT), true)?;
    let json = match accepted.form {
        Form::Object => convert::json(resource, object)?,
        Form::Metadata => metadata_object(object.json()),
        Form::Table => {
            let items = std::slice::from_ref(object);
            table::json(resource, items, &ListMeta { revision: object.revision(), ..ListMeta::default() }, call)?
        }
    };
    encoded(json, accepted, code)
}

/// A document that is no stored object: a review, a token, a Scale.
pub fn document(call: &Call, document: &Value, code: StatusCode) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(call.header(header::ACCEPT), false)
        .unwrap_or(Accepted { encoding: Encoding::Json, form: Form::Object });
    encoded(Bytes::from(document.to_string()), accepted, code)
}

/// Upstream's answer to a delete that left nothing.
pub fn deleted(call: &Call, resource: &Resource, object: &Object) -> Result<Response<Body>, Status> {
    let details = Details {
        name: object.meta().name.to_string(),
        group: resource.group.to_string(),
        kind: resource.plural.to_string(),
        uid: object.meta().uid.to_string(),
        ..Details::default()
    };
    document(call, &Status::success(None, Some(details)), StatusCode::OK)
}

/// A list; `items` are the chosen objects in their order.
pub fn list(call: &Call, resource: &Resource, items: Vec<Object>, meta: &ListMeta) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(call.header(header::ACCEPT), true)?;
    match accepted.form {
        Form::Table => return encoded(table::json(resource, &items, meta, call)?, accepted, StatusCode::OK),
        Form::Object if accepted.encoding == Encoding::Json => {}
        form => {
            let text = whole_list(resource, &items, meta, form)?;
            return encoded(Bytes::from(text), accepted, StatusCode::OK);
        }
    }
    let size: usize = items.iter().map(|object| object.json().len()).sum();
    if size <= WHOLE || !convert::is_stored(resource) {
        let text = whole_list(resource, &items, meta, Form::Object)?;
        return encoded(Bytes::from(text), accepted, StatusCode::OK);
    }
    let head = list_head(resource, meta, Form::Object);
    let mut items = items.into_iter();
    let mut piece = Some(head.into_bytes());
    let mut first = true;
    let pieces = std::iter::from_fn(move || {
        let mut buffer = piece.take()?;
        buffer.reserve(PIECE);
        while buffer.len() < PIECE {
            let Some(object) = items.next() else {
                buffer.extend_from_slice(b"]}");
                return Some(Ok(Bytes::from(buffer)));
            };
            if !std::mem::take(&mut first) {
                buffer.push(b',');
            }
            push_item(&mut buffer, object.json());
        }
        piece = Some(Vec::new());
        Some(Ok(Bytes::from(buffer)))
    });
    let mut response = Response::new(Body::Stream(Box::pin(futures::stream::iter(pieces))));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn list_head(resource: &Resource, meta: &ListMeta, form: Form) -> String {
    let (kind, version) = match form {
        Form::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
        _ => (resource.list_kind.to_string(), resource.api_version()),
    };
    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{},\"items\":[", meta.json())
}

fn whole_list(resource: &Resource, items: &[Object], meta: &ListMeta, form: Form) -> Result<Vec<u8>, Status> {
    let size: usize = items.iter().map(|object| object.json().len()).sum();
    let mut text = Vec::with_capacity(size + 256);
    text.extend_from_slice(list_head(resource, meta, form).as_bytes());
    for (index, object) in items.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        match form {
            Form::Metadata => text.extend_from_slice(&metadata_object(object.json())),
            _ => push_item(&mut text, &convert::json(resource, object)?),
        }
    }
    text.extend_from_slice(b"]}");
    Ok(text)
}

/// Items of typed lists carry no type of their own.
fn push_item(text: &mut Vec<u8>, json: &[u8]) {
    text.push(b'{');
    text.extend_from_slice(entry::item(json));
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

/// JSON bytes in the encoding that was asked for.
fn encoded(json: Bytes, accepted: Accepted, code: StatusCode) -> Result<Response<Body>, Status> {
    let body = match accepted.encoding {
        Encoding::Json => json,
        other => crate::encode::from_json(&json, other)?,
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = code;
    let media_type = HeaderValue::from_static(negotiate::media_type(accepted.encoding));
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    Ok(response)
}
