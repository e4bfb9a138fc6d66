//! Volumes as containers find them.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_pods_group_reads_what_belongs_to_it_and_parts_stay_within_their_volume() {
    let node = TestNode::start().await;
    let secret = json!({"metadata": {"name": "s", "namespace": "default", "uid": "s"}, "data": {"key": "b3Blbg=="}});
    node.api.put("/api/v1/namespaces/default/secrets/s", secret);
    let script = "stat -c '%a %g' /secret/..data/key /token/..data/token; cat /part; id -G; touch /secret/x; stat -c '%a %g' /scratch";
    let mut container = shell("main", &format!("({script}) > /dev/termination-log 2>&1"));
    container["volumeMounts"] = json!([
        {"name": "secret", "mountPath": "/secret"},
        {"name": "secret", "mountPath": "/part", "subPath": "key"},
        {"name": "token", "mountPath": "/token"},
        {"name": "scratch", "mountPath": "/scratch", "subPathExpr": "$(WHERE)/deep"},
    ]);
    container["env"] = json!([{"name": "WHERE", "value": "here"}]);
    let path = node.create(
        "p",
        "uid-p",
        json!({
            "restartPolicy": "Never",
            "securityContext": {"fsGroup": 4242, "runAsUser": 1000},
            "containers": [container],
            "volumes": [
                {"name": "secret", "secret": {"secretName": "s", "defaultMode": 0o400}},
                {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
                {"name": "scratch", "emptyDir": {}},
            ],
        }),
    );
    node.api.until(&path, |pod| phase(pod) == "Succeeded").await;
    let status = node.api.get(&path).unwrap()["status"]["containerStatuses"][0].clone();
    let message = status["state"]["terminated"]["message"].as_str().unwrap();
    let expected = "440 4242\n640 4242\nopen0 4242\ntouch: /secret/x: Read-only file system\n2777 4242\n";
    assert_eq!(message, expected);
    assert_eq!(status["volumeMounts"][0], json!({"name": "secret", "mountPath": "/secret"}));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_cannot_be_named_keeps_the_container_waiting() {
    let node = TestNode::start().await;
    let mut container = shell("main", "sleep 1000");
    container["volumeMounts"] = json!([{"name": "scratch", "mountPath": "/scratch", "subPathExpr": "$(NOTHING)"}]);
    let path =
        node.create("p", "uid-p", json!({"containers": [container], "volumes": [{"name": "scratch", "emptyDir": {}}]}));
    let waiting = |pod: Option<&Value>| {
        pod.is_some_and(|pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"] == "missing value for NOTHING"
        })
    };
    node.api.until(&path, waiting).await;
    node.stop().await;
}
