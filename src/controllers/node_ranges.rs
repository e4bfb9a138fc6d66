//! A range of pod addresses for every node, cut from the cluster's.
//!
//! Upstream: pkg/controller/nodeipam (range allocator). A node that brings ranges with it keeps them.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_api::Object;
use coracle_client::{Controller, Error, Key, Next, Project, View, found, rest};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::json;

use crate::{Scope, resources};

/// The cluster's range of one address family, and the length of a node's part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub address: IpAddr,
    pub length: u8,
    pub node_length: u8,
}

impl Range {
    /// How many nodes have room.
    fn count(&self) -> u128 {
        1u128.checked_shl(u32::from(self.node_length.saturating_sub(self.length))).unwrap_or(u128::MAX)
    }

    /// `10.42.7.0/24`
    fn part(&self, number: u128) -> String {
        let (bits, base) = match self.address {
            IpAddr::V4(address) => (32, u128::from(u32::from(address))),
            IpAddr::V6(address) => (128, u128::from(address)),
        };
        let first = base + (number << (bits - u32::from(self.node_length)));
        let address = match self.address {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(first).unwrap_or_default().into()),
            IpAddr::V6(_) => IpAddr::V6(first.into()),
        };
        format!("{address}/{}", self.node_length)
    }
}

/// What is remembered of a Node.
struct RangesView {
    ranges: Box<[Box<str>]>,
}

impl Project for RangesView {
    fn project(object: &Object) -> Option<Self> {
        #[derive(Deserialize)]
        struct Node {
            #[serde(default)]
            spec: Spec,
        }
        #[derive(Default, Deserialize)]
        struct Spec {
            #[serde(default, rename = "podCIDRs")]
            pod_cidrs: Box<[Box<str>]>,
        }
        let node: Node = object.decode().ok()?;
        Some(RangesView { ranges: node.spec.pod_cidrs })
    }
}

struct Ranges {
    scope: Scope,
    nodes: View<RangesView>,
    /// Where the search begins, by family: a range that was given back rests as long as possible.
    next: Mutex<Vec<u128>>,
}

/// How long the view may take to show what was written.
const SEEN: Duration = Duration::from_secs(5);

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let nodes = scope.views.view::<RangesView>(&resources::nodes());
    let controller = Controller::<Key>::new("node-ranges")
        .on(&nodes, |change| change.present().filter(|node| node.ranges.is_empty()).map(|node| node.key.clone()));
    let shutdown = scope.shutdown.clone();
    let next = Mutex::new(vec![0; scope.pod_ranges.len()]);
    let this = Arc::new(Ranges { scope, nodes, next });
    async move { controller.run(&shutdown, move |key| this.clone().reconcile(key)).await }.boxed()
}

impl Ranges {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        if self.nodes.get(&key).is_none_or(|node| !node.ranges.is_empty()) {
            return Ok(Next::Done);
        }
        let Some(ranges) = self.choose() else {
            return Err(Error::Other(format!(
                "node {} gets no pod addresses: the cluster's range is used up",
                key.name
            )));
        };
        let patch = json!({"spec": {"podCIDR": ranges.first(), "podCIDRs": ranges}});
        let written = rest::patch(&self.scope.client, &resources::nodes(), &key, rest::STRATEGIC_PATCH, &patch).await;
        if found(written)?.is_some() {
            tracing::info!(node = %key.name, ?ranges, "pod addresses given");
            // The next choice must know of this one.
            self.nodes.wait(SEEN, |nodes| nodes.get(&key).is_none_or(|node| !node.ranges.is_empty())).await;
        }
        Ok(Next::Done)
    }

    /// One free part of each range.
    fn choose(&self) -> Option<Vec<String>> {
        let nodes = self.nodes.list();
        let used: HashSet<&str> = nodes.iter().flat_map(|node| node.ranges.iter().map(|range| &**range)).collect();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let families = self.scope.pod_ranges.iter().zip(next.iter_mut());
        families.map(|(range, next)| free(range, next, &used)).collect()
    }
}

/// The first free part from `next` on, around the end.
fn free(range: &Range, next: &mut u128, used: &HashSet<&str>) -> Option<String> {
    let count = range.count();
    // One more than are taken is enough to find one that is not.
    let tries = count.min(used.len() as u128 + 1);
    let from = *next;
    let mut parts = (0..tries).map(|step| (from + step) % count).map(|number| (number, range.part(number)));
    let (number, part) = parts.find(|(_, part)| !used.contains(part.as_str()))?;
    *next = number + 1;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(address: &str, length: u8, node_length: u8) -> Range {
        Range { address: address.parse().unwrap(), length, node_length }
    }

    #[test]
    fn parts_are_given_in_turn_and_never_twice() {
        let range = range("10.42.0.0", 22, 24);
        let mut next = 0;
        let used = HashSet::from(["10.42.1.0/24"]);
        assert_eq!(free(&range, &mut next, &used).unwrap(), "10.42.0.0/24");
        let used = HashSet::from(["10.42.1.0/24", "10.42.0.0/24"]);
        assert_eq!(free(&range, &mut next, &used).unwrap(), "10.42.2.0/24");
        // The first is free again, and still the last one comes before it.
        let used = HashSet::from(["10.42.1.0/24", "10.42.2.0/24"]);
        assert_eq!(free(&range, &mut next, &used).unwrap(), "10.42.3.0/24");
        let all = HashSet::from(["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24", "10.42.3.0/24"]);
        assert_eq!(free(&range, &mut next, &all), None);
    }

    #[test]
    fn families_are_alike() {
        assert_eq!(range("fd42::", 56, 64).part(5), "fd42:0:0:5::/64");
        assert_eq!(range("fd42::", 56, 64).count(), 256);
        assert_eq!(range("10.42.0.0", 24, 24).count(), 1);
    }
}
