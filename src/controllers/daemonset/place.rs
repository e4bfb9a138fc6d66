//! Which nodes a DaemonSet's pods belong on.
//!
//! Upstream: nodeShouldRunDaemonPod in pkg/controller/daemon, AddOrUpdateDaemonPodTolerations in its util.

use std::collections::BTreeMap;

use coracle_client::placement::{NodeAffinity, Required, Toleration, selects, untolerated};
use coracle_client::{Error, Item};
use k8s_openapi::api::apps::v1::DaemonSetSpec;
use k8s_openapi::api::core::v1::{self as core, PodSpec};

use crate::node::NodeView;
use crate::pods::placement;

/// What every daemon pod bears with: key and effect.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

pub(super) struct Place {
    /// The one node that the template names.
    node: Option<Box<str>>,
    selector: BTreeMap<Box<str>, Box<str>>,
    required: Option<Required>,
    tolerations: Vec<Toleration>,
}

impl Place {
    pub(super) fn of(spec: &DaemonSetSpec) -> Result<Self, Error> {
        let mut pod = spec.template.spec.clone().unwrap_or_default();
        tolerate(&mut pod);
        let affinity = pod.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
        let affinity: NodeAffinity = placement(&affinity)?;
        Ok(Self {
            node: pod.node_name.filter(|name| !name.is_empty()).map(Into::into),
            selector: placement(&pod.node_selector)?,
            required: affinity.required,
            tolerations: placement(&pod.tolerations)?,
        })
    }

    /// Whether a pod is to run on the node, and whether one that runs may go on.
    pub(super) fn admits(&self, node: &Item<NodeView>) -> (bool, bool) {
        let name = &node.key.name;
        let named = self.node.as_ref().is_none_or(|wanted| **wanted == **name);
        if !named || !selects(&self.selector, self.required.as_ref(), name, &node.labels) {
            return (false, false);
        }
        let bears = |effects: &[&str]| untolerated(&node.taints, &self.tolerations, effects).next().is_none();
        (bears(&["NoSchedule", "NoExecute"]), bears(&["NoExecute"]))
    }
}

/// Gives a pod the tolerations of daemons.
pub(super) fn tolerate(pod: &mut PodSpec) {
    let network = pod.host_network == Some(true);
    let tolerations = pod.tolerations.get_or_insert_default();
    for (key, effect) in TOLERATED.into_iter().chain(network.then_some(NETWORK)) {
        let toleration = core::Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..core::Toleration::default()
        };
        // One that matches the same is replaced: it may be bounded in time.
        let same = |it: &core::Toleration| {
            let value = it.value.as_deref().unwrap_or_default();
            it.key == toleration.key
                && it.effect == toleration.effect
                && it.operator == toleration.operator
                && value.is_empty()
        };
        match tolerations.iter_mut().find(|it| same(it)) {
            Some(known) => *known = toleration,
            None => tolerations.push(toleration),
        }
    }
}
