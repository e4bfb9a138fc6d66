//! What objects look like once they are defaulted.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

fn check(group: &str, kind: &str, mut object: Value, expected: Expect) {
    apply_kind(group, "v1", kind, &mut object);
    expected.assert_eq(&object.to_string());
    let once = object.clone();
    apply_kind(group, "v1", kind, &mut object);
    assert_eq!(object, once, "defaulting again changes nothing");
}

#[test]
fn pods() {
    check(
        "",
        "Pod",
        json!({"spec": {
            "hostNetwork": true, "serviceAccount": "x",
            "containers": [{
                "name": "c", "image": "r.io:5000/a", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "100u"}},
                "livenessProbe": {"httpGet": {"port": 80}},
            }],
            "volumes": [{"name": "v"}, {"name": "s", "secret": {}}],
        }}),
        expect![[
            r#"{"spec":{"containers":[{"image":"r.io:5000/a","imagePullPolicy":"Always","livenessProbe":{"failureThreshold":3,"httpGet":{"path":"/","port":80,"scheme":"HTTP"},"periodSeconds":10,"successThreshold":1,"timeoutSeconds":1},"name":"c","ports":[{"containerPort":80,"hostPort":80,"protocol":"TCP"}],"resources":{"limits":{"cpu":"1m"},"requests":{"cpu":"1m"}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"hostNetwork":true,"restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"serviceAccount":"x","serviceAccountName":"x","terminationGracePeriodSeconds":30,"volumes":[{"emptyDir":{},"name":"v"},{"name":"s","secret":{"defaultMode":420}}]}}"#
        ]],
    );
}

#[test]
fn images_are_pulled_by_tag() {
    for (image, policy) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1", "IfNotPresent"),
        ("r:5000/nginx", "Always"),
        ("nginx@sha256:00", "IfNotPresent"),
        ("nginx:latest@sha256:00", "Always"),
        ("", "IfNotPresent"),
    ] {
        let mut pod = json!({"spec": {"containers": [{"image": image}]}});
        apply_kind("", "v1", "Pod", &mut pod);
        assert_eq!(pod.pointer("/spec/containers/0/imagePullPolicy").unwrap(), policy, "{image}");
    }
}

#[test]
fn services() {
    check(
        "",
        "Service",
        json!({"spec": {"type": "NodePort", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]}}),
        expect![[
            r#"{"spec":{"externalTrafficPolicy":"Cluster","internalTrafficPolicy":"Cluster","ports":[{"port":80,"protocol":"TCP","targetPort":80}],"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":10800}},"type":"NodePort"}}"#
        ]],
    );
}

#[test]
fn workloads() {
    check(
        "apps",
        "Deployment",
        json!({"spec": {"template": {}}}),
        expect![[
            r#"{"spec":{"progressDeadlineSeconds":600,"replicas":1,"revisionHistoryLimit":10,"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"},"type":"RollingUpdate"},"template":{}}}"#
        ]],
    );
    check(
        "batch",
        "Job",
        json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}),
        expect![[
            r#"{"metadata":{"labels":{"a":"b"}},"spec":{"backoffLimit":6,"completionMode":"NonIndexed","completions":1,"manualSelector":false,"parallelism":1,"podReplacementPolicy":"TerminatingOrFailed","suspend":false,"template":{"metadata":{"labels":{"a":"b"}}}}}"#
        ]],
    );
}

#[test]
fn every_rule_is_of_a_served_kind() {
    for (group, version, kind, _) in RULES {
        assert!(Resource::of_kind(group, version, kind).is_some(), "{group}/{version} {kind}");
    }
}
