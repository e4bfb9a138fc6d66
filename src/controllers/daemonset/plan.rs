//! Where a DaemonSet stands on every node, and which pods to make and delete: pure functions of set, nodes and pods.
//!
//! Upstream: podsShouldBeOnNode and updateDaemonSetStatus in pkg/controller/daemon/daemon_controller.go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_client::Item;
use coracle_client::events::Severity;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod};

use super::place::{self, Place};
use super::{GENERATION, HASH};
use crate::node::NodeView;
use crate::percent::scaled;
use crate::pod_control::{Known, Parent};
use crate::pods::{Phase, PodView};

#[derive(Debug, Default)]
pub(super) struct Moves {
    /// The nodes that get a pod.
    pub(super) create: Vec<Arc<str>>,
    pub(super) delete: Vec<Known>,
    pub(super) events: Vec<(Severity, &'static str, String)>,
}

impl Moves {
    pub(super) fn is_empty(&self) -> bool {
        self.create.is_empty() && self.delete.is_empty()
    }
}

pub(super) struct Situation<'a> {
    pub(super) set: &'a DaemonSet,
    pub(super) spec: &'a DaemonSetSpec,
    pub(super) place: &'a Place,
    pub(super) nodes: &'a [Arc<Item<NodeView>>],
    /// By the name of the node they are on or made for; there may be no such node.
    pub(super) pods: BTreeMap<Box<str>, Vec<Known>>,
    hash: &'a str,
    generation: Option<String>,
    /// Seconds since the epoch.
    pub(super) now: i64,
}

fn label<'a>(pod: &'a PodView, key: &str) -> Option<&'a str> {
    pod.labels.iter().find(|(label, _)| &**label == key).map(|(_, value)| &**value)
}

impl<'a> Situation<'a> {
    pub(super) fn new(
        set: &'a DaemonSet,
        spec: &'a DaemonSetSpec,
        place: &'a Place,
        nodes: &'a [Arc<Item<NodeView>>],
        all: &[Known],
        hash: &'a str,
        now: i64,
    ) -> Self {
        let mut pods: BTreeMap<Box<str>, Vec<Known>> = BTreeMap::new();
        for pod in all.iter().filter(|pod| !(pod.finished() && pod.deleting)) {
            let node = if pod.node.is_empty() { &pod.target } else { &pod.node };
            if !node.is_empty() {
                pods.entry(node.clone()).or_default().push(pod.clone());
            }
        }
        for pods in pods.values_mut() {
            pods.sort_by_key(|pod| (pod.node.is_empty(), pod.created, pod.key.clone()));
        }
        Self { set, spec, place, nodes, pods, hash, generation: generation(set), now }
    }

    pub(super) fn on(&self, node: &str) -> &[Known] {
        self.pods.get(node).map_or(&[], Vec::as_slice)
    }

    pub(super) fn available(&self, pod: &PodView) -> bool {
        pod.available(self.spec.min_ready_seconds.unwrap_or(0), self.now)
    }

    /// Whether the pod is of the present template.
    pub(super) fn updated(&self, pod: &PodView) -> bool {
        label(pod, HASH) == Some(self.hash)
            || self.generation.as_deref().is_some_and(|generation| label(pod, GENERATION) == Some(generation))
    }

    /// The most pods above one a node, for this many nodes.
    pub(super) fn surge(&self, nodes: i32) -> i32 {
        let strategy = self.spec.update_strategy.as_ref();
        let rolling = strategy.filter(|it| it.type_.as_deref() != Some("OnDelete"));
        scaled(rolling.and_then(|it| it.rolling_update.as_ref()?.max_surge.as_ref()), nodes, true)
    }

    /// Puts a pod where one is missing; deletes those that ended, are too many, or have no business where they are.
    /// `may_replace` says whether a failed pod of the node may go.
    pub(super) fn manage(&self, may_replace: &mut dyn FnMut(&Arc<str>) -> bool) -> Moves {
        let mut moves = Moves::default();
        for node in self.nodes {
            let name = &node.key.name;
            let (runs, goes_on) = self.place.admits(node);
            let pods = self.on(name);
            if runs && pods.is_empty() {
                moves.create.push(name.clone());
            } else if goes_on {
                let mut running = self.ended(&mut moves, node, pods, may_replace);
                if self.surge(1) > 0 {
                    if running.is_empty() && runs {
                        moves.create.push(name.clone());
                    }
                    self.surging(&mut moves, running);
                } else if running.len() > 1 {
                    moves.delete.extend(running.drain(1..));
                }
            } else {
                moves.delete.extend(pods.iter().filter(|pod| !pod.deleting).cloned());
            }
        }
        // Pods that wait for a node which is gone.
        let known = |name: &str| self.nodes.iter().any(|node| *node.key.name == *name);
        let lost = self.pods.iter().filter(|(name, _)| !known(name)).flat_map(|(_, pods)| pods);
        moves.delete.extend(lost.filter(|pod| pod.node.is_empty() && !pod.deleting).cloned());
        moves
    }

    /// The pods that run, or will; those that ended are deleted.
    fn ended(
        &self,
        moves: &mut Moves,
        node: &Arc<Item<NodeView>>,
        pods: &[Known],
        may_replace: &mut dyn FnMut(&Arc<str>) -> bool,
    ) -> Vec<Known> {
        let mut running = Vec::new();
        for pod in pods.iter().filter(|pod| !pod.deleting) {
            let (severity, reason, word, will) = match pod.phase {
                Phase::Failed if !may_replace(&node.key.name) => continue,
                Phase::Failed => (Severity::Warning, "FailedDaemonPod", "failed", "kill"),
                Phase::Succeeded => (Severity::Normal, "SucceededDaemonPod", "succeeded", "delete"),
                _ => {
                    running.push(pod.clone());
                    continue;
                }
            };
            let text = format!("Found {word} daemon pod {} on node {}, will try to {will} it", pod.key, node.key.name);
            moves.events.push((severity, reason, text));
            moves.delete.push(pod.clone());
        }
        running
    }

    /// With surge there may be an old and a new pod: the old goes when the new is available, or when it is no use itself.
    fn surging(&self, moves: &mut Moves, running: Vec<Known>) {
        let (mut new, mut old) = (None, None);
        for pod in running {
            let slot = if label(&pod, HASH) == Some(self.hash) { &mut new } else { &mut old };
            if slot.is_none() { *slot = Some(pod) } else { moves.delete.push(pod) }
        }
        if let (Some(new), Some(old)) = (new, old)
            && (!old.ready || self.available(&new))
        {
            moves.delete.push(old);
        }
    }

    pub(super) fn status(&self, before: DaemonSetStatus) -> DaemonSetStatus {
        let mut status = DaemonSetStatus {
            collision_count: before.collision_count,
            conditions: before.conditions,
            observed_generation: self.set.metadata.generation,
            ..DaemonSetStatus::default()
        };
        let (mut available, mut updated) = (0, 0);
        for node in self.nodes {
            let pod = self.on(&node.key.name).first();
            if !self.place.admits(node).0 {
                status.number_misscheduled += i32::from(pod.is_some());
                continue;
            }
            status.desired_number_scheduled += 1;
            let Some(pod) = pod else { continue };
            status.current_number_scheduled += 1;
            status.number_ready += i32::from(pod.ready);
            available += i32::from(self.available(pod));
            updated += i32::from(self.updated(pod));
        }
        let some = |number: i32| (number != 0).then_some(number);
        status.number_available = some(available);
        status.updated_number_scheduled = some(updated);
        status.number_unavailable = some(status.desired_number_scheduled - available);
        status
    }

    /// When a ready pod becomes available by the passing of time.
    pub(super) fn next_check(&self) -> Option<Duration> {
        let waiting = self.pods.values().flatten().any(|pod| pod.ready && !self.available(pod));
        let seconds = self.spec.min_ready_seconds.unwrap_or(0).max(0).unsigned_abs();
        waiting.then(|| Duration::from_secs(seconds.into()))
    }
}

/// The count of the template's changes, which pods of older clusters carry.
fn generation(set: &DaemonSet) -> Option<String> {
    let annotations = set.metadata.annotations.as_ref()?;
    let text = annotations.get("deprecated.daemonset.template.generation")?;
    text.parse::<i64>().ok().map(|generation| generation.to_string())
}

/// The pod for a node.
pub(super) fn pod(parent: Parent<'_>, set: &DaemonSet, hash: &str, node: &str) -> Pod {
    let mut pod = parent.pod(&set.spec.template);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH.to_owned(), hash.to_owned());
    if let Some(generation) = generation(set) {
        labels.insert(GENERATION.to_owned(), generation);
    }
    let spec = pod.spec.get_or_insert_default();
    place::tolerate(spec);
    let named = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![named]), match_expressions: None };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
    pod
}
