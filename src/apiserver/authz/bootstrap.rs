//! Reconciles the bootstrap policy with what the cluster has: missing objects come back, missing rules and subjects are
//! added, what someone added stays.
//!
//! Upstream: kubernetes pkg/registry/rbac/rest/storage_rbac.go and k8s.io/component-helpers auth/rbac/reconciliation.

use serde_json::{Value, json};

use super::policy::Policy;
use super::rbac::GROUP;
use super::rule::Rule;

/// An administrator sets it to `false` to keep a default role as it is.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// A default object as it should be.
pub struct Default {
    /// `clusterroles`, `roles`, `clusterrolebindings` or `rolebindings`.
    pub plural: &'static str,
    /// `""` for cluster-scoped ones.
    pub namespace: &'static str,
    pub name: &'static str,
    pub object: Value,
}

/// What is to be done about one object.
#[derive(Debug, PartialEq)]
pub enum Step {
    Create(Value),
    Update(Value),
    /// A binding's role cannot be changed: delete, then create.
    Recreate(Value),
}

/// Every default object, roles before bindings.
pub fn defaults() -> Vec<Default> {
    let policy = Policy::builtin();
    let roles = policy.roles.into_iter().map(|role| {
        let cluster = role.namespace.is_empty();
        let mut object = object(if cluster { "ClusterRole" } else { "Role" }, role.namespace, role.name);
        for label in role.into {
            object["metadata"]["labels"][aggregate(label)] = json!("true");
        }
        if let Some(label) = role.from {
            let selector = json!({ "matchLabels": { aggregate(label): "true" } });
            object["aggregationRule"] = json!({ "clusterRoleSelectors": [selector] });
        }
        object["rules"] = json!(role.rules);
        let plural = if cluster { "clusterroles" } else { "roles" };
        Default { plural, namespace: role.namespace, name: role.name, object }
    });
    let bindings = policy.bindings.into_iter().map(|binding| {
        let cluster = binding.namespace.is_empty();
        let kind = if cluster { "ClusterRoleBinding" } else { "RoleBinding" };
        let mut object = object(kind, binding.namespace, binding.name);
        object["roleRef"] = json!({ "apiGroup": GROUP, "kind": binding.role_kind, "name": binding.role });
        let subjects = binding.subjects.iter().map(|subject| match subject.namespace {
            "" => json!({ "apiGroup": GROUP, "kind": subject.kind, "name": subject.name }),
            namespace => json!({ "kind": subject.kind, "name": subject.name, "namespace": namespace }),
        });
        object["subjects"] = subjects.collect();
        let plural = if cluster { "clusterrolebindings" } else { "rolebindings" };
        Default { plural, namespace: binding.namespace, name: binding.name, object }
    });
    roles.chain(bindings).collect()
}

fn aggregate(label: &str) -> String {
    format!("{GROUP}/aggregate-to-{label}")
}

fn object(kind: &str, namespace: &str, name: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
        "annotations": { AUTO_UPDATE: "true" },
    });
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    json!({ "apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata })
}

/// `current` is the object as it is stored, if it is.
pub fn reconcile(current: Option<&Value>, wanted: &Value) -> Option<Step> {
    let Some(current) = current else { return Some(Step::Create(wanted.clone())) };
    if current["metadata"]["annotations"][AUTO_UPDATE] != "true" {
        return None;
    }
    if current["roleRef"] != wanted["roleRef"] {
        return Some(Step::Recreate(wanted.clone()));
    }
    let mut merged = current.clone();
    for field in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][field].as_object().into_iter().flatten() {
            if merged["metadata"][field][key].is_null() {
                merged["metadata"][field][key] = value.clone();
            }
        }
    }
    if wanted["aggregationRule"].is_object() {
        merged["aggregationRule"] = wanted["aggregationRule"].clone();
    }
    let rules = |object: &Value| -> Vec<Rule> { serde_json::from_value(object["rules"].clone()).unwrap_or_default() };
    let own = rules(current);
    let covered = |rule: &Rule| rule.atoms().iter().all(|atom| own.iter().any(|own| own.covers(atom)));
    append(&mut merged, "rules", rules(wanted).iter().filter(|rule| !covered(rule)).map(|rule| json!(rule)).collect());
    let subjects = current["subjects"].as_array().map(Vec::as_slice).unwrap_or_default();
    let missing = wanted["subjects"].as_array().into_iter().flatten().filter(|subject| !subjects.contains(subject));
    append(&mut merged, "subjects", missing.cloned().collect());
    (merged != *current).then_some(Step::Update(merged))
}

fn append(object: &mut Value, field: &str, items: Vec<Value>) {
    match &mut object[field] {
        Value::Array(list) => list.extend(items),
        slot if !items.is_empty() => *slot = Value::Array(items),
        _ => {}
    }
    if object[field].is_null()
        && let Some(object) = object.as_object_mut()
    {
        object.remove(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default(plural: &str, name: &str) -> Value {
        let found = defaults().into_iter().find(|default| (default.plural, default.name) == (plural, name));
        found.expect("it is in the table").object
    }

    #[test]
    fn what_is_there_stays_as_it_is() {
        for default in defaults() {
            assert_eq!(reconcile(Some(&default.object), &default.object), None, "{}", default.name);
        }
    }

    #[test]
    fn missing_objects_rules_and_subjects_come_back() {
        let wanted = default("clusterroles", "system:basic-user");
        assert_eq!(reconcile(None, &wanted), Some(Step::Create(wanted.clone())));
        let mut current = wanted.clone();
        let extra = json!({ "verbs": ["get"], "apiGroups": ["x"], "resources": ["y"] });
        current["rules"] = json!([extra]);
        let Some(Step::Update(merged)) = reconcile(Some(&current), &wanted) else { panic!("rules are missing") };
        assert_eq!(merged["rules"][0], extra);
        assert_eq!(merged["rules"].as_array().unwrap().len(), 3);

        let wanted = default("clusterrolebindings", "system:discovery");
        let mut current = wanted.clone();
        current.as_object_mut().unwrap().remove("subjects");
        assert_eq!(reconcile(Some(&current), &wanted), Some(Step::Update(wanted)));
    }

    #[test]
    fn protected_objects_are_left_alone_and_roles_of_bindings_are_restored() {
        let wanted = default("clusterrolebindings", "cluster-admin");
        let mut current = wanted.clone();
        current["roleRef"]["name"] = json!("view");
        assert_eq!(reconcile(Some(&current), &wanted), Some(Step::Recreate(wanted.clone())));
        current["metadata"]["annotations"][AUTO_UPDATE] = json!("false");
        assert_eq!(reconcile(Some(&current), &wanted), None);
    }

    #[test]
    fn every_object_is_valid() {
        for default in defaults() {
            let resource = coracle_api::Resource::find(GROUP, "v1", default.plural).unwrap();
            let mut object = default.object;
            coracle_api::defaults::apply(&resource, &mut object);
            crate::registry::validate::check(&resource, "", &object, None).unwrap();
        }
    }
}
