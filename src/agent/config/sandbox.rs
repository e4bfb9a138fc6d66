//! A pod's sandbox as the runtime is asked for it (upstream: kuberuntime/kuberuntime_sandbox.go).

use std::collections::HashMap;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;

use super::{dns, security};
use crate::admission::sysctl_name;
use crate::labels;
use crate::pod::PodExt;
use crate::proto::cri as wire;

/// `<namespace>_<name>_<uid>` under the directory of all pods' logs.
pub fn log_directory(logs: &Path, pod: &Pod) -> std::path::PathBuf {
    logs.join(format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid()))
}

pub fn config(
    pod: &Pod,
    attempt: u32,
    cluster: &dns::ClusterDns,
    resolv: &str,
    logs: &Path,
    cgroup: String,
) -> wire::PodSandboxConfig {
    let spec = pod.spec();
    let (host_name, domain) = dns::host_name(pod, cluster);
    let as_full_name = spec.set_hostname_as_fqdn == Some(true) && !domain.is_empty();
    let full = if as_full_name { format!("{host_name}.{domain}") } else { host_name };
    let ports =
        spec.containers.iter().chain(pod.init_containers()).flat_map(|container| container.ports.iter().flatten());
    let mapping = |port: &k8s_openapi::api::core::v1::ContainerPort| wire::PortMapping {
        protocol: match port.protocol.as_deref() {
            Some("UDP") => wire::Protocol::Udp,
            Some("SCTP") => wire::Protocol::Sctp,
            _ => wire::Protocol::Tcp,
        } as i32,
        container_port: port.container_port,
        host_port: port.host_port.unwrap_or(0),
        host_ip: port.host_ip.clone().unwrap_or_default(),
    };
    let sysctls = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    wire::PodSandboxConfig {
        metadata: Some(wire::PodSandboxMetadata {
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            namespace: pod.namespace().to_owned(),
            attempt,
        }),
        // The runtime refuses a name for a sandbox that has the host's.
        hostname: if pod.uses_host_network() { String::new() } else { full },
        log_directory: log_directory(logs, pod).to_string_lossy().into_owned(),
        dns_config: Some(dns::resolver(pod, cluster, resolv)),
        port_mappings: if pod.uses_host_network() { Vec::new() } else { ports.map(mapping).collect() },
        labels: labels_of(pod),
        annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(wire::LinuxPodSandboxConfig {
            cgroup_parent: cgroup,
            security_context: Some(security::sandbox(pod)),
            sysctls: sysctls.map(|sysctl| (sysctl_name(&sysctl.name), sysctl.value.clone())).collect(),
            ..Default::default()
        }),
    }
}

/// The pod's own labels, and those by which it is found again.
pub fn labels_of(pod: &Pod) -> HashMap<String, String> {
    let own = pod.metadata.labels.clone().unwrap_or_default().into_iter();
    let known =
        [(labels::POD_NAME, pod.name()), (labels::POD_NAMESPACE, pod.namespace()), (labels::POD_UID, pod.uid())];
    own.chain(known.map(|(key, value)| (key.to_owned(), value.to_owned()))).collect()
}
