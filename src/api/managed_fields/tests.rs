//! Ownership over sequences of writes.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::Status;
use crate::schema::Schema;

const NO_RESET: FieldSet = FieldSet::EMPTY;

struct Live {
    ty: Type<'static>,
    api_version: &'static str,
    object: Option<Value>,
    clock: u32,
}

impl Live {
    fn new(api_version: &'static str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let ty = Schema::builtin().of_kind(group, version, kind).expect("a kind");
        Self { ty, api_version, object: None, clock: 0 }
    }

    fn with_operation<T>(
        &mut self,
        manager: &str,
        subresource: &str,
        act: impl FnOnce(&Self, &Operation<'_>) -> T,
    ) -> T {
        self.clock += 1;
        let time = format!("2026-01-01T00:00:{:02}Z", self.clock);
        let operation = Operation {
            manager,
            api_version: self.api_version,
            subresource,
            time: &time,
            reset: &NO_RESET,
            shown_version: None,
        };
        act(self, &operation)
    }

    fn update(&mut self, manager: &str, subresource: &str, mut object: Value) {
        self.with_operation(manager, subresource, |live, operation| {
            track_update(live.ty, live.object.as_ref(), &mut object, operation);
        });
        self.object = Some(object);
    }

    fn apply(&mut self, manager: &str, applied: Value, force: bool) -> Result<(), Status> {
        let object = self.with_operation(manager, "", |live, operation| {
            apply(live.ty, live.object.as_ref(), &applied, operation, force)
        })?;
        self.object = Some(object);
        Ok(())
    }

    fn without_managers(&self) -> Value {
        let mut object = self.object.clone().unwrap();
        take_managed_fields(&mut object);
        object
    }

    fn check(&self, expected: Expect) {
        let entries = managed_fields(self.object.as_ref().unwrap()).cloned().unwrap_or_default();
        let mut text = String::new();
        for entry in entries.as_array().into_iter().flatten() {
            let field = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
            let names = ["operation", "manager", "subresource", "time"].map(field).join(" ");
            text.push_str(&format!("{names} {}\n", entry["fieldsV1"]));
        }
        expected.assert_eq(&text);
    }
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "d"}, "data": data})
}

#[test]
fn creates_and_updates_are_recorded() {
    let mut live = Live::new("v1", "ConfigMap");
    live.update("one", "", config_map(json!({"x": "1", "y": "1"})));
    live.check(expect![[r#"
        Update one - 2026-01-01T00:00:01Z {"f:data":{".":{},"f:x":{},"f:y":{}}}
    "#]]);
    live.update("two", "", config_map(json!({"x": "2", "y": "1", "z": "1"})));
    live.check(expect![[r#"
        Update one - 2026-01-01T00:00:01Z {"f:data":{".":{},"f:y":{}}}
        Update two - 2026-01-01T00:00:02Z {"f:data":{"f:x":{},"f:z":{}}}
    "#]]);
    live.update("one", "", config_map(json!({"y": "3"})));
    live.check(expect![[r#"
        Update one - 2026-01-01T00:00:03Z {"f:data":{".":{},"f:y":{}}}
    "#]]);
    live.update("three", "", config_map(json!({"y": "3"})));
    live.check(expect![[r#"
        Update one - 2026-01-01T00:00:03Z {"f:data":{".":{},"f:y":{}}}
    "#]]);
}

#[test]
fn a_pod_is_recorded_as_upstream_does() {
    let mut live = Live::new("v1", "Pod");
    live.update(
        "kubectl",
        "",
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "x"}},
            "spec": {
                "containers": [{
                    "name": "c", "image": "i", "resources": {}, "args": ["1"],
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                }],
                "securityContext": {}, "restartPolicy": "Always",
            },
            "status": {"phase": "Pending"},
        }),
    );
    live.check(expect![[r#"
        Update kubectl - 2026-01-01T00:00:01Z {"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:args":{},"f:image":{},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:protocol":{}}},"f:resources":{}}},"f:restartPolicy":{},"f:securityContext":{}},"f:status":{"f:phase":{}}}
    "#]]);
}

#[test]
fn subresources_have_entries_of_their_own() {
    let mut live = Live::new("v1", "Pod");
    let pod = |phase: &str| json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n"}, "status": {"phase": phase}});
    live.update("kubelet", "", pod("Pending"));
    live.update("kubelet", "status", pod("Running"));
    live.check(expect![[r#"
        Update kubelet - 2026-01-01T00:00:01Z {"f:spec":{"f:nodeName":{}}}
        Update kubelet status 2026-01-01T00:00:02Z {"f:status":{"f:phase":{}}}
    "#]]);
}

#[test]
fn clients_may_reset_the_record() {
    let mut live = Live::new("v1", "ConfigMap");
    live.update("one", "", config_map(json!({"x": "1"})));
    let mut object = config_map(json!({"x": "2"}));
    object["metadata"]["managedFields"] = json!([]);
    live.update("one", "", object);
    assert_eq!(managed_fields(live.object.as_ref().unwrap()), None);
    live.update("one", "", config_map(json!({"x": "3"})));
    assert_eq!(managed_fields(live.object.as_ref().unwrap()), None);
}

#[test]
fn apply_creates_and_removes_what_it_no_longer_says() {
    let mut live = Live::new("v1", "ConfigMap");
    live.apply("a", config_map(json!({"x": "1", "y": "1"})), false).unwrap();
    live.check(expect![[r#"
        Apply a - 2026-01-01T00:00:01Z {"f:data":{"f:x":{},"f:y":{}}}
    "#]]);
    live.apply("b", config_map(json!({"y": "1"})), false).unwrap();
    live.apply("a", config_map(json!({})), false).unwrap();
    assert_eq!(live.without_managers(), config_map(json!({"y": "1"})));
    live.check(expect![[r#"
        Apply b - - {"f:data":{"f:y":{}}}
        Apply a - 2026-01-01T00:00:03Z {"f:data":{}}
    "#]]);
}

#[test]
fn conflicts_name_manager_and_field() {
    let mut live = Live::new("v1", "ConfigMap");
    live.update("one", "", config_map(json!({"x": "1", "y": "1"})));
    let error = live.apply("a", config_map(json!({"x": "2"})), false).unwrap_err();
    assert_eq!(error.message, "Apply failed with 1 conflict: conflict with \"one\" using v1: .data.x");
    let cause = &error.details.unwrap().causes[0];
    assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("FieldManagerConflict", ".data.x"));
    let error = live.apply("a", config_map(json!({"x": "2", "y": "2"})), false).unwrap_err();
    assert_eq!(error.message, "Apply failed with 2 conflicts: conflicts with \"one\" using v1:\n- .data.x\n- .data.y");
    live.apply("a", config_map(json!({"x": "2"})), true).unwrap();
    live.check(expect![[r#"
        Apply a - 2026-01-01T00:00:04Z {"f:data":{"f:x":{}}}
        Update one - 2026-01-01T00:00:01Z {"f:data":{".":{},"f:y":{}}}
    "#]]);
}

#[test]
fn the_same_value_is_shared() {
    let mut live = Live::new("v1", "ConfigMap");
    live.update("one", "", config_map(json!({"x": "1"})));
    live.apply("a", config_map(json!({"x": "1"})), false).unwrap();
    live.check(expect![[r#"
        Apply a - - {"f:data":{"f:x":{}}}
        Update one - 2026-01-01T00:00:01Z {"f:data":{".":{},"f:x":{}}}
    "#]]);
}

fn deployment(replicas: Option<u32>, containers: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": containers}}},
    });
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = replicas.into();
    }
    object
}

#[test]
fn lists_merge_by_keys() {
    let mut live = Live::new("apps/v1", "Deployment");
    live.apply("a", deployment(Some(1), json!([{"name": "x", "image": "1"}, {"name": "y", "image": "1"}])), false)
        .unwrap();
    live.apply("b", deployment(None, json!([{"name": "z", "image": "1"}, {"name": "x", "image": "1"}])), false)
        .unwrap();
    let names = |live: &Live| -> Vec<String> {
        let containers = live.without_managers()["spec"]["template"]["spec"]["containers"].clone();
        containers.as_array().unwrap().iter().map(|container| container["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&live), ["z", "x", "y"]);
    live.apply("a", deployment(None, json!([{"name": "x", "image": "1"}])), false).unwrap();
    assert_eq!(names(&live), ["z", "x"]);
    assert_eq!(live.without_managers()["spec"].get("replicas"), None);
    live.check(expect![[r#"
        Apply b - 2026-01-01T00:00:02Z {"f:spec":{"f:selector":{},"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"x\"}":{".":{},"f:image":{},"f:name":{}},"k:{\"name\":\"z\"}":{".":{},"f:image":{},"f:name":{}}}}}}}
        Apply a - 2026-01-01T00:00:03Z {"f:spec":{"f:selector":{},"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"x\"}":{".":{},"f:image":{},"f:name":{}}}}}}}
    "#]]);
}

#[test]
fn keys_have_defaults() {
    let mut live = Live::new("v1", "Service");
    let service = |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": ports}});
    live.update("one", "", service(json!([{"port": 80, "protocol": "TCP", "targetPort": 1}])));
    live.apply("a", service(json!([{"port": 80, "name": "http"}])), false).unwrap();
    assert_eq!(
        live.without_managers()["spec"]["ports"],
        json!([{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 1}])
    );
}

#[test]
fn objects_without_a_record_get_one_before_the_first_apply() {
    let mut live = Live::new("v1", "ConfigMap");
    live.object = Some(config_map(json!({"x": "1"})));
    let error = live.apply("a", config_map(json!({"x": "2"})), false).unwrap_err();
    assert!(error.message.contains("\"before-first-apply\" using v1: .data.x"), "{}", error.message);
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let mut live = Live::new("v1", "ConfigMap");
    let mut object = config_map(json!({"x": "1"}));
    object["metadata"]["annotations"] = json!({
        "kubectl.kubernetes.io/last-applied-configuration": config_map(json!({"x": "1"})).to_string(),
    });
    live.update("kubectl-client-side-apply", "", object);
    live.apply("kubectl", config_map(json!({"x": "2"})), false).unwrap();
    let object = live.without_managers();
    assert_eq!(object["data"]["x"], "2");
    let annotation =
        object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str().unwrap();
    assert!(annotation.contains("\"x\":\"2\""), "{annotation}");
}

#[test]
fn what_is_no_object_of_the_type_is_refused() {
    let mut live = Live::new("apps/v1", "Deployment");
    let mut refused = |applied: Value| live.apply("a", applied, false).unwrap_err().message;
    assert_eq!(refused(json!({"apiVersion": "v1", "kind": "Pod"})), "invalid object type: /v1, Kind=Pod");
    let mut unknown = deployment(Some(1), json!([]));
    unknown["spec"]["nonsense"] = json!(1);
    assert_eq!(
        refused(unknown),
        "failed to create typed patch object (/a; apps/v1, Kind=Deployment): .spec.nonsense: field not declared in schema"
    );
    assert_eq!(
        refused(deployment(None, json!([{"name": "x"}, {"name": "x"}]))),
        "failed to create typed patch object (/a; apps/v1, Kind=Deployment): .spec.template.spec.containers: duplicate entries for key [name=\"x\"]"
    );
    let mut managed = deployment(None, json!([]));
    managed["metadata"]["managedFields"] = json!([]);
    assert_eq!(refused(managed), "metadata.managedFields must be nil");
}

#[test]
fn old_updates_are_joined() {
    let mut live = Live::new("v1", "ConfigMap");
    for number in 0..12 {
        let mut data = live.object.as_ref().map_or_else(|| json!({}), |object| object["data"].clone());
        data[format!("k{number}")] = "1".into();
        live.update(&format!("m{number:02}"), "", config_map(data));
    }
    let entries = managed_fields(live.object.as_ref().unwrap()).unwrap().as_array().unwrap();
    assert_eq!(entries.len(), 10);
    assert_eq!(entries[0]["manager"], "ancient-changes");
    assert_eq!(entries[0]["fieldsV1"], json!({"f:data": {".": {}, "f:k0": {}, "f:k1": {}, "f:k2": {}}}));
}

#[test]
fn reset_fields_are_nobodys() {
    let ty = Schema::builtin().of_kind("", "v1", "Pod").unwrap();
    let reset = FieldSet::of_fields(&[&["status"]]);
    let operation =
        Operation { manager: "a", api_version: "v1", subresource: "", time: "t", reset: &reset, shown_version: None };
    let mut pod = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n"}, "status": {"phase": "x"}});
    track_update(ty, None, &mut pod, &operation);
    assert_eq!(managed_fields(&pod).unwrap()[0]["fieldsV1"], json!({"f:spec": {"f:nodeName": {}}}));
}

#[test]
fn managers_are_named_after_user_agents() {
    assert_eq!(manager_name("x", "kubectl/v1"), "x");
    assert_eq!(manager_name("", "kubectl/v1.37.2 (linux/amd64)"), "kubectl");
}
