//! Cells of the API machinery's own kinds.

use serde_json::Value;

use super::{Now, labels};
use crate::node::Node;

fn holds(object: Node<'_, '_>, kind: &str) -> bool {
    let status = object.get("status");
    let conditions = status.get("conditions");
    conditions.find("type", kind).is_some_and(|condition| condition.get("status").str() == "True")
}

/// The last of `states` whose condition holds.
fn state(object: Node<'_, '_>, states: &[&'static str], otherwise: &'static str) -> Value {
    let status = object.get("status");
    let conditions = status.get("conditions");
    let holding = conditions.items().rev().filter(|condition| condition.get("status").str() == "True");
    let mut known = holding.filter_map(|condition| states.iter().find(|state| **state == condition.get("type").str()));
    known.next().copied().unwrap_or(otherwise).into()
}

pub(super) fn service(service: Node<'_, '_>, _: &Now) -> Value {
    let spec = service.get("spec");
    let reference = spec.get("service");
    match reference.is_present() {
        true => format!("{}/{}", reference.get("namespace").str(), reference.get("name").str()).into(),
        false => "Local".into(),
    }
}

pub(super) fn available(service: Node<'_, '_>, _: &Now) -> Value {
    let status = service.get("status");
    let conditions = status.get("conditions");
    let Some(condition) = conditions.find("type", "Available") else { return "Unknown".into() };
    match (condition.get("status").str(), condition.get("reason").str()) {
        (status @ "True", _) | (status, "") => status.into(),
        (status, reason) => format!("{status} ({reason})").into(),
    }
}

pub(super) fn served_versions(definition: Node<'_, '_>, _: &Now) -> Value {
    let spec = definition.get("spec");
    let versions = spec.get("versions");
    let served = versions.items().filter(|version| version.get("served").bool());
    let mut names: Vec<String> = served
        .map(|version| {
            let stored = if version.get("storage").bool() { "(storage)" } else { "" };
            format!("{}{stored}", version.get("name").str())
        })
        .collect();
    names.sort_unstable();
    names.join(",").into()
}

pub(super) fn short_names(definition: Node<'_, '_>, _: &Now) -> Value {
    let spec = definition.get("spec");
    let names = spec.get("names");
    let short = names.get("shortNames");
    short.items().map(|name| name.str()).collect::<Vec<_>>().join(",").into()
}

pub(super) fn established(definition: Node<'_, '_>, _: &Now) -> Value {
    holds(definition, "Established").into()
}

pub(super) fn certificate_state(request: Node<'_, '_>, _: &Now) -> Value {
    let status = request.get("status");
    let conditions = status.get("conditions");
    let kinds = conditions.items().rev().map(|condition| condition.get("type").str());
    let mut known = kinds.filter(|kind| matches!(*kind, "Issued" | "Denied" | "Failed"));
    known.next().unwrap_or("Pending").into()
}

pub(super) fn user_annotations(request: Node<'_, '_>, _: &Now) -> Value {
    labels(request.get("spec").get("unverifiedUserAnnotations")).into()
}

pub(super) fn migrated(migration: Node<'_, '_>, _: &Now) -> Value {
    let spec = migration.get("spec");
    let resource = spec.get("resource");
    match resource.get("group").str() {
        "" => resource.get("resource").str().into(),
        group => format!("{}.{group}", resource.get("resource").str()).into(),
    }
}

pub(super) fn migration_state(migration: Node<'_, '_>, _: &Now) -> Value {
    state(migration, &["Running", "Failed", "Succeeded"], "Unknown")
}

pub(super) fn component_state(component: Node<'_, '_>, _: &Now) -> Value {
    let conditions = component.get("conditions");
    match conditions.find("type", "Healthy").map(|condition| condition.get("status").str() == "True") {
        Some(true) => "Healthy".into(),
        Some(false) => "Unhealthy".into(),
        None => "Unknown".into(),
    }
}

pub(super) fn component_message(component: Node<'_, '_>, _: &Now) -> Value {
    healthy_field(component, "message")
}

pub(super) fn component_error(component: Node<'_, '_>, _: &Now) -> Value {
    healthy_field(component, "error")
}

fn healthy_field(component: Node<'_, '_>, field: &str) -> Value {
    let conditions = component.get("conditions");
    conditions.find("type", "Healthy").map_or("", |condition| condition.get(field).str()).into()
}
