//! TaintToleration: taints that a pod does not tolerate keep it away, or count against the node.

use coracle_client::Item;
use coracle_client::placement::{Toleration, untolerated};

use crate::framework::{Happened, Judge, Plugin, Prepared, by_highest};
use crate::pod::PodView;
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

    fn prepare<'a>(&self, pod: &'a Item<PodView>, _: &'a Snapshot) -> Prepared<'a> {
        let tolerations = pod.wants.as_ref().map_or(&[][..], |wants| &wants.tolerations);
        Prepared::Judge(Box::new(Tolerations(tolerations)))
    }

    fn may_help(&self, happened: Happened) -> bool {
        matches!(happened, Happened::NodeAdded | Happened::NodeTaints)
    }
}

impl Judge for Tolerations<'_> {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        match untolerated(&node.node.taints, self.0, &["NoSchedule", "NoExecute"]).next() {
            None => Vec::new(),
            Some(_) => vec!["node(s) had untolerated taint(s)".to_owned()],
        }
    }

    fn score(&self, node: &NodeInfo) -> Option<i64> {
        Some(untolerated(&node.node.taints, self.0, &["PreferNoSchedule"]).count() as i64)
    }

    fn normalize(&self, scores: &mut [i64]) {
        by_highest(scores, true);
    }
}
