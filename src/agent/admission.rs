//! Which pods the node refuses to begin, whoever bound them to it: a pure function
//! (upstream: pkg/kubelet/lifecycle/predicate.go, pkg/kubelet/sysctl/allowlist.go).

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::downward::Allocatable;
use crate::pod::PodExt;
use crate::qos;

/// Why a pod is refused: what its status and an event say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub reason: &'static str,
    pub message: String,
}

/// What the node has to give.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    pub allocatable: &'a Allocatable,
    pub max_pods: usize,
    pub has_app_armor: bool,
}

/// Kernel settings that belong to a pod's own namespaces and reach no other pod.
const SAFE_SYSCTLS: [&str; 14] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_notsent_lowat",
];

/// `others` are the pods that have begun and not ended.
pub fn rejection(pod: &Pod, others: &[Pod], node: &Node) -> Option<Rejection> {
    of_system(pod)
        .or_else(|| of_app_armor(pod, node))
        .or_else(|| of_sysctls(pod))
        .or_else(|| of_resources(pod, others, node))
}

/// The status of a pod that was refused.
pub fn rejected(pod: &Pod, rejection: &Rejection) -> PodStatus {
    let old = pod.status.clone().unwrap_or_default();
    PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some(rejection.reason.to_owned()),
        message: Some(format!("Pod was rejected: {}", rejection.message)),
        observed_generation: pod.metadata.generation,
        qos_class: old.qos_class.clone().or_else(|| Some(qos::class(pod.spec()).to_string())),
        ..old
    }
}

fn of_system(pod: &Pod) -> Option<Rejection> {
    let labelled = pod.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    if labelled.is_some_and(|system| system != "linux") {
        let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label".to_owned();
        return Some(Rejection { reason: "PodOSSelectorNodeLabelDoesNotMatch", message });
    }
    let wanted = pod.spec().os.as_ref().is_some_and(|system| system.name != "linux");
    let message = || "Failed to admit pod as the OS field doesn't match node OS".to_owned();
    wanted.then(|| Rejection { reason: "PodOSNotSupported", message: message() })
}

fn of_app_armor(pod: &Pod, node: &Node) -> Option<Rejection> {
    let of_pod = pod.spec().security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref());
    let own = pod.all_containers().into_iter().filter_map(|container| {
        container.security_context.as_ref().and_then(|context| context.app_armor_profile.clone())
    });
    let enforced = own.chain(of_pod.cloned()).any(|profile| profile.type_ != "Unconfined");
    let message = || "Cannot enforce AppArmor: AppArmor is not enabled on the host".to_owned();
    (enforced && !node.has_app_armor).then(|| Rejection { reason: "AppArmor", message: message() })
}

fn of_sysctls(pod: &Pod) -> Option<Rejection> {
    let spec = pod.spec();
    let wanted = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    for sysctl in wanted {
        let name = sysctl_name(&sysctl.name);
        let shared = if name.starts_with("net.") {
            (spec.host_network == Some(true)).then_some("Net")
        } else {
            (spec.host_ipc == Some(true)).then_some("IPC")
        };
        let why = match shared {
            _ if !SAFE_SYSCTLS.contains(&name.as_str()) => format!("{name:?} not allowlisted"),
            Some(namespace) => format!("{name:?} not allowed with host {namespace} enabled"),
            None => continue,
        };
        return Some(Rejection { reason: "SysctlForbidden", message: format!("forbidden sysctl: {why}") });
    }
    None
}

/// With dots between its parts: a name whose first separator is a slash has the two exchanged.
pub fn sysctl_name(name: &str) -> String {
    if name.find(['.', '/']).is_some_and(|first| name.as_bytes()[first] == b'/') {
        let exchange = |character| match character {
            '/' => '.',
            '.' => '/',
            other => other,
        };
        return name.chars().map(exchange).collect();
    }
    name.to_owned()
}

fn of_resources(pod: &Pod, others: &[Pod], node: &Node) -> Option<Rejection> {
    let lacking = |name: &str, requested: i64, used: i64, capacity: i64| {
        format!("Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}")
    };
    if others.len() >= node.max_pods {
        let message = lacking("pods", 1, others.len() as i64, node.max_pods as i64);
        return Some(Rejection { reason: "OutOfpods", message });
    }
    for (name, reason, capacity) in [
        ("cpu", "OutOfcpu", node.allocatable.milli_cpu),
        ("memory", "OutOfmemory", node.allocatable.memory),
        ("ephemeral-storage", "OutOfephemeral-storage", node.allocatable.ephemeral_storage),
    ] {
        let requested = qos::pod_request(pod.spec(), name);
        let used: i64 = others.iter().map(|other| qos::pod_request(other.spec(), name)).sum();
        if requested > 0 && requested + used > capacity {
            return Some(Rejection { reason, message: lacking(name, requested, used, capacity) });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_refusal_has_its_reason() {
        let allocatable = Allocatable { milli_cpu: 1000, memory: 1 << 30, ephemeral_storage: 1 << 30 };
        let node = Node { allocatable: &allocatable, max_pods: 3, has_app_armor: false };
        let pod = |spec: serde_json::Value| -> Pod {
            let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": []}});
            for (key, value) in spec.as_object().unwrap() {
                pod["spec"][key] = value.clone();
            }
            serde_json::from_value(pod).unwrap()
        };
        let cpu =
            |amount: &str| pod(json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": amount}}}]}));
        let sysctl = |name: &str| pod(json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}}));
        let on_host =
            json!({"hostNetwork": true, "securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem", "value": "1"}]}});
        let armored = json!({"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}});
        for (wanted, others, reason) in [
            (pod(json!({})), vec![], None),
            (pod(json!({"os": {"name": "windows"}})), vec![], Some("PodOSNotSupported")),
            (pod(armored), vec![], Some("AppArmor")),
            (sysctl("kernel.shm_rmid_forced"), vec![], None),
            (sysctl("kernel/shm_rmid_forced"), vec![], None),
            (sysctl("kernel.msgmax"), vec![], Some("SysctlForbidden")),
            (pod(on_host), vec![], Some("SysctlForbidden")),
            (cpu("600m"), vec![cpu("400m")], None),
            (cpu("600m"), vec![cpu("500m")], Some("OutOfcpu")),
            (pod(json!({})), vec![cpu("2"), cpu("1"), cpu("1")], Some("OutOfpods")),
        ] {
            let found = rejection(&wanted, &others, &node).map(|rejection| rejection.reason);
            assert_eq!(found, reason, "{:?}", wanted.spec);
        }
    }
}
