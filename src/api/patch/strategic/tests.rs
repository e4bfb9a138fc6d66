//! Patches as kubectl sends them.

use serde_json::json;

use super::*;
use crate::schema::Schema;

fn patched(ty: &str, mut target: Value, patch: Value) -> Result<Value, Status> {
    apply(&mut target, patch, Schema::builtin().find(ty).expect("a type"))?;
    Ok(target)
}

fn pod(target: Value, patch: Value) -> Result<Value, Status> {
    patched("io.k8s.api.core.v1.PodSpec", target, patch)
}

#[test]
fn lists_merge_by_key() {
    let target = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}], "nodeName": "n"});
    let patch = json!({"containers": [{"name": "b", "image": "2"}, {"name": "c"}], "nodeName": null});
    assert_eq!(
        pod(target, patch).unwrap(),
        json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c"}]})
    );
}

#[test]
fn ports_merge_by_the_patch_key_alone() {
    let target = json!({"ports": [{"port": 80, "name": "x", "protocol": "TCP"}]});
    let patch = json!({"ports": [{"port": 80, "protocol": "UDP"}]});
    let merged = patched("io.k8s.api.core.v1.ServiceSpec", target, patch).unwrap();
    assert_eq!(merged, json!({"ports": [{"port": 80, "name": "x", "protocol": "UDP"}]}));
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    let target = json!({"containers": [{"name": "a", "args": ["1", "2"]}], "tolerations": [{"key": "x"}]});
    let patch = json!({"containers": [{"name": "a", "args": ["3"]}], "tolerations": []});
    assert_eq!(pod(target, patch).unwrap(), json!({"containers": [{"name": "a", "args": ["3"]}], "tolerations": []}));
}

#[test]
fn elements_are_deleted_and_replaced() {
    let target = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let patch = json!({"containers": [{"name": "a", "$patch": "delete"}]});
    assert_eq!(pod(target.clone(), patch).unwrap(), json!({"containers": [{"name": "b"}]}));
    let patch = json!({"containers": [{"$patch": "replace"}, {"name": "z"}]});
    assert_eq!(pod(target.clone(), patch).unwrap(), json!({"containers": [{"name": "z"}]}));
    let patch = json!({"containers": [{"name": "c", "$patch": "nonsense"}]});
    assert_eq!(
        pod(target, patch).unwrap_err().message,
        "unknown patch type: nonsense in map: map[$patch:nonsense name:c]"
    );
}

#[test]
fn maps_are_replaced_and_deleted() {
    let target = json!({"nodeSelector": {"a": "1"}, "securityContext": {"runAsUser": 1}});
    let patch = json!({"nodeSelector": {"$patch": "replace", "b": "2"}, "securityContext": {"$patch": "delete"}});
    assert_eq!(pod(target, patch).unwrap(), json!({"nodeSelector": {"b": "2"}, "securityContext": {}}));
}

#[test]
fn order_is_set() {
    let target = json!({"containers": [{"name": "a"}, {"name": "s"}, {"name": "b"}]});
    let patch = json!({
        "$setElementOrder/containers": [{"name": "b"}, {"name": "n"}, {"name": "a"}],
        "containers": [{"name": "n", "image": "x"}],
    });
    assert_eq!(
        pod(target, patch).unwrap(),
        json!({"containers": [{"name": "s"}, {"name": "b"}, {"name": "n", "image": "x"}, {"name": "a"}]})
    );
    let patch = json!({"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "n"}]});
    let message = pod(json!({"containers": []}), patch).unwrap_err().message;
    assert!(message.starts_with("The order in patch list:\n[map[name:n]]\n doesn't match"), "{message}");
}

#[test]
fn keys_are_retained() {
    let deployment = |target, patch| patched("io.k8s.api.apps.v1.DeploymentSpec", target, patch);
    let target = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}});
    let patch = json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}});
    assert_eq!(deployment(target.clone(), patch).unwrap(), json!({"strategy": {"type": "Recreate"}}));
    let patch = json!({"strategy": {"$retainKeys": ["x"], "type": "Recreate"}});
    assert_eq!(deployment(target, patch).unwrap_err().code, 400);
}

#[test]
fn primitive_lists_merge_and_lose_elements() {
    let meta = |target, patch| patched("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", target, patch);
    let target = json!({"finalizers": ["a", "b"]});
    assert_eq!(
        meta(target.clone(), json!({"finalizers": ["c", "a"]})).unwrap()["finalizers"].as_array().unwrap().len(),
        3
    );
    let patch = json!({"$deleteFromPrimitiveList/finalizers": ["a"]});
    assert_eq!(meta(target, patch).unwrap(), json!({"finalizers": ["b"]}));
}

#[test]
fn elements_need_their_key() {
    let error = pod(json!({"containers": [{"name": "a"}]}), json!({"containers": [{"image": "x"}]})).unwrap_err();
    assert_eq!(error.message, "map: map[image:x] does not contain declared merge key: name");
    assert_eq!((error.code, error.reason.as_str()), (500, ""));
}
