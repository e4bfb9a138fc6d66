//! What must be done to bring a pod from what runs to what is wanted: a pure function
//! (upstream: pkg/kubelet/kuberuntime/kuberuntime_manager.go computePodActions).

use k8s_openapi::api::core::v1::{Container as Spec, Pod};

use crate::labels;
use crate::pod::{PodExt, hash, is_sidecar, should_restart};
use crate::pod_runtime::{Container, PodRuntime};
use crate::proto::cri::{ContainerState, PodSandboxState};
use crate::resize::{self, Change};

#[cfg(test)]
mod tests;

/// What probes say of a container, by its ID.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    pub startup: Option<bool>,
    pub liveness: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actions {
    /// Everything of the pod must end, sandbox included.
    pub kill_pod: bool,
    /// With this attempt number.
    pub create_sandbox: Option<u32>,
    /// Indexes into the ephemeral containers: each is started once, whatever the others do.
    pub start_ephemeral: Vec<usize>,
    /// Indexes into the init containers.
    pub start_init: Vec<usize>,
    /// Indexes into the containers.
    pub start: Vec<usize>,
    pub kill: Vec<Kill>,
    /// Names of running containers that get other resources in place.
    pub resize: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    pub id: String,
    pub name: String,
    pub message: String,
    /// Which probe failed, where one did.
    pub probe: Option<ProbeKind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    Startup,
    Liveness,
}

pub fn compute(pod: &Pod, runtime: &PodRuntime, health: impl Fn(&str) -> Health) -> Actions {
    let mut actions = Actions::default();
    if let Some(attempt) = new_sandbox(pod, runtime) {
        return in_new_sandbox(pod, runtime, attempt);
    }
    let is_new = |name: &str| runtime.container(name).is_none();
    let ephemeral = pod.ephemeral_containers().iter().enumerate();
    actions.start_ephemeral =
        ephemeral.filter(|(_, container)| is_new(&container.name)).map(|(index, _)| index).collect();
    if !init_actions(pod, runtime, &health, &mut actions) || actions.kill_pod {
        return actions;
    }
    let mut keep = 0;
    for (index, container) in pod.spec().containers.iter().enumerate() {
        let Some(present) = runtime.container(&container.name) else {
            actions.start.push(index);
            continue;
        };
        if !present.is_running() {
            let again = restarts(container, pod, present);
            if again {
                actions.start.push(index);
                if present.state() == ContainerState::ContainerUnknown {
                    actions.kill.push(kill(present, "is in an unknown state, try killing it before restart", None));
                }
            }
            continue;
        }
        let restart = should_restart(container, pod.spec(), 1);
        if is_changed(container, present) {
            actions.kill.push(kill(present, "definition changed", None));
            actions.start.push(index);
            continue;
        }
        let Some((probe, message)) = failed_probe(health(&present.status.id)) else {
            if resized(pod, container, present, &mut actions) == Some(Change::Restart) {
                actions.start.push(index);
            }
            keep += 1;
            continue;
        };
        let ending = if restart { ", will be restarted" } else { "" };
        actions.kill.push(kill(present, &format!("{message}{ending}"), Some(probe)));
        if restart {
            actions.start.push(index);
        }
    }
    let sidecars_starting = !actions.start_init.is_empty();
    if keep == 0 && actions.start.is_empty() && !sidecars_starting {
        actions.kill_pod = true;
    }
    actions
}

/// The attempt number of the sandbox that is needed, if one is (upstream: PodSandboxChanged).
fn new_sandbox(pod: &Pod, runtime: &PodRuntime) -> Option<u32> {
    let Some(newest) = runtime.sandboxes.first() else { return Some(0) };
    let attempt = newest.metadata.as_ref().map_or(0, |metadata| metadata.attempt) + 1;
    let ready = runtime.sandboxes.iter().filter(|sandbox| sandbox.state() == PodSandboxState::SandboxReady).count();
    let no_address = !pod.uses_host_network() && newest.network.as_ref().is_none_or(|network| network.ip.is_empty());
    (ready != 1 || newest.state() != PodSandboxState::SandboxReady || no_address).then_some(attempt)
}

fn in_new_sandbox(pod: &Pod, runtime: &PodRuntime, attempt: u32) -> Actions {
    let mut actions = Actions { kill_pod: true, ..Actions::default() };
    let spec = pod.spec();
    let never = spec.restart_policy.as_deref() == Some("Never");
    if never && attempt != 0 && !runtime.containers.is_empty() {
        return actions;
    }
    let start: Vec<usize> = (0..spec.containers.len())
        .filter(|index| {
            let container = &spec.containers[*index];
            let policy = container.restart_policy.as_deref().or(spec.restart_policy.as_deref());
            policy != Some("OnFailure") || !runtime.container(&container.name).is_some_and(has_succeeded)
        })
        .collect();
    let has_initialized = spec.containers.iter().any(|container| runtime.container(&container.name).is_some());
    if start.is_empty() && has_initialized {
        return actions;
    }
    actions.create_sandbox = Some(attempt);
    if pod.init_containers().is_empty() {
        actions.start = start;
    } else {
        actions.start_init = vec![0];
    }
    actions
}

/// Fills in what init containers need; says whether the pod's containers may be looked at.
/// Upstream: computeInitContainerActions.
fn init_actions(pod: &Pod, runtime: &PodRuntime, health: &impl Fn(&str) -> Health, actions: &mut Actions) -> bool {
    let init = pod.init_containers();
    let main_started = pod.spec().containers.iter().any(|container| runtime.active(&container.name).is_some());
    let mut has_initialized = main_started || init.is_empty();
    let previously = main_started;
    let mut found = false;
    for (index, container) in init.iter().enumerate().rev() {
        let sidecar = is_sidecar(container);
        let Some(present) = runtime.active(&container.name) else {
            if previously && sidecar {
                actions.start_init.push(index);
            }
            continue;
        };
        if previously && !sidecar {
            continue;
        }
        found = true;
        let is_last = index + 1 == init.len();
        let mut initialized = |actions: &mut Actions| {
            if is_last {
                has_initialized = true;
            } else if !previously {
                actions.start_init.push(index + 1);
            }
        };
        match present.state() {
            ContainerState::ContainerCreated => actions.start_init.push(index),
            ContainerState::ContainerRunning if !sidecar => {}
            ContainerState::ContainerRunning => {
                let health = health(&present.status.id);
                let started = container.startup_probe.is_none() || health.startup == Some(true);
                if started {
                    initialized(actions);
                }
                if resized(pod, container, present, actions) == Some(Change::Restart) {
                    actions.start_init.push(index);
                }
                let failed = failed_probe(health).map(|(probe, message)| (Some(probe), message));
                let changed = is_changed(container, present).then_some((None, "definition changed"));
                if let Some((probe, message)) = changed.or(failed) {
                    actions.kill.push(kill(present, message, probe));
                    actions.start_init.push(index);
                }
            }
            ContainerState::ContainerExited if sidecar => actions.start_init.push(index),
            ContainerState::ContainerExited if has_succeeded(present) => initialized(actions),
            ContainerState::ContainerExited => {
                if !restarts(container, pod, present) {
                    actions.kill_pod = true;
                    actions.start_init.clear();
                    return false;
                }
                actions.start_init.push(index);
            }
            ContainerState::ContainerUnknown => {
                actions.kill.push(kill(present, "is in an unknown state, try killing it before restart", None));
                actions.start_init.push(index);
            }
        }
        if !previously {
            break;
        }
    }
    if !previously && !found && !init.is_empty() {
        actions.start_init.push(0);
    }
    if !previously {
        // Sidecars before the one that was found, in order.
        let until = actions.start_init.first().copied().unwrap_or(init.len());
        let dead = (0..until.min(init.len())).filter(|index| {
            is_sidecar(&init[*index])
                && runtime
                    .active(&init[*index].name)
                    .is_some_and(|container| container.state() == ContainerState::ContainerExited)
        });
        let dead: Vec<usize> = dead.collect();
        actions.start_init.splice(0..0, dead);
    } else {
        actions.start_init.reverse();
    }
    actions.start_init.dedup();
    has_initialized
}

fn restarts(container: &Spec, pod: &Pod, present: &Container) -> bool {
    match present.state() {
        ContainerState::ContainerExited => should_restart(container, pod.spec(), present.status.exit_code),
        // Made but not started, or unknown: nothing says that it has done its work.
        _ => true,
    }
}

fn has_succeeded(container: &Container) -> bool {
    container.state() == ContainerState::ContainerExited && container.status.exit_code == 0
}

fn is_changed(container: &Spec, present: &Container) -> bool {
    present.status.annotations.get(labels::CONTAINER_HASH).is_some_and(|present| *present != hash(container))
}

/// Notes what a running container needs for its new resources.
fn resized(pod: &Pod, container: &Spec, present: &Container, actions: &mut Actions) -> Option<Change> {
    let change = resize::change(container, resize::status_of(pod, &container.name)?);
    match change {
        Some(Change::InPlace) => actions.resize.push(container.name.clone()),
        Some(Change::Restart) => actions.kill.push(kill(present, "resize requires restart", None)),
        None => {}
    }
    change
}

fn failed_probe(health: Health) -> Option<(ProbeKind, &'static str)> {
    if health.liveness == Some(false) {
        return Some((ProbeKind::Liveness, "failed liveness probe"));
    }
    (health.startup == Some(false)).then_some((ProbeKind::Startup, "failed startup probe"))
}

fn kill(container: &Container, message: &str, probe: Option<ProbeKind>) -> Kill {
    Kill {
        id: container.status.id.clone(),
        name: container.name.clone(),
        message: format!("Container {} {message}", container.name),
        probe,
    }
}
