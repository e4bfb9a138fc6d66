//! Statuses of pods in the states that users meet.

use super::*;
use crate::proto::cri as wire;

fn pod(policy: &str) -> Pod {
    let json = serde_json::json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 3},
        "spec": {"restartPolicy": policy, "containers": [{"name": "a", "image": "i"}]},
    });
    serde_json::from_value(json).unwrap()
}

fn runtime(state: wire::ContainerState, exit_code: i32) -> PodRuntime {
    let network = wire::PodSandboxNetworkStatus { ip: "10.0.0.1".into(), ..Default::default() };
    let sandbox = wire::PodSandboxStatus { id: "s".into(), network: Some(network), ..Default::default() };
    let status = wire::ContainerStatus { id: "c".into(), state: state as i32, exit_code, ..Default::default() };
    PodRuntime {
        sandboxes: vec![sandbox],
        containers: vec![Container { sandbox: "s".into(), name: "a".into(), status }],
    }
}

fn status_of(pod: &Pod, runtime: &PodRuntime, waiting: &Waiting) -> PodStatus {
    let addresses = ["192.0.2.1".to_owned()];
    let inputs = Inputs {
        waiting,
        probes: &|_| Probed::default(),
        node_addresses: &addresses,
        resized: &HashSet::new(),
        pending: None,
        is_terminal: false,
        now: Timestamp::UNIX_EPOCH,
    };
    generate(pod, runtime, &inputs)
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> (&'a str, Option<&'a str>) {
    let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == kind).unwrap();
    assert_eq!(condition.observed_generation, Some(3));
    (&condition.status, condition.reason.as_deref())
}

#[test]
fn nothing_runs_yet() {
    let status = status_of(&pod("Always"), &PodRuntime::default(), &Waiting::new());
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(condition(&status, "Ready"), ("False", Some("ContainersNotReady")));
    assert_eq!(condition(&status, "PodReadyToStartContainers").0, "False");
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(
        container.state.as_ref().unwrap().waiting.as_ref().unwrap().reason.as_deref(),
        Some("ContainerCreating")
    );
}

#[test]
fn running_is_ready_without_probes() {
    let status = status_of(&pod("Always"), &runtime(wire::ContainerState::ContainerRunning, 0), &Waiting::new());
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(condition(&status, "Ready"), ("True", None));
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.1"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
}

#[test]
fn a_crash_loop_waits_and_keeps_what_ended() {
    let waiting = Waiting::from([("a".to_owned(), ("CrashLoopBackOff".to_owned(), "back-off".to_owned()))]);
    let status = status_of(&pod("Always"), &runtime(wire::ContainerState::ContainerExited, 1), &waiting);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(container.state.as_ref().unwrap().waiting.as_ref().unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(container.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 1);
}

#[test]
fn a_pod_that_has_had_its_run() {
    let succeeded = status_of(&pod("Never"), &runtime(wire::ContainerState::ContainerExited, 0), &Waiting::new());
    assert_eq!(succeeded.phase.as_deref(), Some("Succeeded"));
    assert_eq!(condition(&succeeded, "Ready"), ("False", Some("PodCompleted")));
    let failed = status_of(&pod("OnFailure"), &runtime(wire::ContainerState::ContainerExited, 0), &Waiting::new());
    assert_eq!(failed.phase.as_deref(), Some("Succeeded"));
    let failed = status_of(&pod("Never"), &runtime(wire::ContainerState::ContainerExited, 2), &Waiting::new());
    assert_eq!(failed.phase.as_deref(), Some("Failed"));
}

#[test]
fn only_changes_are_patched() {
    let old = status_of(&pod("Always"), &PodRuntime::default(), &Waiting::new());
    assert_eq!(writer::patch("u", &old, &old).unwrap(), None);
    let mut with_status = pod("Always");
    with_status.status = Some(old.clone());
    let new = status_of(&with_status, &runtime(wire::ContainerState::ContainerRunning, 0), &Waiting::new());
    let patch = writer::patch("u", &old, &new).unwrap().unwrap();
    assert_eq!(patch["status"]["phase"], "Running");
    assert_eq!(patch["metadata"]["uid"], "u");
    let kinds: Vec<&str> =
        patch["status"]["conditions"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["PodReadyToStartContainers", "Ready", "ContainersReady"]);
    assert!(patch["status"].get("qosClass").is_none());
}
