//! NodePorts: host ports are given once per address and protocol.

use coracle_client::Item;

use crate::framework::{Happened, Judge, Plugin, Prepared};
use crate::pod::{HostPort, PodView};
use crate::snapshot::{NodeInfo, Snapshot};

pub(super) struct NodePorts;

struct Ports<'a>(&'a [HostPort]);

const ALL: &str = "0.0.0.0";

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn prepare<'a>(&self, pod: &'a Item<PodView>, _: &'a Snapshot) -> Prepared<'a> {
        if pod.host_ports.is_empty() { Prepared::Skip } else { Prepared::Judge(Box::new(Ports(&pod.host_ports))) }
    }

    fn yields_to_preemption(&self) -> bool {
        true
    }

    fn may_help(&self, happened: Happened) -> bool {
        matches!(happened, Happened::NodeAdded | Happened::PodLeft)
    }
}

impl Judge for Ports<'_> {
    fn filter(&self, node: &NodeInfo) -> Vec<String> {
        let clash = |port: &HostPort| node.host_ports.keys().any(|used| clashes(port, used));
        if self.0.iter().any(clash) {
            return vec!["node(s) didn't have free ports for the requested pod ports".to_owned()];
        }
        Vec::new()
    }
}

fn clashes(a: &HostPort, b: &HostPort) -> bool {
    a.port == b.port && a.protocol == b.protocol && (a.ip == b.ip || &*a.ip == ALL || &*b.ip == ALL)
}
