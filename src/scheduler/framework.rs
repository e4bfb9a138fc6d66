//! What a plugin is: it judges nodes for a pod, and knows what could change its mind.

use coracle_client::Item;

use crate::pod::PodView;
use crate::snapshot::{NodeInfo, Snapshot};

/// The highest score a node gets from one plugin after `Judge::normalize`.
pub const MAX_SCORE: i64 = 100;

/// One concern of scheduling. Upstream's extension points PreFilter, Filter, PreScore and Score are `prepare` and the
/// methods of what it gives.
pub trait Plugin: Send + Sync {
    /// As upstream names it; a refusal carries it.
    fn name(&self) -> &'static str;

    /// What the plugin's scores count for.
    fn weight(&self) -> i64 {
        1
    }

    /// Looks at the pod once, before any node.
    fn prepare<'a>(&self, pod: &'a Item<PodView>, snapshot: &'a Snapshot) -> Prepared<'a>;

    /// Whether a node that this plugin refused may do once other pods have left it.
    fn yields_to_preemption(&self) -> bool {
        false
    }

    /// Whether what happened could make the plugin accept a node that it refused.
    fn may_help(&self, happened: Happened) -> bool;
}

pub enum Prepared<'a> {
    /// The plugin has nothing to say about this pod.
    Skip,
    /// No node will do, for this reason.
    Refuse(String),
    Judge(Box<dyn Judge + 'a>),
}

/// A plugin's judgement on the nodes for one pod.
pub trait Judge {
    /// Reasons against the node; empty when it will do.
    fn filter(&self, _node: &NodeInfo) -> Vec<String> {
        Vec::new()
    }

    /// Raw points for a node that will do; brought to 0..=100 over all nodes by `normalize`. `None` from a plugin that does not score.
    fn score(&self, _node: &NodeInfo) -> Option<i64> {
        None
    }

    fn normalize(&self, _scores: &mut [i64]) {}
}

/// What happened in the cluster, as far as it can help pods that were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    NodeAdded,
    /// Allocatable resources of a node grew or changed.
    NodeResources,
    NodeLabels,
    /// Taints of a node, or whether it is cordoned.
    NodeTaints,
    /// A pod on a node is gone or finished.
    PodLeft,
    /// A pod got its node, or other labels.
    PodPlaced,
}

/// Brings scores to 0..=100 by the highest of them; reversed for scores that count against a node.
pub fn by_highest(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if highest == 0 { 0 } else { *score * MAX_SCORE / highest };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}
