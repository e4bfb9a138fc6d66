//! Who set which fields: what a request cannot set is not recorded as its own.
//!
//! Upstream: the GetResetFields of kubernetes pkg/registry's strategies.

use std::sync::LazyLock;

use coracle_api::field_set::FieldSet;
use coracle_api::managed_fields::{self, Operation};
use coracle_api::schema::Schema;
use coracle_api::{Resource, Status};
use serde_json::{Value, json};

use super::metadata;
use super::strategy::Strategy;
use crate::admission::Facts;
use crate::convert;

static NOTHING: LazyLock<FieldSet> = LazyLock::new(FieldSet::new);
static STATUS: LazyLock<FieldSet> = LazyLock::new(|| FieldSet::of_fields(&[&["status"]]));
static DESIRED: LazyLock<FieldSet> = LazyLock::new(|| FieldSet::of_fields(&[&["spec"]]));
static POD_DESIRED: LazyLock<FieldSet> = LazyLock::new(|| {
    FieldSet::of_fields(&[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]])
});
static DEPLOYMENT_DESIRED: LazyLock<FieldSet> =
    LazyLock::new(|| FieldSet::of_fields(&[&["spec"], &["metadata", "labels"]]));

/// What a request for `subresource` cannot set.
fn reset(resource: &Resource, subresource: &str) -> &'static FieldSet {
    match (subresource, &*resource.plural) {
        ("", _) if Strategy::has_status(resource) => &STATUS,
        ("status", "pods") => &POD_DESIRED,
        ("status", "deployments") => &DEPLOYMENT_DESIRED,
        ("status" | "approval", _) => &DESIRED,
        _ => &NOTHING,
    }
}

/// The operation of a request, as managedFields records it.
pub fn operation<'a>(resource: &Resource, subresource: &'a str, facts: &'a Facts, time: &'a str) -> Operation<'a> {
    let reset = reset(resource, subresource);
    // A Scale is recorded under the workload's own version.
    let shown_version = (subresource == "scale").then_some("autoscaling/v1");
    Operation { manager: &facts.manager, api_version: &facts.api_version, subresource, time, reset, shown_version }
}

/// Records what a create, update or patch changed.
pub fn track(resource: &Resource, subresource: &str, live: Option<&Value>, new: &mut Value, facts: &Facts) {
    let Some(ty) = resource.ty(Schema::builtin()) else { return };
    // Upstream forgets the time when it carries a Scale's entry over to the workload (ScaleHandler.ToParent).
    let time = if subresource == "scale" { String::new() } else { metadata::now() };
    let operation = operation(resource, subresource, facts, &time);
    if convert::is_stored(resource) {
        return managed_fields::track_update(ty, live, new, &operation);
    }
    // Fields are recorded by the names that the request's version has for them.
    let live = live.map(|live| convert::serve(resource, live.clone()));
    let mut served = convert::serve(resource, new.clone());
    managed_fields::track_update(ty, live.as_ref(), &mut served, &operation);
    match served["metadata"].get_mut("managedFields").map(Value::take) {
        Some(entries) => metadata::of(new).insert("managedFields".to_owned(), entries),
        None => metadata::of(new).remove("managedFields"),
    };
}

/// Merges what a manager applies into the live object.
pub fn apply(
    resource: &Resource,
    subresource: &str,
    live: Option<&Value>,
    applied: &Value,
    facts: &Facts,
    force: bool,
) -> Result<Value, Status> {
    let ty = resource.ty(Schema::builtin()).ok_or_else(crate::failure::no_schema)?;
    let time = metadata::now();
    managed_fields::apply(ty, live, applied, &operation(resource, subresource, facts, &time), force)
}

/// Merges the replicas of a Scale that a manager applies into the live workload. What a Scale says is recorded as the workload's
/// field. Upstream: managedfields.ScaleHandler.
pub fn apply_scale(
    resource: &Resource,
    live: &Value,
    scale: &Value,
    facts: &Facts,
    force: bool,
) -> Result<Value, Status> {
    let schema = Schema::builtin();
    let no_schema = crate::failure::no_schema;
    let scale_type = schema.of_kind("autoscaling", "v1", "Scale").ok_or_else(no_schema)?;
    managed_fields::check_applied(scale_type, scale)?;
    let ty = resource.ty(schema).ok_or_else(no_schema)?;
    let mut applied = json!({ "apiVersion": live["apiVersion"], "kind": live["kind"] });
    if let Some(replicas) = scale["spec"].get("replicas") {
        applied["spec"] = json!({ "replicas": replicas });
    }
    // Upstream forgets the time when it carries the Scale's entry over.
    managed_fields::apply(ty, Some(live), &applied, &operation(resource, "scale", facts, ""), force)
}
