//! DELETE of an object: options from the body or the query.

use bytes::Bytes;
use coracle_api::{Resource, Status};
use http::{Request, Response, StatusCode};
use serde::Deserialize;

use super::answer;
use super::create::writer;
use crate::body::Body;
use crate::call::{Call, read_body};
use crate::decode;
use crate::registry::strategy::Strategy;
use crate::registry::write::delete::{DeleteOptions, Deleted, Preconditions};
use crate::server::ApiServer;

pub async fn delete(
    server: &ApiServer,
    call: &mut Call,
    resource: &Resource,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let body = read_body(&mut request).await?;
    let options = options(call, &body)?;
    let dry_run = dry_run(call, &body, &options)?;
    let (namespace, name) = (call.info.namespace.clone(), call.info.name.clone());
    let namespace = if resource.namespaced { namespace } else { String::new() };
    let deleted = writer(server, call, dry_run).delete(resource, &namespace, &name, &options).await?;
    match deleted {
        Deleted::Marked(object) => answer::object(call, resource, &object, StatusCode::OK),
        Deleted::Gone(object) if Strategy::of(resource).returns_deleted => {
            answer::object(call, resource, &object, StatusCode::OK)
        }
        Deleted::Gone(object) => answer::deleted(call, resource, &object),
    }
}

/// The query says nothing where there is a body.
pub fn dry_run(call: &Call, body: &Bytes, options: &DeleteOptions) -> Result<bool, Status> {
    if body.is_empty() { call.dry_run() } else { Ok(!options.dry_run.is_empty()) }
}

/// DeleteOptions of the body, or of the query when there is no body.
pub fn options(call: &Call, body: &Bytes) -> Result<DeleteOptions, Status> {
    if !body.is_empty() {
        let tree = decode::delete_options(call, body)?;
        return DeleteOptions::deserialize(&tree).map_err(|error| Status::bad_request(error.to_string()));
    }
    let query = &call.query;
    let text = |name: &str| query.get(name).map(str::to_owned);
    let preconditions =
        Preconditions { uid: text("preconditions.uid"), resource_version: text("preconditions.resourceVersion") };
    Ok(DeleteOptions {
        grace_period_seconds: query.number("gracePeriodSeconds")?,
        orphan_dependents: query.optional_flag("orphanDependents"),
        propagation_policy: text("propagationPolicy"),
        preconditions: (preconditions != Preconditions::default()).then_some(preconditions),
        dry_run: Vec::new(),
    })
}
