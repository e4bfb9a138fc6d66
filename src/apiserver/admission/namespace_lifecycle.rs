//! NamespaceLifecycle: nothing is created in a namespace that is absent or going, and some namespaces stay.
//!
//! Upstream: k8s.io/apiserver pkg/admission/plugin/namespace/lifecycle.

use std::sync::LazyLock;

use coracle_api::status::Cause;
use coracle_api::{Resource, Status};
use serde_json::Value;

use super::Request;
use crate::registry::{Registry, metadata};

pub static NAMESPACES: LazyLock<Resource> =
    LazyLock::new(|| Resource::find("", "v1", "namespaces").expect("the catalog holds namespaces"));

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub fn check_create(registry: &Registry, request: &Request<'_>, new: &Value) -> Result<(), Status> {
    if !request.resource.namespaced {
        return Ok(());
    }
    let name = metadata::text(new, "namespace");
    let namespace = registry.resident(&NAMESPACES, "", name).ok_or_else(|| Status::not_found(&*NAMESPACES, name))?;
    let phase = NAMESPACES.selectable.iter().position(|(label, _)| label == "status.phase");
    if phase.is_none_or(|index| *namespace.meta().fields[index] != *"Terminating") {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let mut status = Status::forbidden(request.resource, metadata::text(new, "name"), why);
    status.details.get_or_insert_default().causes.push(Cause {
        reason: "NamespaceTerminating".to_owned(),
        message: format!("namespace {name} is being terminated"),
        field: "metadata.namespace".to_owned(),
    });
    Err(status)
}

pub fn check_delete(request: &Request<'_>, name: &str) -> Result<(), Status> {
    if request.is("", "namespaces") && IMMORTAL.contains(&name) {
        return Err(Status::forbidden(request.resource, name, "this namespace may not be deleted"));
    }
    Ok(())
}
