//! Authorization: may this user do this? `system:masters`, then the Node authorizer, then RBAC.

use std::borrow::Cow;
use std::sync::Arc;

use coracle_api::Status;
use coracle_api::quoting::quote;

use crate::authn::{Lookup, MASTERS, User};

pub mod bootstrap;
pub mod escalation;
pub mod node;
pub mod policy;
pub mod rbac;
pub mod reviews;
pub mod rule;

pub use rbac::Rbac;
pub use rule::Rule;

/// What is asked, cut from the request line. Upstream: k8s.io/apiserver pkg/authorization/authorizer Attributes.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    pub user: &'a User,
    /// `get`, `list`, `watch`, ... for resources; the lower-case HTTP method for other paths.
    pub verb: &'a str,
    pub target: Target<'a>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    Resource(ResourceTarget<'a>),
    /// A path that is no resource, `/healthz`.
    Path(&'a str),
}

/// Empty strings stand for what a request does not name.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResourceTarget<'a> {
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// The raw `fieldSelector` of list, watch and deletecollection.
    pub fields: &'a str,
}

impl Attributes<'_> {
    /// A collection of which the field selector leaves one object counts as a request for that object.
    /// Upstream: k8s.io/apiserver pkg/endpoints/request/requestinfo.go.
    fn named(self) -> Self {
        match self.target {
            Target::Resource(target) if target.name.is_empty() && COLLECTION_VERBS.contains(&self.verb) => {
                let name = target.fields.split(',').find_map(|term| term.trim().strip_prefix("metadata.name="));
                let name = name.map(|name| name.strip_prefix('=').unwrap_or(name)).unwrap_or_default();
                Self { target: Target::Resource(ResourceTarget { name, ..target }), ..self }
            }
            _ => self,
        }
    }
}

const COLLECTION_VERBS: [&str; 3] = ["list", "watch", "deletecollection"];

/// The answer. Its reason is for reviews and audit; a 403 carries that of a refusal.
#[derive(Debug, Clone)]
pub enum Decision {
    Allowed(Grant),
    /// No authorizer allows it; the reason is often empty.
    Refused(Cow<'static, str>),
}

/// Who allowed it.
#[derive(Debug, Clone)]
pub enum Grant {
    Masters,
    Node,
    /// A binding's subject.
    Rbac(Arc<rbac::Binding>, usize),
}

impl Decision {
    pub fn allowed(&self) -> bool {
        matches!(self, Decision::Allowed(_))
    }

    /// As in SubjectAccessReview's `status.reason`.
    pub fn reason(&self) -> String {
        match self {
            Decision::Allowed(Grant::Rbac(binding, subject)) => {
                format!("RBAC: allowed by {}", binding.describe(*subject))
            }
            Decision::Allowed(_) => String::new(),
            Decision::Refused(reason) => reason.to_string(),
        }
    }
}

/// All authorizers in their order.
pub struct Authorizer {
    rbac: Rbac,
    lookup: Arc<dyn Lookup>,
}

impl Authorizer {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { rbac: Rbac::default(), lookup }
    }

    /// The rule base, to be fed by `Rbac::run`.
    pub fn rbac(&self) -> &Rbac {
        &self.rbac
    }

    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let attributes = &attributes.named();
        if attributes.user.is_in(MASTERS) {
            return Decision::Allowed(Grant::Masters);
        }
        let node = node::authorize(attributes, self.lookup.as_ref());
        match node {
            Some(Decision::Allowed(grant)) => Decision::Allowed(grant),
            None => self.rbac.authorize(attributes),
            Some(refused) => match self.rbac.authorize(attributes) {
                Decision::Refused(_) => refused,
                allowed => allowed,
            },
        }
    }

    /// `authorize` as the chain needs it: nothing, or the 403 to answer.
    pub fn check(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        match self.authorize(attributes) {
            Decision::Allowed(_) => Ok(()),
            Decision::Refused(reason) => Err(forbidden(attributes, &reason)),
        }
    }
}

/// The 403 for a refusal. Upstream: k8s.io/apiserver pkg/endpoints/handlers/responsewriters/errors.go.
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let (user, verb) = (quote(&attributes.user.name), attributes.verb);
    let (message, target) = match attributes.target {
        Target::Path(path) => (format!("User {user} cannot {verb} path {}", quote(path)), ResourceTarget::default()),
        Target::Resource(target) => {
            let slash = if target.subresource.is_empty() { "" } else { "/" };
            let resource = quote(&format!("{}{slash}{}", target.resource, target.subresource));
            let scope = match target.namespace {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {}", quote(namespace)),
            };
            let group = quote(target.group);
            (format!("User {user} cannot {verb} resource {resource} in API group {group} {scope}"), target)
        }
    };
    // Nothing that a browser could take for markup.
    let mut message = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    if !reason.is_empty() {
        message = format!("{message}: {reason}");
    }
    Status::forbidden((target.group, target.resource), target.name, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selected_name_is_the_requests_name() {
        let user = User::new("jane", &[]);
        let name = |verb, fields| {
            let target = ResourceTarget { resource: "secrets", fields, ..Default::default() };
            match (Attributes { user: &user, verb, target: Target::Resource(target) }).named().target {
                Target::Resource(target) => target.name.to_owned(),
                Target::Path(_) => String::new(),
            }
        };
        assert_eq!(name("watch", "metadata.name=a"), "a");
        assert_eq!(name("list", "type=x,metadata.name==a"), "a");
        assert_eq!(name("list", "metadata.name!=a"), "");
        assert_eq!(name("create", "metadata.name=a"), "");
    }

    #[test]
    fn a_refusal_reads_as_upstreams() {
        let user = User::new("jane", &[]);
        let target =
            ResourceTarget { resource: "pods", subresource: "log", namespace: "web", name: "a", ..Default::default() };
        let resource = Attributes { user: &user, verb: "get", target: Target::Resource(target) };
        assert_eq!(
            forbidden(&resource, "").message,
            r#"pods "a" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "web""#
        );
        let cluster = ResourceTarget { resource: "nodes", group: "x.io", ..Default::default() };
        let cluster = Attributes { target: Target::Resource(cluster), ..resource };
        assert_eq!(
            forbidden(&cluster, "why").message,
            r#"nodes.x.io is forbidden: User "jane" cannot get resource "nodes" in API group "x.io" at the cluster scope: why"#
        );
        let path = Attributes { target: Target::Path("/<x>"), ..resource };
        assert_eq!(forbidden(&path, "").message, r#"forbidden: User "jane" cannot get path "/&lt;x&gt;""#);
    }
}
