//! PATCH in its four types: three change the current object by a document, apply merges an intent.
//!
//! Upstream: k8s.io/apiserver pkg/endpoints/handlers/patch.go.

use coracle_api::patch::{json, merge, strategic};
use coracle_api::schema::Type;
use coracle_api::{Causes, Resource, Status};
use http::{Request, Response, header};
use serde_json::Value;

use super::create::{facts, writer};
use super::update::respond;
use crate::body::Body;
use crate::call::{Call, read_body};
use crate::registry::ownership;
use crate::registry::write::Edit;
use crate::server::ApiServer;
use crate::{convert, decode};

pub async fn patch(
    server: &ApiServer,
    call: &mut Call,
    resource: &Resource,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    part(server, call, resource, "", request).await
}

/// PATCH of the object itself (`""`) or of its `status` or another part with the object's own type.
pub async fn part(
    server: &ApiServer,
    call: &mut Call,
    resource: &Resource,
    subresource: &str,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let dry_run = call.dry_run()?;
    let body = read_body(&mut request).await?;
    let change = Document::parse(call, &body)?;
    let namespace = if resource.namespaced { call.info.namespace.clone() } else { String::new() };
    let name = call.info.name.clone();
    let create = change.is_apply() && subresource.is_empty();
    let edit = Edit { namespace: &namespace, name: &name, subresource, create, whole: false };
    let facts = facts(call);
    let force = apply_options(call, &change)?;
    let mut writer = writer(server, call, dry_run);
    writer.applies = change.is_apply();
    let updated = writer
        .update(resource, &edit, &mut |old| {
            let tree = match &change {
                Document::Apply(applied) => {
                    let live = old.map(|old| convert::serve(resource, old.clone()));
                    ownership::apply(resource, subresource, live.as_ref(), applied, &facts, force)?
                }
                document => {
                    let Some(old) = old else { return Err(Status::not_found(resource, &name)) };
                    let mut tree = convert::serve(resource, old.clone());
                    document.apply(&mut tree, decode::type_of(resource)?)?;
                    tree
                }
            };
            let tree = decode::normalise(call, &tree, resource)?;
            Ok(convert::store(resource, tree))
        })
        .await;
    call.warnings.append(&mut writer.warnings);
    respond(call, resource, &updated?)
}

/// Whether apply takes fields from others; 422 for options that do not fit the patch's type.
fn apply_options(call: &Call, change: &Document) -> Result<bool, Status> {
    let mut causes = Causes::new();
    let force = call.query.optional_flag("force");
    if change.is_apply() {
        if call.query.get("fieldManager").is_none() {
            causes.required("fieldManager", "is required for apply patch");
        }
    } else if force.is_some() {
        causes.forbidden("force", "may not be specified for non-apply patch");
    }
    causes.into_result(("meta.k8s.io", "PatchOptions"), "")?;
    Ok(force.unwrap_or(false))
}

/// A patch, decoded once and applied as often as other writes come first.
pub enum Document {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    Apply(Value),
}

impl Document {
    pub fn parse(call: &Call, body: &[u8]) -> Result<Self, Status> {
        let content_type = call.header(header::CONTENT_TYPE);
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let json = || -> Result<Value, Status> {
            serde_json::from_slice(body).map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))
        };
        match media_type {
            "application/json-patch+json" => json().map(Document::Json),
            "application/merge-patch+json" => json().map(Document::Merge),
            "application/strategic-merge-patch+json" => json().map(Document::Strategic),
            "application/apply-patch+yaml" => {
                let text = std::str::from_utf8(body).map_err(|error| Status::bad_request(error.to_string()))?;
                let tree = serde_yaml::from_str(text)
                    .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
                Ok(Document::Apply(tree))
            }
            _ => {
                let mut status = Status::plain(415, "UnsupportedMediaType", "415: Unsupported Media Type");
                status.details = Some(Box::default());
                Err(status)
            }
        }
    }

    pub fn is_apply(&self) -> bool {
        matches!(self, Document::Apply(_))
    }

    /// Changes `tree` of type `ty`.
    pub fn apply(&self, tree: &mut Value, ty: Type<'_>) -> Result<(), Status> {
        match self {
            Document::Json(patch) => json::apply(tree, patch.clone()),
            Document::Merge(patch) => merge::apply(tree, patch.clone()),
            Document::Strategic(patch) => strategic::apply(tree, patch.clone(), ty),
            Document::Apply(_) => Err(Status::bad_request("apply is not supported here")),
        }
    }
}
