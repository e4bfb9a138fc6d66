//! The conditions that the node owns (upstream: pkg/kubelet/status/generate.go).

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Inputs;
use crate::pod::{PodExt, is_sidecar};
use crate::pod_runtime::PodRuntime;
use crate::resize;

/// What a condition says.
struct Verdict {
    status: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn yes() -> Self {
        Self { status: true, reason: "", message: String::new() }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Self { status: false, reason, message }
    }
}

pub(super) fn update(
    status: &mut PodStatus,
    pod: &Pod,
    runtime: &PodRuntime,
    init: &[ContainerStatus],
    statuses: &[ContainerStatus],
    inputs: &Inputs,
) {
    let phase = status.phase.clone().unwrap_or_default();
    let has_sandbox = runtime.ready_sandbox().is_some() && (pod.uses_host_network() || !runtime.addresses().is_empty());
    let containers = containers_ready(pod, init, statuses, &phase);
    let ready = if containers.status {
        gates(pod, status)
    } else {
        Verdict { message: containers.message.clone(), ..containers }
    };
    let network = if has_sandbox { Verdict::yes() } else { Verdict::no("", String::new()) };
    for (kind, verdict) in [
        ("PodReadyToStartContainers", network),
        ("Initialized", initialized(pod, init, statuses, &phase)),
        ("Ready", ready),
        ("ContainersReady", containers_ready(pod, init, statuses, &phase)),
        ("PodScheduled", Verdict::yes()),
    ] {
        set(status, kind, verdict, pod.metadata.generation, inputs);
    }
    resizing(status, pod, init, statuses, inputs);
}

/// PodResizePending and PodResizeInProgress are there while they are true, and else not.
fn resizing(
    status: &mut PodStatus,
    pod: &Pod,
    init: &[ContainerStatus],
    statuses: &[ContainerStatus],
    inputs: &Inputs,
) {
    let of = |specs: &[Container], statuses: &[ContainerStatus]| {
        let running = |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
        specs.iter().zip(statuses).any(|(spec, status)| running(status) && resize::change(spec, status).is_some())
    };
    let in_progress =
        inputs.pending.is_none() && (of(&pod.spec().containers, statuses) || of(pod.init_containers(), init));
    let pending = inputs.pending.map(|pending| Verdict {
        status: true,
        reason: pending.reason,
        message: pending.message.clone(),
    });
    let in_progress = in_progress.then(Verdict::yes);
    for (kind, verdict) in [("PodResizePending", pending), ("PodResizeInProgress", in_progress)] {
        match verdict {
            Some(verdict) => set(status, kind, verdict, pod.metadata.generation, inputs),
            None => status.conditions.iter_mut().for_each(|list| list.retain(|condition| condition.type_ != kind)),
        }
    }
}

fn set(status: &mut PodStatus, kind: &str, verdict: Verdict, generation: Option<i64>, inputs: &Inputs) {
    let text = |text: String| (!text.is_empty()).then_some(text);
    let value = if verdict.status { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let position = conditions.iter().position(|condition| condition.type_ == kind);
    let since = position
        .map(|index| &conditions[index])
        .filter(|old| old.status == value)
        .and_then(|old| old.last_transition_time.clone());
    let condition = PodCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: text(verdict.reason.to_owned()),
        message: text(verdict.message),
        last_transition_time: since.or(Some(Time(inputs.now))),
        observed_generation: generation,
        last_probe_time: None,
    };
    match position {
        Some(index) => conditions[index] = condition,
        None => conditions.push(condition),
    }
}

fn containers_ready(pod: &Pod, init: &[ContainerStatus], statuses: &[ContainerStatus], phase: &str) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::no("PodCompleted", String::new()),
        "Failed" => return Verdict::no("PodFailed", String::new()),
        _ => {}
    }
    let sidecars =
        pod.init_containers().iter().zip(init).filter(|(spec, _)| is_sidecar(spec)).map(|(_, status)| status);
    let unready: Vec<&str> =
        sidecars.chain(statuses).filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    if unready.is_empty() {
        return Verdict::yes();
    }
    Verdict::no("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
}

fn gates(pod: &Pod, status: &PodStatus) -> Verdict {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let mut messages = Vec::new();
    for gate in pod.spec().readiness_gates.as_deref().unwrap_or_default() {
        let name = &gate.condition_type;
        match conditions.iter().find(|condition| condition.type_ == *name) {
            None => messages.push(format!("corresponding condition of pod readiness gate {name:?} does not exist.")),
            Some(condition) if condition.status != "True" => messages
                .push(format!("the status of pod readiness gate {name:?} is not \"True\", but {}", condition.status)),
            Some(_) => {}
        }
    }
    if messages.is_empty() { Verdict::yes() } else { Verdict::no("ReadinessGatesNotReady", messages.join(", ")) }
}

fn initialized(pod: &Pod, init: &[ContainerStatus], statuses: &[ContainerStatus], phase: &str) -> Verdict {
    if phase == "Succeeded" {
        return Verdict { reason: "PodCompleted", ..Verdict::yes() };
    }
    let has_started = |status: &ContainerStatus| {
        let ended = |state: &Option<_>| {
            state.as_ref().is_some_and(|state: &k8s_openapi::api::core::v1::ContainerState| state.terminated.is_some())
        };
        status.started == Some(true) || ended(&status.state) || ended(&status.last_state)
    };
    if statuses.iter().any(has_started) {
        return Verdict::yes();
    }
    let incomplete: Vec<&str> = pod
        .init_containers()
        .iter()
        .zip(init)
        .filter(|(spec, status)| if is_sidecar(spec) { status.started != Some(true) } else { !status.ready })
        .map(|(_, status)| status.name.as_str())
        .collect();
    if incomplete.is_empty() {
        return Verdict::yes();
    }
    Verdict::no("ContainersNotInitialized", format!("containers with incomplete status: [{}]", incomplete.join(" ")))
}
