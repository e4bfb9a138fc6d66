//! What is changed in or refused from a write besides validation, in upstream's order of plugins.
//!
//! Upstream: kubernetes pkg/kubeapiserver/options/plugins.go, plugin/pkg/admission.

use std::sync::Arc;

use coracle_api::{Resource, Status};
use serde_json::Value;

use crate::authn::User;
use crate::authz::{Authorizer, escalation};
use crate::registry::{Registry, metadata};

pub mod certificates;
pub mod limits;
pub mod namespace_lifecycle;
pub mod node_restriction;
pub mod node_taint;
pub mod priority;
pub mod quota;
pub mod runtime_class;
pub mod service_account;
pub mod storage;
pub mod toleration;
pub mod unenforced;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// Who writes, and as which manager of fields.
#[derive(Clone)]
pub struct Facts {
    pub user: Arc<User>,
    /// As in `fieldManager`.
    pub manager: String,
    /// Group and version of the request: `apps/v1`.
    pub api_version: String,
}

/// What admission is asked about.
pub struct Request<'a> {
    pub operation: Operation,
    pub resource: &'a Resource,
    pub subresource: &'a str,
    pub facts: &'a Facts,
    pub dry_run: bool,
}

impl Request<'_> {
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural
    }

    pub fn creates(&self, group: &str, plural: &str) -> bool {
        self.operation == Operation::Create && self.subresource.is_empty() && self.is(group, plural)
    }
}

pub struct Admission {
    authorizer: Arc<Authorizer>,
}

impl Admission {
    pub fn new(authorizer: Arc<Authorizer>) -> Self {
        Self { authorizer }
    }

    /// The mutating plugins. `new` is defaulted already and named.
    pub async fn mutate(
        &self,
        registry: &Registry,
        request: &Request<'_>,
        new: &mut Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        if request.operation == Operation::Create {
            unenforced::check(request, warnings)?;
            namespace_lifecycle::check_create(registry, request, new)?;
        }
        certificates::stamp(request, new);
        if request.creates("", "nodes") {
            node_taint::mutate(new);
        }
        if request.is("", "pods") {
            limits::mutate(registry, request, new, old);
            service_account::mutate(registry, request, new).await?;
            priority::mutate(registry, request, new, old)?;
            toleration::mutate(request, new);
            runtime_class::mutate(registry, request, new)?;
        }
        storage::mutate(registry, request, new);
        Ok(())
    }

    /// The plugins that only refuse.
    pub fn validate(
        &self,
        registry: &Registry,
        request: &Request<'_>,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        limits::check(registry, request, new, old)?;
        node_restriction::check(registry, request, new, old)?;
        storage::check(registry, request, new, old)?;
        certificates::check(&self.authorizer, request, new, old)?;
        let (namespace, name) = (metadata::text(new, "namespace"), metadata::text(new, "name"));
        escalation::check(&self.authorizer, &request.facts.user, request.resource, namespace, name, new, old)
    }

    pub fn check_delete(
        &self,
        registry: &Registry,
        request: &Request<'_>,
        namespace: &str,
        name: &str,
    ) -> Result<(), Status> {
        if request.is("", "pods") {
            node_restriction::check_pod(registry, &request.facts.user, request.resource, namespace, name)?;
        }
        namespace_lifecycle::check_delete(request, name)
    }
}
