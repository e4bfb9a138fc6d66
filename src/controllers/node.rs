//! Nodes: a node that is silent is unknown, and conditions become taints.
//!
//! Upstream: pkg/controller/nodelifecycle. Nothing polls: a heartbeat is noted when its Lease or status changes, and each
//! node is looked at when it would become silent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_api::Object;
use coracle_client::events::{Report, Severity, Subject};
use coracle_client::placement::Taint;
use coracle_client::{Change, Controller, Error, Key, Next, Project, Selection, View, found};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::pods::{PodView, on_node};
use crate::{Scope, resources, time};

pub mod eviction;
pub mod taints;

/// How long a node may be silent (upstream's --node-monitor-grace-period), and a new one before its first status.
const GRACE: Duration = Duration::from_secs(50);
const STARTUP_GRACE: Duration = Duration::from_secs(60);
const LEASES: &str = "kube-node-lease";
const HEARTBEAT_CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// What is remembered of a node.
#[derive(Default)]
pub struct NodeView {
    /// Type, status and last heartbeat.
    pub(crate) conditions: Box<[Condition]>,
    pub taints: Box<[Taint]>,
    pub(crate) unschedulable: bool,
    /// Sorted by key.
    pub labels: Box<[(Box<str>, Box<str>)]>,
}

#[derive(Deserialize, Default, Clone, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    kind: Box<str>,
    status: Box<str>,
    last_heartbeat_time: Box<str>,
}

impl Project for NodeView {
    fn project(object: &Object) -> Option<Self> {
        #[derive(Deserialize)]
        struct Decoded {
            #[serde(default)]
            spec: Spec,
            #[serde(default)]
            status: Status,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Spec {
            taints: Box<[Taint]>,
            unschedulable: bool,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Status {
            conditions: Box<[Condition]>,
        }
        let Decoded { spec, status } = object.decode().ok()?;
        Some(Self {
            conditions: status.conditions,
            taints: spec.taints,
            unschedulable: spec.unschedulable,
            labels: object.meta().labels.clone(),
        })
    }
}

impl NodeView {
    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| &*condition.kind == kind)
    }

    fn status_of(&self, kind: &str) -> Option<&str> {
        self.condition(kind).map(|condition| &*condition.status)
    }
}

/// A node's Lease: when it was last renewed, as text.
#[derive(PartialEq)]
struct Renewal(Box<str>);

impl Project for Renewal {
    fn project(object: &Object) -> Option<Self> {
        #[derive(Deserialize)]
        struct Decoded {
            spec: Spec,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec {
            renew_time: Box<str>,
        }
        object.decode::<Decoded>().ok().map(|lease| Self(lease.spec.renew_time))
    }
}

struct Nodes {
    scope: Scope,
    nodes: View<NodeView>,
    pods: View<PodView>,
    heartbeats: Heartbeats,
}

/// When each node was last heard of. After a start every node has its whole grace before it.
#[derive(Clone, Default)]
struct Heartbeats(Arc<Mutex<HashMap<Arc<str>, Instant>>>);

impl Heartbeats {
    fn note(&self, node: &Arc<str>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node.clone(), Instant::now());
    }

    fn age(&self, node: &Arc<str>) -> Duration {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(node.clone()).or_insert_with(Instant::now).elapsed()
    }

    fn forget(&self, node: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let nodes = scope.views.view::<NodeView>(&resources::nodes());
    let pods = scope.views.view::<PodView>(&resources::pods());
    let selection = Selection { namespace: Some(LEASES.to_owned()), ..Selection::default() };
    let leases = scope.views.selected::<Renewal>(&resources::leases(), selection);
    let heartbeats = Heartbeats::default();
    let (noted, renewed, all) = (heartbeats.clone(), heartbeats.clone(), nodes.clone());
    let controller = Controller::new("node")
        .on(&nodes, move |change| node_changed(change, &noted, &all))
        .on(&leases, move |change| {
            if change.present().is_some() && change.former().is_none_or(|old| change.item().value != old.value) {
                renewed.note(&change.item().key.name);
            }
            None
        })
        .reads(&pods);
    let shutdown = scope.shutdown.clone();
    let this = Arc::new(Nodes { scope, nodes, pods, heartbeats });
    async move { controller.run(&shutdown, move |key| this.clone().reconcile(key)).await }.boxed()
}

/// The node; and all others when readiness changed, because whether one is evicted from depends on there being better ones.
fn node_changed(change: &Change<NodeView>, heartbeats: &Heartbeats, nodes: &View<NodeView>) -> Vec<Key> {
    let ready =
        |node: Option<&Arc<coracle_client::Item<NodeView>>>| node.and_then(|node| node.condition("Ready").cloned());
    let (old, new) = (ready(change.former()), ready(change.present()));
    if change.present().is_none() {
        heartbeats.forget(&change.item().key.name);
    } else if old != new && new.as_ref().is_none_or(|new| &*new.status != "Unknown") {
        heartbeats.note(&change.item().key.name);
    }
    if old.map(|it| it.status) == new.map(|it| it.status) {
        return vec![change.item().key.clone()];
    }
    nodes.list().iter().map(|node| node.key.clone()).chain([change.item().key.clone()]).collect()
}

impl Nodes {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        let Some(view) = self.nodes.get(&key) else { return Ok(Next::Done) };
        let grace = if view.condition("Ready").is_some() { GRACE } else { STARTUP_GRACE };
        let age = self.heartbeats.age(&key.name);
        let silent = age > grace;
        let known = HEARTBEAT_CONDITIONS.iter().all(|kind| view.status_of(kind) == Some("Unknown"));
        if silent && !known {
            self.mark_unknown(&key).await?;
            // The change of the node brings the key back, for its taints.
            return Ok(Next::Done);
        }
        self.taint(&key, &view).await?;
        Ok(if silent { Next::Done } else { Next::After(grace.saturating_sub(age) + Duration::from_millis(100)) })
    }

    async fn mark_unknown(&self, key: &Key) -> Result<(), Error> {
        let api: Api<Node> = Api::all(self.scope.client.clone());
        let Some(mut node) = found(api.get(&key.name).await)? else { return Ok(()) };
        let now = time::api_time(self.scope.clock.now());
        let created = node.metadata.creation_timestamp.clone();
        let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
        let mut was_ready = false;
        for kind in HEARTBEAT_CONDITIONS {
            let unknown = |reason: &str, message: &str, heartbeat| NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                last_heartbeat_time: heartbeat,
                last_transition_time: Some(now.clone()),
            };
            match conditions.iter_mut().find(|condition| condition.type_ == kind) {
                None => conditions.push(unknown(
                    "NodeStatusNeverUpdated",
                    "Kubelet never posted node status.",
                    created.clone(),
                )),
                Some(condition) if condition.status != "Unknown" => {
                    was_ready |= kind == "Ready" && condition.status == "True";
                    let heartbeat = condition.last_heartbeat_time.clone();
                    *condition = unknown("NodeStatusUnknown", "Kubelet stopped posting node status.", heartbeat);
                }
                Some(_) => {}
            }
        }
        found(api.replace_status(&key.name, &PostParams::default(), &node).await)?;
        tracing::warn!(node = %key, "node is silent");
        if was_ready {
            // Upstream names nodes by their name in this field, and kubectl describe looks for that.
            let subject = Subject::new("v1", "Node", key, &key.name);
            let message = format!("Node {} status is now: NodeNotReady", key.name);
            let report = Report { subject, severity: Severity::Normal, reason: "NodeNotReady", action: "", message };
            self.scope.events.report(report);
            self.mark_pods_not_ready(key).await?;
        }
        Ok(())
    }

    /// Pods of a silent node must not be sent traffic.
    async fn mark_pods_not_ready(&self, key: &Key) -> Result<(), Error> {
        for pod in self.pods.find(&on_node(&key.name)).into_iter().filter(|pod| pod.ready) {
            let api: Api<Pod> = Api::namespaced(self.scope.client.clone(), &pod.key.namespace);
            let time = time::api_time(self.scope.clock.now());
            let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": time});
            let patch = json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}});
            match found(api.patch_status(&pod.key.name, &PatchParams::default(), &Patch::Strategic(patch)).await) {
                Err(error) if error.is_conflict() => {}
                result => drop(result?),
            }
        }
        Ok(())
    }

    async fn taint(&self, key: &Key, view: &NodeView) -> Result<(), Error> {
        let evicting = self.nodes.list().iter().any(|node| node.status_of("Ready") == Some("True"));
        let wanted = taints::wanted(&|kind| view.status_of(kind), view.unschedulable, evicting);
        if taints::changes(&view.taints, &wanted).is_none() {
            return Ok(());
        }
        let api: Api<Node> = Api::all(self.scope.client.clone());
        let Some(mut node) = found(api.get(&key.name).await)? else { return Ok(()) };
        let now = time::api_time(self.scope.clock.now());
        let spec = node.spec.get_or_insert_default();
        if taints::apply(spec.taints.get_or_insert_default(), &wanted, &now) {
            api.replace(&key.name, &PostParams::default(), &node).await?;
        }
        Ok(())
    }
}
