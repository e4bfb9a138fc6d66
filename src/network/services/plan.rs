//! What one Service (or host port) puts into the table: a pure function of its view, its slices and the node.
//!
//! Endpoints are chosen as upstream's pkg/proxy/topology.go does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::element::{Balancer, Content, Family, Frontend, Group, Key, Role, Target, octets};
use crate::views::{EndpointView, Protocol, ServiceView, SliceView, TrafficPolicy};

/// What the rules depend on besides Services.
#[derive(Debug, Clone, Default)]
pub struct NodeFacts {
    pub name: Box<str>,
    pub zone: Box<str>,
    /// The node's own addresses: endpoints there need no hairpin.
    pub addresses: Vec<IpAddr>,
}

/// Which endpoints of a service port a group holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All ready ones (or those hinted for this node), or all terminating ones that still serve.
    Cluster,
    /// Those on this node.
    Local,
}

/// Gives numbers to the groups of one owner; the same number for the same group each time.
pub trait Groups {
    fn group(&mut self, port: usize, family: Family, scope: Scope) -> Group;
}

pub type Fragment = BTreeMap<Key, Content>;

/// The elements of one Service.
pub fn service<'a>(
    service: &ServiceView,
    slices: impl Iterator<Item = &'a SliceView> + Clone,
    node: &NodeFacts,
    groups: &mut dyn Groups,
) -> Fragment {
    let mut fragment = Fragment::new();
    if service.foreign {
        return fragment;
    }
    for (index, port) in service.ports.iter().enumerate() {
        for family in Family::BOTH {
            let mut addresses = service.cluster_ips.iter().filter(|address| Family::of(**address) == family).peekable();
            if addresses.peek().is_none() {
                continue;
            }
            let endpoints = port_endpoints(slices.clone(), &port.name, port.protocol, family);
            let cluster = choose(&endpoints, Scope::Cluster, node);
            let local = choose(&endpoints, Scope::Local, node);
            let mut writer = Writer { fragment: &mut fragment, groups, port: index, family, service, node };
            for address in addresses {
                writer.internal(Frontend::address(*address, port.protocol, port.port), &cluster, &local);
            }
            for address in service.external_ips.iter().filter(|address| Family::of(**address) == family) {
                writer.external(Frontend::address(*address, port.protocol, port.port), &cluster, &local);
            }
            if port.node_port != 0 {
                writer.external(Frontend::node(family, port.protocol, port.node_port), &cluster, &local);
            }
        }
    }
    fragment
}

/// A port of the node (on one address or on all) that leads to one pod.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostPort {
    /// All of the node's addresses when `None`.
    pub address: Option<IpAddr>,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: Box<str>,
    pub port: u16,
    pub pod: SocketAddr,
}

/// The elements of a pod's host ports.
pub fn host_ports(ports: &[HostPort], groups: &mut dyn Groups) -> Fragment {
    let mut fragment = Fragment::new();
    for (index, port) in ports.iter().enumerate() {
        let family = Family::of(port.pod.ip());
        let protocol = match &*port.protocol {
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        let frontend = match port.address {
            Some(address) if Family::of(address) != family => continue,
            Some(address) => Frontend::address(address, protocol, port.port),
            None => Frontend::node(family, protocol, port.port),
        };
        let group = groups.group(index, family, Scope::Local);
        fragment.insert(Key::Endpoint(family, group, 0), Content::Endpoint(port.pod));
        fragment.insert(Key::Hairpin(port.pod.ip()), Content::Present);
        let node = port.address.is_none();
        let balancer = Balancer { family, node, outside: false, count: 1, affinity: None };
        fragment.insert(Key::Chain(balancer), Content::Present);
        fragment.insert(Key::Frontend(Role::Groups, frontend), Content::Group(group));
        fragment.insert(Key::Frontend(Role::Services, frontend), Content::Balance(balancer));
    }
    fragment
}

/// Port 53 of the cluster's DNS addresses leads to this node's DNS, whatever Service has the address.
pub fn dns(addresses: &[IpAddr]) -> Fragment {
    let frontends = addresses
        .iter()
        .flat_map(|address| [Protocol::Udp, Protocol::Tcp].map(|protocol| Frontend::address(*address, protocol, 53)));
    frontends.map(|frontend| (Key::Frontend(Role::Services, frontend), Content::Dns)).collect()
}

/// The endpoints of one port in one family, each address and port once: the same pod may be in two slices for a moment.
fn port_endpoints<'a>(
    slices: impl Iterator<Item = &'a SliceView>,
    name: &str,
    protocol: Protocol,
    family: Family,
) -> BTreeMap<SocketAddr, &'a EndpointView> {
    let mut endpoints = BTreeMap::new();
    for slice in slices.filter(|slice| slice.ipv6 == (family == Family::V6)) {
        let ports = slice.ports.iter().filter(|(own, transport, _)| **own == *name && *transport == protocol);
        for (_, _, port) in ports {
            for endpoint in slice.endpoints.iter().filter(|endpoint| Family::of(endpoint.address) == family) {
                endpoints.insert(SocketAddr::new(endpoint.address, *port), endpoint);
            }
        }
    }
    endpoints
}

/// A chosen endpoint and whether it is on this node.
type Chosen = Vec<(SocketAddr, bool)>;

fn choose(endpoints: &BTreeMap<SocketAddr, &EndpointView>, scope: Scope, node: &NodeFacts) -> Chosen {
    let is_local = |endpoint: &EndpointView| endpoint.node.as_deref() == Some(&*node.name);
    let filter = |wanted: &dyn Fn(&EndpointView) -> bool| -> Chosen {
        let wanted = endpoints.iter().filter(|(_, endpoint)| wanted(endpoint));
        wanted.map(|(address, endpoint)| (*address, is_local(endpoint))).collect()
    };
    let in_scope = |endpoint: &EndpointView| scope == Scope::Cluster || is_local(endpoint);
    let ready = match scope {
        Scope::Local => filter(&|endpoint| endpoint.ready && is_local(endpoint)),
        Scope::Cluster => {
            let hinted_node = |endpoint: &EndpointView| endpoint.nodes.contains(&node.name);
            let hinted_zone = |endpoint: &EndpointView| endpoint.zones.contains(&node.zone);
            let ready = || endpoints.values().filter(|endpoint| endpoint.ready);
            if ready().all(|endpoint| !endpoint.nodes.is_empty()) && ready().any(|endpoint| hinted_node(endpoint)) {
                filter(&|endpoint| endpoint.ready && hinted_node(endpoint))
            } else if ready().all(|endpoint| !endpoint.zones.is_empty())
                && ready().any(|endpoint| hinted_zone(endpoint))
            {
                filter(&|endpoint| endpoint.ready && hinted_zone(endpoint))
            } else {
                filter(&|endpoint| endpoint.ready)
            }
        }
    };
    if !ready.is_empty() {
        return ready;
    }
    // While the last pods of a Service terminate, they go on serving (KEP-1669).
    filter(&|endpoint| endpoint.serving && endpoint.terminating && in_scope(endpoint))
}

/// A number of the endpoint that does not depend on the others of its group (unless two fall on the same one). FNV-1a.
fn identity(address: SocketAddr, taken: &mut BTreeSet<u32>) -> u32 {
    let bytes = octets(address.ip()).into_iter().chain(address.port().to_be_bytes());
    let hash = bytes.fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let mut identity = hash;
    while !taken.insert(identity) {
        identity = identity.wrapping_add(1);
    }
    identity
}

/// Writes the frontends of one service port in one family.
struct Writer<'a> {
    fragment: &'a mut Fragment,
    groups: &'a mut dyn Groups,
    port: usize,
    family: Family,
    service: &'a ServiceView,
    node: &'a NodeFacts,
}

impl Writer<'_> {
    fn internal(&mut self, frontend: Frontend, cluster: &Chosen, local: &Chosen) {
        let (scope, chosen) = match self.service.internal_policy {
            TrafficPolicy::Cluster => (Scope::Cluster, cluster),
            TrafficPolicy::Local => (Scope::Local, local),
        };
        if chosen.is_empty() {
            let content = if cluster.is_empty() { Content::Refuse } else { Content::Drop };
            self.fragment.insert(Key::Frontend(Role::Empty, frontend), content);
            return;
        }
        self.balance(frontend, Role::Services, scope, chosen);
    }

    fn external(&mut self, frontend: Frontend, cluster: &Chosen, local: &Chosen) {
        if cluster.is_empty() && local.is_empty() {
            self.fragment.insert(Key::Frontend(Role::Empty, frontend), Content::Refuse);
            return;
        }
        if self.service.external_policy == TrafficPolicy::Cluster {
            self.balance(frontend, Role::Services, Scope::Cluster, cluster);
            self.fragment.insert(Key::Frontend(Role::Masquerade, frontend), Content::Present);
            return;
        }
        self.fragment.insert(Key::Frontend(Role::Services, frontend), Content::ByPlace);
        self.balance(frontend, Role::Inside, Scope::Cluster, cluster);
        if !local.is_empty() {
            self.balance(frontend, Role::Outside, Scope::Local, local);
        }
    }

    /// Leads the frontend to the group, and fills the group.
    fn balance(&mut self, frontend: Frontend, role: Role, scope: Scope, chosen: &Chosen) {
        let group = self.groups.group(self.port, self.family, scope);
        let mut pods = BTreeSet::new();
        let mut identities = BTreeSet::new();
        for (slot, (address, is_local)) in (0..).zip(chosen) {
            let number = if self.service.affinity.is_some() {
                let identity = identity(*address, &mut identities);
                self.fragment.insert(Key::Identity(self.family, group, slot), Content::Identity(identity));
                identity
            } else {
                slot
            };
            self.fragment.insert(Key::Endpoint(self.family, group, number), Content::Endpoint(*address));
            if *is_local && !self.node.addresses.contains(&address.ip()) {
                pods.insert(address.ip());
            }
        }
        for pod in pods {
            self.fragment.insert(Key::Hairpin(pod), Content::Present);
        }
        let balancer = Balancer {
            family: self.family,
            node: matches!(frontend.target, Target::Node(_)),
            outside: role == Role::Outside,
            count: u32::try_from(chosen.len()).unwrap_or(u32::MAX),
            affinity: self.service.affinity,
        };
        let groups = if role == Role::Outside { Role::OutsideGroups } else { Role::Groups };
        self.fragment.insert(Key::Chain(balancer), Content::Present);
        self.fragment.insert(Key::Frontend(groups, frontend), Content::Group(group));
        self.fragment.insert(Key::Frontend(role, frontend), Content::Balance(balancer));
    }
}
