//! The cluster as the next decision sees it: every node with what its pods take.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

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
    pub pods: i64,
    pub host_ports: HashMap<HostPort, u32>,
}

/// Nodes, and the pods that take from them, also those whose binding is under way.
#[derive(Default)]
pub struct Snapshot {
    nodes: BTreeMap<Arc<str>, NodeInfo>,
    /// Where each pod counts. A pod may be bound to a node that is not known (yet).
    placed: HashMap<Key, Placed>,
}

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
            pods: 0,
            host_ports: HashMap::new(),
        }
    }

    fn take(&mut self, pod: &PodView) {
        self.requested.add(&pod.requests);
        self.scored.add(&pod.scored);
        self.pods += 1;
        for port in &pod.host_ports {
            *self.host_ports.entry(port.clone()).or_default() += 1;
        }
    }

    fn give_back(&mut self, pod: &PodView) {
        self.requested.subtract(&pod.requests);
        self.scored.subtract(&pod.scored);
        self.pods -= 1;
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
        self.placed.insert(key, Placed { node, uid: pod.uid.clone(), pod, assumed });
    }

    /// Says whether the pod was counted.
    pub fn remove(&mut self, key: &Key) -> bool {
        let Some(placed) = self.placed.remove(key) else { return false };
        if let Some(info) = self.nodes.get_mut(&placed.node) {
            info.give_back(&placed.pod);
        }
        true
    }

    /// Whether a decision on this pod is still to be seen.
    pub fn is_assumed(&self, key: &Key, uid: &str) -> bool {
        self.placed.get(key).is_some_and(|placed| placed.assumed && *placed.uid == *uid)
    }

    /// Whether the pod already counts with what it takes on that node.
    pub fn counts(&self, pod: &Item<PodView>) -> bool {
        self.placed.get(&pod.key).is_some_and(|placed| {
            let same = placed.uid == pod.uid && *placed.node == *pod.node && !placed.assumed;
            same && placed.pod.requests == pod.requests && placed.pod.host_ports == pod.host_ports
        })
    }
}
