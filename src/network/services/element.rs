//! The elements that Services put into the table, and the chains that balance: typed, ordered, printable.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::nftables::{Data, Type, Value, Verdict};
use crate::views::Protocol;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The suffix of every name of this family.
    pub fn digit(self) -> char {
        match self {
            Family::V4 => '4',
            Family::V6 => '6',
        }
    }

    /// NFPROTO_IPV4 or NFPROTO_IPV6.
    pub fn number(self) -> u8 {
        match self {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }

    pub fn address_type(self) -> Type {
        match self {
            Family::V4 => Type::Address4,
            Family::V6 => Type::Address6,
        }
    }
}

/// What clients address: one address, or a port of the node on any of its own addresses (node ports, host ports).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    Address(IpAddr),
    Node(Family),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    pub target: Target,
    pub protocol: Protocol,
    pub port: u16,
}

impl Frontend {
    pub fn address(address: IpAddr, protocol: Protocol, port: u16) -> Self {
        Self { target: Target::Address(address), protocol, port }
    }

    pub fn node(family: Family, protocol: Protocol, port: u16) -> Self {
        Self { target: Target::Node(family), protocol, port }
    }

    pub fn family(&self) -> Family {
        match self.target {
            Target::Address(address) => Family::of(address),
            Target::Node(family) => family,
        }
    }
}

/// The maps keyed by frontend; each exists for addresses and for node ports, for IPv4 and IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Where a new connection goes first.
    Services,
    /// With external policy Local: where connections from pods and nodes go.
    Inside,
    /// With external policy Local: where connections from elsewhere go; dropped when there is none.
    Outside,
    /// Frontends without endpoints: refused or dropped.
    Empty,
    Groups,
    /// Groups for `Outside`.
    OutsideGroups,
    /// A set: connections from elsewhere leave with the node's address.
    Masquerade,
}

impl Role {
    pub const ALL: [Role; 7] =
        [Role::Services, Role::Inside, Role::Outside, Role::Empty, Role::Groups, Role::OutsideGroups, Role::Masquerade];

    /// The map's name for addresses and for node ports.
    pub fn name(self, node: bool, family: Family) -> String {
        let name = match self {
            Role::Services => "services",
            Role::Inside => "inside",
            Role::Outside => "outside",
            Role::Empty => "empty",
            Role::Groups => "groups",
            Role::OutsideGroups => "outside-groups",
            Role::Masquerade => "masquerade",
        };
        format!("{}{name}{}", if node { "node-" } else { "" }, family.digit())
    }

    pub fn data(self) -> Data {
        match self {
            Role::Services | Role::Inside | Role::Outside | Role::Empty => Data::Verdict,
            Role::Groups | Role::OutsideGroups => Data::Value(&[Type::Mark]),
            Role::Masquerade => Data::Nothing,
        }
    }
}

/// A chain that sends a connection to one of `count` endpoints of the frontend's group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Balancer {
    pub family: Family,
    pub node: bool,
    pub outside: bool,
    pub count: u32,
    /// Seconds for which a client stays with its endpoint.
    pub affinity: Option<u32>,
}

impl Balancer {
    /// `balance4-3`, `balance6-node-outside-2-10800s`.
    pub fn name(&self) -> String {
        let node = if self.node { "-node" } else { "" };
        let outside = if self.outside { "-outside" } else { "" };
        let affinity = self.affinity.map(|seconds| format!("-{seconds}s")).unwrap_or_default();
        format!("balance{}{node}{outside}-{}{affinity}", self.family.digit(), self.count)
    }
}

/// A list of endpoints, named by a number.
pub type Group = u32;

/// What can be in the table. The order is the order in which things are made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Chain(Balancer),
    /// A pod that may reach itself through a Service.
    Hairpin(IpAddr),
    /// By slot from 0, or, where clients stay with their endpoints, by identity.
    Endpoint(Family, Group, u32),
    /// The identity of the endpoint in this slot.
    Identity(Family, Group, u32),
    Frontend(Role, Frontend),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Present,
    Endpoint(SocketAddr),
    Group(Group),
    Identity(u32),
    Balance(Balancer),
    /// External policy Local: by the client's place.
    ByPlace,
    /// The cluster's DNS of this node.
    Dns,
    Refuse,
    Drop,
}

impl Key {
    /// The set or map; `None` for chains.
    pub fn set(&self) -> Option<String> {
        match self {
            Key::Chain(_) => None,
            Key::Hairpin(address) => Some(format!("hairpin{}", Family::of(*address).digit())),
            Key::Endpoint(family, ..) => Some(format!("endpoints{}", family.digit())),
            Key::Identity(family, ..) => Some(format!("identities{}", family.digit())),
            Key::Frontend(role, frontend) => {
                Some(role.name(matches!(frontend.target, Target::Node(_)), frontend.family()))
            }
        }
    }

    /// In the form of registers.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Key::Chain(_) => Vec::new(),
            Key::Hairpin(address) => [octets(*address), octets(*address)].concat(),
            Key::Endpoint(_, group, slot) | Key::Identity(_, group, slot) => {
                [group.to_ne_bytes(), slot.to_ne_bytes()].concat()
            }
            Key::Frontend(_, frontend) => {
                let mut bytes = match frontend.target {
                    Target::Address(address) => octets(address),
                    Target::Node(_) => Vec::new(),
                };
                bytes.extend_from_slice(&[frontend.protocol as u8, 0, 0, 0]);
                bytes.extend_from_slice(&padded(frontend.port));
                bytes
            }
        }
    }
}

impl Content {
    pub fn value(&self, key: &Key) -> Value {
        match (self, key) {
            (Content::Present, _) => Value::Nothing,
            (Content::Group(number) | Content::Identity(number), _) => Value::Bytes(number.to_ne_bytes().to_vec()),
            (Content::Endpoint(address), _) => Value::Bytes(endpoint_bytes(*address)),
            (Content::Balance(balancer), _) => Value::Verdict(Verdict::goto(&balancer.name())),
            (Content::Drop, _) => Value::Verdict(Verdict::Drop),
            (Content::Refuse, _) => Value::Verdict(Verdict::goto("refuse")),
            (Content::Dns, _) => Value::Verdict(Verdict::goto("dns")),
            (Content::ByPlace, Key::Frontend(_, frontend)) => {
                let node = if matches!(frontend.target, Target::Node(_)) { "node-" } else { "" };
                Value::Verdict(Verdict::goto(&format!("{node}by-place{}", frontend.family().digit())))
            }
            (Content::ByPlace, _) => Value::Nothing,
        }
    }
}

/// An endpoint as register bytes: address, port, padding.
fn endpoint_bytes(address: SocketAddr) -> Vec<u8> {
    let mut bytes = octets(address.ip());
    bytes.extend_from_slice(&padded(address.port()));
    bytes
}

pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

impl fmt::Display for Frontend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Target::Address(address) = self.target {
            write!(formatter, "{address} . ")?;
        }
        write!(formatter, "{} . {}", self.protocol.name(), self.port)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.set().unwrap_or_default();
        match self {
            Key::Chain(balancer) => write!(formatter, "chain {}", balancer.name()),
            Key::Hairpin(address) => write!(formatter, "{set} {address} . {address}"),
            Key::Endpoint(_, group, slot) | Key::Identity(_, group, slot) => {
                write!(formatter, "{set} {group} . {slot}")
            }
            Key::Frontend(_, frontend) => write!(formatter, "{set} {frontend}"),
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Present => Ok(()),
            Content::Endpoint(SocketAddr::V4(address)) => write!(formatter, " : {} . {}", address.ip(), address.port()),
            Content::Endpoint(SocketAddr::V6(address)) => write!(formatter, " : {} . {}", address.ip(), address.port()),
            Content::Group(number) | Content::Identity(number) => write!(formatter, " : {number}"),
            Content::Balance(balancer) => write!(formatter, " : goto {}", balancer.name()),
            Content::ByPlace => formatter.write_str(" : goto by-place"),
            Content::Dns => formatter.write_str(" : goto dns"),
            Content::Refuse => formatter.write_str(" : goto refuse"),
            Content::Drop => formatter.write_str(" : drop"),
        }
    }
}
