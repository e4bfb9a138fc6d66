//! A pod's status from what runs: a pure function (upstream: pkg/kubelet/kubelet_pods.go generateAPIPodStatus).

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container as Spec, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, HostIP, LinuxContainerUser, Pod, PodIP, PodStatus, VolumeMount, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod::{PodExt, as_container, is_sidecar, should_restart};
use crate::pod_runtime::{Container, PodRuntime};
use crate::proto::cri::{self as wire, ContainerState as State};
use crate::qos;
use crate::resize::Pending;

mod conditions;
pub mod message;
#[cfg(test)]
mod tests;
pub mod writer;

/// Why a container does not run, by its name: `ImagePullBackOff` and what there is to say.
pub type Waiting = HashMap<String, (String, String)>;

/// Everything beside the pod and the runtime that a status depends on.
pub struct Inputs<'a> {
    pub waiting: &'a Waiting,
    /// What probes say of a running container, by its ID.
    pub probes: &'a dyn Fn(&str) -> Probed,
    pub node_addresses: &'a [String],
    /// Names of running containers that have just been given what their specification says.
    pub resized: &'a HashSet<String>,
    /// Why a resize does not begin.
    pub pending: Option<&'a Pending>,
    /// Nothing of the pod runs or will run again.
    pub is_terminal: bool,
    pub now: Timestamp,
}

/// `None` where the container has no such probe or it has not spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Probed {
    pub started: Option<bool>,
    pub ready: Option<bool>,
}

pub fn generate(pod: &Pod, runtime: &PodRuntime, inputs: &Inputs) -> PodStatus {
    let old = pod.status.clone().unwrap_or_default();
    let mut status = PodStatus {
        host_ip: inputs.node_addresses.first().cloned(),
        host_ips: Some(inputs.node_addresses.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        start_time: old.start_time.clone().or(Some(Time(inputs.now))),
        qos_class: old.qos_class.clone().or_else(|| Some(qos::class(pod.spec()).to_string())),
        observed_generation: pod.metadata.generation,
        ..old.clone()
    };
    let addresses = if pod.uses_host_network() { inputs.node_addresses.to_vec() } else { runtime.addresses() };
    if !addresses.is_empty() {
        status.pod_ip = addresses.first().cloned();
        status.pod_ips = Some(addresses.into_iter().map(|ip| PodIP { ip }).collect());
    }
    let old_statuses = |list: &Option<Vec<ContainerStatus>>, name: &str| {
        list.as_ref().and_then(|list| list.iter().find(|status| status.name == name).cloned())
    };
    let init = pod.init_containers();
    let init_statuses: Vec<ContainerStatus> = init
        .iter()
        .map(|spec| {
            let mut status = container(
                pod,
                spec,
                runtime,
                inputs,
                old_statuses(&old.init_container_statuses, &spec.name),
                "PodInitializing",
            );
            if !is_sidecar(spec) {
                let terminated = status.state.as_ref().and_then(|state| state.terminated.as_ref());
                status.ready = terminated.is_some_and(|terminated| terminated.exit_code == 0);
            }
            status
        })
        .collect();
    let initialized = init
        .iter()
        .zip(&init_statuses)
        .all(|(spec, status)| if is_sidecar(spec) { status.started == Some(true) } else { status.ready });
    let waiting = if initialized { "ContainerCreating" } else { "PodInitializing" };
    let statuses: Vec<ContainerStatus> = pod
        .spec()
        .containers
        .iter()
        .map(|spec| container(pod, spec, runtime, inputs, old_statuses(&old.container_statuses, &spec.name), waiting))
        .collect();
    let ephemeral: Vec<ContainerStatus> = pod
        .ephemeral_containers()
        .iter()
        .map(|spec| {
            let old = old_statuses(&old.ephemeral_container_statuses, &spec.name);
            let status = container(pod, &as_container(spec), runtime, inputs, old, waiting);
            // Nothing probes it.
            ContainerStatus { ready: false, started: None, ..status }
        })
        .collect();
    let settled = matches!(old.phase.as_deref(), Some("Failed" | "Succeeded"));
    if !settled {
        let mut now = phase(pod, &init_statuses, &statuses, inputs.is_terminal);
        if pod.time_left(inputs.now).is_some_and(|left| left.is_zero()) {
            now = "Failed";
            status.reason = Some("DeadlineExceeded".to_owned());
            status.message = Some("Pod was active on the node longer than the specified deadline".to_owned());
        }
        status.phase = Some(now.to_owned());
    }
    conditions::update(&mut status, pod, runtime, &init_statuses, &statuses, inputs);
    status.ephemeral_container_statuses = (!ephemeral.is_empty()).then_some(ephemeral);
    status.init_container_statuses = (!init_statuses.is_empty()).then_some(init_statuses);
    status.container_statuses = Some(statuses);
    status
}

fn container(
    pod: &Pod,
    spec: &Spec,
    runtime: &PodRuntime,
    inputs: &Inputs,
    old: Option<ContainerStatus>,
    default_reason: &str,
) -> ContainerStatus {
    let why = inputs.waiting.get(&spec.name);
    let waiting = || {
        let (reason, message) = why.cloned().unwrap_or_else(|| (default_reason.to_owned(), String::new()));
        let message = (!message.is_empty()).then_some(message);
        ContainerState { waiting: Some(ContainerStateWaiting { reason: Some(reason), message }), ..Default::default() }
    };
    let blank = ContainerStatus {
        name: spec.name.clone(),
        image: spec.image.clone().unwrap_or_default(),
        started: Some(false),
        state: Some(waiting()),
        last_state: Some(ContainerState::default()),
        volume_mounts: volume_mounts(spec),
        ..Default::default()
    };
    let mut of_name = runtime.containers.iter().filter(|container| container.name == spec.name);
    let Some(newest) = of_name.next() else {
        // What has ended stays ended when the runtime has forgotten it.
        let ended = |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.terminated.is_some());
        return old.filter(|status| ended(status)).unwrap_or(blank);
    };
    let mut status = ContainerStatus {
        image: newest
            .status
            .image
            .as_ref()
            .map(|image| image.image.clone())
            .filter(|image| !image.is_empty())
            .unwrap_or(blank.image.clone()),
        image_id: newest.status.image_ref.clone(),
        container_id: Some(format!("containerd://{}", newest.status.id)),
        restart_count: newest.restart_count(),
        resources: Some(spec.resources.clone().unwrap_or_default()),
        allocated_resources: spec.resources.as_ref().and_then(|resources| resources.requests.clone()),
        user: user(&newest.status),
        ..blank
    };
    let is_running = newest.state() == State::ContainerRunning;
    if let Some(old) = old.as_ref().filter(|old| is_running && old.container_id == status.container_id)
        && old.resources.is_some()
        && !inputs.resized.contains(&spec.name)
    {
        status.resources = old.resources.clone();
        status.allocated_resources = old.allocated_resources.clone();
    }
    if let Some(before) = of_name.find(|container| container.state() == State::ContainerExited) {
        status.last_state = Some(terminated(before));
    } else if let Some(old) = old.filter(|old| old.restart_count == status.restart_count) {
        status.last_state = old.last_state.or(status.last_state);
    }
    match newest.state() {
        State::ContainerRunning => {
            let probed = (inputs.probes)(&newest.status.id);
            let started = spec.startup_probe.is_none() || probed.started == Some(true);
            status.started = Some(started);
            status.ready = started && (spec.readiness_probe.is_none() || probed.ready == Some(true));
            let started_at = Some(time(newest.status.started_at));
            status.state =
                Some(ContainerState { running: Some(ContainerStateRunning { started_at }), ..Default::default() });
        }
        State::ContainerExited => {
            let again = should_restart(spec, pod.spec(), newest.status.exit_code) && !inputs.is_terminal;
            if again && why.is_some() {
                status.last_state = Some(terminated(newest));
                status.state = Some(waiting());
            } else {
                status.state = Some(terminated(newest));
            }
        }
        State::ContainerCreated | State::ContainerUnknown => {}
    }
    status
}

/// Each mount as it is in the container. A mount inside of a read-only one stays writable: no recursion is asked for.
fn volume_mounts(spec: &Spec) -> Option<Vec<VolumeMountStatus>> {
    let status = |mount: &VolumeMount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only,
        recursive_read_only: (mount.read_only == Some(true)).then(|| "Disabled".to_owned()),
        volume_status: None,
    };
    spec.volume_mounts.as_ref().map(|mounts| mounts.iter().map(status).collect())
}

/// As whom the container began, where the runtime says so.
fn user(status: &wire::ContainerStatus) -> Option<ContainerUser> {
    let linux = status.user.as_ref()?.linux.as_ref()?;
    let groups = (!linux.supplemental_groups.is_empty()).then(|| linux.supplemental_groups.clone());
    let user = LinuxContainerUser { uid: linux.uid, gid: linux.gid, supplemental_groups: groups };
    Some(ContainerUser { linux: Some(user) })
}

fn terminated(container: &Container) -> ContainerState {
    let status = &container.status;
    let reason = match (status.reason.as_str(), status.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    let terminated = ContainerStateTerminated {
        exit_code: status.exit_code,
        reason: Some(reason.to_owned()),
        message: (!status.message.is_empty()).then(|| status.message.clone()),
        started_at: Some(time(status.started_at)),
        finished_at: Some(time(status.finished_at)),
        container_id: Some(format!("containerd://{}", status.id)),
        signal: None,
    };
    ContainerState { terminated: Some(terminated), ..Default::default() }
}

/// Whole seconds, as the API keeps times.
fn time(nanoseconds: i64) -> Time {
    Time(Timestamp::from_second(nanoseconds.div_euclid(1_000_000_000)).unwrap_or_default())
}

/// Upstream: getPhase.
fn phase(pod: &Pod, init: &[ContainerStatus], statuses: &[ContainerStatus], is_terminal: bool) -> &'static str {
    let spec = pod.spec();
    let (mut pending_init, mut pending_sidecars, mut running, mut waiting) = (0, 0, 0, 0);
    let (mut stopped, mut succeeded, mut stopped_for_good) = (0, 0, 0);
    let exit_code =
        |state: &Option<ContainerState>| state.as_ref()?.terminated.as_ref().map(|terminated| terminated.exit_code);
    let is_running = |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    for (container, status) in pod.init_containers().iter().zip(init) {
        let ended = exit_code(&status.state);
        let last = ended.or_else(|| exit_code(&status.last_state));
        if is_sidecar(container) {
            running += i32::from(is_running(status));
            let starting = is_running(status) && status.started != Some(true);
            pending_sidecars += i32::from(starting || (!is_running(status) && last.is_none()));
        } else if is_running(status) || last.is_none() {
            pending_init += 1;
        } else if let Some(code) = last.filter(|code| *code != 0)
            && !should_restart(container, spec, code)
        {
            return "Failed";
        }
    }
    for (container, status) in spec.containers.iter().zip(statuses) {
        if is_running(status) {
            running += 1;
        } else if let Some(code) = exit_code(&status.state) {
            stopped += 1;
            succeeded += i32::from(code == 0);
            stopped_for_good += i32::from(!should_restart(container, spec, code));
        } else if let Some(code) = exit_code(&status.last_state) {
            stopped += 1;
            stopped_for_good += i32::from(!should_restart(container, spec, code));
        } else {
            waiting += 1;
        }
    }
    let has_initialized =
        statuses.iter().any(|status| status.started == Some(true) || exit_code(&status.state).is_some());
    if pending_init > 0 || (pending_sidecars > 0 && !has_initialized) || waiting > 0 {
        return "Pending";
    }
    if running > 0 {
        return "Running";
    }
    let over = if is_terminal && !pod.is_static() { true } else { stopped == stopped_for_good };
    match (stopped, over) {
        (0, _) => "Pending",
        (_, false) => "Running",
        (_, true) if stopped == succeeded => "Succeeded",
        (_, true) => "Failed",
    }
}
