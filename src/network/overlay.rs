//! Pods of other nodes: a route for each node's range, by VXLAN or straight through the node.
//!
//! Everything follows from the Node objects: names, addresses and `spec.podCIDRs`. Nothing is learned from packets: with VXLAN each other node has a permanent
//! neighbour and a forwarding entry, its link address being a hash of its name; so there is nothing to exchange, and at rest nothing
//! changes. A range's own first address stands for the far end, as in flannel.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use coracle_api::Object;
use coracle_base::shutdown::Shutdown;
use coracle_base::{crypto, task};
use coracle_client::{Controller, Error, Next, Project, View};
use serde::{Deserialize, Serialize};

use crate::cni::link::alias;
use crate::netlink::KernelError;
use crate::netlink::route::{Mac, Route, RouteSocket, Vxlan};
use crate::services::{Family, Prefix};

/// How packets get to the pods of other nodes; the names are those of k3s's `--flannel-backend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Backend {
    #[default]
    #[serde(rename = "vxlan")]
    Vxlan,
    /// Nodes share a link: no packet is wrapped.
    #[serde(rename = "host-gw")]
    HostGateway,
    /// Something else connects the nodes.
    #[serde(rename = "none")]
    None,
}

impl Backend {
    pub const ALL: [(&'static str, Backend); 3] =
        [("vxlan", Backend::Vxlan), ("host-gw", Backend::HostGateway), ("none", Backend::None)];

    /// What a packet to another node loses to its wrapping, bytes.
    pub fn overhead(self, outer: IpAddr) -> u32 {
        match self {
            // Outer Ethernet 14, IP 20 or 40, UDP 8, VXLAN 8.
            Backend::Vxlan => 30 + if outer.is_ipv4() { 20 } else { 40 },
            Backend::HostGateway | Backend::None => 0,
        }
    }
}

/// VNI and port are flannel's, which firewalls are set up for.
const VNI: u32 = 1;
const PORT: u16 = 8472;

/// What is remembered of a Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// InternalIP addresses.
    pub addresses: Box<[IpAddr]>,
    pub ranges: Box<[Prefix]>,
}

impl Project for NodeView {
    fn project(object: &Object) -> Option<Self> {
        #[derive(Deserialize)]
        struct Node {
            #[serde(default)]
            spec: Spec,
            #[serde(default)]
            status: Status,
        }
        #[derive(Default, Deserialize)]
        struct Spec {
            #[serde(default, rename = "podCIDRs")]
            pod_cidrs: Vec<String>,
        }
        #[derive(Default, Deserialize)]
        struct Status {
            #[serde(default)]
            addresses: Vec<Address>,
        }
        #[derive(Deserialize)]
        struct Address {
            #[serde(rename = "type")]
            kind: String,
            address: String,
        }
        let node: Node = object.decode().ok()?;
        let internal = node.status.addresses.iter().filter(|address| address.kind == "InternalIP");
        Some(NodeView {
            addresses: internal.filter_map(|address| address.address.parse().ok()).collect(),
            ranges: node.spec.pod_cidrs.iter().filter_map(|range| range.parse().ok()).collect(),
        })
    }
}

/// This node.
#[derive(Debug, Clone)]
pub struct Own {
    pub instance: Box<str>,
    pub name: Box<str>,
    pub addresses: Vec<IpAddr>,
    pub ranges: Vec<Prefix>,
    pub backend: Backend,
    /// Of the link that carries the wrapped packets.
    pub mtu: u32,
}

/// The way to one range of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    range: Prefix,
    /// The node's own address: the outer destination, or the gateway.
    node: IpAddr,
    /// Of the far end of the VXLAN.
    mac: Mac,
}

/// The ways to all other nodes, in order; a node without a range or an address of its own has none.
pub fn plan<'a>(own: &Own, nodes: impl Iterator<Item = (&'a str, &'a NodeView)>) -> Vec<Way> {
    let mut ways = Vec::new();
    for (name, node) in nodes.filter(|(name, _)| *name != &*own.name) {
        for range in &node.ranges {
            let address = match own.backend {
                Backend::None => None,
                // One outer family carries both inner ones.
                Backend::Vxlan => {
                    let outer = own.addresses.first().map(|address| Family::of(*address));
                    node.addresses.iter().find(|address| Some(Family::of(**address)) == outer)
                }
                Backend::HostGateway => {
                    node.addresses.iter().find(|address| Family::of(**address) == Family::of(range.address))
                }
            };
            ways.extend(address.map(|address| Way { range: *range, node: *address, mac: far_mac(name) }));
        }
    }
    ways.sort_by_key(|way| (way.range.address, way.range.length));
    ways
}

/// Locally administered; the same wherever it is computed.
fn far_mac(node: &str) -> Mac {
    let hash = crypto::sha256(node.as_bytes());
    [0x0e, hash[0], hash[1], hash[2], hash[3], hash[4]]
}

/// `v` and the instance id: an interface's name has fifteen characters at most.
fn link_name(instance: &str) -> String {
    format!("v{}", instance.chars().filter(char::is_ascii_alphanumeric).take(14).collect::<String>())
}

/// Keeps the kernel's routes as the Nodes say, until shutdown. Routes stay behind, so that packets flow while this process is away.
pub async fn run(own: Own, nodes: View<NodeView>, shutdown: Shutdown) {
    if own.backend == Backend::None {
        return;
    }
    let controller = Controller::<()>::new("overlay").on(&nodes, |_| Some(()));
    let overlay = Arc::new(Overlay { own, applied: Mutex::new(None) });
    let reconcile = move |()| {
        let (overlay, nodes) = (overlay.clone(), nodes.clone());
        async move {
            let all = nodes.list();
            let ways = plan(&overlay.own, all.iter().map(|node| (&*node.key.name, &node.value)));
            let outcome = task::blocking(move || overlay.apply(ways)).await;
            match outcome {
                Ok(Ok(())) => Ok(Next::Done),
                Ok(Err(error)) => Err(Error::Other(format!("routes to other nodes: {error}"))),
                Err(error) => Err(Error::Other(error.to_string())),
            }
        }
    };
    controller.run(&shutdown, reconcile).await;
}

struct Overlay {
    own: Own,
    /// `None` before the first time: what an earlier process left is looked up then.
    applied: Mutex<Option<Vec<Way>>>,
}

impl Overlay {
    fn apply(&self, ways: Vec<Way>) -> Result<(), KernelError> {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        if applied.as_ref() == Some(&ways) || (applied.is_none() && ways.is_empty() && !self.left_behind()?) {
            *applied = Some(ways);
            return Ok(());
        }
        let mut socket = RouteSocket::open()?;
        let link = match self.own.backend {
            Backend::Vxlan if !ways.is_empty() => Some(self.link(&mut socket)?),
            _ => None,
        };
        // What fails half-way is done again as a whole.
        let before = applied.take();
        for way in &ways {
            if before.as_ref().is_some_and(|before| before.contains(way)) {
                continue;
            }
            if let Some(link) = link {
                socket.add_neighbour(link, way.range.address, way.mac)?;
                socket.add_forwarding(link, way.mac, way.node)?;
            }
            socket.add_route(&self.route(way, link))?;
            tracing::info!(range = %format!("{}/{}", way.range.address, way.range.length), node = %way.node, "route to another node's pods");
        }
        for route in self.routes(&mut socket)? {
            let wanted =
                ways.iter().any(|way| (way.range.address, way.range.length) == (route.destination, route.length));
            if !wanted {
                socket.delete_route(&route)?;
                if let Some(link) = link {
                    socket.delete_neighbour(link, route.destination)?;
                }
            }
        }
        for gone in before.into_iter().flatten().filter(|old| !ways.iter().any(|way| way.mac == old.mac)) {
            if let Some(link) = link {
                socket.delete_forwarding(link, gone.mac, gone.node)?;
            }
        }
        *applied = Some(ways);
        Ok(())
    }

    fn route(&self, way: &Way, link: Option<u32>) -> Route {
        Route {
            destination: way.range.address,
            length: way.range.length,
            link: link.unwrap_or_default(),
            gateway: Some(if link.is_some() { way.range.address } else { way.node }),
            source: None,
            local: false,
        }
    }

    /// The routes of ours that go through a gateway: those to pods and Services here have none.
    fn routes(&self, socket: &mut RouteSocket) -> Result<Vec<Route>, KernelError> {
        let routes = socket.own_routes()?;
        Ok(routes.into_iter().filter(|route| route.gateway.is_some()).collect())
    }

    fn left_behind(&self) -> Result<bool, KernelError> {
        Ok(!self.routes(&mut RouteSocket::open()?)?.is_empty())
    }

    /// The VXLAN link, as it has to be: made where it is missing, or where the node's address has changed.
    fn link(&self, socket: &mut RouteSocket) -> Result<u32, KernelError> {
        let name = link_name(&self.own.instance);
        let Some(local) = self.own.addresses.first().copied() else { return Ok(0) };
        let mtu = self.own.mtu.saturating_sub(self.own.backend.overhead(local));
        let wanted = Vxlan { name: &name, id: VNI, local, port: PORT, mac: far_mac(&self.own.name), mtu };
        // The alias names the outer address too: a link of another address is of no use.
        let alias = format!("{} {local}", alias(&self.own.instance));
        let known = socket.find(&name)?;
        let index = match known {
            Some(link) if *link.alias == *alias && link.mtu == mtu => link.index,
            Some(_) => {
                socket.delete_link(&name)?;
                socket.create_vxlan(&wanted, &alias)?
            }
            None => socket.create_vxlan(&wanted, &alias)?,
        };
        for range in &self.own.ranges {
            let whole = if range.address.is_ipv4() { 32 } else { 128 };
            socket.add_address(index, range.address, whole, 0)?;
        }
        socket.set_up(index)?;
        Ok(index)
    }
}

/// Removes this instance's link and the routes to other nodes.
pub fn cleanup(instance: &str) -> Result<(), KernelError> {
    let mut socket = RouteSocket::open()?;
    socket.delete_link(&link_name(instance))?;
    for route in socket.own_routes()?.iter().filter(|route| route.gateway.is_some()) {
        socket.delete_route(route)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(backend: Backend) -> Own {
        Own {
            instance: "01234567".into(),
            name: "a".into(),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            ranges: vec!["10.42.0.0/24".parse().unwrap(), "fd42::/64".parse().unwrap()],
            backend,
            mtu: 1500,
        }
    }

    fn node(addresses: &[&str], ranges: &[&str]) -> NodeView {
        NodeView {
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ranges: ranges.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn ways(backend: Backend) -> Vec<String> {
        let nodes = [
            ("a", node(&["192.0.2.1"], &["10.42.0.0/24"])),
            ("b", node(&["192.0.2.2", "2001:db8::2"], &["10.42.1.0/24", "fd42:0:0:1::/64"])),
            ("new", node(&["192.0.2.3"], &[])),
            ("far", node(&["2001:db8::4"], &["10.42.3.0/24"])),
        ];
        let ways = plan(&own(backend), nodes.iter().map(|(name, node)| (*name, node)));
        ways.iter().map(|way| format!("{}/{} {}", way.range.address, way.range.length, way.node)).collect()
    }

    #[test]
    fn every_other_node_has_a_way() {
        assert_eq!(ways(Backend::Vxlan), ["10.42.1.0/24 192.0.2.2", "fd42:0:0:1::/64 192.0.2.2"]);
        assert_eq!(ways(Backend::HostGateway), ["10.42.1.0/24 192.0.2.2", "fd42:0:0:1::/64 2001:db8::2"]);
        assert!(ways(Backend::None).is_empty());
    }

    #[test]
    fn names_and_link_addresses_are_fixed() {
        assert_eq!(link_name("0123456789abcdef"), "v0123456789abcd");
        assert_eq!(far_mac("a"), far_mac("a"));
        assert_ne!(far_mac("a"), far_mac("b"));
        // Unicast, locally administered.
        assert_eq!(far_mac("a")[0] & 0b11, 0b10);
    }
}
