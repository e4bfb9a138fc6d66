//! NodeName: a pod that names a node goes nowhere else.

use coracle_client::Item;

use crate::framework::{Happened, Judge, Plugin, Prepared};
use crate::pod::PodView;
use crate::snapshot::{NodeInfo, Snapshot};

pub(super) struct NodeName;

struct Named<'a>(&'a str);

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn prepare<'a>(&self, pod: &'a Item<PodView>, _: &'a Snapshot) -> Prepared<'a> {
        if pod.node.is_empty() { Prepared::Skip } else { Prepared::Judge(Box::new(Named(&pod.node))) }
    }

    fn may_help(&self, happened: Happened) -> bool {
        happened == Happened::NodeAdded
    }
}

impl Judge for Named<'_> {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        if *node.name == *self.0 { Vec::new() } else { vec!["node(s) didn't match the requested node name".to_owned()] }
    }
}
