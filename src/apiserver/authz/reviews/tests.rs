//! Reviews asked by a user without rights of their own.

use std::sync::Arc;

use super::*;
use crate::authn::service_account::tests::Objects;
use crate::authn::token::tests::authenticator;

fn ask(group: &str, plural: &str, namespace: &str, body: Value) -> Result<Value, u16> {
    let resource = Resource::find(group, "v1", plural).expect("the catalog has it");
    assert!(is_review(&resource));
    let authorizer = Authorizer::new(Arc::new(Objects::default()));
    answer(&authorizer, &authenticator(), &User::new("jane", &["dev"]), &resource, namespace, body)
        .map(|answer| answer["status"].clone())
        .map_err(|status| status.code)
}

fn access(plural: &str, spec: Value) -> Result<Value, u16> {
    ask("authorization.k8s.io", plural, "web", json!({ "spec": spec }))
}

#[test]
fn access_is_told() {
    let pods = json!({ "verb": "get", "resource": "pods", "namespace": "web" });
    assert_eq!(
        access("selfsubjectaccessreviews", json!({ "resourceAttributes": pods })),
        Ok(json!({ "allowed": false }))
    );
    let root = json!({ "resourceAttributes": pods, "groups": ["system:masters"] });
    assert_eq!(access("subjectaccessreviews", root.clone()), Ok(json!({ "allowed": true })));
    assert_eq!(access("localsubjectaccessreviews", root), Ok(json!({ "allowed": true })));
}

#[test]
fn malformed_questions_are_invalid() {
    let path = json!({ "verb": "get", "path": "/x" });
    assert_eq!(access("selfsubjectaccessreviews", json!({})), Err(422));
    assert_eq!(access("subjectaccessreviews", json!({ "nonResourceAttributes": path })), Err(422));
    assert_eq!(access("localsubjectaccessreviews", json!({ "nonResourceAttributes": path, "user": "a" })), Err(422));
    assert_eq!(access("selfsubjectrulesreviews", json!({})), Err(400));
    assert_eq!(ask("authentication.k8s.io", "tokenreviews", "", json!({ "spec": {} })), Err(400));
}

#[test]
fn i_am_told_who_i_am() {
    let status = ask("authentication.k8s.io", "selfsubjectreviews", "", json!({})).unwrap();
    assert_eq!(status, json!({ "userInfo": { "username": "jane", "groups": ["dev", "system:authenticated"] } }));
}

#[test]
fn a_bad_token_is_not_authenticated() {
    let status = ask("authentication.k8s.io", "tokenreviews", "", json!({ "spec": { "token": "x" } })).unwrap();
    assert_eq!(status, json!({ "user": {}, "error": "not a token of this cluster" }));
}
