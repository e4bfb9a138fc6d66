//! Upstream's bootstrap policy as data: the table `bootstrap.txt`, read into roles and bindings.
//!
//! A line that starts at the margin is an object, an indented one a rule of the role above it:
//!
//! ```text
//! clusterrole NAME [into AGGREGATE]... [from AGGREGATE]      role NAMESPACE NAME
//!   VERBS GROUPS RESOURCES [named NAMES]                       VERBS url PATHS
//! clusterrolebinding NAME KIND:ROLE SUBJECT...               rolebinding NAMESPACE NAME KIND:ROLE SUBJECT...
//! ```
//! Lists are separated by commas, `core` is the group without a name, a subject is `user:N`, `group:N` or `sa:NS/N`.
//! `from` is an aggregation rule, `into` the label that one selects.
//! Upstream: kubernetes plugin/pkg/auth/authorizer/rbac/bootstrappolicy.

use super::Rule;

const TABLE: &str = include_str!("bootstrap.txt");

/// Roles and bindings that every cluster has.
#[derive(Debug, Default, PartialEq)]
pub struct Policy {
    pub roles: Vec<Role>,
    pub bindings: Vec<Binding>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Role {
    /// `""` for a ClusterRole.
    pub namespace: &'static str,
    pub name: &'static str,
    pub rules: Vec<Rule>,
    /// `view` says that the role's rules go into every role that aggregates `view`.
    pub into: Vec<&'static str>,
    /// Set on roles that hold no rules of their own.
    pub from: Option<&'static str>,
}

#[derive(Debug, PartialEq)]
pub struct Binding {
    /// `""` for a ClusterRoleBinding.
    pub namespace: &'static str,
    pub name: &'static str,
    /// `ClusterRole` or `Role`.
    pub role_kind: &'static str,
    pub role: &'static str,
    pub subjects: Vec<Subject>,
}

#[derive(Debug, PartialEq)]
pub struct Subject {
    pub kind: &'static str,
    pub name: &'static str,
    /// Of service accounts.
    pub namespace: &'static str,
}

impl Policy {
    /// The table, with aggregated roles holding the rules they aggregate.
    pub fn builtin() -> Policy {
        let mut policy = Policy::default();
        for line in TABLE.lines() {
            policy.read(line).unwrap_or_else(|| unreachable!("bootstrap.txt is tested: {line}"));
        }
        policy.aggregate();
        policy
    }

    fn read(&mut self, line: &'static str) -> Option<()> {
        if let Some(rule) = line.strip_prefix("  ") {
            self.roles.last_mut()?.rules.push(rule_of(rule)?);
            return Some(());
        }
        let mut words = line.split(' ');
        match words.next()? {
            "clusterrole" => {
                let mut role = Role { name: words.next()?, ..Role::default() };
                while let Some(word) = words.next() {
                    match word {
                        "into" => role.into.push(words.next()?),
                        "from" => role.from = Some(words.next()?),
                        _ => return None,
                    }
                }
                self.roles.push(role);
            }
            "role" => self.roles.push(Role { namespace: words.next()?, name: words.next()?, ..Role::default() }),
            "clusterrolebinding" => self.bindings.push(binding_of("", words)?),
            "rolebinding" => {
                let namespace = words.next()?;
                self.bindings.push(binding_of(namespace, words)?);
            }
            _ => return None,
        }
        Some(())
    }

    /// Upstream's aggregation controller leaves the same rules, in the order of the roles' names. Roles that aggregate may
    /// be aggregated themselves (admin from edit from view).
    fn aggregate(&mut self) {
        loop {
            let gathered: Vec<(usize, Vec<Rule>)> = self
                .roles
                .iter()
                .enumerate()
                .filter_map(|(index, role)| Some((index, self.gather(role.from?))))
                .filter(|(index, rules)| self.roles[*index].rules != *rules)
                .collect();
            if gathered.is_empty() {
                return;
            }
            for (index, rules) in gathered {
                self.roles[index].rules = rules;
            }
        }
    }

    fn gather(&self, label: &str) -> Vec<Rule> {
        let mut rules: Vec<Rule> = Vec::new();
        for role in self.roles.iter().filter(|role| role.into.contains(&label)) {
            for rule in &role.rules {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
        rules
    }
}

fn rule_of(text: &str) -> Option<Rule> {
    let list = |text: &str| -> Box<[Box<str>]> {
        text.split(',').map(|item| Box::from(if item == "core" { "" } else { item })).collect()
    };
    let words: Vec<&str> = text.split(' ').collect();
    let rule = Rule { verbs: list(words.first()?), ..Rule::default() };
    Some(match words[1..] {
        ["url", paths] => Rule { non_resource_urls: list(paths), ..rule },
        [groups, resources] => Rule { api_groups: list(groups), resources: list(resources), ..rule },
        [groups, resources, "named", names] => {
            Rule { api_groups: list(groups), resources: list(resources), resource_names: list(names), ..rule }
        }
        _ => return None,
    })
}

fn binding_of(namespace: &'static str, mut words: std::str::Split<'static, char>) -> Option<Binding> {
    let name = words.next()?;
    let (kind, role) = words.next()?.split_once(':')?;
    let role_kind = match kind {
        "clusterrole" => "ClusterRole",
        "role" => "Role",
        _ => return None,
    };
    let subject = |word: &'static str| match word.split_once(':')? {
        ("user", name) => Some(Subject { kind: "User", name, namespace: "" }),
        ("group", name) => Some(Subject { kind: "Group", name, namespace: "" }),
        ("sa", account) => {
            let (namespace, name) = account.split_once('/')?;
            Some(Subject { kind: "ServiceAccount", name, namespace })
        }
        _ => None,
    };
    let subjects = words.map(subject).collect::<Option<Vec<_>>>()?;
    Some(Binding { namespace, name, role_kind, role, subjects })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_and_every_binding_finds_its_role() {
        let policy = Policy::builtin();
        assert_eq!((policy.roles.len(), policy.bindings.len()), COUNTS);
        for binding in &policy.bindings {
            let namespace = if binding.role_kind == "Role" { binding.namespace } else { "" };
            let found = policy.roles.iter().any(|role| (role.namespace, role.name) == (namespace, binding.role));
            assert!(found, "{binding:?}");
        }
    }

    #[test]
    fn admin_holds_what_edit_and_view_hold() {
        let policy = Policy::builtin();
        let rules = |name| &policy.roles.iter().find(|role| role.name == name).unwrap().rules;
        for part in ["edit", "view", "system:aggregate-to-admin"] {
            assert!(!rules(part).is_empty());
            assert!(rules(part).iter().all(|rule| rules("admin").contains(rule)), "{part}");
        }
        assert!(!rules("view").iter().any(|rule| rule.verbs.iter().any(|verb| **verb == *"create")));
    }
    /// Roles and bindings in upstream's golden files of v1.37.2.
    const COUNTS: (usize, usize) = (80, 61);
}
