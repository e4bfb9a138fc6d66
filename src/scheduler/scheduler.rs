//! The scheduler's state and how it moves: changes go in, decisions come out. No IO.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_client::placement::Labels;
use coracle_client::{Item, Key};
use tokio::time::Instant;

use crate::budgets::BudgetView;
use crate::cycle::{Refusal, schedule};
use crate::framework::{Happened, Plugin};
use crate::node::NodeView;
use crate::pod::PodView;
use crate::queue::SchedulingQueue;
use crate::snapshot::Snapshot;

#[cfg(test)]
mod tests;

/// Pods without a node are scheduled by the scheduler they name.
const NAME: &str = "default-scheduler";

pub struct Scheduler {
    plugins: Vec<Box<dyn Plugin>>,
    snapshot: Snapshot,
    queue: SchedulingQueue,
    /// Pods that this scheduler has to find a node for, also those whose binding is under way.
    pending: HashMap<Key, Arc<Item<PodView>>>,
    turn: usize,
    budgets: Budgets,
}

/// All budgets, asked for only where pods may have to go.
pub type Budgets = Box<dyn Fn() -> Vec<Arc<Item<BudgetView>>> + Send>;

/// What is to be done about a pod.
#[derive(Debug)]
pub enum Decision {
    /// Bind it; the pod counts on the node already. Answer with `Scheduler::bound`.
    Bind { pod: Arc<Item<PodView>>, node: Arc<str> },
    /// Say that there is no node for it.
    Refuse { pod: Arc<Item<PodView>>, refusal: Refusal },
}

impl Scheduler {
    pub fn new(plugins: Vec<Box<dyn Plugin>>, budgets: Budgets) -> Self {
        Self {
            budgets,
            plugins,
            snapshot: Snapshot::default(),
            queue: SchedulingQueue::default(),
            pending: HashMap::new(),
            turn: 0,
        }
    }

    /// The pod as it is now, or that it is gone. Saying the same twice does no harm.
    pub fn pod_changed(&mut self, key: &Key, pod: Option<Arc<Item<PodView>>>, now: Instant) {
        let Some(pod) = pod else {
            self.forget(key);
            return self.left(key, now);
        };
        let nominated =
            (pod.node.is_empty() && !pod.finished && !pod.nominated.is_empty()).then(|| Arc::from(&*pod.nominated));
        let known = self.pending.get(key).is_some_and(|old| !old.nominated.is_empty());
        if nominated.is_some() || known {
            self.snapshot.nominate(&pod, nominated);
        }
        if !pod.node.is_empty() || pod.finished {
            self.forget(key);
            if pod.finished {
                self.left(key, now);
            } else if !self.snapshot.counts(&pod) {
                let node: Arc<str> = Arc::from(&*pod.node);
                self.snapshot.place(pod, node, false);
                self.happened(Happened::PodPlaced, now);
            }
            return;
        }
        self.unbound(key, pod, now);
    }

    fn unbound(&mut self, key: &Key, pod: Arc<Item<PodView>>, now: Instant) {
        let assumed = self.snapshot.is_assumed(key, &pod.uid);
        if !assumed {
            // Another pod of the name may have counted before.
            self.left(key, now);
        }
        let mine = pod.wants.as_ref().filter(|wants| &*wants.scheduler == NAME && !wants.gated && !pod.deleting);
        let Some(priority) = mine.map(|_| pod.priority) else {
            self.forget(key);
            return self.left(key, now);
        };
        let same = |old: &Arc<Item<PodView>>| {
            let asks = |pod: &Item<PodView>| {
                let wishes = (pod.wants.clone(), pod.company.clone(), pod.labels.clone());
                (wishes, pod.priority, pod.requests.clone(), pod.host_ports.clone())
            };
            old.uid == pod.uid && asks(old) == asks(&pod)
        };
        let unchanged = self.pending.get(key).is_some_and(same);
        self.pending.insert(key.clone(), pod);
        if !unchanged && !assumed {
            self.queue.add(key.clone(), priority);
        }
    }

    /// The node as it is now, or that it is gone.
    pub fn node_changed(&mut self, name: &str, node: Option<Arc<Item<NodeView>>>, now: Instant) {
        let Some(node) = node else { return self.snapshot.remove_node(name) };
        let happened = match self.snapshot.node(name) {
            None => vec![Happened::NodeAdded],
            Some(old) => changes(&old.node, &node),
        };
        self.snapshot.set_node(node);
        happened.into_iter().for_each(|happened| self.happened(happened, now));
    }

    /// The namespace's labels as they are now, or that it is gone.
    pub fn namespace_changed(&mut self, name: &Arc<str>, labels: Option<Box<Labels>>) {
        self.snapshot.set_namespace(name.clone(), labels);
    }

    /// The binding of a pod ended. One that worked counts until the pod is seen bound.
    pub fn bound(&mut self, key: &Key, uid: &str, worked: bool, now: Instant) {
        if worked || !self.snapshot.is_assumed(key, uid) {
            return;
        }
        self.left(key, now);
        self.queue.failed(key, now);
    }

    /// Decides on the next pod that is ready.
    pub fn next(&mut self, now: Instant) -> Option<Decision> {
        loop {
            let key = self.queue.next(now)?;
            let Some(pod) = self.pending.get(&key).cloned() else {
                self.queue.remove(&key);
                continue;
            };
            self.turn = self.turn.wrapping_add(1);
            return Some(match schedule(&self.plugins, &pod, &self.snapshot, &self.budgets, self.turn) {
                Ok(node) => {
                    self.snapshot.forget_nomination(&key);
                    self.snapshot.place(pod.clone(), node.clone(), true);
                    Decision::Bind { pod, node }
                }
                Err(refusal) => {
                    self.queue.refused(&key, refusal.plugins.clone(), now);
                    if let Some(preemption) = &refusal.preemption {
                        self.snapshot.nominate(&pod, Some(preemption.node.clone()));
                    }
                    Decision::Refuse { pod, refusal }
                }
            });
        }
    }

    /// Pods of lower priority for which place was to be made on a node: they have to look again.
    pub fn outranked(&self, node: &str, priority: i32) -> Vec<Arc<Item<PodView>>> {
        self.snapshot.nominated_to(node).filter(|pod| pod.priority < priority).cloned().collect()
    }

    /// When there may be something to decide even if nothing changes.
    pub fn next_wake(&self) -> Option<Instant> {
        self.queue.next_wake()
    }

    /// The pod needs no node from here.
    fn forget(&mut self, key: &Key) {
        self.queue.remove(key);
        self.pending.remove(key);
        self.snapshot.forget_nomination(key);
    }

    /// The pod takes nothing from its node any more.
    fn left(&mut self, key: &Key, now: Instant) {
        if self.snapshot.remove(key) {
            self.happened(Happened::PodLeft, now);
        }
    }

    fn happened(&mut self, happened: Happened, now: Instant) {
        let plugins = &self.plugins;
        let helps = |name: &str| plugins.iter().any(|plugin| plugin.name() == name && plugin.may_help(happened));
        self.queue.helped(now, helps);
    }
}

fn changes(old: &NodeView, new: &NodeView) -> Vec<Happened> {
    let mut happened = Vec::new();
    if old.allocatable != new.allocatable || old.pods != new.pods {
        happened.push(Happened::NodeResources);
    }
    if old.labels != new.labels {
        happened.push(Happened::NodeLabels);
    }
    if old.taints != new.taints || old.unschedulable != new.unschedulable {
        happened.push(Happened::NodeTaints);
    }
    happened
}
