//! Objects and what is wrong with them.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

fn resource(kind: &str) -> Resource {
    Resource::all().find(|resource| resource.kind == kind).expect("a kind")
}

fn wrong(kind: &str, mut object: Value) -> String {
    let resource = resource(kind);
    crate::defaults::apply(&resource, &mut object);
    let mut causes = Causes::new();
    create(&resource, Node::root(&object), &mut causes);
    causes.iter().map(|cause| format!("{cause}\n")).collect()
}

fn check(kind: &str, object: Value, expected: Expect) {
    expected.assert_eq(&wrong(kind, object));
}

fn good_pod() -> Value {
    json!({
        "metadata": {"name": "a", "namespace": "d"},
        "spec": {
            "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    })
}

#[test]
fn good_objects_pass() {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let meta = json!({"name": "a", "namespace": "d"});
    let workload = json!({"metadata": meta, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    for (kind, object) in [
        ("Pod", good_pod()),
        ("Deployment", workload.clone()),
        ("ReplicaSet", workload.clone()),
        ("DaemonSet", workload.clone()),
        ("StatefulSet", workload),
        ("Service", json!({"metadata": meta, "spec": {"ports": [{"port": 80}]}})),
        ("ConfigMap", json!({"metadata": meta, "data": {"a.b": "c"}})),
        ("Secret", json!({"metadata": meta, "data": {"a": "YQ=="}})),
        ("Namespace", json!({"metadata": {"name": "a"}})),
        (
            "ClusterRole",
            json!({"metadata": {"name": "system:x"}, "rules": [{"verbs": ["*"], "apiGroups": [""], "resources": ["*"]}]}),
        ),
        ("Lease", json!({"metadata": meta, "spec": {"leaseDurationSeconds": 40}})),
    ] {
        assert_eq!(wrong(kind, object), "", "{kind}");
    }
}

#[test]
fn metadata_is_checked_for_every_kind() {
    check(
        "Lease",
        json!({"metadata": {"name": "A", "namespace": "d", "labels": {"x": "-"}, "finalizers": ["x"], "ownerReferences": [{}]}}),
        expect![[r#"
            metadata.name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            metadata.labels: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            metadata.ownerReferences[0].apiVersion: Required value: must not be empty
            metadata.ownerReferences[0].kind: Required value: must not be empty
            metadata.ownerReferences[0].name: Required value: must not be empty
            metadata.ownerReferences[0].uid: Required value: must not be empty
            metadata.finalizers[0]: Invalid value: "x": name is neither a standard finalizer name nor is it fully qualified
        "#]],
    );
}

#[test]
fn pods() {
    check(
        "Pod",
        json!({"metadata": {"name": "a", "namespace": "d"}, "spec": {}}),
        expect![[r#"
        spec.containers: Required value
    "#]],
    );
    check(
        "Pod",
        json!({
            "metadata": {"name": "a", "namespace": "d"},
            "spec": {
                "restartPolicy": "Sometimes",
                "containers": [
                    {
                        "name": "C", "image": "", "imagePullPolicy": "No",
                        "ports": [{"containerPort": 70000, "protocol": "X"}], "env": [{"name": "a=b"}],
                        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                        "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1", "x": "1"}},
                        "livenessProbe": {"successThreshold": 2},
                    },
                    {"name": "d", "image": "i"}, {"name": "d", "image": "i"},
                ],
            },
        }),
        expect![[r#"
            spec.containers[0].name: Invalid value: "C": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.containers[0].image: Required value
            spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
            spec.containers[0].ports[0].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"
            spec.containers[0].env[0].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
            spec.containers[0].volumeMounts[0].name: Not found: "v"
            spec.containers[0].imagePullPolicy: Unsupported value: "No": supported values: "Always", "IfNotPresent", "Never"
            spec.containers[0].resources.limits[x]: Invalid value: "x": must be a standard resource type or fully qualified
            spec.containers[0].resources.limits[x]: Invalid value: "x": must be a standard resource for containers
            spec.containers[0].resources.requests[x]: Invalid value: "x": must be a standard resource type or fully qualified
            spec.containers[0].resources.requests[x]: Invalid value: "x": must be a standard resource for containers
            spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
            spec.containers[0].livenessProbe: Required value: must specify a handler type
            spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
            spec.containers[2].name: Duplicate value: "d"
            spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"
        "#]],
    );
}

#[test]
fn pods_are_fixed_but_for_images() {
    let resource = resource("Pod");
    let mut old = good_pod();
    crate::defaults::apply(&resource, &mut old);
    let causes = |change: &dyn Fn(&mut Value)| {
        let (mut new, mut causes) = (old.clone(), Causes::new());
        change(&mut new);
        update(&resource, Node::root(&new), Node::root(&old), "", &mut causes);
        causes.iter().map(|cause| cause.field.clone()).collect::<Vec<_>>()
    };
    assert_eq!(causes(&|pod| pod["spec"]["containers"][0]["image"] = "j".into()), [""; 0]);
    assert_eq!(causes(&|pod| pod["spec"]["containers"][0]["args"] = json!(["x"])), ["spec"]);
    assert_eq!(causes(&|pod| pod["spec"]["containers"] = json!([])), ["spec.containers", "spec.containers"]);
}

#[test]
fn services() {
    check(
        "Service",
        json!({
            "metadata": {"name": "a", "namespace": "d"},
            "spec": {"type": "ClusterIP", "sessionAffinity": "X", "externalTrafficPolicy": "Local",
                "ports": [{"port": 80, "nodePort": 30000}, {"name": "b", "port": 0, "targetPort": "-"}]},
        }),
        expect![[r#"
            spec.ports[0].name: Required value
            spec.ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ports[1].targetPort: Invalid value: "-": must contain at least one letter (a-z)
            spec.ports[1].targetPort: Invalid value: "-": must not begin or end with a hyphen
            spec.sessionAffinity: Unsupported value: "X": supported values: "ClientIP", "None"
            spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
            spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services
        "#]],
    );
}

#[test]
fn deployments() {
    check(
        "Deployment",
        json!({
            "metadata": {"name": "a", "namespace": "d"},
            "spec": {"replicas": -1, "selector": {"matchLabels": {"a": "b"}},
                "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}},
                "template": {"metadata": {"labels": {"a": "c"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
        }),
        expect![[r#"
            spec.replicas: Invalid value: -1: must be greater than or equal to 0
            spec.template.metadata.labels: Invalid value: {"a":"c"}: `selector` does not match template `labels`
            spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0
        "#]],
    );
}

#[test]
fn every_rule_is_of_a_served_kind() {
    for Kind { group, kind, .. } in KINDS {
        assert!(Resource::all().any(|resource| resource.group == *group && resource.kind == *kind), "{group} {kind}");
    }
}

#[test]
fn schedules_have_five_fields_and_no_zone() {
    let wrong = |schedule: &str| {
        let job = json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
        let meta = json!({"name": "a", "namespace": "d"});
        wrong("CronJob", json!({"metadata": meta, "spec": {"schedule": schedule, "jobTemplate": job}}))
    };
    assert_eq!((wrong("*/5 * * * *"), wrong("@hourly")), (String::new(), String::new()));
    assert_eq!(
        wrong("at noon"),
        "spec.schedule: Invalid value: \"at noon\": expected exactly 5 fields, found 2: [at noon]\n"
    );
    assert_eq!(
        wrong("TZ=UTC 0 0 * * *"),
        "spec.schedule: Invalid value: \"TZ=UTC 0 0 * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field \
         instead\n"
    );
}
