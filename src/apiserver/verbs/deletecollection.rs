//! DELETE of a collection: each chosen object, one after the other.

use coracle_api::{Resource, Status};
use http::{Request, Response};

use super::answer;
use super::create::writer;
use super::delete::{dry_run, options};
use super::list;
use super::options::ListOptions;
use crate::body::Body;
use crate::call::{Call, read_body};
use crate::server::ApiServer;

pub async fn delete_collection(
    server: &ApiServer,
    call: &mut Call,
    resource: &Resource,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let chosen = ListOptions::parse(call, resource)?;
    let body = read_body(&mut request).await?;
    let options = options(call, &body)?;
    options.validate()?;
    let dry_run = dry_run(call, &body, &options)?;
    let (items, meta) = list::page(&server.inner.registry, resource, &chosen).await?;
    let mut deleted = Vec::with_capacity(items.len());
    for object in items {
        let (namespace, name) = (object.meta().namespace.to_string(), object.meta().name.to_string());
        match writer(server, call, dry_run).delete(resource, &namespace, &name, &options).await {
            Ok(_) => deleted.push(object),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    answer::list(call, resource, deleted, &meta)
}
