//! The review kinds: what a user may do, who a token is, who I am. Nothing of them is stored.
//!
//! Upstream: kubernetes pkg/registry/authorization and pkg/registry/authentication.

use std::collections::BTreeMap;

use coracle_api::{Causes, Resource, Status};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Attributes, Authorizer, ResourceTarget, Target, node};
use crate::authn::token_review::{review, user_info};
use crate::authn::{TokenAuthenticator, User};

/// Whether `answer` knows the resource.
pub fn is_review(resource: &Resource) -> bool {
    matches!(
        (&*resource.group, &*resource.plural),
        ("authentication.k8s.io", "tokenreviews" | "selfsubjectreviews")
            | (
                "authorization.k8s.io",
                "subjectaccessreviews"
                    | "localsubjectaccessreviews"
                    | "selfsubjectaccessreviews"
                    | "selfsubjectrulesreviews"
            )
    )
}

/// Answers `create` of a review: `body` (decoded, pruned) with its status filled in.
pub fn answer(
    authorizer: &Authorizer,
    tokens: &TokenAuthenticator,
    user: &User,
    resource: &Resource,
    namespace: &str,
    mut body: Value,
) -> Result<Value, Status> {
    body["status"] = match &*resource.plural {
        "tokenreviews" => token_status(tokens, &body)?,
        "selfsubjectreviews" => {
            body["metadata"]["creationTimestamp"] = json!(now());
            json!({ "userInfo": user_info(user) })
        }
        "selfsubjectrulesreviews" => rules_status(authorizer, user, &body)?,
        "selfsubjectaccessreviews" => {
            let spec = access_spec(resource, namespace, &body, true)?;
            access_status(authorizer, user, &spec)
        }
        _ => {
            let spec = access_spec(resource, namespace, &body, false)?;
            let asked = User {
                name: spec.user.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
            };
            access_status(authorizer, &asked, &spec)
        }
    };
    Ok(body)
}

fn now() -> String {
    let seconds = Timestamp::now().as_second();
    Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

fn token_status(tokens: &TokenAuthenticator, body: &Value) -> Result<Value, Status> {
    let token = body["spec"]["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> = Deserialize::deserialize(&body["spec"]["audiences"]).unwrap_or_default();
    Ok(review(tokens, token, &audiences))
}

/// Spec of the access reviews.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AccessSpec {
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<NonResourceAttributes>,
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ResourceAttributes {
    namespace: String,
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    name: String,
    field_selector: Option<FieldSelector>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct FieldSelector {
    raw_selector: String,
    requirements: Vec<Requirement>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Requirement {
    key: String,
    operator: String,
    values: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NonResourceAttributes {
    path: String,
    verb: String,
}

impl FieldSelector {
    /// As a raw selector; requirements that name no single value narrow nothing.
    fn raw(&self) -> String {
        if !self.raw_selector.is_empty() {
            return self.raw_selector.clone();
        }
        let terms = self.requirements.iter().filter(|term| term.operator == "In" && term.values.len() == 1);
        terms.map(|term| format!("{}={}", term.key, term.values[0])).collect::<Vec<_>>().join(",")
    }
}

fn access_spec(resource: &Resource, namespace: &str, body: &Value, of_self: bool) -> Result<AccessSpec, Status> {
    let spec = AccessSpec::deserialize(&body["spec"]).map_err(|error| Status::bad_request(error.to_string()))?;
    let mut causes = Causes::new();
    if spec.resource_attributes.is_some() == spec.non_resource_attributes.is_some() {
        let value = body["spec"]["nonResourceAttributes"].clone();
        let rule = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        causes.invalid("spec", value, rule);
    }
    if !of_self && spec.user.is_empty() && spec.groups.is_empty() {
        causes.invalid("spec.user", "", "at least one of user or group must be specified");
    }
    if resource.plural == "localsubjectaccessreviews" {
        if let Some(attributes) = spec.resource_attributes.as_ref().filter(|found| found.namespace != namespace) {
            let field = "spec.resourceAttributes.namespace";
            causes.invalid(field, attributes.namespace.as_str(), "must match metadata.namespace");
        }
        if spec.non_resource_attributes.is_some() {
            let value = body["spec"]["nonResourceAttributes"].clone();
            causes.invalid("spec.nonResourceAttributes", value, "disallowed on this kind of request");
        }
    }
    if causes.is_empty() { Ok(spec) } else { Err(Status::invalid(resource, "", &causes)) }
}

fn access_status(authorizer: &Authorizer, user: &User, spec: &AccessSpec) -> Value {
    let fields;
    let (verb, target) = match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(asked), _) => {
            fields = asked.field_selector.as_ref().map(FieldSelector::raw).unwrap_or_default();
            let target = ResourceTarget {
                group: &asked.group,
                resource: &asked.resource,
                subresource: &asked.subresource,
                namespace: &asked.namespace,
                name: &asked.name,
                fields: &fields,
            };
            (&asked.verb, Target::Resource(target))
        }
        (None, Some(asked)) => (&asked.verb, Target::Path(&asked.path)),
        (None, None) => return json!({ "allowed": false }),
    };
    let decision = authorizer.authorize(&Attributes { user, verb, target });
    let mut status = json!({ "allowed": decision.allowed() });
    let reason = decision.reason();
    if !reason.is_empty() {
        status["reason"] = json!(reason);
    }
    status
}

fn rules_status(authorizer: &Authorizer, user: &User, body: &Value) -> Result<Value, Status> {
    let namespace = body["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let mut resource_rules = Vec::new();
    let mut paths = Vec::new();
    for rule in authorizer.rbac().rules_for(user, namespace) {
        let list = if rule.resources.is_empty() { &mut paths } else { &mut resource_rules };
        list.push(json!(rule));
    }
    let is_node = node::node_name(user).is_some();
    let mut status = json!({ "resourceRules": resource_rules, "nonResourceRules": paths, "incomplete": is_node });
    if is_node {
        status["evaluationError"] = json!("node authorizer does not support user rule resolution");
    }
    Ok(status)
}

#[cfg(test)]
mod tests;
