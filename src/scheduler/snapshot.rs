//! The cluster as the next decision sees it: every node with what its pods take.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coracle_client::placement::Labels;
use coracle_client::{Item, Key};

use crate::node::NodeView;
use crate::pod::{HostPort, PodView};
use crate::requests::Amounts;

/// A node with the sums over its pods.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    pub name: Arc<str>,
    pub node: Arc<Item<NodeView>>,
    pub requested: Amounts,
    pub scored: Amounts,
    pub pods: HashMap<Key, Arc<Item<PodView>>>,
    pub host_ports: HashMap<HostPort, u32>,
}

/// Nodes, and the pods that take from them, also those whose binding is under way.
#[derive(Default)]
pub struct Snapshot {
    nodes: BTreeMap<Arc<str>, NodeInfo>,
    /// Where each pod counts. A pod may be bound to a node that is not known (yet).
    placed: HashMap<Key, Placed>,
    /// Pods for which place is being made, by pod.
    nominated: HashMap<Key, (Arc<str>, Arc<Item<PodView>>)>,
    /// The labels of namespaces.
    namespaces: HashMap<Arc<str>, Box<Labels>>,
    /// How many of the placed pods have wishes about others.
    with_company: usize,
}

type Pods = Vec<Arc<Item<PodView>>>;

struct Placed {
    node: Arc<str>,
    uid: Box<str>,
    pod: Arc<Item<PodView>>,
    /// Decided here, not yet seen as bound.
    assumed: bool,
}

impl NodeInfo {
    fn new(node: Arc<Item<NodeView>>) -> Self {
        Self {
            name: node.key.name.clone(),
            node,
            requested: Amounts::default(),
            scored: Amounts::default(),
            pods: HashMap::new(),
            host_ports: HashMap::new(),
        }
    }

    pub fn take(&mut self, pod: &Arc<Item<PodView>>) {
        self.requested.add(&pod.requests);
        self.scored.add(&pod.scored);
        self.pods.insert(pod.key.clone(), pod.clone());
        for port in &pod.host_ports {
            *self.host_ports.entry(port.clone()).or_default() += 1;
        }
    }

    pub fn give_back(&mut self, pod: &Item<PodView>) {
        self.requested.subtract(&pod.requests);
        self.scored.subtract(&pod.scored);
        self.pods.remove(&pod.key);
        for port in &pod.host_ports {
            if let Some(count) = self.host_ports.get_mut(port) {
                *count -= 1;
            }
        }
        self.host_ports.retain(|_, count| *count > 0);
    }
}

impl Snapshot {
    /// Ordered by name.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &NodeInfo> {
        self.nodes.values()
    }

    pub fn namespace(&self, name: &str) -> Option<&Labels> {
        self.namespaces.get(name).map(|labels| &**labels)
    }

    pub fn set_namespace(&mut self, name: Arc<str>, labels: Option<Box<Labels>>) {
        match labels {
            Some(labels) => drop(self.namespaces.insert(name, labels)),
            None => drop(self.namespaces.remove(&name)),
        }
    }

    /// Whether any placed pod has wishes about others.
    pub fn has_company(&self) -> bool {
        self.with_company > 0
    }

    /// The pods that left and came in a changed copy of a node; `None` for the node as it is.
    pub fn difference(&self, node: &NodeInfo) -> Option<(Pods, Pods)> {
        let known = self.nodes.get(&node.name).filter(|known| !std::ptr::eq(*known, node))?;
        let not_in = |from: &NodeInfo, other: &NodeInfo| {
            from.pods.values().filter(|pod| !other.pods.contains_key(&pod.key)).cloned().collect::<Pods>()
        };
        Some((not_in(known, node), not_in(node, known)))
    }

    /// The node's last known form.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name)
    }

    pub fn set_node(&mut self, node: Arc<Item<NodeView>>) {
        if let Some(info) = self.nodes.get_mut(&node.key.name) {
            info.node = node;
            return;
        }
        let node_name = node.key.name.clone();
        let mut info = NodeInfo::new(node);
        for placed in self.placed.values().filter(|placed| placed.node == node_name) {
            info.take(&placed.pod);
        }
        self.nodes.insert(info.name.clone(), info);
    }

    pub fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// Counts a pod on a node, in place of what was counted for its name before.
    pub fn place(&mut self, pod: Arc<Item<PodView>>, node: Arc<str>, assumed: bool) {
        let key = pod.key.clone();
        self.remove(&key);
        if let Some(info) = self.nodes.get_mut(&node) {
            info.take(&pod);
        }
        self.with_company += usize::from(pod.company.is_some());
        self.placed.insert(key, Placed { node, uid: pod.uid.clone(), pod, assumed });
    }

    /// Says whether the pod was counted.
    pub fn remove(&mut self, key: &Key) -> bool {
        let Some(placed) = self.placed.remove(key) else { return false };
        self.with_company -= usize::from(placed.pod.company.is_some());
        if let Some(info) = self.nodes.get_mut(&placed.node) {
            info.give_back(&placed.pod);
        }
        true
    }

    /// Place is being made for the pod on that node, or no longer (`None`).
    pub fn nominate(&mut self, pod: &Arc<Item<PodView>>, node: Option<Arc<str>>) {
        match node {
            Some(node) => drop(self.nominated.insert(pod.key.clone(), (node, pod.clone()))),
            None => drop(self.nominated.remove(&pod.key)),
        }
    }

    pub fn forget_nomination(&mut self, key: &Key) {
        self.nominated.remove(key);
    }

    /// The pods for which place is being made on a node.
    pub fn nominated_to<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Arc<Item<PodView>>> {
        self.nominated.values().filter(move |(to, _)| **to == *node).map(|(_, pod)| pod)
    }

    /// The node as it is once those came that go before `pod`; `None` when there are none.
    pub fn with_nominated(&self, info: &NodeInfo, key: &Key, priority: i32) -> Option<NodeInfo> {
        let mut coming =
            self.nominated_to(&info.name).filter(|it| it.key != *key && it.priority >= priority).peekable();
        coming.peek()?;
        let mut with = info.clone();
        coming.for_each(|pod| with.take(pod));
        Some(with)
    }

    /// Whether a decision on this pod is still to be seen.
    pub fn is_assumed(&self, key: &Key, uid: &str) -> bool {
        self.placed.get(key).is_some_and(|placed| placed.assumed && *placed.uid == *uid)
    }

    /// Whether the pod already counts as what it is on that node.
    pub fn counts(&self, pod: &Item<PodView>) -> bool {
        self.placed.get(&pod.key).is_some_and(|placed| {
            let same = placed.uid == pod.uid && *placed.node == *pod.node && !placed.assumed;
            let taken = |pod: &PodView| (pod.requests.clone(), pod.host_ports.clone());
            let told = |pod: &PodView| (pod.labels.clone(), pod.deleting, pod.preempted, pod.started);
            same && taken(&placed.pod) == taken(pod) && told(&placed.pod) == told(pod)
        })
    }
}
