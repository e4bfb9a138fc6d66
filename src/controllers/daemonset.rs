//! DaemonSets: a pod on every node that will do.
//!
//! Upstream: pkg/controller/daemon. The scheduler places the pods; each is made for its node by affinity.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_api::selector::LabelSelector;
use coracle_base::backoff::Shape;
use coracle_client::events::Severity;
use coracle_client::{Change, Controller, Error, Key, Next, View, found};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use serde_json::json;
use tokio::time::Instant;

use crate::history::{self, History, RevisionView, Revisions};
use crate::node::NodeView;
use crate::pod_control::{BURST, Known, Parent, PodControl};
use crate::pods::PodView;
use crate::selector::SelectorView;
use crate::{Scope, owners, resources, time};

mod place;
mod plan;
mod roll;
#[cfg(test)]
mod tests;

use place::Place;
use plan::{Moves, Situation};

const WORKERS: usize = 2;
const HASH: &str = "controller-revision-hash";
const GENERATION: &str = "pod-template-generation";
/// Before a failed pod of a node is replaced once more.
const FAILED_POD: Shape = Shape::doubling(Duration::from_secs(1), LONGEST);
const LONGEST: Duration = Duration::from_secs(15 * 60);

struct Daemons {
    scope: Scope,
    control: PodControl,
    nodes: View<NodeView>,
    failures: Mutex<Failures>,
}

/// By DaemonSet and node: how often a failed pod was replaced, and when last.
type Failures = HashMap<(Box<str>, Arc<str>), (u32, Instant)>;

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let sets = scope.views.view::<SelectorView>(&resources::daemon_sets());
    let pods = scope.views.view::<PodView>(&resources::pods());
    let nodes = scope.views.view::<NodeView>(&resources::nodes());
    let revisions = scope.views.view::<RevisionView>(&resources::revisions());
    let (known, all) = (sets.clone(), sets.clone());
    let controller = Controller::new("daemonset")
        .workers(WORKERS)
        .on(&sets, |change| Some(change.item().key.clone()))
        .on(&pods, move |change| concerned(change, &known))
        .on(&nodes, move |change| if moved(change) { keys(&all) } else { Vec::new() })
        .on(&revisions, |change| history::concerned(change, "DaemonSet"));
    let shutdown = scope.shutdown.clone();
    let control = PodControl::new(&scope, pods);
    let this = Arc::new(Daemons { scope, control, nodes, failures: Mutex::default() });
    async move { controller.run(&shutdown, move |key| this.clone().reconcile(key)).await }.boxed()
}

fn concerned(change: &Change<PodView>, sets: &View<SelectorView>) -> Vec<Key> {
    let mut keys = owners::keys_of(change, "DaemonSet");
    if let Some(pod) = change.present().filter(|pod| pod.owner.is_none() && !pod.deleting && !pod.labels.is_empty()) {
        let all = sets.in_namespace(&pod.key.namespace).into_iter();
        keys.extend(all.filter(|set| set.selector.matches(&*pod.labels)).map(|set| set.key.clone()));
    }
    keys
}

/// Whether what places pods changed of the node.
fn moved(change: &Change<NodeView>) -> bool {
    match (change.former(), change.present()) {
        (Some(old), Some(new)) => old.labels != new.labels || old.taints != new.taints,
        _ => true,
    }
}

fn keys(sets: &View<SelectorView>) -> Vec<Key> {
    sets.list().into_iter().map(|set| set.key.clone()).collect()
}

impl Daemons {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        let api: Api<DaemonSet> = Api::namespaced(self.scope.client.clone(), &key.namespace);
        let Some(set) = found(api.get(&key.name).await)? else { return Ok(Next::Done) };
        let spec = &set.spec;
        let parent = Parent { api_version: "apps/v1", kind: "DaemonSet", meta: &set.metadata };
        let selector = serde_json::to_value(&spec.selector)?;
        let selector = LabelSelector::from_object(Some(&selector)).map_err(Error::Other)?;
        if selector.is_everything() {
            let text = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.control.report(parent, Severity::Warning, "SelectingAll", text.to_owned());
            return Ok(Next::Done);
        }
        if parent.deleting() {
            return Ok(Next::Done);
        }
        let revisions_api: Api<ControllerRevision> = Api::namespaced(self.scope.client.clone(), &key.namespace);
        let history = History { api: revisions_api, parent, label: HASH };
        let mut status = set.status.clone().unwrap_or_default();
        let before = status.collision_count.unwrap_or(0);
        let mut collisions = before;
        let revisions = history.bring_up(&selector, &spec.template, &mut collisions).await?;
        if collisions != before {
            status.collision_count = Some(collisions);
        }
        let hash = label(&revisions.current);
        let pods = self.control.claim(parent, &selector, false, |_| true).await?;
        self.dedup(&history, &revisions, &pods, &hash).await?;

        let place = Place::of(spec)?;
        let nodes = self.nodes.list();
        let now = time::seconds(self.scope.clock.now());
        let situation = Situation::new(&set, spec, &place, &nodes, &pods, &hash, now);
        let mut wait = None;
        let moves = situation.manage(&mut |node| self.may_replace(parent.uid(), node, &mut wait));
        let moves = if moves.is_empty() { situation.roll() } else { moves };
        let moved = self.carry_out(parent, &set, &hash, moves).await;
        if moved.is_ok() {
            self.prune(&history, spec.revision_history_limit.unwrap_or(10), &revisions, &pods).await?;
        }
        let pods = self.control.claim(parent, &selector, false, |_| true).await?;
        let situation = Situation::new(&set, spec, &place, &nodes, &pods, &hash, now);
        let wanted = situation.status(status);
        self.write_status(&api, &set, wanted).await?;
        moved?;
        Ok([wait, situation.next_check()].into_iter().flatten().min().map_or(Next::Done, Next::After))
    }

    /// Of several revisions of one template the newest stays; pods of the others are relabelled.
    async fn dedup(&self, history: &History<'_>, all: &Revisions, pods: &[Known], hash: &str) -> Result<(), Error> {
        let doubles: Vec<String> = all.doubles.iter().map(label).collect();
        for pod in pods {
            let own = pod.labels.iter().find(|(key, _)| &**key == HASH).map(|(_, value)| &**value);
            if own.is_some_and(|own| doubles.iter().any(|double| double == own)) {
                let patch = json!({"metadata": {"uid": pod.uid, "labels": {HASH: hash}}});
                self.control.patch(pod, patch).await?;
            }
        }
        history.delete(&all.doubles.iter().collect::<Vec<_>>()).await
    }

    /// Whether a failed pod of the node may be replaced now; if not, `wait` says when.
    fn may_replace(&self, uid: &str, node: &Arc<str>, wait: &mut Option<Duration>) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, (_, last)| last.elapsed() < 2 * LONGEST);
        let known = failures.entry((uid.into(), node.clone())).or_insert((0, Instant::now()));
        if known.0 > 0 {
            let left = FAILED_POD.delay(known.0 - 1).saturating_sub(known.1.elapsed());
            if !left.is_zero() {
                *wait = wait.map_or(Some(left), |other| Some(other.min(left)));
                return false;
            }
        }
        *known = (known.0 + 1, Instant::now());
        true
    }

    async fn carry_out(&self, parent: Parent<'_>, set: &DaemonSet, hash: &str, moves: Moves) -> Result<(), Error> {
        for (severity, reason, message) in moves.events {
            self.control.report(parent, severity, reason, message);
        }
        let pods: Vec<Pod> = moves.create.iter().take(BURST).map(|node| plan::pod(parent, set, hash, node)).collect();
        let created = self.control.create(parent, &pods).await;
        let surplus = &moves.delete[..moves.delete.len().min(BURST)];
        created.and(self.control.delete(parent, surplus).await)
    }

    async fn prune(&self, history: &History<'_>, limit: i32, all: &Revisions, pods: &[Known]) -> Result<(), Error> {
        let surplus = all.old.len().saturating_sub(limit.max(0) as usize);
        let live = |revision: &ControllerRevision| {
            let hash = label(revision);
            pods.iter().any(|pod| pod.labels.iter().any(|(key, value)| &**key == HASH && **value == *hash))
        };
        let dead: Vec<&ControllerRevision> = all.old.iter().filter(|it| !live(it)).take(surplus).collect();
        history.delete(&dead).await
    }

    async fn write_status(&self, api: &Api<DaemonSet>, set: &DaemonSet, wanted: DaemonSetStatus) -> Result<(), Error> {
        if set.status.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let set = DaemonSet { status: Some(wanted), ..set.clone() };
        found(api.replace_status(name, &PostParams::default(), &set).await)?;
        Ok(())
    }
}

/// The hash of a revision.
fn label(revision: &ControllerRevision) -> String {
    let labels = revision.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(HASH)).cloned().unwrap_or_default()
}
