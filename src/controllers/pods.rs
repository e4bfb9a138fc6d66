//! What controllers remember of a pod: one view for all of them.

use coracle_api::Object;
use coracle_client::placement::NodeAffinity;
use coracle_client::{Error, Project};
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
    /// Since when it is to be disrupted, unless its node said so.
    pub disrupted: Option<i64>,
    /// The PersistentVolumeClaims that it uses.
    pub claims: Box<[Box<str>]>,
    /// The node that a pod without one is made for: a DaemonSet's pod names it in its affinity.
    pub target: Box<str>,
    /// Of pods that a Job counts.
    pub work: Option<Box<Work>>,
}

/// What a Job wants to know of its pods. Times are seconds since the epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Work {
    /// Carries the finalizer that keeps the pod until it is counted.
    pub tracked: bool,
    /// batch.kubernetes.io/job-completion-index.
    pub index: Option<u32>,
    /// Failures of the index before this pod: counted ones, and those that a policy ignored.
    pub failures: i32,
    pub ignored_failures: i32,
    /// When it ended, as far as that is known.
    pub finished: i64,
    /// Restarts of all containers together.
    pub restarts: i32,
    /// Containers that ended with another code than 0, in upstream's order.
    pub exits: Box<[(Box<str>, i32)]>,
    /// Type and status.
    pub conditions: Box<[(Box<str>, Box<str>)]>,
}

pub const JOB_TRACKING: &str = "batch.kubernetes.io/job-tracking";

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
        let mut ips: Vec<Box<str>> = pod.status.pod_ips.iter().map(|it| it.ip.clone()).collect();
        if ips.is_empty() && !pod.status.pod_ip.is_empty() {
            ips.push(pod.status.pod_ip.clone());
        }
        let sidecar_containers = pod.spec.init_containers.iter().filter(|it| &*it.restart_policy == "Always");
        let ports = pod.spec.containers.iter().chain(sidecar_containers).flat_map(|it| it.ports.clone());
        let owner = controller_of(&pod.metadata.owner_references).cloned();
        let tracked = pod.metadata.finalizers.iter().any(|finalizer| &**finalizer == JOB_TRACKING);
        let target = pod.status.conditions.iter().find(|it| &*it.kind == "DisruptionTarget" && &*it.status == "True");
        let target = target.filter(|it| &*it.reason != "TerminationByKubelet");
        let of_job = tracked || owner.as_ref().is_some_and(|owner| &*owner.kind == "Job");
        Some(Self {
            work: of_job.then(|| Box::new(work(&pod, tracked))),
            claims: claims(&pod.spec, &object.meta().name),
            disrupted: target.and_then(|condition| parse_seconds(&condition.last_transition_time)),
            target: if pod.spec.node_name.is_empty() { pod.spec.affinity.target() } else { "".into() },
            labels: object.meta().labels.clone(),
            owner,
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

/// A part of a decoded spec in the form that `coracle_client::placement` judges; the default for what is absent.
pub fn placement<T: serde::de::DeserializeOwned + Default>(part: &Option<impl serde::Serialize>) -> Result<T, Error> {
    Ok(part
        .as_ref()
        .map(serde_json::to_value)
        .transpose()?
        .map(serde_json::from_value)
        .transpose()?
        .unwrap_or_default())
}

/// The term under which the pods of a node are found.
pub fn on_node(name: &str) -> Box<str> {
    format!("node/{name}").into()
}

/// A generic ephemeral volume has the claim `POD-VOLUME`.
fn claims(spec: &Spec, pod: &str) -> Box<[Box<str>]> {
    let claims = spec.volumes.iter().filter_map(|volume| match (&volume.ephemeral, &volume.persistent_volume_claim) {
        (Some(_), _) => Some(format!("{pod}-{}", volume.name).into()),
        (None, Some(claim)) => Some(claim.claim_name.clone()),
        (None, None) => None,
    });
    claims.collect()
}

/// Upstream: pkg/controller/job backoff_utils.go getFinishedTime, pod_failure_policy.go.
fn work(pod: &Pod, tracked: bool) -> Work {
    let (annotations, status) = (&pod.metadata.annotations, &pod.status);
    let sidecars: Vec<&str> =
        pod.spec.init_containers.iter().filter(|it| &*it.restart_policy == "Always").map(|it| &*it.name).collect();
    let side = status.init_container_statuses.iter().filter(|it| sidecars.contains(&&*it.name));
    let ends: Vec<Option<i64>> = status
        .container_statuses
        .iter()
        .chain(side)
        .map(|it| parse_seconds(&it.state.terminated.as_ref()?.finished_at))
        .collect();
    let ended = if ends.iter().all(Option::is_some) { ends.into_iter().flatten().max() } else { None };
    let unready = || {
        let ready = status.conditions.iter().find(|it| &*it.kind == "Ready" && &*it.status == "False")?;
        parse_seconds(&ready.last_transition_time)
    };
    let deleted = || {
        let at = parse_seconds(pod.metadata.deletion_timestamp.as_deref()?)?;
        Some(at - pod.metadata.deletion_grace_period_seconds)
    };
    let all = || status.container_statuses.iter().chain(&status.init_container_statuses);
    let exit = |it: &ContainerStatus| {
        let code = it.state.terminated.as_ref()?.exit_code;
        (code != 0).then(|| (it.name.clone(), code))
    };
    Work {
        tracked,
        index: annotations.index.parse().ok(),
        failures: annotations.failures.parse().unwrap_or(0).max(0),
        ignored_failures: annotations.ignored_failures.parse().unwrap_or(0).max(0),
        finished: ended
            .or_else(unready)
            .or_else(deleted)
            .or_else(|| parse_seconds(&pod.metadata.creation_timestamp))
            .unwrap_or_default(),
        restarts: all().map(|it| it.restart_count).sum(),
        exits: all().filter_map(exit).collect(),
        conditions: status.conditions.iter().map(|it| (it.kind.clone(), it.status.clone())).collect(),
    }
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
    deletion_grace_period_seconds: i64,
    #[serde(default)]
    finalizers: Vec<Box<str>>,
    #[serde(default)]
    owner_references: Vec<Owner>,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Deserialize, Default)]
struct Annotations {
    #[serde(rename = "controller.kubernetes.io/pod-deletion-cost", default)]
    cost: Box<str>,
    #[serde(rename = "batch.kubernetes.io/job-completion-index", default)]
    index: Box<str>,
    #[serde(rename = "batch.kubernetes.io/job-index-failure-count", default)]
    failures: Box<str>,
    #[serde(rename = "batch.kubernetes.io/job-index-ignored-failure-count", default)]
    ignored_failures: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Box<str>,
    host_network: bool,
    hostname: Box<str>,
    subdomain: Box<str>,
    affinity: Affinity,
    volumes: Vec<Volume>,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Volume {
    name: Box<str>,
    persistent_volume_claim: Option<Claim>,
    ephemeral: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Claim {
    claim_name: Box<str>,
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
    reason: Box<str>,
    last_transition_time: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: Box<str>,
    restart_count: i32,
    state: ContainerState,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ContainerState {
    terminated: Option<Terminated>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Terminated {
    exit_code: i32,
    finished_at: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Affinity {
    node_affinity: NodeAffinity,
}

impl Affinity {
    /// Upstream: pkg/controller/daemon/util GetTargetNodeName.
    fn target(&self) -> Box<str> {
        let terms = self.node_affinity.required.iter().flat_map(|required| &required.node_selector_terms);
        let fields = terms.flat_map(|term| &term.match_fields);
        let named = fields.filter(|it| &*it.key == "metadata.name" && &*it.operator == "In" && it.values.len() == 1);
        named.map(|it| it.values[0].clone()).next().unwrap_or_default()
    }
}
