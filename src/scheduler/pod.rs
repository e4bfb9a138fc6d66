//! What the scheduler remembers of a pod.

use std::collections::BTreeMap;

use coracle_api::Object;
use coracle_client::Project;
use coracle_client::placement::{NodeAffinity, Toleration};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use crate::requests::{Amounts, Written};
use crate::terms::{self, Company};

/// A pod. What it wants is kept only as long as it has no node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodView {
    /// Empty until it is bound.
    pub node: Box<str>,
    pub requests: Amounts,
    /// As `requests`, where a container without a request counts as upstream's scoring does: 100m and 200 MB.
    pub scored: Amounts,
    pub host_ports: Box<[HostPort]>,
    pub deleting: bool,
    pub finished: bool,
    pub wants: Option<Box<Wants>>,
    pub priority: i32,
    /// Sorted by key.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// What it wants of other pods' company.
    pub company: Option<Box<Company>>,
    /// Seconds since the epoch; of its creation as long as it has not started.
    pub started: i64,
    /// On its way out because this scheduler wanted its place.
    pub preempted: bool,
    /// The node where place is being made for it; empty for none.
    pub nominated: Box<str>,
    /// What the PodScheduled condition says, as long as there is no node: reason and message.
    pub condition: Option<(Box<str>, Box<str>)>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wants {
    pub scheduler: Box<str>,
    /// Takes no other's place.
    pub never_preempts: bool,
    /// Has scheduling gates: not to be scheduled yet.
    pub gated: bool,
    pub node_selector: BTreeMap<Box<str>, Box<str>>,
    pub affinity: NodeAffinity,
    pub tolerations: Box<[Toleration]>,
}

/// A port on the node itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// `0.0.0.0` for all addresses.
    pub ip: Box<str>,
    pub protocol: Box<str>,
    pub port: u16,
}

/// What a container without a request counts for in scores.
const UNASKED_MILLI_CPU: i64 = 100;
const UNASKED_MEMORY: i64 = 200 * 1024 * 1024;

impl Project for PodView {
    fn project(object: &Object) -> Option<Self> {
        let pod: Pod = object.decode().ok()?;
        let spec = pod.spec;
        let finished = matches!(&*pod.status.phase, "Succeeded" | "Failed");
        let target = |it: &Condition| &*it.kind == "DisruptionTarget" && &*it.reason == "PreemptionByScheduler";
        let preempted = pod.metadata.deletion_timestamp.is_some() && pod.status.conditions.iter().any(target);
        let started = seconds(&pod.status.start_time).or_else(|| seconds(&pod.metadata.creation_timestamp));
        let condition = pod.status.conditions.into_iter().find(|condition| &*condition.kind == "PodScheduled");
        let affinity = spec.affinity.node_affinity.clone();
        let wants = (spec.node_name.is_empty() && !finished).then(|| {
            Box::new(Wants {
                scheduler: spec.scheduler_name.clone(),
                never_preempts: &*spec.preemption_policy == "Never",
                gated: !spec.scheduling_gates.is_empty(),
                node_selector: spec.node_selector.clone(),
                affinity,
                tolerations: spec.tolerations.clone(),
            })
        });
        Some(Self {
            requests: total(&spec, &|container| Amounts::read(&container.resources.requests)),
            scored: total(&spec, &|container| {
                let mut amounts = Amounts::read(&container.resources.requests);
                let asks = |name: &str| container.resources.requests.contains_key(name);
                amounts.milli_cpu = if asks("cpu") { amounts.milli_cpu } else { UNASKED_MILLI_CPU };
                amounts.memory = if asks("memory") { amounts.memory } else { UNASKED_MEMORY };
                amounts
            }),
            host_ports: host_ports(&spec),
            priority: spec.priority,
            company: Company::read(&spec.affinity, &spec.topology_spread_constraints, &object.meta().labels),
            labels: object.meta().labels.clone(),
            started: started.unwrap_or_default(),
            preempted,
            nominated: pod.status.nominated_node_name,
            node: spec.node_name,
            deleting: pod.metadata.deletion_timestamp.is_some(),
            finished,
            condition: condition.filter(|_| wants.is_some()).map(|it| (it.reason, it.message)),
            wants,
        })
    }
}

/// Since the epoch.
fn seconds(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(|stamp| stamp.as_second())
}

/// The most the pod needs at any time: its containers together with the sidecars, or an init container with the
/// sidecars before it; and the overhead. Upstream: k8s.io/component-helpers resource.PodRequests.
fn total(spec: &Spec, of: &dyn Fn(&Container) -> Amounts) -> Amounts {
    let mut sidecars = Amounts::default();
    let mut highest = Amounts::default();
    for container in &spec.init_containers {
        let own = of(container);
        let mut now = sidecars.clone();
        now.add(&own);
        highest.raise(&now);
        if &*container.restart_policy == "Always" {
            sidecars = now;
        }
    }
    let mut running = sidecars;
    spec.containers.iter().for_each(|container| running.add(&of(container)));
    running.raise(&highest);
    // Requests of the pod as a whole take the place of its containers'.
    let pod = Amounts::read(&spec.resources.requests);
    if spec.resources.requests.contains_key("cpu") {
        running.milli_cpu = pod.milli_cpu;
    }
    if spec.resources.requests.contains_key("memory") {
        running.memory = pod.memory;
    }
    running.add(&Amounts::read(&spec.overhead));
    running
}

fn host_ports(spec: &Spec) -> Box<[HostPort]> {
    let sidecars = spec.init_containers.iter().filter(|container| &*container.restart_policy == "Always");
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter());
    ports
        .filter(|port| port.host_port > 0)
        .map(|port| HostPort {
            ip: if port.host_ip.is_empty() { "0.0.0.0".into() } else { port.host_ip.clone() },
            protocol: if port.protocol.is_empty() { "TCP".into() } else { port.protocol.clone() },
            port: port.host_port,
        })
        .collect()
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
    deletion_timestamp: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Box<str>,
    scheduler_name: Box<str>,
    priority: i32,
    preemption_policy: Box<str>,
    scheduling_gates: Vec<serde::de::IgnoredAny>,
    node_selector: BTreeMap<Box<str>, Box<str>>,
    affinity: terms::Written,
    topology_spread_constraints: Vec<terms::WrittenSpread>,
    tolerations: Box<[Toleration]>,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    resources: Resources,
    overhead: Written,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    resources: Resources,
    restart_policy: Box<str>,
    ports: Vec<Port>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Resources {
    requests: Written,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    host_port: u16,
    #[serde(rename = "hostIP")]
    host_ip: Box<str>,
    protocol: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Box<str>,
    start_time: Box<str>,
    nominated_node_name: Box<str>,
    conditions: Vec<Condition>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: Box<str>,
    reason: Box<str>,
    message: Box<str>,
}
