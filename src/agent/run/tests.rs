//! Whole lives of pods on a real containerd, against an API of a few lines.

use serde_json::{Value, json};

use super::*;
use crate::testing::api::FakeApi;
use crate::testing::{BUSYBOX, TestRuntime};

mod containers;
mod volumes;

struct TestNode {
    runtime: TestRuntime,
    api: FakeApi,
    agent: Agent,
}

fn config(runtime: &TestRuntime) -> AgentConfig {
    let base = runtime.directory.path();
    AgentConfig {
        registration: Registration {
            name: "n1".into(),
            addresses: vec!["127.0.0.1".parse().unwrap()],
            pod_cidrs: Vec::new(),
            labels: Vec::new(),
            taints: Vec::new(),
            storage: base.to_owned(),
            max_pods: 110,
            kubelet_port: 10250,
        },
        directory: base.join("agent"),
        kubelet_directory: base.join("kubelet"),
        log_directory: base.join("logs"),
        instance: runtime.instance.clone(),
        runtime_socket: Some(runtime.settings.socket()),
        runtime_programs: None,
        cni_config: runtime.settings.cni_config.clone(),
        cni_binaries: runtime.settings.cni_binaries.clone(),
        registries: PathBuf::new(),
        cluster_dns: ClusterDns { servers: vec!["10.43.0.10".into()], domain: "cluster.local".into() },
    }
}

impl TestNode {
    async fn start() -> Self {
        let runtime = TestRuntime::start().await;
        std::fs::create_dir_all(runtime.directory.path().join("agent")).unwrap();
        let api = FakeApi::default();
        let agent =
            Agent::run(config(&runtime), Arc::new(api.clone()), api.client(), runtime.shutdown.child()).await.unwrap();
        Self { runtime, api, agent }
    }

    async fn stop(self) {
        drop(self.agent);
        self.runtime.stop().await;
    }

    fn create(&self, name: &str, uid: &str, spec: Value) -> String {
        let path = format!("/api/v1/namespaces/default/pods/{name}");
        let metadata =
            json!({"name": name, "namespace": "default", "uid": uid, "generation": 1, "labels": {"app": "a"}});
        self.api.put(&path, json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}));
        path
    }

    /// As the API does on a graceful deletion.
    fn delete(&self, path: &str, grace: i64) {
        let mut pod = self.api.get(path).unwrap();
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        pod["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        self.api.put(path, pod);
    }

    fn log(&self, name: &str, uid: &str, container: &str) -> String {
        let path = format!("logs/default_{name}_{uid}/{container}/0.log");
        std::fs::read_to_string(self.runtime.directory.path().join(path)).unwrap()
    }
}

fn shell(name: &str, script: &str) -> Value {
    json!({"name": name, "image": BUSYBOX, "command": ["sh", "-c", script]})
}

fn is_ready(pod: Option<&Value>) -> bool {
    let conditions = pod.and_then(|pod| pod["status"]["conditions"].as_array()).cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn phase(pod: Option<&Value>) -> &str {
    pod.and_then(|pod| pod["status"]["phase"].as_str()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_with_its_configuration_and_ends_when_deleted() {
    let node = TestNode::start().await;
    let config = json!({"metadata": {"name": "c", "namespace": "default", "uid": "c"}, "data": {"key": "value"}});
    node.api.put("/api/v1/namespaces/default/configmaps/c", config);
    let script = "echo $GREETING $(cat /etc/config/key) $(cat /tokens/token) $(hostname); cat /etc/hosts; trap 'exit 0' TERM; while true; do sleep 0.1; done";
    let mut container = shell("main", script);
    container["env"] = json!([
        {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "GREETING", "value": "hello-$(WHO)"},
    ]);
    container["volumeMounts"] = json!([
        {"name": "config", "mountPath": "/etc/config"},
        {"name": "tokens", "mountPath": "/tokens"},
        {"name": "scratch", "mountPath": "/scratch"},
    ]);
    let path = node.create(
        "p",
        "uid-1",
        json!({
            "initContainers": [shell("init", "echo init-done")],
            "containers": [container],
            "volumes": [
                {"name": "config", "configMap": {"name": "c"}},
                {"name": "tokens", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
                {"name": "scratch", "emptyDir": {"medium": "Memory"}},
            ],
        }),
    );
    node.api.until(&path, is_ready).await;
    let pod = node.api.get(&path).unwrap();
    assert_eq!(pod["status"]["podIP"], "10.99.0.5");
    assert_eq!(pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    assert_eq!(pod["status"]["qosClass"], "BestEffort");
    assert!(node.log("p", "uid-1", "init").contains("init-done"));
    let pods = node.agent.handle.pods();
    assert_eq!(pods.len(), 1);
    let container = node.agent.handle.container("uid-1", "main", false).await.unwrap().unwrap();
    let mut output =
        coracle_base::directory_watch::DirectoryWatch::of_file(std::path::Path::new(&container.log_path)).unwrap();
    while !node.log("p", "uid-1", "main").contains("10.99.0.5\tp") {
        output.event().await.unwrap();
    }
    assert!(node.log("p", "uid-1", "main").contains("hello-p value a-token p"));

    node.delete(&path, 30);
    node.api.until(&path, |pod| pod.is_none()).await;
    let directory = node.runtime.directory.path().join("kubelet/pods/uid-1");
    assert!(!directory.exists(), "volumes are gone before the API's object is");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ignores_sigterm_is_killed_and_a_job_completes() {
    let node = TestNode::start().await;
    let stubborn =
        node.create("s", "uid-s", json!({"containers": [shell("c", "trap '' TERM; while true; do sleep 0.1; done")]}));
    let job = node.create(
        "j",
        "uid-j",
        json!({"restartPolicy": "Never", "containers": [shell("c", "echo bye > /dev/termination-log; exit 3")]}),
    );
    node.api.until(&job, |pod| phase(pod) == "Failed").await;
    let status = node.api.get(&job).unwrap()["status"]["containerStatuses"][0]["state"]["terminated"].clone();
    assert_eq!((&status["exitCode"], &status["message"]), (&json!(3), &json!("bye\n")));
    node.api.until(&stubborn, is_ready).await;
    node.delete(&stubborn, 1);
    node.api.until(&stubborn, |pod| pod.is_none()).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_restart_with_back_off_and_missing_images_wait() {
    let node = TestNode::start().await;
    let crash = node.create("c", "uid-c", json!({"containers": [shell("c", "exit 1")]}));
    let image = node.create(
        "i",
        "uid-i",
        json!({"containers": [{"name": "c", "image": "coracle.local/none:1", "imagePullPolicy": "Never"}]}),
    );
    let waits = |reason: &'static str| {
        move |pod: Option<&Value>| {
            pod.is_some_and(|pod| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason)
        }
    };
    node.api.until(&crash, waits("CrashLoopBackOff")).await;
    let status = node.api.get(&crash).unwrap()["status"]["containerStatuses"][0].clone();
    assert_eq!((&status["restartCount"], &status["lastState"]["terminated"]["exitCode"]), (&json!(1), &json!(1)));
    node.api.until(&image, waits("ErrImageNeverPull")).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_restart_and_decide_readiness() {
    let node = TestNode::start().await;
    let mut container = shell("c", "touch /tmp/alive; sleep 1000");
    let probe = |command: &[&str]| json!({"exec": {"command": command}, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 5});
    container["readinessProbe"] = probe(&["cat", "/tmp/ready"]);
    container["livenessProbe"] = probe(&["cat", "/tmp/alive"]);
    let path = node.create("p", "uid-p", json!({"terminationGracePeriodSeconds": 1, "containers": [container]}));
    node.api.until(&path, |pod| phase(pod) == "Running").await;
    assert!(!is_ready(node.api.get(&path).as_ref()));
    let id = node.agent.handle.container("uid-p", "c", false).await.unwrap().unwrap().id;
    let exec = |command: &[&str]| {
        node.runtime.cri.exec_sync(&id, command.iter().map(|word| (*word).to_owned()).collect(), Duration::ZERO)
    };
    exec(&["touch", "/tmp/ready"]).await.unwrap();
    node.api.until(&path, is_ready).await;
    exec(&["rm", "/tmp/alive"]).await.unwrap();
    node.api
        .until(&path, |pod| pod.is_some_and(|pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1))
        .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_agent_keeps_the_containers_of_the_old_one() {
    let mut node = TestNode::start().await;
    let path = node.create("p", "uid-p", json!({"containers": [shell("c", "sleep 1000")]}));
    node.api.until(&path, is_ready).await;
    let before = node.api.get(&path).unwrap()["status"].clone();
    let writes = node.api.writes().len();
    node.agent = {
        drop(node.agent);
        let shutdown = node.runtime.shutdown.child();
        Agent::run(config(&node.runtime), Arc::new(node.api.clone()), node.api.client(), shutdown).await.unwrap()
    };
    // A second pod shows that the new agent works; the first has nothing written of it, for nothing has changed.
    let second = node.create("q", "uid-q", json!({"containers": [shell("c", "sleep 1000")]}));
    node.api.until(&second, is_ready).await;
    assert_eq!(node.api.get(&path).unwrap()["status"], before);
    let written: Vec<_> = node.api.writes().split_off(writes);
    assert!(!written.iter().any(|write| write.ends_with("pods/p/status")), "{written:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn static_pods_follow_their_files_and_the_node_registers() {
    let node = TestNode::start().await;
    let file = node.runtime.directory.path().join("agent/pod-manifests/web.yaml");
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  hostNetwork: true\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: c\n    image: {BUSYBOX}\n    command: [sleep, '1000']\n"
    );
    node.api.until("/api/v1/nodes/n1", |node| node.is_some()).await;
    node.api.until("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", |lease| lease.is_some()).await;
    std::fs::write(&file, manifest).unwrap();
    let mut events = events::subscribe(&node.runtime.cri, &node.runtime.settings.socket()).await.unwrap();
    let running = || async {
        let containers = node.runtime.cri.containers(&[]).await.unwrap();
        containers.iter().filter(|container| container.state() == wire::ContainerState::ContainerRunning).count()
    };
    // The CRI knows a moment after the event that something has started.
    while running().await != 1 {
        let _ = tokio::time::timeout(Duration::from_millis(100), events.next()).await;
    }
    assert_eq!(node.agent.handle.pods()[0].meta().name.as_ref(), "web-n1");
    let mirror = "/api/v1/namespaces/default/pods/web-n1";
    node.api.until(mirror, is_ready).await;
    let first = node.api.get(mirror).unwrap();
    let annotations = &first["metadata"]["annotations"];
    assert_eq!(annotations["kubernetes.io/config.mirror"], annotations["kubernetes.io/config.hash"]);
    assert_eq!(first["metadata"]["ownerReferences"][0]["kind"], "Node");
    // Whoever deletes the mirror deletes nothing that runs.
    node.api.remove(mirror);
    node.api.until(mirror, is_ready).await;
    assert_eq!(running().await, 1);
    std::fs::remove_file(&file).unwrap();
    while running().await != 0 {
        let _ = tokio::time::timeout(Duration::from_millis(100), events.next()).await;
    }
    node.api.until(mirror, |mirror| mirror.is_none()).await;
    node.stop().await;
}

#[test]
fn only_what_the_runtime_needs_decides_readiness() {
    let condition = |kind: &str, status| wire::RuntimeCondition { r#type: kind.into(), status, ..Default::default() };
    let says = |network, others| {
        let conditions =
            [("RuntimeReady", true), ("NetworkReady", network), ("ContainerdHasNoDeprecationWarnings", others)];
        health(Ok(conditions.map(|(kind, status)| condition(kind, status)).into()))
    };
    assert_eq!(says(true, false), Readiness::Ready);
    let why = "container runtime not ready: NetworkReady=false reason: message:";
    assert_eq!(says(false, true), Readiness::NotReady(why.to_owned()));
    assert!(matches!(health(Ok(vec![condition("RuntimeReady", true)])), Readiness::NotReady(_)));
}
