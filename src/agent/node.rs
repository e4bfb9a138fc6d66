//! The node's own objects: its Node, registered and kept true, and its Lease, the heartbeat.
//!
//! Conditions are written only when they change; that the node lives is said by the Lease alone. Upstream: pkg/kubelet/kubelet_node_status.go.

mod facts;
mod lease;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coracle_api::{Object, Resource, Status};
use coracle_base::backoff::{Backoff, Shape};
use coracle_base::shutdown::Shutdown;
use coracle_client::{ObjectEvent, ObjectSource, Selection};
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cri::Cri;
use crate::proto::cri::Image;
pub use facts::{Facts, has_app_armor};

/// What is said of this node when it registers.
#[derive(Debug, Clone)]
pub struct Registration {
    pub name: String,
    pub addresses: Vec<IpAddr>,
    /// Ranges for its pods, one a family.
    pub pod_cidrs: Vec<String>,
    pub labels: Vec<(String, String)>,
    /// `key=value:Effect`, already validated.
    pub taints: Vec<Taint>,
    /// Where emptyDir volumes and logs are kept; its file system's size is the node's ephemeral storage.
    pub storage: PathBuf,
    pub max_pods: u32,
    pub kubelet_port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

/// What makes the node ready or not, as the parts of the agent find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Why not: `container runtime is down`, `cni plugin not initialized`.
    NotReady(String),
}

/// What a node's own objects are kept with.
pub struct Inputs {
    pub registration: Registration,
    /// The runtime's name and version, `containerd://2.1.0`.
    pub runtime: String,
    pub source: Arc<dyn ObjectSource>,
    pub client: kube::Client,
    pub cri: Cri,
}

/// Registers the node and keeps its Node and Lease until shutdown. `images` changes when the node's images do.
pub async fn run(
    inputs: Inputs,
    mut readiness: watch::Receiver<Readiness>,
    mut images: watch::Receiver<u64>,
    shutdown: Shutdown,
) {
    let Inputs { registration, runtime, source, client, cri } = inputs;
    let keeper = Keeper { registration, runtime, source, client, cri };
    let mut backoff = Backoff::new(Shape::doubling(Duration::from_millis(50), Duration::from_secs(7)));
    let registered = loop {
        match shutdown.bound(register(&keeper.registration, &keeper.client)).await {
            None => return,
            Some(Ok(node)) => break node,
            Some(Err(error)) => tracing::warn!(%error, "node is not registered yet"),
        }
        if shutdown.bound(tokio::time::sleep(backoff.next_delay())).await.is_none() {
            return;
        }
    };
    let uid = registered.metadata.uid.clone().unwrap_or_default();
    let lease = lease::renew(keeper.client.clone(), keeper.registration.name.clone(), uid);
    tokio::select! {
        () = lease => {}
        () = keeper.follow(&mut readiness, &mut images) => {}
        () = shutdown.begun() => {}
    }
}

/// Creates the Node, or brings labels and ranges of the one that is there up to date.
pub async fn register(registration: &Registration, client: &kube::Client) -> Result<Node, kube::Error> {
    let api: Api<Node> = Api::all(client.clone());
    let wanted: Node = serde_json::from_value(registration.object()).map_err(kube::Error::SerdeError)?;
    match api.create(&PostParams::default(), &wanted).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let labels: Value = registration.all_labels().into_iter().collect();
            let patch = json!({"metadata": {"labels": labels}});
            api.patch(&registration.name, &PatchParams::default(), &Patch::Strategic(patch)).await
        }
        outcome => outcome,
    }
}

impl Registration {
    fn all_labels(&self) -> Vec<(String, Value)> {
        let machine = facts::architecture();
        let fixed = [
            ("kubernetes.io/hostname", self.name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", machine),
            ("beta.kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", machine),
        ];
        let fixed = fixed.into_iter().map(|(key, value)| (key.to_owned(), value.into()));
        let more = self.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into()));
        fixed.chain(more).collect()
    }

    fn object(&self) -> Value {
        let taints =
            self.taints.iter().map(|taint| json!({"key": taint.key, "value": taint.value, "effect": taint.effect}));
        let labels: Value = self.all_labels().into_iter().collect();
        let mut object = json!({
            "metadata": {"name": self.name, "labels": labels},
            "spec": {"taints": taints.collect::<Vec<_>>()},
        });
        if let Some(first) = self.pod_cidrs.first() {
            object["spec"]["podCIDR"] = first.as_str().into();
            object["spec"]["podCIDRs"] = json!(self.pod_cidrs);
        }
        object
    }
}

struct Keeper {
    registration: Registration,
    runtime: String,
    source: Arc<dyn ObjectSource>,
    client: kube::Client,
    cri: Cri,
}

impl Keeper {
    fn api(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// Writes the status at once, when readiness or the images change, and when the Node says otherwise: a control plane that did not
    /// hear of this node for a while has marked it unknown.
    async fn follow(&self, readiness: &mut watch::Receiver<Readiness>, images: &mut watch::Receiver<u64>) {
        let mut nodes = self.own_node();
        let mut backoff = Backoff::new(Shape::doubling(Duration::from_millis(100), Duration::from_secs(10)));
        loop {
            let now = readiness.borrow_and_update().clone();
            images.mark_unchanged();
            while let Err(error) = self.write_status(&now).await {
                tracing::warn!(%error, "node status is not written");
                tokio::time::sleep(backoff.next_delay()).await;
            }
            tracing::info!(node = self.registration.name, ready = now == Readiness::Ready, "node status written");
            backoff.reset();
            loop {
                tokio::select! {
                    changed = readiness.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return std::future::pending().await,
                    },
                    Ok(()) = images.changed() => break,
                    Some(event) = nodes.next() => if let Ok(ObjectEvent::Applied(node)) = event && !agrees(&node, &now) {
                        break;
                    },
                }
            }
        }
    }

    fn own_node(&self) -> BoxStream<'static, Result<ObjectEvent, Status>> {
        let fields = format!("metadata.name={}", self.registration.name);
        let resource = Resource::find("", "v1", "nodes").expect("nodes are in the catalog");
        self.source.list_watch(&resource, Selection { fields, ..Selection::default() })
    }

    async fn write_status(&self, readiness: &Readiness) -> Result<(), kube::Error> {
        let present = self.api().get(&self.registration.name).await?;
        let facts = Facts::read(&self.registration.storage);
        let mut status = self.status(&facts, readiness, &present, Timestamp::now());
        if let Ok(images) = self.cri.images().await {
            status["images"] = shown(images);
        }
        let patch = Patch::Strategic(json!({"status": status}));
        self.api().patch_status(&self.registration.name, &PatchParams::default(), &patch).await.map(drop)
    }

    fn status(&self, facts: &Facts, readiness: &Readiness, present: &Node, now: Timestamp) -> Value {
        let mut addresses: Vec<Value> = self
            .registration
            .addresses
            .iter()
            .map(|address| json!({"type": "InternalIP", "address": address.to_string()}))
            .collect();
        addresses.push(json!({"type": "Hostname", "address": self.registration.name}));
        json!({
            "addresses": addresses,
            "capacity": facts.capacity(self.registration.max_pods),
            "allocatable": facts.allocatable(self.registration.max_pods),
            "conditions": conditions(readiness, present, now),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.registration.kubelet_port}},
            "nodeInfo": facts.node_info(&self.runtime),
        })
    }
}

/// The largest images, as many as upstream shows (nodeStatusMaxImages).
fn shown(mut images: Vec<Image>) -> Value {
    images.sort_by_key(|image| (std::cmp::Reverse(image.size), image.id.clone()));
    let show = |image: Image| {
        let names: Vec<String> = image.repo_digests.into_iter().chain(image.repo_tags).collect();
        json!({"names": names, "sizeBytes": image.size})
    };
    images.into_iter().take(50).map(show).collect()
}

/// Whether the Node's Ready condition is what this node says of itself.
fn agrees(node: &Object, readiness: &Readiness) -> bool {
    let wanted = if *readiness == Readiness::Ready { "True" } else { "False" };
    let Ok(node) = node.decode::<Node>() else { return true };
    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == wanted)
}

/// The four conditions; transition times stay where a condition's status stays.
fn conditions(readiness: &Readiness, present: &Node, now: Timestamp) -> Vec<Value> {
    let (ready, reason, message) = match readiness {
        Readiness::Ready => ("True", "KubeletReady", "kubelet is posting ready status"),
        Readiness::NotReady(why) => ("False", "KubeletNotReady", why.as_str()),
    };
    let healthy = |kind: &'static str, reason: &'static str, message: &'static str| (kind, "False", reason, message);
    let wanted = [
        healthy("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        healthy("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        healthy("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", ready, reason, message),
    ];
    let known = present.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |(kind, status, reason, message): (&str, &str, &str, &str)| {
        let same = known.iter().find(|known| known.type_ == kind && known.status == status);
        let since = same.and_then(|known| known.last_transition_time.as_ref()).map(|time| time.0.to_string());
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": since.unwrap_or_else(|| now.clone()),
        })
    };
    wanted.into_iter().map(condition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(conditions: Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n"}, "status": {"conditions": conditions}})).unwrap()
    }

    #[test]
    fn transition_times_move_only_with_the_status() {
        let old = "2026-01-01T00:00:00Z";
        let present = node(json!([{"type": "Ready", "status": "True", "lastTransitionTime": old},
            {"type": "MemoryPressure", "status": "False", "lastTransitionTime": old}]));
        let now: Timestamp = "2026-02-02T00:00:00Z".parse().unwrap();
        let time = |readiness: &Readiness, kind: &str| {
            let conditions = conditions(readiness, &present, now);
            let found = conditions.into_iter().find(|condition| condition["type"] == kind).unwrap();
            found["lastTransitionTime"].as_str().unwrap().to_owned()
        };
        assert_eq!(time(&Readiness::Ready, "Ready"), old);
        let down = Readiness::NotReady("container runtime is down".to_owned());
        assert_eq!(time(&down, "Ready"), "2026-02-02T00:00:00Z");
        assert_eq!(time(&down, "MemoryPressure"), old);
    }
}
