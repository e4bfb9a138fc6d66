//! DELETE of a collection: each chosen object by itself, some at a time.

use coracle_api::object::Meta;
use coracle_api::{Object, Resource, Status};
use futures::{StreamExt, TryStreamExt, stream};
use http::{Request, Response};

use super::answer;
use super::create::writer;
use super::delete::{dry_run, options};
use super::list;
use super::options::ListOptions;
use crate::body::Body;
use crate::call::{Call, read_body};
use crate::server::ApiServer;

/// Deletes in flight. They share commits, and leave room in each for the writes of others.
const AT_ONCE: usize = 32;

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
    let call: &Call = call;
    let deletes = items.into_iter().map(|object| {
        let options = &options;
        async move {
            let Meta { namespace, name, .. } = object.meta();
            match writer(server, call, dry_run).delete(resource, namespace, name, options).await {
                Ok(_) => Ok(Some(object)),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            }
        }
    });
    let deleted: Vec<Option<Object>> = stream::iter(deletes).buffered(AT_ONCE).try_collect().await?;
    answer::list(call, resource, deleted.into_iter().flatten().collect(), &meta)
}
