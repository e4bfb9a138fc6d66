//! `/openapi/v2` and `/openapi/v3`: the schema tables as documents.

use coracle_api::Status;
use http::Response;

use crate::body::Body;
use crate::call::Call;
use crate::failure;

pub fn answer(_call: &Call, _parts: &[&str]) -> Result<Response<Body>, Status> {
    Ok(failure::no_such_page())
}
