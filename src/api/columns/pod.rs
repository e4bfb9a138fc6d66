//! Cells of pods: what state a pod is in, said in one word.

use serde_json::{Value, json};

use super::{Now, age};
use crate::node::Node;

struct Summary<'v> {
    ready: usize,
    total: usize,
    status: String,
    restarts: i64,
    /// RFC 3339, `""` when nothing was restarted.
    last_restart: &'v str,
}

pub(super) fn ready(pod: Node<'_, '_>, _: &Now) -> Value {
    let summary = summary(pod);
    format!("{}/{}", summary.ready, summary.total).into()
}

pub(super) fn status(pod: Node<'_, '_>, _: &Now) -> Value {
    summary(pod).status.into()
}

pub(super) fn restarts(pod: Node<'_, '_>, now: &Now) -> Value {
    let summary = summary(pod);
    if summary.restarts == 0 || summary.last_restart.is_empty() {
        return summary.restarts.to_string().into();
    }
    format!("{} ({} ago)", summary.restarts, age::since(summary.last_restart, now)).into()
}

pub(super) fn address(pod: Node<'_, '_>, _: &Now) -> Value {
    let status = pod.get("status");
    let addresses = status.get("podIPs");
    let first = addresses.items().next().map_or("", |address| address.get("ip").str());
    if first.is_empty() { "<none>".into() } else { first.into() }
}

pub(super) fn readiness_gates(pod: Node<'_, '_>, _: &Now) -> Value {
    let (spec, status) = (pod.get("spec"), pod.get("status"));
    let (gates, conditions) = (spec.get("readinessGates"), status.get("conditions"));
    if gates.is_empty() {
        return "<none>".into();
    }
    let holds = |gate: &Node<'_, '_>| {
        conditions
            .find("type", gate.get("conditionType").str())
            .is_some_and(|condition| condition.get("status").str() == "True")
    };
    format!("{}/{}", gates.items().filter(holds).count(), gates.len()).into()
}

/// `conditions` of a pod's Table row: finished pods are marked, so that clients may hide them.
pub fn conditions(tree: &Value) -> Option<Value> {
    let pod = Node::root(tree);
    let status = pod.get("status");
    let (reason, message) = match status.get("phase").str() {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

/// Upstream: printPod.
fn summary<'v>(pod: Node<'v, '_>) -> Summary<'v> {
    let (spec, status, metadata) = (pod.get("spec"), pod.get("status"), pod.get("metadata"));
    let phase = status.get("phase").str();
    let conditions = status.get("conditions");
    let holds = |kind| conditions.find("type", kind).is_some_and(|condition| condition.get("status").str() == "True");
    let inits = spec.get("initContainers");
    let sidecar =
        |name: &str| inits.find("name", name).is_some_and(|container| container.get("restartPolicy").str() == "Always");

    let reason = status.get("reason").str();
    let mut shown = if reason.is_empty() { phase } else { reason }.to_owned();
    let gated = |condition: &Node<'_, '_>| {
        condition.get("type").str() == "PodScheduled" && condition.get("reason").str() == "SchedulingGated"
    };
    if conditions.items().any(|condition| gated(&condition)) {
        shown = "SchedulingGated".to_owned();
    }

    let mut summary = Summary {
        ready: 0,
        total: spec.get("containers").len()
            + inits.items().filter(|container| container.get("restartPolicy").str() == "Always").count(),
        status: String::new(),
        restarts: 0,
        last_restart: "",
    };
    let (mut sidecar_restarts, mut last_sidecar_restart) = (0, "");
    let mut initializing = false;
    for (index, container) in status.get("initContainerStatuses").items().enumerate() {
        let is_sidecar = sidecar(container.get("name").str());
        let count = container.get("restartCount").int().unwrap_or_default();
        let last = last_termination(container);
        summary.restarts += count;
        summary.last_restart = summary.last_restart.max(last);
        if is_sidecar {
            sidecar_restarts += count;
            last_sidecar_restart = last_sidecar_restart.max(last);
        }
        let state = container.get("state");
        let (terminated, waiting) = (state.get("terminated"), state.get("waiting").get("reason").str());
        if terminated.is_present() && terminated.get("exitCode").int() == Some(0) {
            continue;
        }
        if is_sidecar && container.get("started").bool() {
            summary.ready += usize::from(container.get("ready").bool());
            continue;
        }
        shown = if terminated.is_present() {
            format!("Init:{}", termination(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{index}/{}", inits.len())
        };
        initializing = true;
        break;
    }

    if !initializing || holds("Initialized") {
        (summary.restarts, summary.last_restart) = (sidecar_restarts, last_sidecar_restart);
        let (mut running, mut failure) = (false, String::new());
        let statuses = status.get("containerStatuses");
        for container in statuses.items().rev() {
            summary.restarts += container.get("restartCount").int().unwrap_or_default();
            summary.last_restart = summary.last_restart.max(last_termination(container));
            let state = container.get("state");
            let (terminated, waiting) = (state.get("terminated"), state.get("waiting").get("reason").str());
            if !waiting.is_empty() {
                shown = waiting.to_owned();
            } else if terminated.is_present() {
                shown = termination(terminated);
                if terminated.get("exitCode").int().unwrap_or_default() != 0 {
                    failure.clone_from(&shown);
                }
            } else if container.get("ready").bool() && state.get("running").is_present() {
                running = true;
                summary.ready += 1;
            }
        }
        // A pod of which a container is still running is not completed.
        if shown == "Completed" {
            if running && holds("Ready") {
                shown = "Running".to_owned();
            } else if !failure.is_empty() {
                shown = failure;
            } else if running {
                shown = "NotReady".to_owned();
            }
        }
    }

    if metadata.get("deletionTimestamp").is_present() {
        if reason == "NodeLost" {
            shown = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            shown = "Terminating".to_owned();
        }
    }
    summary.status = shown;
    summary
}

fn last_termination<'v>(container: Node<'v, '_>) -> &'v str {
    container.get("lastState").get("terminated").get("finishedAt").str()
}

fn termination(terminated: Node<'_, '_>) -> String {
    let signal = terminated.get("signal").int().unwrap_or_default();
    match terminated.get("reason").str() {
        "" if signal != 0 => format!("Signal:{signal}"),
        "" => format!("ExitCode:{}", terminated.get("exitCode").int().unwrap_or_default()),
        reason => reason.to_owned(),
    }
}
