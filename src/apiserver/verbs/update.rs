//! PUT of an object.

use coracle_api::{Resource, Status};
use http::{Request, Response, StatusCode};

use super::answer;
use super::create::writer;
use crate::body::Body;
use crate::call::{Call, read_body};
use crate::registry::metadata;
use crate::registry::strategy::Strategy;
use crate::registry::write::{Edit, Updated};
use crate::server::ApiServer;
use crate::{convert, decode};

pub async fn update(
    server: &ApiServer,
    call: &mut Call,
    resource: &Resource,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    put(server, call, resource, "", request).await
}

/// PUT of the object itself (`""`) or of its `status`, `finalize` or `approval`.
pub async fn put(
    server: &ApiServer,
    call: &mut Call,
    resource: &Resource,
    subresource: &str,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let dry_run = call.dry_run()?;
    let body = read_body(&mut request).await?;
    let tree = decode::resource(call, &body, resource)?;
    let tree = convert::store(resource, tree);
    let (namespace, name) = (call.info.namespace.clone(), call.info.name.clone());
    let namespace = if resource.namespaced { namespace } else { String::new() };
    let given = metadata::text(&tree, "name");
    if given != name {
        return Err(Status::bad_request(match given {
            "" => format!("the name of the object ({name} based on URL) was undeterminable: name must be provided"),
            given => format!("the name of the object ({given}) does not match the name on the URL ({name})"),
        }));
    }
    let create = subresource.is_empty() && Strategy::of(resource).create_on_update;
    let edit = Edit { namespace: &namespace, name: &name, subresource, create, whole: true };
    let mut writer = writer(server, call, dry_run);
    let mut first = Some(tree);
    let updated = writer
        .update(resource, &edit, &mut |_| match first.take() {
            Some(tree) => Ok(tree),
            // Another write came first, which is rare: reading the body again is cheaper than a copy each time.
            None => Ok(convert::store(resource, decode::resource(call, &body, resource)?)),
        })
        .await;
    call.warnings.append(&mut writer.warnings);
    respond(call, resource, &updated?)
}

pub fn respond(call: &Call, resource: &Resource, updated: &Updated) -> Result<Response<Body>, Status> {
    let code = if matches!(updated, Updated::Created(_)) { StatusCode::CREATED } else { StatusCode::OK };
    answer::object(call, resource, updated.object(), code)
}
