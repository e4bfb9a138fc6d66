//! Service accounts as users: their names and groups, and whether what a token is bound to still lives.

use coracle_api::{Object, Resource};
use jiff::Timestamp;
use serde::Deserialize;

use super::token::{Claims, Reference, TokenError};
use super::{AUTHENTICATED, CREDENTIAL_ID, User};

/// Finds the current form of an object; the registry over the store.
pub trait Lookup: Send + Sync + 'static {
    /// `namespace` is `""` for cluster-scoped resources.
    fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Object>;

    /// The objects of one namespace.
    fn list(&self, resource: &Resource, namespace: &str) -> Vec<Object>;
}

const PREFIX: &str = "system:serviceaccount:";

/// `system:serviceaccount:NAMESPACE:NAME`
pub fn user_name(namespace: &str, name: &str) -> String {
    format!("{PREFIX}{namespace}:{name}")
}

/// Namespace and name of a service account's user name.
pub fn split_user_name(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// The user that a service account is, without the facts that a token adds.
pub fn user(namespace: &str, name: &str, uid: &str) -> User {
    let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    User {
        name: user_name(namespace, name),
        uid: uid.to_owned(),
        groups: groups.into_iter().chain([AUTHENTICATED.to_owned()]).collect(),
        extra: Default::default(),
    }
}

/// The user of verified claims, if the service account and the bound object live (were not deleted before
/// `dead_before`, seconds since 1970). Upstream: kubernetes pkg/serviceaccount/claims.go (Validate).
pub(super) fn validate(claims: &Claims, lookup: &dyn Lookup, dead_before: i64) -> Result<User, TokenError> {
    let bound = &claims.kubernetes;
    let alive = |plural, namespace, reference| alive(lookup, plural, namespace, reference, dead_before);
    alive("serviceaccounts", &bound.namespace, &bound.serviceaccount)?;
    let mut user = user(&bound.namespace, &bound.serviceaccount.name, &bound.serviceaccount.uid);
    let mut note = |key: &str, value: &str| user.extra.insert(key.to_owned(), vec![value.to_owned()]);
    if let Some(secret) = &bound.secret {
        alive("secrets", &bound.namespace, secret)?;
    }
    if let Some(pod) = &bound.pod {
        alive("pods", &bound.namespace, pod)?;
        note("authentication.kubernetes.io/pod-name", &pod.name);
        note("authentication.kubernetes.io/pod-uid", &pod.uid);
    }
    if let Some(node) = &bound.node {
        // A pod's token only carries the node's name along; the pod decides.
        if bound.pod.is_none() {
            alive("nodes", "", node)?;
        }
        note("authentication.kubernetes.io/node-name", &node.name);
        if !node.uid.is_empty() {
            note("authentication.kubernetes.io/node-uid", &node.uid);
        }
    }
    if !claims.jti.is_empty() {
        note(CREDENTIAL_ID, &format!("JTI={}", claims.jti));
    }
    Ok(user)
}

fn alive(
    lookup: &dyn Lookup,
    plural: &str,
    namespace: &str,
    reference: &Reference,
    dead_before: i64,
) -> Result<(), TokenError> {
    let gone = || TokenError::Bound(format!("{plural} {:?} of the token is gone", reference.name));
    let group = if plural == "volumeattachments" { "storage.k8s.io" } else { "" };
    let resource = Resource::find(group, "v1", plural).ok_or_else(gone)?;
    let object = lookup.get(&resource, namespace, &reference.name).ok_or_else(gone)?;
    if *object.meta().uid != *reference.uid {
        return Err(TokenError::Bound(format!("{plural} {:?} is not the one of the token", reference.name)));
    }
    match deleted_at(&object) {
        Some(deleted) if deleted < dead_before => Err(gone()),
        _ => Ok(()),
    }
}

/// `metadata.deletionTimestamp` in seconds since 1970.
fn deleted_at(object: &Object) -> Option<i64> {
    #[derive(Deserialize)]
    struct Partial {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        deletion_timestamp: Option<Timestamp>,
    }
    Some(object.decode::<Partial>().ok()?.metadata.deletion_timestamp?.as_second())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;

    use coracle_api::object::Meta;

    use super::*;

    /// Objects by `plural/namespace/name`.
    #[derive(Default)]
    pub(crate) struct Objects(HashMap<String, Object>);

    impl Objects {
        pub(crate) fn with(mut self, plural: &str, namespace: &str, name: &str, json: &str) -> Self {
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            let uid = value["metadata"]["uid"].as_str().unwrap().into();
            let meta = Meta { namespace: namespace.into(), name: name.into(), uid, ..Meta::default() };
            let group = if plural == "volumeattachments" { "storage.k8s.io" } else { "" };
            let resource = Resource::find(group, "v1", plural).expect("the catalog has it");
            let object = Object::new(resource, 1, json.to_owned().into(), meta);
            self.0.insert(format!("{plural}/{namespace}/{name}"), object);
            self
        }
    }

    impl Lookup for Objects {
        fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Object> {
            self.0.get(&format!("{}/{namespace}/{name}", resource.plural)).cloned()
        }

        fn list(&self, resource: &Resource, namespace: &str) -> Vec<Object> {
            let prefix = format!("{}/{namespace}/", resource.plural);
            self.0.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(_, object)| object.clone()).collect()
        }
    }

    pub(crate) fn objects() -> Objects {
        Objects::default().with("serviceaccounts", "ci", "builder", r#"{"metadata":{"uid":"sa-1"}}"#).with(
            "pods",
            "ci",
            "job",
            r#"{"metadata":{"uid":"pod-1","deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{"serviceAccountName":"builder","nodeName":"n1"}}"#,
        )
    }

    fn claims(uid: &str, pod: Option<&str>) -> Claims {
        let reference = |name: &str, uid: &str| Reference { name: name.to_owned(), uid: uid.to_owned() };
        let mut claims = Claims::default();
        claims.kubernetes.namespace = "ci".to_owned();
        claims.kubernetes.serviceaccount = reference("builder", uid);
        claims.kubernetes.pod = pod.map(|uid| reference("job", uid));
        claims
    }

    #[test]
    fn a_token_dies_with_what_it_is_bound_to() {
        let deleted = "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap().as_second();
        assert!(validate(&claims("sa-1", None), &objects(), 0).is_ok());
        assert!(validate(&claims("sa-2", None), &objects(), 0).is_err(), "recreated service account");
        assert!(validate(&claims("sa-1", None), &Objects::default(), 0).is_err(), "deleted service account");
        assert!(validate(&claims("sa-1", Some("pod-2")), &objects(), 0).is_err(), "recreated pod");
        assert!(validate(&claims("sa-1", Some("pod-1")), &objects(), deleted).is_ok(), "within the leeway");
        assert!(validate(&claims("sa-1", Some("pod-1")), &objects(), deleted + 1).is_err(), "after it");
        let user = validate(&claims("sa-1", Some("pod-1")), &objects(), 0).unwrap();
        assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["job"]);
    }

    #[test]
    fn user_names_split() {
        assert_eq!(split_user_name("system:serviceaccount:a:b"), Some(("a", "b")));
        for name in ["system:serviceaccount:a", "system:serviceaccount::b", "system:serviceaccount:a:b:c", "jane"] {
            assert_eq!(split_user_name(name), None, "{name}");
        }
    }
}
