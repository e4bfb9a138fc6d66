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
    let path = node.create("p", "uid-p", json!({"containers": [shell("main", script)]}));
    node.api.until(&path, |pod| phase(pod) == "Running").await;
    let mut pod = node.api.get(&path).unwrap();
    pod["spec"]["activeDeadlineSeconds"] = 1.into();
    node.api.put(&path, pod);
    node.api.until(&path, |pod| phase(pod) == "Failed").await;
    let status = node.api.get(&path).unwrap()["status"].clone();
    assert_eq!(status["reason"], "DeadlineExceeded");
    assert!(status["containerStatuses"][0]["state"]["terminated"].is_object(), "{status:#}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_container_gets_other_resources_in_place_or_by_a_restart() {
    let node = TestNode::start().await;
    let resources = |cpu: &str, memory: &str| {
        let amounts = json!({"cpu": cpu, "memory": memory});
        json!({"requests": amounts, "limits": amounts})
    };
    let mut container = shell("main", "trap 'exit 0' TERM; while true; do sleep 0.1; done");
    container["resources"] = resources("100m", "64Mi");
    container["resizePolicy"] = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let path = node.create("p", "uid-p", json!({"containers": [container]}));
    node.api.until(&path, is_ready).await;
    let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap().to_owned();
    let first = id(&node.api.get(&path).unwrap());
    let resize = async |cpu: &str, memory: &str| {
        let wanted = resources(cpu, memory);
        let mut pod = node.api.get(&path).unwrap();
        pod["spec"]["containers"][0]["resources"] = wanted.clone();
        node.api.put(&path, pod);
        let settled = |pod: Option<&Value>| {
            let conditions = pod.and_then(|pod| pod["status"]["conditions"].as_array()).cloned().unwrap_or_default();
            is_ready(pod)
                && pod.is_some_and(|pod| pod["status"]["containerStatuses"][0]["resources"] == wanted)
                && !conditions.iter().any(|condition| condition["type"].as_str().unwrap().starts_with("PodResize"))
        };
        node.api.until(&path, settled).await;
        node.api.get(&path).unwrap()
    };
    let quota = async |pod: &Value| {
        let script = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us || cut -d' ' -f1 /sys/fs/cgroup/cpu.max";
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let id = id(pod).strip_prefix("containerd://").unwrap().to_owned();
        let answer = node.runtime.cri.exec_sync(&id, command, Duration::ZERO).await.unwrap();
        String::from_utf8(answer.stdout).unwrap().trim().to_owned()
    };
    for (cpu, expected) in [("200m", "20000"), ("50m", "5000")] {
        let pod = resize(cpu, "64Mi").await;
        assert_eq!((id(&pod), quota(&pod).await), (first.clone(), expected.to_owned()));
    }
    let pod = resize("50m", "96Mi").await;
    assert_ne!(id(&pod), first);
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 1);

    let mut pod = node.api.get(&path).unwrap();
    pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "9999".into();
    node.api.put(&path, pod);
    let infeasible = |pod: Option<&Value>| {
        let conditions = pod.and_then(|pod| pod["status"]["conditions"].as_array()).cloned().unwrap_or_default();
        conditions
            .iter()
            .any(|condition| condition["type"] == "PodResizePending" && condition["reason"] == "Infeasible")
    };
    node.api.until(&path, infeasible).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_log_is_put_aside_and_every_log_is_linked() {
    let node = TestNode::start().await;
    let script = "busybox yes 0123456789 | busybox head -c 12000000; echo last; exec sleep 1000";
    let path = node.create("p", "uid-p", json!({"containers": [shell("main", script)]}));
    node.api.until(&path, is_ready).await;
    let base = node.runtime.directory.path();
    let link = std::fs::read_dir(base.join("containers")).unwrap().next().unwrap().unwrap();
    assert!(link.file_name().to_string_lossy().starts_with("p_default_main-"));
    let logs = base.join("logs/default_p_uid-p/main");
    assert_eq!(std::fs::read_link(link.path()).unwrap(), logs.join("0.log"));
    let mut watch = coracle_base::directory_watch::DirectoryWatch::new(&logs).unwrap();
    let aside = || {
        let names = std::fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.into_iter().any(|name| name.starts_with("0.log.2"))
    };
    while !aside() {
        tokio::time::timeout(Duration::from_secs(60), watch.event()).await.expect("it is put aside").unwrap();
    }
    node.delete(&path, 1);
    node.api.until(&path, |pod| pod.is_none()).await;
    node.stop().await;
}
