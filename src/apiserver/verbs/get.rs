//! GET of one object.

use coracle_api::{Resource, Status};
use http::{Response, StatusCode};

use super::answer;
use super::options;
use crate::body::Body;
use crate::call::Call;
use crate::failure;
use crate::server::ApiServer;
use crate::view::View;

pub async fn get(server: &ApiServer, call: &Call, resource: &Resource) -> Result<Response<Body>, Status> {
    View::of(call, resource, false)?;
    let registry = &server.inner.registry;
    let revision = options::revision(call).map_err(|why| Status::plain(500, "", why))?;
    if let Some(asked) = revision.filter(|&asked| asked > registry.store().revision()) {
        return Err(failure::too_large_revision(asked, registry.store().revision()));
    }
    let object = registry.find(resource, &call.info.namespace, &call.info.name).await?;
    answer::object(call, resource, &object, StatusCode::OK)
}
