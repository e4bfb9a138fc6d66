//! Creates, updates, patches and deletes.

use super::*;

#[tokio::test]
async fn a_created_object_gets_what_is_the_systems() {
    let fixture = Fixture::new().await;
    let created = fixture.create(CONFIGMAPS, json!({"metadata": {"generateName": "a-"}, "data": {"x": "1"}})).await;
    let metadata = &created["metadata"];
    assert!(metadata["name"].as_str().unwrap().starts_with("a-"), "{created}");
    assert_eq!((metadata["uid"].as_str().unwrap().len(), &metadata["namespace"]), (36, &json!("default")));
    assert!(metadata["creationTimestamp"].is_string() && revision(&created) > 0);
    assert_eq!((&created["kind"], &created["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
}

#[tokio::test]
async fn an_update_needs_the_newest_revision_and_changes_nothing_in_vain() {
    let fixture = Fixture::new().await;
    let mut object = fixture.configmap("a").await;
    let target = format!("PUT {CONFIGMAPS}/a");
    let same = fixture.json(&target, object.clone()).await;
    assert_eq!((same.code, revision(&same.body)), (200, revision(&object)));
    let old = object.clone();
    object["data"]["a"] = json!("2");
    let changed = fixture.json(&target, object).await;
    assert!(revision(&changed.body) > revision(&old), "{}", changed.text);
    let stale = fixture.json(&target, old.clone()).await;
    assert_eq!((stale.code, &stale.body["reason"]), (409, &json!("Conflict")), "{}", stale.text);
    let mut blind = old;
    blind["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    assert_eq!(fixture.json(&target, blind.clone()).await.code, 200);
    blind["metadata"]["uid"] = json!("other");
    assert_eq!(fixture.json(&target, blind).await.code, 409);
}

#[tokio::test]
async fn patches_change_what_they_name() {
    let fixture = Fixture::new().await;
    fixture.configmap("a").await;
    let line = format!("PATCH {CONFIGMAPS}/a");
    for (content_type, patch, expected) in [
        ("application/merge-patch+json", json!({"data": {"a": null, "b": "2"}}), json!({"b": "2"})),
        (
            "application/json-patch+json",
            json!([{"op": "add", "path": "/data/c", "value": "3"}]),
            json!({"b": "2", "c": "3"}),
        ),
        ("application/strategic-merge-patch+json", json!({"data": {"d": "4"}}), json!({"b": "2", "c": "3", "d": "4"})),
    ] {
        let answer = fixture.ask(&line, content_type, patch.to_string()).await;
        assert_eq!((answer.code, &answer.body["data"]), (200, &expected), "{}", answer.text);
    }
    let stale = json!({"metadata": {"resourceVersion": "1"}, "data": {"x": "y"}});
    assert_eq!(fixture.ask(&line, "application/merge-patch+json", stale.to_string()).await.code, 409);
    assert_eq!(fixture.ask(&line, "application/json", "{}").await.code, 415);
}

#[tokio::test]
async fn a_dry_run_stores_nothing() {
    let fixture = Fixture::new().await;
    let answer = fixture.json(&format!("POST {CONFIGMAPS}?dryRun=All"), json!({"metadata": {"name": "a"}})).await;
    assert_eq!((answer.code, &answer.body["metadata"]["name"]), (201, &json!("a")));
    assert_eq!(fixture.get(&format!("{CONFIGMAPS}/a")).await.code, 404);
}

#[tokio::test]
async fn status_and_desired_state_are_apart() {
    let fixture = Fixture::new().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let spec = json!({
        "replicas": 1, "selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    });
    let created =
        fixture.create(deployments, json!({"metadata": {"name": "a"}, "spec": spec, "status": {"replicas": 7}})).await;
    assert_eq!((&created["metadata"]["generation"], &created["status"]["replicas"]), (&json!(1), &Value::Null));
    let mut status = created.clone();
    status["status"] = json!({"replicas": 1, "observedGeneration": 1});
    status["spec"]["replicas"] = json!(9);
    let answer = fixture.json(&format!("PUT {deployments}/a/status"), status).await;
    let body = &answer.body;
    assert_eq!((&body["status"]["replicas"], &body["spec"]["replicas"]), (&json!(1), &json!(1)), "{}", answer.text);
    assert_eq!(body["metadata"]["generation"], 1);
    let scaled = fixture
        .ask(&format!("PATCH {deployments}/a/scale"), "application/merge-patch+json", "{\"spec\":{\"replicas\":3}}")
        .await;
    assert_eq!(
        (&scaled.body["kind"], &scaled.body["spec"]["replicas"]),
        (&json!("Scale"), &json!(3)),
        "{}",
        scaled.text
    );
    let body = fixture.get(&format!("{deployments}/a")).await.body;
    assert_eq!((&body["spec"]["replicas"], &body["metadata"]["generation"]), (&json!(3), &json!(2)));
    assert_eq!(body["status"]["replicas"], 1);
}

#[tokio::test]
async fn finalizers_and_grace_hold_an_object() {
    let fixture = Fixture::new().await;
    fixture.create(CONFIGMAPS, json!({"metadata": {"name": "a", "finalizers": ["x/y"]}})).await;
    let marked = fixture.json(&format!("DELETE {CONFIGMAPS}/a"), json!({})).await;
    assert!(marked.body["metadata"]["deletionTimestamp"].is_string(), "{}", marked.text);
    let freed = fixture
        .ask(&format!("PATCH {CONFIGMAPS}/a"), "application/merge-patch+json", "{\"metadata\":{\"finalizers\":null}}")
        .await;
    assert_eq!(freed.code, 200, "{}", freed.text);
    assert_eq!(fixture.get(&format!("{CONFIGMAPS}/a")).await.code, 404);

    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "nodeName": "n", "terminationGracePeriodSeconds": 30, "containers": [{"name": "c", "image": "i"}],
    }});
    let created = fixture.create(pods, pod).await;
    assert_eq!(created["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(created["spec"]["serviceAccountName"], "default");
    assert!(created["spec"]["volumes"][0]["name"].as_str().unwrap().starts_with("kube-api-access-"));
    let marked = fixture.ask(&format!("DELETE {pods}/p"), "", Body::Empty).await;
    assert_eq!(marked.body["metadata"]["deletionGracePeriodSeconds"], 30, "{}", marked.text);
    let shorter = fixture.json(&format!("DELETE {pods}/p"), json!({"gracePeriodSeconds": 5})).await;
    assert_eq!(shorter.body["metadata"]["deletionGracePeriodSeconds"], 5);
    let longer = fixture.json(&format!("DELETE {pods}/p"), json!({"gracePeriodSeconds": 50})).await;
    assert_eq!(longer.body["metadata"]["deletionGracePeriodSeconds"], 5);
    let gone = fixture.json(&format!("DELETE {pods}/p"), json!({"gracePeriodSeconds": 0})).await;
    assert_eq!((gone.code, fixture.get(&format!("{pods}/p")).await.code), (200, 404));
}

#[tokio::test]
async fn deletes_mind_preconditions_and_propagation() {
    let fixture = Fixture::new().await;
    fixture.configmap("a").await;
    let line = format!("DELETE {CONFIGMAPS}/a");
    let wrong = fixture.json(&line, json!({"preconditions": {"uid": "x"}})).await;
    assert_eq!(wrong.code, 409, "{}", wrong.text);
    assert_eq!(fixture.json(&line, json!({"propagationPolicy": "Sideways"})).await.code, 422);
    let foreground = fixture.json(&line, json!({"propagationPolicy": "Foreground"})).await;
    assert_eq!(foreground.body["metadata"]["finalizers"], json!(["foregroundDeletion"]), "{}", foreground.text);
    let background = fixture.json(&line, json!({"propagationPolicy": "Background"})).await;
    assert_eq!((background.code, &background.body["status"]), (200, &json!("Success")), "{}", background.text);
    assert_eq!(background.body["details"]["kind"], "configmaps");
}

#[tokio::test]
async fn a_namespace_goes_through_its_finalizer() {
    let fixture = Fixture::new().await;
    let created = fixture.create("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await;
    assert_eq!(created["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(created["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    let marked = fixture.ask("DELETE /api/v1/namespaces/n", "", Body::Empty).await;
    assert_eq!(marked.body["status"]["phase"], "Terminating", "{}", marked.text);
    let refused = fixture.json("POST /api/v1/namespaces/n/configmaps", json!({"metadata": {"name": "a"}})).await;
    assert_eq!((refused.code, &refused.body["details"]["causes"][0]["reason"]), (403, &json!("NamespaceTerminating")));
    let mut object = marked.body;
    object["spec"]["finalizers"] = json!([]);
    assert_eq!(fixture.json("PUT /api/v1/namespaces/n/finalize", object).await.code, 200);
    assert_eq!(fixture.get("/api/v1/namespaces/n").await.code, 404);
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let fixture = Fixture::new().await;
    let pods = "/api/v1/namespaces/default/pods";
    fixture
        .create(pods, json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}))
        .await;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let bound = fixture.json(&format!("POST {pods}/p/binding"), binding.clone()).await;
    assert_eq!((bound.code, &bound.body["status"]), (201, &json!("Success")), "{}", bound.text);
    let pod = fixture.get(&format!("{pods}/p")).await.body;
    assert_eq!(
        (&pod["spec"]["nodeName"], &pod["status"]["conditions"][0]["type"]),
        (&json!("n"), &json!("PodScheduled"))
    );
    assert_eq!(fixture.json(&format!("POST {pods}/p/binding"), binding).await.code, 409);
    let listed = fixture.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn").await;
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_not_enforced_says_so() {
    let fixture = Fixture::new().await;
    let target = "POST /apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
    let answer = fixture.json(target, json!({"metadata": {"name": "a"}, "spec": {"podSelector": {}}})).await;
    assert_eq!(answer.code, 201, "{}", answer.text);
    assert_eq!(answer.headers["warning"], "299 - \"coracle does not enforce NetworkPolicy yet\"");
}

#[tokio::test]
async fn immutable_data_stays() {
    let fixture = Fixture::new().await;
    fixture.create(CONFIGMAPS, json!({"metadata": {"name": "a"}, "immutable": true, "data": {"x": "1"}})).await;
    let answer =
        fixture.ask(&format!("PATCH {CONFIGMAPS}/a"), "application/merge-patch+json", "{\"data\":{\"x\":\"2\"}}").await;
    assert_eq!((answer.code, &answer.body["details"]["causes"][0]["field"]), (422, &json!("data")), "{}", answer.text);
}

#[tokio::test]
async fn unknown_fields_are_told_as_asked() {
    let fixture = Fixture::new().await;
    let ask = |validation: &str, name: &str| {
        let line = format!("POST {CONFIGMAPS}?fieldValidation={validation}");
        let body = json!({"metadata": {"name": name}, "foo": 1});
        let fixture = &fixture;
        async move { fixture.json(&line, body).await }
    };
    let strict = ask("Strict", "a").await;
    let message =
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"foo\"";
    assert_eq!((strict.code, &strict.body["message"]), (400, &json!(message)));
    let warned = ask("Warn", "b").await;
    assert_eq!(
        (warned.code, &warned.headers["warning"]),
        (201, &"299 - \"unknown field \\\"foo\\\"\"".parse().unwrap())
    );
    assert!(ask("Ignore", "c").await.headers.get("warning").is_none());
}

#[tokio::test]
async fn apply_owns_what_it_sets() {
    let fixture = Fixture::new().await;
    let target = format!("PATCH {CONFIGMAPS}/a");
    let apply = |manager: &str, data: Value, more: &str| {
        let body =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}).to_string();
        let target = format!("{target}?fieldManager={manager}{more}");
        let fixture = &fixture;
        async move { fixture.ask(&target, "application/apply-patch+yaml", body).await }
    };
    let created = apply("one", json!({"x": "1", "y": "1"}), "").await;
    assert_eq!(created.code, 201, "{}", created.text);
    assert_eq!(created.body["metadata"]["managedFields"][0]["operation"], "Apply");
    let conflict = apply("two", json!({"x": "2"}), "").await;
    assert_eq!((conflict.code, &conflict.body["reason"]), (409, &json!("Conflict")), "{}", conflict.text);
    assert_eq!(apply("two", json!({"x": "2"}), "&force=true").await.body["data"], json!({"x": "2", "y": "1"}));
    let left = apply("one", json!({}), "").await;
    assert_eq!(left.body["data"], json!({"x": "2"}), "{}", left.text);
    let same = apply("one", json!({}), "").await;
    assert_eq!(revision(&same.body), revision(&left.body));
    assert_eq!(fixture.ask(&target, "application/apply-patch+yaml", "{}").await.code, 422);
}

#[tokio::test]
async fn protobuf_goes_both_ways() {
    let fixture = Fixture::new().await;
    fixture.configmap("a").await;
    let accept = "application/vnd.kubernetes.protobuf";
    let request = Request::get(format!("{CONFIGMAPS}/a")).header(header::ACCEPT, accept).body(Body::Empty).unwrap();
    let response = fixture.send(request).await;
    assert_eq!(response.headers()["content-type"], accept);
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert!(bytes.starts_with(b"k8s\0"));
    let answer = fixture.ask(&format!("PUT {CONFIGMAPS}/a"), accept, bytes).await;
    assert_eq!((answer.code, &answer.body["data"]["a"]), (200, &json!("1")), "{}", answer.text);
    let request = Request::get(CONFIGMAPS).header(header::ACCEPT, accept).body(Body::Empty).unwrap();
    let bytes = fixture.send(request).await.into_body().collect().await.unwrap().to_bytes();
    assert!(bytes.starts_with(b"k8s\0"), "{:?}", String::from_utf8_lossy(&bytes));
}

#[tokio::test]
async fn addresses_and_node_ports_are_handed_out_once() {
    let fixture = Fixture::new().await;
    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, more: Value| {
        let mut spec = json!({"ports": [{"port": 80}], "selector": {"app": "a"}});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let first = fixture.create(services, service("a", json!({"type": "NodePort"}))).await;
    let address = first["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert_eq!(first["spec"]["clusterIPs"], json!([address]));
    assert_eq!(
        (&first["spec"]["ipFamilies"], &first["spec"]["ipFamilyPolicy"]),
        (&json!(["IPv4"]), &json!("SingleStack"))
    );
    let port = first["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30000..=32767).contains(&port));
    let object = fixture.get(&format!("/apis/networking.k8s.io/v1/ipaddresses/{address}")).await.body;
    assert_eq!(object["spec"]["parentRef"]["name"], "a");
    for (more, field) in [
        (json!({"clusterIP": address}), "spec.clusterIPs"),
        (json!({"clusterIP": "192.168.0.1"}), "spec.clusterIPs"),
        (json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}), "spec.ports[0].nodePort"),
        (json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}), "spec.ports[0].nodePort"),
        (json!({"ipFamilyPolicy": "RequireDualStack"}), "spec.ipFamilyPolicy"),
    ] {
        let answer = fixture.json(&format!("POST {services}"), service("b", more.clone())).await;
        let cause = &answer.body["details"]["causes"][0];
        assert_eq!((answer.code, &cause["field"]), (422, &json!(field)), "{more}: {}", answer.text);
    }
    // The object as it was made first is no wish to give back what it got.
    let again = fixture.json(&format!("PUT {services}/a"), service("a", json!({"type": "NodePort"}))).await;
    assert_eq!((&again.body["spec"], again.code), (&first["spec"], 200), "{}", again.text);
    let other = service("a", json!({"type": "NodePort", "clusterIP": "10.43.0.77", "clusterIPs": ["10.43.0.77"]}));
    let moved = fixture.json(&format!("PUT {services}/a"), other).await;
    let cause = &moved.body["details"]["causes"][0];
    assert_eq!((moved.code, &cause["field"]), (422, &json!("spec.clusterIPs[0]")), "{}", moved.text);
    let plain = fixture.json(&format!("PUT {services}/a"), service("a", json!({"type": "ClusterIP"}))).await;
    assert_eq!((plain.body["spec"]["ports"][0].get("nodePort"), plain.code), (None, 200), "{}", plain.text);
    fixture
        .create(services, service("b", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]})))
        .await;
    fixture.ask(&format!("DELETE {services}/a"), "", Body::Empty).await;
    assert_eq!(fixture.get(&format!("/apis/networking.k8s.io/v1/ipaddresses/{address}")).await.code, 404);
    let taken = fixture.create(services, service("c", json!({"clusterIP": address}))).await;
    assert_eq!(taken["spec"]["clusterIP"], json!(address));
    let headless = fixture.create(services, service("d", json!({"clusterIP": "None"}))).await;
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
}

#[tokio::test]
async fn no_address_is_given_twice_in_a_race() {
    let fixture = Fixture::new().await;
    let make = |index: usize| {
        let body =
            json!({"metadata": {"name": format!("s{index}")}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        let fixture = &fixture;
        async move { fixture.create("/api/v1/namespaces/default/services", body).await }
    };
    let services = futures::future::join_all((0..64).map(make)).await;
    let distinct =
        |field: fn(&Value) -> String| services.iter().map(field).collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(distinct(|service| service["spec"]["clusterIP"].to_string()), 64);
    assert_eq!(distinct(|service| service["spec"]["ports"][0]["nodePort"].to_string()), 64);
}

#[tokio::test]
async fn a_job_finds_its_pods_by_its_uid() {
    let fixture = Fixture::new().await;
    let spec = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}});
    let body = json!({"metadata": {"name": "j"}, "spec": spec});
    let job = fixture.create("/apis/batch/v1/namespaces/default/jobs", body).await;
    let uid = &job["metadata"]["uid"];
    assert_eq!(&job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"], uid, "{job}");
    assert_eq!(&job["spec"]["template"]["metadata"]["labels"]["batch.kubernetes.io/controller-uid"], uid);
}
