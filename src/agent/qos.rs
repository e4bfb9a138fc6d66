//! Quality of service, and what resources mean to the kernel (upstream: pkg/kubelet/qos, kuberuntime/kuberuntime_container_linux.go).

use std::collections::BTreeMap;
use std::fmt;

use coracle_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

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
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let (mut any, mut all_limited) = (false, true);
    for container in containers {
        for resource in ["cpu", "memory"] {
            let (request, limit) = (request(container, resource), limit(container, resource));
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

/// What all containers together may use; `None` where one has no limit.
pub fn pod_limit(spec: &PodSpec, resource: &str) -> Option<i64> {
    let amount = |container: &Container| {
        limit(container, resource).map(|limit| if resource == "cpu" { limit.milli_value() } else { limit.value() })
    };
    let main = spec.containers.iter().map(amount).sum::<Option<i64>>()?;
    let init: Option<Vec<i64>> = spec.init_containers.iter().flatten().map(amount).collect();
    Some(init?.into_iter().fold(main, i64::max))
}

/// Thousandths of a CPU that all containers together ask for.
pub fn pod_cpu_request(spec: &PodSpec) -> i64 {
    let ask = |container: &Container| request(container, "cpu").map_or(0, |cpu| cpu.milli_value());
    let main: i64 = spec.containers.iter().map(ask).sum();
    spec.init_containers.iter().flatten().map(ask).fold(main, i64::max)
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
