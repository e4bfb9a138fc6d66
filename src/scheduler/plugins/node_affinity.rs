//! NodeAffinity: which nodes a pod selects, and which it prefers.
//!
//! Upstream: k8s.io/component-helpers/scheduling/corev1/nodeaffinity.

use coracle_client::Item;
use coracle_client::placement::selects;

use crate::framework::{Happened, Judge, Plugin, Prepared, by_highest};
use crate::pod::{PodView, Wants};
use crate::snapshot::{NodeInfo, Snapshot};

pub(super) struct NodeAffinity;

struct Affinity<'a>(&'a Wants);

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn weight(&self) -> i64 {
        2
    }

    fn prepare<'a>(&self, pod: &'a Item<PodView>, _: &'a Snapshot) -> Prepared<'a> {
        let Some(wants) = &pod.wants else { return Prepared::Skip };
        let asks = !wants.node_selector.is_empty()
            || wants.affinity.required.is_some()
            || !wants.affinity.preferred.is_empty();
        if asks { Prepared::Judge(Box::new(Affinity(wants))) } else { Prepared::Skip }
    }

    fn may_help(&self, happened: Happened) -> bool {
        matches!(happened, Happened::NodeAdded | Happened::NodeLabels)
    }
}

impl Judge for Affinity<'_> {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        let required = self.0.affinity.required.as_ref();
        if selects(&self.0.node_selector, required, &node.name, &node.node.labels) {
            Vec::new()
        } else {
            vec!["node(s) didn't match Pod's node affinity/selector".to_owned()]
        }
    }

    fn score(&self, node: &NodeInfo) -> Option<i64> {
        let preferred = self.0.affinity.preferred.iter();
        // Unlike a required one, an empty preference is met by every node; its weight then counts for all alike.
        Some(preferred.filter(|it| it.preference.matches(&node.name, &node.node.labels)).map(|it| it.weight).sum())
    }

    fn normalize(&self, scores: &mut [i64]) {
        by_highest(scores, false);
    }
}
