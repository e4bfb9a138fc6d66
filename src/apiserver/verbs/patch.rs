//! PATCH in its four types: three change the current object by a document, apply merges an intent.
//!
//! Upstream: k8s.io/apiserver pkg/endpoints/handlers/patch.go.

use coracle_api::codec::json::described;
use coracle_api::codec::yaml;
use coracle_api::patch::{json, merge, strategic};
use coracle_api::schema::Type;
use coracle_api::{Causes, Resource, Status, codec};
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
    let breaches = change.breaches(&body);
    // Duplicates do not hinder an apply, unless they shall.
    if change.is_apply() && !breaches.is_empty() {
        match call.query.get("fieldValidation") {
            Some("Ignore") => {}
            Some("Strict") => {
                let why = breaches.join(", ");
                return Err(Status::bad_request(format!(
                    "error strict decoding patch: error converting YAML to JSON: {why}"
                )));
            }
            _ => breaches.iter().for_each(|text| call.warn(format!("error converting YAML to JSON: {text}"))),
        }
    }
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
            let served = |old: &Value| convert::serve(resource, old.clone());
            let tree = match &change {
                Document::Apply(applied) => {
                    let live = old.map(served);
                    let tree = ownership::apply(resource, subresource, live.as_ref(), applied, &facts, force)?;
                    decode::normalise(&tree, resource)?
                }
                document => {
                    let Some(old) = old else { return Err(Status::not_found(resource, &name)) };
                    let mut tree = served(old);
                    document.apply(&mut tree, decode::type_of(resource)?)?;
                    decode::patched(call, &tree, resource, &breaches, |tree| document.shown(tree))?
                }
            };
            Ok(convert::store(resource, tree))
        })
        .await;
    call.warnings.append(&mut writer.warnings);
    respond(call, resource, &updated?)
}

/// Whether apply takes fields from others; 422 for options that do not fit the patch's type.
pub fn apply_options(call: &Call, change: &Document) -> Result<bool, Status> {
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
            serde_json::from_slice(body).map_err(|_| Status::bad_request("invalid JSON patch"))
        };
        match media_type {
            "application/json-patch+json" => json().map(Document::Json),
            "application/merge-patch+json" => json().map(Document::Merge),
            "application/strategic-merge-patch+json" => json().map(Document::Strategic),
            "application/apply-patch+yaml" => {
                // Clients send JSON mostly, which needs no YAML reader.
                if let Ok(tree @ Value::Object(_)) = serde_json::from_slice(body) {
                    return Ok(Document::Apply(tree));
                }
                let json = yaml::to_json(body)
                    .map_err(|error| Status::bad_request(format!("error encoding patch: {error}")))?
                    .json;
                let tree: Value = serde_json::from_slice(&json).map_err(Status::internal)?;
                if tree.is_object() || tree.is_null() {
                    return Ok(Document::Apply(tree));
                }
                Err(Status::bad_request(format!(
                    "error decoding patch: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into \
                     Go value of type map[string]interface {{}}",
                    described(&tree)
                )))
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

    /// What is wrong with the document but does not hinder it: keys that stand twice, and unknown ones of operations.
    pub fn breaches(&self, body: &[u8]) -> Vec<String> {
        const OPERATION: [&str; 4] = ["op", "path", "from", "value"];
        match self {
            Document::Json(_) => {
                let breaches = codec::json::breaches(body, Some(&OPERATION)).unwrap_or_default();
                breaches.into_iter().map(|breach| format!("json patch {breach}")).collect()
            }
            Document::Merge(_) | Document::Strategic(_) => codec::json::breaches(body, None).unwrap_or_default(),
            Document::Apply(_) => {
                yaml::to_json(body).ok().and_then(|converted| converted.duplicate).into_iter().collect()
            }
        }
    }

    /// What a refusal of the patched `tree` shows.
    fn shown(&self, tree: &Value) -> String {
        match self {
            Document::Strategic(patch) => strategic::go_text(patch),
            _ => tree.to_string(),
        }
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
