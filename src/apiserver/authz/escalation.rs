//! Nobody grants what they do not hold: checks on writes of roles and bindings.
//!
//! Upstream: kubernetes pkg/registry/rbac/*/policybased and pkg/registry/rbac/validation.

use coracle_api::quoting::quote;
use coracle_api::{Resource, Status};
use serde::Deserialize;
use serde_json::Value;

use super::rbac::{GROUP, RoleReference};
use super::{Attributes, Authorizer, ResourceTarget, Rule, Target};
use crate::authn::{MASTERS, User};

/// To be called with the object about to be stored, and the stored one on updates. Anything but RBAC's resources passes.
pub fn check(
    authorizer: &Authorizer,
    user: &User,
    resource: &Resource,
    namespace: &str,
    name: &str,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if resource.group != GROUP || user.is_in(MASTERS) {
        return Ok(());
    }
    let request = Request { authorizer, user, namespace };
    let refuse = |why: String| Status::forbidden(resource, name, why);
    if resource.plural.ends_with("roles") {
        if request.may("escalate", &resource.plural, name) || old.is_some_and(|old| same(old, object, "rules")) {
            return Ok(());
        }
        request.holds(&rules(object)).map_err(refuse)?;
        let aggregates = |object: &Value| !object["aggregationRule"]["clusterRoleSelectors"][0].is_null();
        if aggregates(object) || old.is_some_and(aggregates) {
            let needs = "must have cluster-admin privileges to use the aggregationRule";
            return request.holds(&everything()).map_err(|_| refuse(needs.to_owned()));
        }
        return Ok(());
    }
    let role = RoleReference::deserialize(&object["roleRef"])
        .map_err(|error| Status::bad_request(format!("roleRef: {error}")))?;
    if old.is_some_and(|old| same(old, object, "subjects")) {
        return Ok(());
    }
    let plural = if *role.kind == *"Role" { "roles" } else { "clusterroles" };
    if request.may("bind", plural, &role.name) {
        return Ok(());
    }
    let Some(rules) = authorizer.rbac().rules_of(&role, namespace) else {
        return Err(Status::not_found((GROUP, plural), &role.name));
    };
    request.holds(&rules).map_err(refuse)
}

struct Request<'a> {
    authorizer: &'a Authorizer,
    user: &'a User,
    namespace: &'a str,
}

impl Request<'_> {
    fn may(&self, verb: &str, resource: &str, name: &str) -> bool {
        let target =
            ResourceTarget { group: GROUP, resource, name, namespace: self.namespace, ..ResourceTarget::default() };
        let attributes = Attributes { user: self.user, verb, target: Target::Resource(target) };
        self.authorizer.authorize(&attributes).allowed()
    }

    /// Whether the user's own rules cover `wanted`; else what they lack, in upstream's words.
    fn holds(&self, wanted: &[Rule]) -> Result<(), String> {
        let own = self.authorizer.rbac().rules_for(self.user, self.namespace);
        let atoms = wanted.iter().flat_map(Rule::atoms);
        let missing: Vec<Rule> = atoms.filter(|atom| !own.iter().any(|rule| rule.covers(atom))).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<String> = compact(missing).iter().map(Rule::to_string).collect();
        lines.sort();
        lines.dedup();
        let groups: Vec<String> = self.user.groups.iter().map(|group| quote(group)).collect();
        Err(format!(
            "user {} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            quote(&self.user.name),
            groups.join(" "),
            lines.join("\n")
        ))
    }
}

/// Verbs on the same things become one rule.
fn compact(atoms: Vec<Rule>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for atom in atoms {
        let same = |rule: &&mut Rule| Rule { verbs: rule.verbs.clone(), ..atom.clone() } == **rule;
        let resource = !atom.resources.is_empty();
        match rules.iter_mut().filter(|_| resource).find(same) {
            Some(rule) => rule.verbs = rule.verbs.iter().chain(&atom.verbs).cloned().collect(),
            None => rules.push(atom),
        }
    }
    rules
}

fn rules(object: &Value) -> Vec<Rule> {
    Deserialize::deserialize(&object["rules"]).unwrap_or_default()
}

/// Whether only metadata differs: what the garbage collector and labelling may do.
fn same(old: &Value, new: &Value, field: &str) -> bool {
    old[field] == new[field] && old["roleRef"] == new["roleRef"] && old["aggregationRule"] == new["aggregationRule"]
}

fn everything() -> [Rule; 2] {
    let all = || Box::from([Box::from("*")]);
    [
        Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
    ]
}
