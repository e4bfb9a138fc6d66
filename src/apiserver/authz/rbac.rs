//! RBAC: compact views of roles and bindings, indexed by subject, kept current by watches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, RwLock};

use coracle_api::{Object, Resource, Status};
use coracle_base::shutdown::Shutdown;
use coracle_client::{ObjectEvent, ObjectSource, Selection};
use futures::StreamExt;
use serde::Deserialize;
use tokio::sync::watch;

use super::{Attributes, Decision, Grant, Rule, Target};
use crate::authn::{User, service_account};

pub const GROUP: &str = "rbac.authorization.k8s.io";

/// The rule base. Readers take a short lock that is never held across an await.
pub struct Rbac {
    rules: RwLock<RuleBase>,
    /// How many of the four lists have arrived at least once.
    synced: watch::Sender<usize>,
}

impl Default for Rbac {
    fn default() -> Self {
        Self { rules: RwLock::default(), synced: watch::Sender::new(0) }
    }
}

/// Roles and bindings by namespace; `""` holds the cluster's.
#[derive(Default)]
struct RuleBase {
    scopes: HashMap<Box<str>, Scope>,
}

#[derive(Default)]
struct Scope {
    roles: HashMap<Box<str>, Arc<[Rule]>>,
    bindings: BTreeMap<Box<str>, Arc<Binding>>,
    /// Bindings and the position of the subject in them, by user name (service accounts by their user name).
    users: HashMap<Box<str>, Vec<(Arc<Binding>, usize)>>,
    groups: HashMap<Box<str>, Vec<(Arc<Binding>, usize)>>,
}

/// A RoleBinding, or a ClusterRoleBinding when `namespace` is empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Binding {
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub role: RoleReference,
    pub subjects: Box<[Subject]>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RoleReference {
    pub kind: Box<str>,
    pub name: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Subject {
    pub kind: Box<str>,
    pub name: Box<str>,
    #[serde(default)]
    pub namespace: Box<str>,
}

#[derive(Deserialize)]
struct RoleForm {
    #[serde(default)]
    rules: Option<Box<[Rule]>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindingForm {
    role_ref: RoleReference,
    #[serde(default)]
    subjects: Option<Box<[Subject]>>,
}

const RESOURCES: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

impl Rbac {
    /// Keeps the rule base current until shutdown. `source` must be the API server's own: nothing else may read rules
    /// before there are any.
    pub async fn run(&self, source: Arc<dyn ObjectSource>, shutdown: Shutdown) {
        let feeds = RESOURCES.iter().filter_map(|plural| Resource::find(GROUP, "v1", plural));
        let feeds = futures::future::join_all(feeds.map(|resource| self.follow(&source, resource)));
        shutdown.bound(feeds).await;
    }

    /// Completes once all four resources were listed.
    pub async fn synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives as long as self.
        let _ = synced.wait_for(|count| *count == RESOURCES.len()).await;
    }

    pub fn is_synced(&self) -> bool {
        *self.synced.borrow() == RESOURCES.len()
    }

    async fn follow(&self, source: &Arc<dyn ObjectSource>, resource: Resource) {
        let mut events = source.list_watch(&resource, Selection::default());
        let mut first = true;
        let mut listed: Option<BTreeSet<(Box<str>, Box<str>)>> = None;
        while let Some(event) = events.next().await {
            match event {
                Ok(ObjectEvent::Restarted) => listed = Some(BTreeSet::new()),
                Ok(ObjectEvent::Applied(object)) => {
                    if let Some(listed) = &mut listed {
                        listed.insert((object.meta().namespace.clone(), object.meta().name.clone()));
                    }
                    if let Err(error) = self.apply(&object) {
                        tracing::warn!(%error, ?resource, name = %object.meta().name, "rules not understood");
                    }
                }
                Ok(ObjectEvent::Deleted(object)) => self.remove(&object),
                Ok(ObjectEvent::Synced(_)) => {
                    if let Some(listed) = listed.take() {
                        self.retain(&resource, &listed);
                    }
                    if std::mem::take(&mut first) {
                        self.synced.send_modify(|count| *count += 1);
                    }
                }
                Err(error) => tracing::warn!(%error, ?resource, "rules are not followed at the moment"),
            }
        }
    }

    /// Takes in a role or binding in its current form.
    pub fn apply(&self, object: &Object) -> Result<(), Status> {
        let meta = object.meta();
        let (namespace, name) = (meta.namespace.clone(), meta.name.clone());
        if object.resource().plural.ends_with("roles") {
            let role: RoleForm = object.decode()?;
            let rules = role.rules.map(Arc::from).unwrap_or_default();
            self.write().scopes.entry(namespace).or_default().roles.insert(name, rules);
        } else {
            let form: BindingForm = object.decode()?;
            let subjects = form.subjects.unwrap_or_default();
            let binding = Binding { namespace: namespace.clone(), name, role: form.role_ref, subjects };
            self.write().scopes.entry(namespace).or_default().bind(Arc::new(binding));
        }
        Ok(())
    }

    pub fn remove(&self, object: &Object) {
        self.forget(object.resource(), &object.meta().namespace, &object.meta().name);
    }

    fn forget(&self, resource: &Resource, namespace: &str, name: &str) {
        let mut rules = self.write();
        if let Some(scope) = rules.scopes.get_mut(namespace) {
            if resource.plural.ends_with("roles") {
                scope.roles.remove(name);
            } else {
                scope.unbind(name);
            }
        }
    }

    /// Forgets what a new list no longer holds.
    fn retain(&self, resource: &Resource, listed: &BTreeSet<(Box<str>, Box<str>)>) {
        let mut gone = Vec::new();
        for (namespace, scope) in &self.read().scopes {
            if resource.namespaced == namespace.is_empty() {
                continue;
            }
            let roles = resource.plural.ends_with("roles");
            let names: Vec<&Box<str>> =
                if roles { scope.roles.keys().collect() } else { scope.bindings.keys().collect() };
            gone.extend(names.into_iter().map(|name| (namespace.clone(), name.clone())));
        }
        for (namespace, name) in gone.into_iter().filter(|key| !listed.contains(key)) {
            self.forget(resource, &namespace, &name);
        }
    }

    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let namespace = match attributes.target {
            Target::Resource(target) => target.namespace,
            Target::Path(_) => "",
        };
        let mut grant = None;
        self.read().visit(attributes.user, namespace, |binding, subject, rules| {
            if rules.iter().any(|rule| rule.allows(attributes)) {
                grant = Some(Grant::Rbac(binding.clone(), subject));
            }
            grant.is_none()
        });
        grant.map_or(Decision::Refused("".into()), Decision::Allowed)
    }

    /// Every rule that holds for `user` in `namespace`, the cluster's included.
    pub fn rules_for(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let mut all = Vec::new();
        self.read().visit(user, namespace, |_, _, rules| {
            all.extend_from_slice(rules);
            true
        });
        all
    }

    /// The rules of the role that a binding in `namespace` names; `None` when there is no such role.
    pub fn rules_of(&self, role: &RoleReference, namespace: &str) -> Option<Arc<[Rule]>> {
        self.read().rules_of(role, namespace).cloned()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, RuleBase> {
        self.rules.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, RuleBase> {
        self.rules.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl RuleBase {
    /// Calls `visitor` with each binding that applies and its role's rules, the cluster's first, until it says false.
    fn visit(&self, user: &User, namespace: &str, mut visitor: impl FnMut(&Arc<Binding>, usize, &[Rule]) -> bool) {
        let cluster = self.scopes.get("");
        let own = self.scopes.get(namespace).filter(|_| !namespace.is_empty());
        for scope in [cluster, own].into_iter().flatten() {
            let of_user = scope.users.get(user.name.as_str());
            let of_groups = user.groups.iter().filter_map(|group| scope.groups.get(group.as_str()));
            for (binding, subject) in of_user.into_iter().chain(of_groups).flatten() {
                if let Some(rules) = self.rules_of(&binding.role, &binding.namespace)
                    && !visitor(binding, *subject, rules)
                {
                    return;
                }
            }
        }
    }

    fn rules_of(&self, role: &RoleReference, namespace: &str) -> Option<&Arc<[Rule]>> {
        let scope = if *role.kind == *"Role" { namespace } else { "" };
        self.scopes.get(scope)?.roles.get(&role.name)
    }
}

impl Scope {
    fn bind(&mut self, binding: Arc<Binding>) {
        self.unbind(&binding.name);
        for (position, subject) in binding.subjects.iter().enumerate() {
            let (index, key) = match &*subject.kind {
                "User" => (&mut self.users, subject.name.clone()),
                "Group" => (&mut self.groups, subject.name.clone()),
                "ServiceAccount" => match subject.namespace_in(&binding.namespace) {
                    "" => continue,
                    namespace => (&mut self.users, service_account::user_name(namespace, &subject.name).into()),
                },
                _ => continue,
            };
            index.entry(key).or_default().push((binding.clone(), position));
        }
        self.bindings.insert(binding.name.clone(), binding);
    }

    fn unbind(&mut self, name: &str) {
        let Some(binding) = self.bindings.remove(name) else { return };
        for index in [&mut self.users, &mut self.groups] {
            index.retain(|_, bound| {
                bound.retain(|(other, _)| !Arc::ptr_eq(other, &binding));
                !bound.is_empty()
            });
        }
    }
}

impl Subject {
    fn namespace_in<'a>(&'a self, binding: &'a str) -> &'a str {
        if self.namespace.is_empty() { binding } else { &self.namespace }
    }
}

impl Binding {
    /// As upstream's decision reasons name a binding.
    pub fn describe(&self, subject: usize) -> String {
        let (kind, name) = match &*self.namespace {
            "" => ("ClusterRoleBinding", self.name.to_string()),
            namespace => ("RoleBinding", format!("{}/{namespace}", self.name)),
        };
        let subject = match self.subjects.get(subject) {
            Some(subject) if *subject.kind == *"ServiceAccount" => {
                format!("{} {:?}", subject.kind, format!("{}/{}", subject.name, subject.namespace_in(&self.namespace)))
            }
            Some(subject) => format!("{} {:?}", subject.kind, subject.name),
            None => String::new(),
        };
        format!("{kind} {name:?} of {} {:?} to {subject}", self.role.kind, self.role.name)
    }
}

#[cfg(test)]
mod tests;
