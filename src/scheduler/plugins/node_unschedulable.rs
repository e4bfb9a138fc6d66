//! NodeUnschedulable: a cordoned node takes only pods that tolerate it.

use coracle_client::Item;
use coracle_client::placement::Taint;

use crate::framework::{Happened, Judge, Plugin, Prepared};
use crate::pod::PodView;
use crate::snapshot::{NodeInfo, Snapshot};

pub(super) struct NodeUnschedulable;

struct Intolerant;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn prepare<'a>(&self, pod: &'a Item<PodView>, _: &'a Snapshot) -> Prepared<'a> {
        let taint =
            Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() };
        let tolerations = pod.wants.iter().flat_map(|wants| &wants.tolerations);
        if tolerations.into_iter().any(|toleration| toleration.tolerates(&taint)) {
            return Prepared::Skip;
        }
        Prepared::Judge(Box::new(Intolerant))
    }

    fn may_help(&self, happened: Happened) -> bool {
        matches!(happened, Happened::NodeAdded | Happened::NodeTaints)
    }
}

impl Judge for Intolerant {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        if node.node.unschedulable { vec!["node(s) were unschedulable".to_owned()] } else { Vec::new() }
    }
}
