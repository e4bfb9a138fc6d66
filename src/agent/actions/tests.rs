//! Pods and what runs of them, and what must follow.

use super::*;
use crate::proto::cri as wire;

fn pod(policy: &str, init: &[&str], containers: &[&str]) -> Pod {
    let list = |names: &[&str]| {
        let entry = |name: &&str| match name.strip_prefix('*') {
            Some(name) => serde_json::json!({"name": name, "image": "i", "restartPolicy": "Always"}),
            None => serde_json::json!({"name": name, "image": "i"}),
        };
        names.iter().map(entry).collect::<Vec<_>>()
    };
    let json = serde_json::json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"restartPolicy": policy, "initContainers": list(init), "containers": list(containers)},
    });
    serde_json::from_value(json).unwrap()
}

/// `name:running`, `name:exited=CODE`, `name:created`, the newest first, in one ready sandbox.
fn runtime(containers: &[&str]) -> PodRuntime {
    let sandbox = wire::PodSandboxStatus {
        id: "s".into(),
        metadata: Some(wire::PodSandboxMetadata { attempt: 0, ..Default::default() }),
        network: Some(wire::PodSandboxNetworkStatus { ip: "10.0.0.1".into(), ..Default::default() }),
        ..Default::default()
    };
    let container = |text: &&str| {
        let (name, state) = text.split_once(':').unwrap();
        let (state, code) = match state.split_once('=') {
            Some(("exited", code)) => (ContainerState::ContainerExited, code.parse().unwrap()),
            _ if state == "running" => (ContainerState::ContainerRunning, 0),
            _ if state == "created" => (ContainerState::ContainerCreated, 0),
            _ => (ContainerState::ContainerUnknown, 0),
        };
        let status = wire::ContainerStatus {
            id: format!("id-{name}"),
            state: state as i32,
            exit_code: code,
            ..Default::default()
        };
        Container { sandbox: "s".into(), name: name.into(), status }
    };
    PodRuntime { sandboxes: vec![sandbox], containers: containers.iter().map(container).collect() }
}

fn check(pod: &Pod, runtime: &PodRuntime, expected: Actions) {
    assert_eq!(compute(pod, runtime, |_| Health::default()), expected);
}

fn starts(start: &[usize]) -> Actions {
    Actions { start: start.to_vec(), ..Actions::default() }
}

fn starts_init(start: &[usize]) -> Actions {
    Actions { start_init: start.to_vec(), ..Actions::default() }
}

#[test]
fn a_new_pod_gets_a_sandbox_and_its_first_containers() {
    let expected = Actions { kill_pod: true, create_sandbox: Some(0), start: vec![0, 1], ..Actions::default() };
    check(&pod("Always", &[], &["a", "b"]), &PodRuntime::default(), expected);
    let expected = Actions { kill_pod: true, create_sandbox: Some(0), start_init: vec![0], ..Actions::default() };
    check(&pod("Always", &["i"], &["a"]), &PodRuntime::default(), expected);
}

#[test]
fn a_running_pod_needs_nothing() {
    check(&pod("Always", &[], &["a", "b"]), &runtime(&["a:running", "b:running"]), Actions::default());
}

#[test]
fn restart_policies() {
    let kill_pod = Actions { kill_pod: true, ..Actions::default() };
    check(&pod("Always", &[], &["a"]), &runtime(&["a:exited=0"]), starts(&[0]));
    check(&pod("OnFailure", &[], &["a"]), &runtime(&["a:exited=1"]), starts(&[0]));
    check(&pod("OnFailure", &[], &["a"]), &runtime(&["a:exited=0"]), kill_pod.clone());
    check(&pod("Never", &[], &["a"]), &runtime(&["a:exited=1"]), kill_pod);
    check(&pod("Never", &[], &["a", "b"]), &runtime(&["a:exited=1", "b:running"]), Actions::default());
}

#[test]
fn a_dead_sandbox_is_replaced_unless_the_pod_has_had_its_run() {
    let mut dead = runtime(&["a:exited=137"]);
    dead.sandboxes[0].state = PodSandboxState::SandboxNotready as i32;
    let expected = Actions { kill_pod: true, create_sandbox: Some(1), start: vec![0], ..Actions::default() };
    check(&pod("Always", &[], &["a"]), &dead, expected);
    check(&pod("Never", &[], &["a"]), &dead, Actions { kill_pod: true, ..Actions::default() });
}

#[test]
fn init_containers_run_one_after_the_other() {
    let pod = pod("Always", &["i", "j"], &["a"]);
    check(&pod, &runtime(&[]), starts_init(&[0]));
    check(&pod, &runtime(&["i:running"]), Actions::default());
    check(&pod, &runtime(&["i:exited=1"]), starts_init(&[0]));
    check(&pod, &runtime(&["i:exited=0"]), starts_init(&[1]));
    check(&pod, &runtime(&["j:exited=0", "i:exited=0"]), starts(&[0]));
    check(&pod, &runtime(&["a:running", "j:exited=0"]), Actions::default());
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    check(&pod("Never", &["i"], &["a"]), &runtime(&["i:exited=1"]), Actions { kill_pod: true, ..Actions::default() });
}

#[test]
fn sidecars_start_in_order_and_are_kept() {
    let pod = pod("Always", &["*s", "i"], &["a"]);
    check(&pod, &runtime(&["s:running"]), starts_init(&[1]));
    check(&pod, &runtime(&["i:exited=0", "s:running"]), starts(&[0]));
    check(&pod, &runtime(&["a:running", "i:exited=0", "s:exited=1"]), starts_init(&[0]));
    check(&pod, &runtime(&["i:running", "s:exited=1"]), starts_init(&[0]));
}

#[test]
fn a_changed_image_replaces_the_container() {
    let mut running = runtime(&["a:running"]);
    running.containers[0].status.annotations.insert(labels::CONTAINER_HASH.into(), "other".into());
    let actions = compute(&pod("Never", &[], &["a"]), &running, |_| Health::default());
    assert_eq!(actions.kill[0].message, "Container a definition changed");
    assert_eq!(actions.start, [0]);
}

#[test]
fn a_failed_liveness_probe_restarts() {
    let sick = |_: &str| Health { liveness: Some(false), startup: None };
    let actions = compute(&pod("Always", &[], &["a"]), &runtime(&["a:running"]), sick);
    assert_eq!(
        (actions.kill[0].message.as_str(), actions.start),
        ("Container a failed liveness probe, will be restarted", vec![0])
    );
    let actions = compute(&pod("Never", &[], &["a", "b"]), &runtime(&["a:running", "b:exited=0"]), sick);
    assert!(actions.start.is_empty() && actions.kill.len() == 1);
}
