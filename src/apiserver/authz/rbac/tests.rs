//! Rule bases built from objects, asked and changed.

use coracle_api::object::Meta;
use serde_json::{Value, json};

use super::super::{Authorizer, ResourceTarget, bootstrap, escalation};
use super::*;
use crate::authn::service_account::tests::Objects;

fn object(plural: &str, namespace: &str, name: &str, value: &Value) -> Object {
    let meta = Meta { namespace: namespace.into(), name: name.into(), ..Meta::default() };
    let resource = Resource::find(GROUP, "v1", plural).expect("the catalog has it");
    Object::new(resource, 1, value.to_string().into(), meta)
}

/// The bootstrap policy and a few objects beside it.
fn authorizer() -> Authorizer {
    let authorizer = Authorizer::new(Arc::new(Objects::default()));
    for default in bootstrap::defaults() {
        authorizer.rbac().apply(&object(default.plural, default.namespace, default.name, &default.object)).unwrap();
    }
    let binding = json!({
        "roleRef": { "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "kind": "User", "name": "jane" }, { "kind": "ServiceAccount", "name": "bot" }],
    });
    authorizer.rbac().apply(&object("rolebindings", "web", "viewers", &binding)).unwrap();
    authorizer
}

fn ask(authorizer: &Authorizer, user: &User, verb: &str, what: &str, namespace: &str) -> Decision {
    let (resource, group) = what.split_once('.').unwrap_or((what, ""));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let target = match what.starts_with('/') {
        true => Target::Path(what),
        false => Target::Resource(ResourceTarget { group, resource, subresource, namespace, ..Default::default() }),
    };
    authorizer.authorize(&Attributes { user, verb, target })
}

#[test]
fn bindings_hold_where_they_are() {
    let authorizer = authorizer();
    let jane = User::new("jane", &[]);
    let allowed = |user: &User, verb, what, namespace| ask(&authorizer, user, verb, what, namespace).allowed();
    assert!(allowed(&jane, "get", "pods", "web"));
    assert!(allowed(&jane, "list", "deployments.apps", "web"));
    assert!(!allowed(&jane, "get", "pods", "other"));
    assert!(!allowed(&jane, "get", "pods", ""));
    assert!(!allowed(&jane, "get", "secrets", "web"));
    assert!(!allowed(&jane, "create", "pods", "web"));
    assert!(allowed(&jane, "get", "/apis/apps", ""));
    assert!(!allowed(&jane, "get", "/metrics", ""));
    assert!(
        allowed(&User::new("system:serviceaccount:web:bot", &[]), "get", "pods", "web"),
        "namespace of the binding"
    );
    assert!(allowed(&User::anonymous(), "get", "/healthz", ""));
    assert!(!allowed(&User::anonymous(), "get", "/api", ""));
    assert!(allowed(&User::new("root", &["system:masters"]), "delete", "nodes", ""));
    assert!(allowed(&User::new("system:kube-scheduler", &[]), "create", "pods/binding", "web"));
    assert!(!allowed(&User::new("system:kube-scheduler", &[]), "update", "pods", "web"));
}

#[test]
fn reasons_name_the_binding() {
    let reason = ask(&authorizer(), &User::new("jane", &[]), "get", "pods", "web").reason();
    assert_eq!(reason, r#"RBAC: allowed by RoleBinding "viewers/web" of ClusterRole "view" to User "jane""#);
}

#[test]
fn removed_bindings_and_roles_count_no_more() {
    let authorizer = authorizer();
    let jane = User::new("jane", &[]);
    let binding = object("rolebindings", "web", "viewers", &json!({}));
    authorizer.rbac().remove(&binding);
    assert!(!ask(&authorizer, &jane, "get", "pods", "web").allowed());
    assert!(!authorizer.rbac().read().scopes["web"].users.contains_key("jane"));
}

#[test]
fn a_new_list_forgets_what_it_does_not_hold() {
    let authorizer = authorizer();
    let bindings = Resource::find(GROUP, "v1", "rolebindings").unwrap();
    authorizer.rbac().retain(&bindings, &BTreeSet::new());
    assert!(!ask(&authorizer, &User::new("jane", &[]), "get", "pods", "web").allowed());
    assert!(ask(&authorizer, &User::new("jane", &[]), "get", "/api", "").allowed(), "cluster bindings stay");
}

#[test]
fn nobody_grants_what_they_do_not_hold() {
    let authorizer = authorizer();
    let jane = User::new("jane", &[]);
    let check = |user: &User, plural: &str, value: Value| {
        let resource = Resource::find(GROUP, "v1", plural).unwrap();
        escalation::check(&authorizer, user, &resource, "web", "new", &value, None).map_err(|status| status.code)
    };
    let role = |verb: &str| json!({ "rules": [{ "verbs": [verb], "apiGroups": [""], "resources": ["pods"] }] });
    let binding = |role: &str| json!({ "roleRef": { "apiGroup": GROUP, "kind": "ClusterRole", "name": role } });
    assert_eq!(check(&jane, "roles", role("get")), Ok(()));
    assert_eq!(check(&jane, "roles", role("create")), Err(403));
    assert_eq!(check(&jane, "rolebindings", binding("view")), Ok(()));
    assert_eq!(check(&jane, "rolebindings", binding("edit")), Err(403));
    assert_eq!(check(&jane, "rolebindings", binding("nothing")), Err(404));
    let root = User::new("root", &["system:masters"]);
    assert_eq!(check(&root, "rolebindings", binding("cluster-admin")), Ok(()));

    let resource = Resource::find(GROUP, "v1", "roles").unwrap();
    let status = escalation::check(&authorizer, &jane, &resource, "web", "new", &role("create"), None).unwrap_err();
    assert_eq!(
        status.message,
        "roles.rbac.authorization.k8s.io \"new\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) \
         is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"create\"]}"
    );
}
