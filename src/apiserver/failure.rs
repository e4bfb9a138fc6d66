//! The one place that makes an HTTP answer of a `Status`, and the failures that only the API server has.

use bytes::Bytes;
use coracle_api::Status;
use coracle_api::object::Encoding;
use coracle_api::status::{Cause, Details};
use http::{HeaderValue, Response, StatusCode, header};

use crate::body::Body;
use crate::{encode, negotiate};

/// The answer for a failed request, in an encoding that its Accept header takes, or in JSON.
pub fn response(status: &Status, accept: &str) -> Response<Body> {
    let json = Bytes::from(serde_json::to_vec(status).unwrap_or_default());
    let encoding = negotiate::accepted(accept, true).map_or(Encoding::Json, |accepted| accepted.encoding);
    let (encoding, body) =
        encode::document(&json, encoding).map_or_else(|_| (Encoding::Json, json.clone()), |body| (encoding, body));
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(negotiate::media_type(encoding)));
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if seconds > 0 {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// What upstream's outermost handler says to paths outside of the API: no Status.
pub fn no_such_page() -> Response<Body> {
    let mut response = Response::new(Body::from("404 page not found\n"));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The method has no meaning on this path.
pub fn method_not_allowed() -> Status {
    let mut status =
        Status::plain(405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
    status.details = Some(Box::default());
    status
}

/// 504: a revision that does not exist yet. Upstream: storage.NewTooLargeResourceVersionError.
pub fn too_large_revision(asked: u64, current: u64) -> Status {
    let cause = Cause {
        reason: "ResourceVersionTooLarge".to_owned(),
        message: "Too large resource version".to_owned(),
        ..Cause::default()
    };
    let mut status = Status::timeout(format!("Too large resource version: {asked}, current: {current}"), 1);
    status.details = Some(Box::new(Details { causes: vec![cause], retry_after_seconds: 1, ..Details::default() }));
    status
}

/// The catalog names a type that the schema table does not have.
pub fn no_schema() -> Status {
    Status::internal("the schema table does not have the resource's type")
}
