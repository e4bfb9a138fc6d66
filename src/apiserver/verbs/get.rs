//! GET of one object.

use coracle_api::{Resource, Status};
use http::{Response, StatusCode};

use super::answer;
use crate::body::Body;
use crate::call::Call;
use crate::server::ApiServer;

pub async fn get(server: &ApiServer, call: &Call, resource: &Resource) -> Result<Response<Body>, Status> {
    let object = server.inner.registry.find(resource, &call.info.namespace, &call.info.name).await?;
    answer::object(call, resource, &object, StatusCode::OK)
}
