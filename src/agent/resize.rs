//! In-place resize (KEP-1287): which containers of a running pod have other resources than wanted, and whether the node has
//! what is wanted (upstream: pkg/kubelet/allocation/allocation_manager.go, kuberuntime_manager.go computePodResizeAction).
//!
//! Nothing is remembered here: what a container has is what the pod's status says of it.

use std::collections::BTreeMap;

use coracle_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::downward::Allocatable;
use crate::pod::PodExt;
use crate::qos;

const RESOURCES: [&str; 2] = ["cpu", "memory"];

/// Why a resize does not begin: the condition PodResizePending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub reason: &'static str,
    pub message: String,
}

/// How a running container comes to its new resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    InPlace,
    Restart,
}

/// What must be done to a container for it to have what its specification says.
pub fn change(container: &Container, status: &ContainerStatus) -> Option<Change> {
    let wanted = container.resources.as_ref();
    let changed: Vec<&str> = RESOURCES.into_iter().filter(|name| !has(wanted, status, name)).collect();
    let restarts = |name: &&str| {
        let policy = container.resize_policy.iter().flatten().find(|policy| policy.resource_name == **name);
        policy.is_some_and(|policy| policy.restart_policy == "RestartContainer")
    };
    match (changed.is_empty(), changed.iter().any(restarts)) {
        (true, _) => None,
        (false, true) => Some(Change::Restart),
        (false, false) => Some(Change::InPlace),
    }
}

/// Whether the container's request and limit are those of its status. A status that says nothing of resources is no difference.
fn has(wanted: Option<&ResourceRequirements>, status: &ContainerStatus, name: &str) -> bool {
    let Some(present) = &status.resources else { return true };
    let amount = |list: Option<&BTreeMap<String, Text>>| Quantity::parse(&list?.get(name)?.0).ok();
    amount(wanted.and_then(|wanted| wanted.requests.as_ref())) == amount(status.allocated_resources.as_ref())
        && amount(wanted.and_then(|wanted| wanted.limits.as_ref())) == amount(present.limits.as_ref())
}

/// The status of the container of that name, be it an init container or another.
pub fn status_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses];
    lists.into_iter().flatten().flatten().find(|status| status.name == name)
}

/// Whether any container has other resources than its specification says.
pub fn is_wanted(pod: &Pod) -> bool {
    pod.spec()
        .containers
        .iter()
        .chain(pod.init_containers())
        .any(|container| status_of(pod, &container.name).is_some_and(|status| change(container, status).is_some()))
}

/// Whether the node can give what the pod wants beside what `others` have; `None` when it can or when nothing has changed.
pub fn pending(pod: &Pod, others: &[Pod], allocatable: &Allocatable) -> Option<Pending> {
    if !is_wanted(pod) {
        return None;
    }
    for (name, capacity) in [("cpu", allocatable.milli_cpu), ("memory", allocatable.memory)] {
        let wanted = qos::pod_request(pod.spec(), name);
        if wanted > capacity {
            let message =
                format!("Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {capacity}");
            return Some(Pending { reason: "Infeasible", message });
        }
        let used: i64 = others.iter().map(|other| qos::pod_request(other.spec(), name)).sum();
        if wanted + used > capacity {
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
            );
            return Some(Pending { reason: "Deferred", message });
        }
    }
    None
}

/// The pod as it goes on while a resize waits: with the resources that its containers have.
pub fn keep_present(pod: &Pod) -> Pod {
    let mut kept = pod.clone();
    let Some(spec) = &mut kept.spec else { return kept };
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let Some(status) = status_of(pod, &container.name) else { continue };
        let Some(present) = &status.resources else { continue };
        let wanted = container.resources.get_or_insert_default();
        for name in RESOURCES {
            replace(&mut wanted.requests, status.allocated_resources.as_ref(), name);
            replace(&mut wanted.limits, present.limits.as_ref(), name);
        }
    }
    kept
}

fn replace(list: &mut Option<BTreeMap<String, Text>>, by: Option<&BTreeMap<String, Text>>, name: &str) {
    match by.and_then(|by| by.get(name)) {
        Some(amount) => {
            list.get_or_insert_default().insert(name.to_owned(), amount.clone());
        }
        None => {
            list.iter_mut().for_each(|list| drop(list.remove(name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// One container that has 1 CPU and 64 MiB and wants `wanted`, restarting for memory.
    fn pod(wanted: serde_json::Value) -> Pod {
        let has = json!({"requests": {"cpu": "1", "memory": "64Mi"}, "limits": {"memory": "64Mi"}});
        serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{
                "name": "a", "resources": wanted,
                "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}],
            }]},
            "status": {"containerStatuses": [{
                "name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "resources": has, "allocatedResources": has["requests"],
            }]},
        }))
        .unwrap()
    }

    fn change_of(pod: &Pod) -> Option<Change> {
        change(&pod.spec().containers[0], status_of(pod, "a").unwrap())
    }

    #[test]
    fn a_policy_decides_how_a_container_changes() {
        let same = pod(json!({"requests": {"cpu": "1000m", "memory": "64Mi"}, "limits": {"memory": "65536Ki"}}));
        assert_eq!(change_of(&same), None);
        let cpu = pod(json!({"requests": {"cpu": "2", "memory": "64Mi"}, "limits": {"memory": "64Mi"}}));
        assert_eq!(change_of(&cpu), Some(Change::InPlace));
        let memory = pod(json!({"requests": {"cpu": "1", "memory": "64Mi"}, "limits": {"memory": "65Mi"}}));
        assert_eq!(change_of(&memory), Some(Change::Restart));
    }

    #[test]
    fn what_the_node_does_not_have_waits() {
        let allocatable = Allocatable { milli_cpu: 4000, memory: 1 << 30, ephemeral_storage: 0 };
        let reason = |pod: &Pod, others: &[Pod]| pending(pod, others, &allocatable).map(|pending| pending.reason);
        let wants = |cpu: &str| pod(json!({"requests": {"cpu": cpu, "memory": "64Mi"}, "limits": {"memory": "64Mi"}}));
        assert_eq!(reason(&wants("5"), &[]), Some("Infeasible"));
        assert_eq!(reason(&wants("3"), &[wants("2")]), Some("Deferred"));
        assert_eq!(reason(&wants("3"), &[wants("1")]), None);
        assert_eq!(reason(&wants("1"), &[wants("4")]), None, "nothing is changed");
        let kept = keep_present(&wants("5"));
        assert_eq!(change_of(&kept), None);
    }
}
