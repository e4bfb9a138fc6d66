//! Containers that come beside a pod's ordinary ones, and the limits of a pod's life.

use super::*;

fn message(pod: &Value, list: &str) -> String {
    pod["status"][list][0]["state"]["terminated"]["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_container_sees_the_processes_of_its_target() {
    let node = TestNode::start().await;
    let path = node.create("p", "uid-p", json!({"containers": [shell("main", "exec sleep 1000")]}));
    node.api.until(&path, is_ready).await;
    let mut pod = node.api.get(&path).unwrap();
    let mut debugger = shell("debugger", "cat /proc/1/cmdline > /dev/termination-log");
    debugger["targetContainerName"] = "main".into();
    pod["spec"]["ephemeralContainers"] = json!([debugger]);
    node.api.put(&path, pod);
    let ended = |pod: Option<&Value>| pod.is_some_and(|pod| !message(pod, "ephemeralContainerStatuses").is_empty());
    node.api.until(&path, ended).await;
    let pod = node.api.get(&path).unwrap();
    assert_eq!(message(&pod, "ephemeralContainerStatuses"), "sleep\u{0}1000\u{0}");
    assert!(is_ready(Some(&pod)), "it has no say in the pod's readiness");
    let runs = node.runtime.cri.containers(&[(labels::CONTAINER_NAME, "debugger")]).await.unwrap();
    assert_eq!(runs.len(), 1, "it is not started again");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_fails_when_its_deadline_is_over_and_not_before_it_has_ended() {
    let node = TestNode::start().await;
    let script = "trap 'exit 0' TERM; while true; do sleep 0.1; done";
    let path = node.create("p", "uid-p", json!({"activeDeadlineSeconds": 2, "containers": [shell("main", script)]}));
    node.api.until(&path, |pod| phase(pod) == "Running").await;
    node.api.until(&path, |pod| phase(pod) == "Failed").await;
    let status = node.api.get(&path).unwrap()["status"].clone();
    assert_eq!(status["reason"], "DeadlineExceeded");
    assert!(status["containerStatuses"][0]["state"]["terminated"].is_object(), "{status:#}");
    node.stop().await;
}
