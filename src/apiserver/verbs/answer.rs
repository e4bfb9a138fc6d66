//! Answers that hold objects: one, a list of them, or a Status of success, in the form that the client accepts.

use bytes::Bytes;
use coracle_api::object::Encoding;
use coracle_api::status::Details;
use coracle_api::{Object, Resource, Status};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::body::Body;
use crate::call::Call;
use crate::encode;
use crate::negotiate;
use crate::view::{ListMeta, View};

/// One object of `resource`, the version that the client asked for.
pub fn object(call: &Call, resource: &Resource, object: &Object, code: StatusCode) -> Result<Response<Body>, Status> {
    let view = View::of(call, resource, false)?;
    Ok(response(view.document(object, true)?.into(), view.accepted.encoding, code))
}

/// A list; `items` are the chosen objects in their order.
pub fn list(call: &Call, resource: &Resource, items: Vec<Object>, meta: &ListMeta) -> Result<Response<Body>, Status> {
    let view = View::of(call, resource, true)?;
    Ok(response(view.list(items, meta)?, view.accepted.encoding, StatusCode::OK))
}

/// A document that is no stored object: a review, a token. 406 for a client that wants it in another form only.
pub fn document(call: &Call, document: &Value, code: StatusCode) -> Result<Response<Body>, Status> {
    let encoding = negotiate::accepted(call.header(header::ACCEPT), false)?.encoding;
    let bytes = encode::document(&Bytes::from(document.to_string()), encoding)?;
    Ok(response(bytes.into(), encoding, code))
}

/// A Status that says what was done: it has no other form.
pub fn done(call: &Call, status: &Value, code: StatusCode) -> Result<Response<Body>, Status> {
    let encoding = negotiate::accepted(call.header(header::ACCEPT), true)?.encoding;
    Ok(response(encode::document(&Bytes::from(status.to_string()), encoding)?.into(), encoding, code))
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
    done(call, &Status::success(None, Some(details)), StatusCode::OK)
}

fn response(body: Body, encoding: Encoding, code: StatusCode) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let media_type = HeaderValue::from_static(negotiate::media_type(encoding));
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}
