//! What controllers remember of a pod: one view for all of them.

use coracle_api::Object;
use coracle_client::Project;
use serde::Deserialize;

use crate::owners::{Owner, controller_of};
use crate::time::parse_seconds;

/// The facts of a pod that controllers decide on. Times are seconds since the epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodView {
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// The managing owner.
    pub owner: Option<Owner>,
    pub created: i64,
    /// Has a deletion timestamp.
    pub deleting: bool,
    pub node: Box<str>,
    pub phase: Phase,
    pub ready: bool,
    /// Since when the Ready condition is what it is.
    pub ready_since: Option<i64>,
    pub ips: Box<[Box<str>]>,
    pub host_network: bool,
    pub hostname: Box<str>,
    pub subdomain: Box<str>,
    pub ports: Box<[PortView]>,
    /// Most restarts of a container, and of a sidecar.
    pub restarts: (i32, i32),
    /// controller.kubernetes.io/pod-deletion-cost.
    pub deletion_cost: i32,
}

/// A container port that has a name.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortView {
    pub name: Box<str>,
    pub container_port: i32,
    pub protocol: Box<str>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Phase {
    #[default]
    Pending,
    Unknown,
    Running,
    Succeeded,
    Failed,
}

impl PodView {
    pub fn finished(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Neither finished nor being deleted.
    pub fn active(&self) -> bool {
        !self.finished() && !self.deleting
    }

    /// Ready for at least `min_ready` seconds at `now`.
    pub fn available(&self, min_ready: i32, now: i64) -> bool {
        self.ready && (min_ready == 0 || self.ready_since.is_some_and(|since| since + i64::from(min_ready) <= now))
    }
}

impl Project for PodView {
    fn project(object: &Object) -> Option<Self> {
        let pod: Pod = object.decode().ok()?;
        let ready = pod.status.conditions.iter().find(|condition| &*condition.kind == "Ready");
        let sidecars: Vec<&str> =
            pod.spec.init_containers.iter().filter(|it| &*it.restart_policy == "Always").map(|it| &*it.name).collect();
        let statuses = &pod.status.container_statuses;
        let side_statuses = pod.status.init_container_statuses.iter().filter(|it| sidecars.contains(&&*it.name));
        let mut ips: Vec<Box<str>> = pod.status.pod_ips.into_iter().map(|it| it.ip).collect();
        if ips.is_empty() && !pod.status.pod_ip.is_empty() {
            ips.push(pod.status.pod_ip);
        }
        let sidecar_containers = pod.spec.init_containers.iter().filter(|it| &*it.restart_policy == "Always");
        let ports = pod.spec.containers.iter().chain(sidecar_containers).flat_map(|it| it.ports.clone());
        Some(Self {
            labels: object.meta().labels.clone(),
            owner: controller_of(&pod.metadata.owner_references).cloned(),
            created: parse_seconds(&pod.metadata.creation_timestamp).unwrap_or_default(),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            node: pod.spec.node_name,
            phase: pod.status.phase,
            ready: ready.is_some_and(|condition| &*condition.status == "True"),
            ready_since: ready.and_then(|condition| parse_seconds(&condition.last_transition_time)),
            ips: ips.into(),
            host_network: pod.spec.host_network,
            hostname: pod.spec.hostname,
            subdomain: pod.spec.subdomain,
            ports: ports.filter(|port| !port.name.is_empty()).collect(),
            restarts: (
                statuses.iter().map(|status| status.restart_count).max().unwrap_or(0),
                side_statuses.map(|status| status.restart_count).max().unwrap_or(0),
            ),
            deletion_cost: pod.metadata.annotations.cost.parse().unwrap_or(0),
        })
    }

    /// The managing owner's UID, `orphan/NAMESPACE` where there is none, and `node/NAME` once it is known.
    fn terms(&self) -> Vec<Box<str>> {
        let owner = self.owner.as_ref().map_or_else(|| "orphan".into(), |owner| owner.uid.clone());
        if self.node.is_empty() { vec![owner] } else { vec![owner, on_node(&self.node)] }
    }
}

/// The term under which the pods of a node are found.
pub fn on_node(name: &str) -> Box<str> {
    format!("node/{name}").into()
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    creation_timestamp: Box<str>,
    #[serde(default)]
    deletion_timestamp: Option<Box<str>>,
    #[serde(default)]
    owner_references: Vec<Owner>,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Deserialize, Default)]
struct Annotations {
    #[serde(rename = "controller.kubernetes.io/pod-deletion-cost", default)]
    cost: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Box<str>,
    host_network: bool,
    hostname: Box<str>,
    subdomain: Box<str>,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    name: Box<str>,
    restart_policy: Box<str>,
    ports: Vec<PortView>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Phase,
    #[serde(rename = "podIP")]
    pod_ip: Box<str>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<Ip>,
    conditions: Vec<Condition>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Ip {
    ip: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    #[serde(rename = "type")]
    kind: Box<str>,
    status: Box<str>,
    last_transition_time: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: Box<str>,
    restart_count: i32,
}
