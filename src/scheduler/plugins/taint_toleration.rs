//! TaintToleration: taints that a pod does not tolerate keep it away, or count against the node.

use crate::framework::{Happened, Judge, Plugin, Prepared, by_highest};
use crate::pod::{PodView, Toleration};
use crate::snapshot::{NodeInfo, Snapshot};

pub(super) struct TaintToleration;

struct Tolerations<'a>(&'a [Toleration]);

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn weight(&self) -> i64 {
        3
    }

    fn prepare<'a>(&self, pod: &'a PodView, _: &'a Snapshot) -> Prepared<'a> {
        let tolerations = pod.wants.as_ref().map_or(&[][..], |wants| &wants.tolerations);
        Prepared::Judge(Box::new(Tolerations(tolerations)))
    }

    fn may_help(&self, happened: Happened) -> bool {
        matches!(happened, Happened::NodeAdded | Happened::NodeTaints)
    }
}

impl Tolerations<'_> {
    fn untolerated<'a>(&'a self, node: &'a NodeInfo, effects: &'a [&str]) -> impl Iterator<Item = ()> + 'a {
        let taints = node.node.taints.iter().filter(|taint| effects.contains(&&*taint.effect));
        taints.filter(|taint| !self.0.iter().any(|toleration| toleration.tolerates(taint))).map(|_| ())
    }
}

impl Judge for Tolerations<'_> {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        match self.untolerated(node, &["NoSchedule", "NoExecute"]).next() {
            None => Vec::new(),
            Some(()) => vec!["node(s) had untolerated taint(s)".to_owned()],
        }
    }

    fn score(&self, node: &NodeInfo) -> Option<i64> {
        Some(self.untolerated(node, &["PreferNoSchedule"]).count() as i64)
    }

    fn normalize(&self, scores: &mut [i64]) {
        by_highest(scores, true);
    }
}
