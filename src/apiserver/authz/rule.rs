//! One RBAC rule: what it matches and what it covers.

use serde::{Deserialize, Serialize};

use super::{Attributes, Target};

/// rbac.authorization.k8s.io/v1 PolicyRule; also its JSON form.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    #[serde(default)]
    pub verbs: Box<[Box<str>]>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub api_groups: Box<[Box<str>]>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub resources: Box<[Box<str>]>,
    /// All names when empty.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub resource_names: Box<[Box<str>]>,
    #[serde(default, rename = "nonResourceURLs", skip_serializing_if = "is_empty")]
    pub non_resource_urls: Box<[Box<str>]>,
}

fn is_empty(list: &[Box<str>]) -> bool {
    list.is_empty()
}

impl Rule {
    /// Upstream: kubernetes plugin/pkg/auth/authorizer/rbac (RuleAllows).
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !has_or_all(&self.verbs, attributes.verb) {
            return false;
        }
        match attributes.target {
            Target::Path(path) => self.non_resource_urls.iter().any(|url| url_covers(url, path)),
            Target::Resource(target) => {
                has_or_all(&self.api_groups, target.group)
                    && self.resources.iter().any(|rule| resource_matches(rule, target.resource, target.subresource))
                    && (self.resource_names.is_empty() || has(&self.resource_names, target.name))
            }
        }
    }

    /// Whether all that `other` allows is allowed by this rule. `other` is atomic (see `atoms`).
    /// Upstream: k8s.io/component-helpers auth/rbac/validation/policy_comparator.go (ruleCovers).
    pub fn covers(&self, other: &Rule) -> bool {
        let within = |own: &[Box<str>], others: &[Box<str>]| others.iter().all(|other| has_or_all(own, other));
        let resource = |resource: &str| match resource.split_once('/') {
            Some((resource, subresource)) => {
                self.resources.iter().any(|rule| resource_matches(rule, resource, subresource))
            }
            None => has_or_all(&self.resources, resource),
        };
        let names = match (&*self.resource_names, &*other.resource_names) {
            ([], _) => true,
            (_, []) => false,
            (own, others) => others.iter().all(|name| has(own, name)),
        };
        let url = |url: &str| self.non_resource_urls.iter().any(|own| url_covers(own, url));
        within(&self.verbs, &other.verbs)
            && within(&self.api_groups, &other.api_groups)
            && other.resources.iter().all(|name| resource(name))
            && names
            && other.non_resource_urls.iter().all(|name| url(name))
    }

    /// The rule as rules of one verb, group, resource and name each.
    pub fn atoms(&self) -> Vec<Rule> {
        let one = |text: &str| Box::from([Box::from(text)]);
        let mut atoms = Vec::new();
        for verb in &self.verbs {
            for group in &self.api_groups {
                for resource in &self.resources {
                    let atom =
                        Rule { verbs: one(verb), api_groups: one(group), resources: one(resource), ..Rule::default() };
                    if self.resource_names.is_empty() {
                        atoms.push(atom);
                    } else {
                        let named = |name: &str| Rule { resource_names: one(name), ..atom.clone() };
                        atoms.extend(self.resource_names.iter().map(|name| named(name)));
                    }
                }
            }
            let url = |url: &str| Rule { verbs: one(verb), non_resource_urls: one(url), ..Rule::default() };
            atoms.extend(self.non_resource_urls.iter().map(|path| url(path)));
        }
        atoms
    }
}

/// As escalation errors show rules: `{APIGroups:["apps"], Resources:["deployments"], Verbs:["get"]}`.
impl std::fmt::Display for Rule {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lists = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let list = |items: &[Box<str>]| items.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(" ");
        let parts: Vec<String> = lists
            .into_iter()
            .filter(|(_, items)| !items.is_empty())
            .map(|(name, items)| format!("{name}:[{}]", list(items)))
            .collect();
        write!(formatter, "{{{}}}", parts.join(", "))
    }
}

fn has(list: &[Box<str>], wanted: &str) -> bool {
    list.iter().any(|item| **item == *wanted)
}

fn has_or_all(list: &[Box<str>], wanted: &str) -> bool {
    list.iter().any(|item| **item == *wanted || **item == *"*")
}

/// `*`, `pods`, `pods/log` or `*/scale`; a plain `pods` does not match `pods/log`.
fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((owner, part)) => !subresource.is_empty() && part == subresource && (owner == "*" || owner == resource),
    }
}

/// A trailing `*` matches any rest.
fn url_covers(rule: &str, path: &str) -> bool {
    rule == path || (rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::super::ResourceTarget;
    use super::*;
    use crate::authn::User;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> Rule {
        let list = |text: &str| text.split(',').filter(|item| !item.is_empty()).map(Box::from).collect();
        Rule {
            verbs: list(verbs),
            api_groups: if groups == "core" { Box::from([Box::from("")]) } else { list(groups) },
            resources: list(resources),
            resource_names: list(names),
            non_resource_urls: Box::default(),
        }
    }

    #[test]
    fn resources_match() {
        let user = User::default();
        let cases = [
            ("*", "*", "*", "", "pods/log", true),
            ("get", "core", "pods", "", "pods", true),
            ("get", "core", "pods", "", "pods/log", false),
            ("get", "core", "pods/log", "", "pods/log", true),
            ("get", "core", "*/log", "", "pods/log", true),
            ("get", "core", "*/scale", "", "pods/log", false),
            ("get", "apps", "pods", "", "pods", false),
            ("list", "core", "pods", "", "pods", false),
            ("get", "core", "pods", "a,b", "pods", true),
            ("get", "core", "pods", "b", "pods", false),
        ];
        for (verbs, groups, resources, names, asked, expected) in cases {
            let (resource, subresource) = asked.split_once('/').unwrap_or((asked, ""));
            let target = ResourceTarget { resource, subresource, name: "a", ..ResourceTarget::default() };
            let attributes = Attributes { user: &user, verb: "get", target: Target::Resource(target) };
            let rule = rule(verbs, groups, resources, names);
            assert_eq!(rule.allows(&attributes), expected, "{rule} for {asked}");
        }
    }

    #[test]
    fn urls_match() {
        let user = User::default();
        let rule = Rule {
            verbs: Box::from([Box::from("get")]),
            non_resource_urls: Box::from([Box::from("/api"), Box::from("/apis/*")]),
            ..Rule::default()
        };
        for (path, expected) in [("/api", true), ("/api/v1", false), ("/apis/apps", true), ("/apis", false)] {
            let attributes = Attributes { user: &user, verb: "get", target: Target::Path(path) };
            assert_eq!(rule.allows(&attributes), expected, "{path}");
        }
    }

    #[test]
    fn coverage_is_per_atom() {
        let owner = rule("get,list", "core", "pods,*/log", "");
        let covered = |rule: Rule| rule.atoms().iter().all(|atom| owner.covers(atom));
        assert!(covered(rule("get,list", "core", "pods,pods/log", "")));
        assert!(covered(rule("get", "core", "pods", "a")));
        assert!(!covered(rule("get,watch", "core", "pods", "")));
        assert!(!covered(rule("*", "core", "pods", "")));
        assert!(!rule("get", "core", "pods", "a").covers(&rule("get", "core", "pods", "")));
        assert_eq!(rule("get,list", "core,apps", "pods", "a,b").atoms().len(), 8);
    }
}
