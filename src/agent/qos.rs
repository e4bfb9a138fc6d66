//! Quality of service, and what resources mean to the kernel (upstream: pkg/kubelet/qos, kuberuntime/kuberuntime_container_linux.go).

use std::collections::BTreeMap;
use std::fmt;

use coracle_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::pod::is_sidecar;
use crate::proto::cri as wire;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// Microseconds over which a CPU limit holds.
const PERIOD: i64 = 100_000;
const MIN_QUOTA: i64 = 1_000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;

/// The class that follows from requests and limits of CPU and memory.
pub fn class(spec: &PodSpec) -> Class {
    let (mut any, mut all_limited) = (false, true);
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    // What is said of the whole pod is all that counts, where something is.
    let of_pod = spec.resources.as_ref().filter(|of_pod| of_pod.requests.is_some() || of_pod.limits.is_some());
    let all: Vec<_> = match of_pod {
        Some(of_pod) => vec![Some(of_pod)],
        None => containers.map(|container| container.resources.as_ref()).collect(),
    };
    for resources in all {
        for resource in ["cpu", "memory"] {
            let limit = amount(resources, resource, |resources| resources.limits.as_ref());
            let request = amount(resources, resource, |resources| resources.requests.as_ref()).or(limit);
            any |= request.is_some() || limit.is_some();
            all_limited &= limit.is_some() && request == limit;
        }
    }
    match (any, all_limited) {
        (false, _) => Class::BestEffort,
        (true, true) => Class::Guaranteed,
        (true, false) => Class::Burstable,
    }
}

/// The kernel's killer takes higher scores first (upstream: qos/policy.go).
pub fn oom_score(spec: &PodSpec, container: &Container, node_memory: i64) -> i64 {
    match class(spec) {
        Class::Guaranteed => -997,
        Class::BestEffort => 1000,
        Class::Burstable => {
            let asked = request(container, "memory").map_or(0, |memory| memory.value());
            (1000 - 1000 * asked / node_memory.max(1)).clamp(3, 999)
        }
    }
}

/// What a container gets of CPU and memory.
pub fn resources(spec: &PodSpec, container: &Container, node_memory: i64) -> wire::LinuxContainerResources {
    let cpu_limit = limit(container, "cpu").map(|cpu| cpu.milli_value());
    let cpu_request = request(container, "cpu").map(|cpu| cpu.milli_value()).unwrap_or(0);
    wire::LinuxContainerResources {
        cpu_period: if cpu_limit.is_some() { PERIOD } else { 0 },
        cpu_quota: cpu_limit.map_or(0, quota),
        cpu_shares: shares(cpu_request),
        memory_limit_in_bytes: limit(container, "memory").map_or(0, |memory| memory.value()),
        oom_score_adj: oom_score(spec, container, node_memory),
        ..Default::default()
    }
}

/// cgroup v1's weight for this many thousandths of a CPU.
pub fn shares(milli: i64) -> i64 {
    if milli == 0 { MIN_SHARES } else { (milli * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES) }
}

/// Microseconds in each period for this many thousandths of a CPU.
pub fn quota(milli: i64) -> i64 {
    (milli * PERIOD / 1000).max(MIN_QUOTA)
}

/// What all containers together may use, with the sandbox's overhead: thousandths of a CPU, or bytes; `None` where one has no
/// limit. What is said of the whole pod comes first (KEP-2837).
pub fn pod_limit(spec: &PodSpec, resource: &str) -> Option<i64> {
    let of_pod = amount(spec.resources.as_ref(), resource, |resources| resources.limits.as_ref());
    let limit = of_pod
        .map(|limit| units(limit, resource))
        .or_else(|| together(spec, |container| limit(container, resource).map(|limit| units(limit, resource))))?;
    Some(limit + overhead(spec, resource))
}

/// What all containers together ask for, with the sandbox's overhead: thousandths of a CPU, or bytes.
pub fn pod_request(spec: &PodSpec, resource: &str) -> i64 {
    let of_pod = amount(spec.resources.as_ref(), resource, |resources| resources.requests.as_ref());
    let asked = of_pod.map(|request| units(request, resource)).or_else(|| {
        together(spec, |container| Some(request(container, resource).map_or(0, |request| units(request, resource))))
    });
    asked.unwrap_or(0) + overhead(spec, resource)
}

/// The most that is in use at any time: each init container runs beside the sidecars before it, the others beside all of them.
fn together(spec: &PodSpec, amount: impl Fn(&Container) -> Option<i64>) -> Option<i64> {
    let (mut sidecars, mut most) = (0, 0);
    for container in spec.init_containers.iter().flatten() {
        let own = amount(container)?;
        if is_sidecar(container) {
            sidecars += own;
        }
        most = most.max(if is_sidecar(container) { sidecars } else { sidecars + own });
    }
    let main: i64 = spec.containers.iter().map(amount).sum::<Option<i64>>()?;
    Some(most.max(main + sidecars))
}

fn overhead(spec: &PodSpec, resource: &str) -> i64 {
    let amount = spec.overhead.as_ref().and_then(|overhead| Quantity::parse(&overhead.get(resource)?.0).ok());
    amount.map_or(0, |amount| units(amount, resource))
}

fn units(amount: Quantity, resource: &str) -> i64 {
    if resource == "cpu" { amount.milli_value() } else { amount.value() }
}

pub fn request(container: &Container, resource: &str) -> Option<Quantity> {
    amount(container.resources.as_ref(), resource, |resources| resources.requests.as_ref())
        .or_else(|| limit(container, resource))
}

pub fn limit(container: &Container, resource: &str) -> Option<Quantity> {
    amount(container.resources.as_ref(), resource, |resources| resources.limits.as_ref())
}

fn amount(
    resources: Option<&ResourceRequirements>,
    name: &str,
    list: impl Fn(&ResourceRequirements) -> Option<&BTreeMap<String, Text>>,
) -> Option<Quantity> {
    let text = list(resources?)?.get(name)?;
    Quantity::parse(&text.0).ok().filter(|quantity| !quantity.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(resources: serde_json::Value) -> PodSpec {
        serde_json::from_value(serde_json::json!({"containers": [{"name": "a", "resources": resources}]})).unwrap()
    }

    #[test]
    fn classes_and_scores() {
        let best = spec(serde_json::json!({}));
        let burst = spec(serde_json::json!({"requests": {"memory": "512Mi", "cpu": "250m"}}));
        let guaranteed = spec(serde_json::json!({"limits": {"memory": "1Gi", "cpu": "2"}}));
        let score = |spec: &PodSpec| oom_score(spec, &spec.containers[0], 1 << 30);
        assert_eq!((class(&best), score(&best)), (Class::BestEffort, 1000));
        assert_eq!((class(&burst), score(&burst)), (Class::Burstable, 500));
        assert_eq!((class(&guaranteed), score(&guaranteed)), (Class::Guaranteed, -997));
        let limits = resources(&guaranteed, &guaranteed.containers[0], 1 << 30);
        assert_eq!((limits.cpu_shares, limits.cpu_quota, limits.memory_limit_in_bytes), (2048, 200_000, 1 << 30));
        assert_eq!(resources(&burst, &burst.containers[0], 1 << 30).cpu_shares, 256);
        assert_eq!(shares(0), 2);
    }
}
