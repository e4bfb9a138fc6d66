//! rtnetlink: the few requests that pods need (links, addresses, routes, neighbours), synchronous.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::message::{Attributes, attribute, attributes, plain_message};
use super::{KernelError, NetlinkSocket};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const NEW_NEIGHBOUR: u16 = 28;
const DELETE_NEIGHBOUR: u16 = 29;

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
const REPLACE: u16 = 0x100;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;

/// Routes of ours are marked with this protocol number (rtm_protocol), unused by routing daemons.
pub const PROTOCOL: u8 = 67;

pub type Mac = [u8; 6];

/// A link as the kernel lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: Box<str>,
    pub alias: Box<str>,
    pub mtu: u32,
}

/// One end of a veth pair to create.
#[derive(Debug, Clone)]
pub struct VethEnd<'a> {
    pub name: &'a str,
    pub mac: Mac,
}

/// A VXLAN link to create, which learns nothing.
#[derive(Debug, Clone)]
pub struct Vxlan<'a> {
    pub name: &'a str,
    /// The network's number (VNI).
    pub id: u32,
    /// Source of the outer packets.
    pub local: IpAddr,
    /// UDP port of the outer packets.
    pub port: u16,
    pub mac: Mac,
    pub mtu: u32,
}

/// A route of the main table (or the local one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub destination: IpAddr,
    pub length: u8,
    /// 0 leaves it to the gateway's own route.
    pub link: u32,
    pub gateway: Option<IpAddr>,
    /// Source address of the machine's own packets.
    pub source: Option<IpAddr>,
    /// The machine takes the packets itself, as for an address of its own.
    pub local: bool,
}

/// A NETLINK_ROUTE socket of the network namespace in which it was opened.
pub struct RouteSocket {
    socket: NetlinkSocket,
}

impl RouteSocket {
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self { socket: NetlinkSocket::route()? })
    }

    fn change(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        fill: impl FnOnce(&mut Attributes<'_>),
    ) -> Result<(), KernelError> {
        let mut request = Vec::new();
        plain_message(&mut request, kind, REQUEST | ACKNOWLEDGE | flags, 1, body, fill);
        self.socket.request(&request, |_| ())
    }

    /// Creates both ends at once, the peer in its namespace. Fails with EEXIST when either name is taken.
    pub fn create_veth(
        &mut self,
        host: &VethEnd<'_>,
        alias: &str,
        peer: &VethEnd<'_>,
        namespace: BorrowedFd<'_>,
        mtu: u32,
    ) -> Result<(), KernelError> {
        let namespace = u32::try_from(namespace.as_raw_fd()).expect("a descriptor is not negative");
        self.change(NEW_LINK, CREATE | EXCLUSIVE, &link_body(0, 0, 0), |link| {
            link.string(3, host.name);
            link.bytes(1, &host.mac);
            link.native(4, mtu);
            link.nested(18, |info| {
                info.string(1, "veth");
                info.nested(2, |data| {
                    data.nested(1, |end| {
                        end.raw(&link_body(0, 0, 0));
                        end.string(3, peer.name);
                        end.bytes(1, &peer.mac);
                        end.native(4, mtu);
                        end.native(28, namespace);
                    });
                });
            });
        })?;
        let index = self.find(host.name)?.map(|link| link.index).unwrap_or_default();
        self.change(NEW_LINK, 0, &link_body(index, 0, 0), |link| link.string(20, alias))
    }

    /// Its index. Fails with EEXIST when the name is taken, or its port by a VXLAN of the same number.
    pub fn create_vxlan(&mut self, vxlan: &Vxlan<'_>, alias: &str) -> Result<u32, KernelError> {
        self.change(NEW_LINK, CREATE | EXCLUSIVE, &link_body(0, 0, 0), |link| {
            link.string(3, vxlan.name);
            link.bytes(1, &vxlan.mac);
            link.native(4, vxlan.mtu);
            link.nested(18, |info| {
                info.string(1, "vxlan");
                info.nested(2, |data| {
                    data.native(1, vxlan.id);
                    data.bytes(if vxlan.local.is_ipv4() { 4 } else { 17 }, &octets(vxlan.local));
                    data.u8(7, 0);
                    data.bytes(15, &vxlan.port.to_be_bytes());
                });
            });
        })?;
        let index = self.find(vxlan.name)?.map(|link| link.index).unwrap_or_default();
        self.change(NEW_LINK, 0, &link_body(index, 0, 0), |link| link.string(20, alias))?;
        Ok(index)
    }

    pub fn set_up(&mut self, index: u32) -> Result<(), KernelError> {
        self.change(NEW_LINK, 0, &link_body(index, 1, 1), |_| ())
    }

    /// `false` when there was no such link.
    pub fn delete_link(&mut self, name: &str) -> Result<bool, KernelError> {
        let deleted = self.change(DELETE_LINK, 0, &link_body(0, 0, 0), |link| link.string(3, name));
        found(deleted, libc::ENODEV)
    }

    pub fn links(&mut self) -> Result<Vec<Link>, KernelError> {
        let mut request = Vec::new();
        plain_message(&mut request, GET_LINK, REQUEST | DUMP, 1, &link_body(0, 0, 0), |_| ());
        let mut links = Vec::new();
        self.socket.request(&request, |message| links.extend(link(message.payload)))?;
        Ok(links)
    }

    pub fn find(&mut self, name: &str) -> Result<Option<Link>, KernelError> {
        let mut request = Vec::new();
        plain_message(&mut request, GET_LINK, REQUEST | ACKNOWLEDGE, 1, &link_body(0, 0, 0), |link| {
            link.string(3, name)
        });
        let mut known = None;
        let result = self.socket.request(&request, |message| known = link(message.payload));
        Ok(found(result, libc::ENODEV)?.then_some(known).flatten())
    }

    /// All addresses with the index of their link.
    pub fn addresses(&mut self) -> Result<Vec<(IpAddr, u32)>, KernelError> {
        let mut request = Vec::new();
        plain_message(&mut request, GET_ADDRESS, REQUEST | DUMP, 1, &[0; 8], |_| ());
        let mut addresses = Vec::new();
        self.socket.request(&request, |message| addresses.extend(address(message.payload)))?;
        Ok(addresses)
    }

    /// Adds (or keeps) an address; IPv6 without waiting for duplicates. `scope` is RT_SCOPE_UNIVERSE 0 or RT_SCOPE_HOST 254.
    pub fn add_address(&mut self, link: u32, address: IpAddr, length: u8, scope: u8) -> Result<(), KernelError> {
        const NO_DUPLICATE_DETECTION: u8 = 2;
        let flags = if address.is_ipv6() { NO_DUPLICATE_DETECTION } else { 0 };
        let body = address_body(address, length, flags, scope, link);
        self.change(NEW_ADDRESS, CREATE | REPLACE, &body, |attributes| {
            attributes.bytes(2, &octets(address));
            attributes.bytes(1, &octets(address));
        })
    }

    /// Adds a route, or replaces the one to the same destination.
    pub fn add_route(&mut self, route: &Route) -> Result<(), KernelError> {
        self.change(NEW_ROUTE, CREATE | REPLACE, &route_body(route), |attributes| route_attributes(route, attributes))
    }

    /// `false` when there was none.
    pub fn delete_route(&mut self, route: &Route) -> Result<bool, KernelError> {
        let deleted =
            self.change(DELETE_ROUTE, 0, &route_body(route), |attributes| route_attributes(route, attributes));
        found(deleted, libc::ESRCH)
    }

    /// The routes that carry our protocol number.
    pub fn own_routes(&mut self) -> Result<Vec<Route>, KernelError> {
        let mut request = Vec::new();
        plain_message(&mut request, GET_ROUTE, REQUEST | DUMP, 1, &[0; 12], |_| ());
        let mut routes = Vec::new();
        self.socket.request(&request, |message| routes.extend(own_route(message.payload)))?;
        Ok(routes)
    }

    /// A permanent neighbour entry.
    pub fn add_neighbour(&mut self, link: u32, address: IpAddr, mac: Mac) -> Result<(), KernelError> {
        let body = neighbour_body(family(address), link, PERMANENT, 0);
        self.change(NEW_NEIGHBOUR, CREATE | REPLACE, &body, |attributes| {
            attributes.bytes(1, &octets(address));
            attributes.bytes(2, &mac);
        })
    }

    /// `false` when there was none.
    pub fn delete_neighbour(&mut self, link: u32, address: IpAddr) -> Result<bool, KernelError> {
        let body = neighbour_body(family(address), link, 0, 0);
        let deleted = self.change(DELETE_NEIGHBOUR, 0, &body, |attributes| attributes.bytes(1, &octets(address)));
        found(deleted, libc::ENOENT)
    }

    /// Frames to `mac` leave a VXLAN link towards `far`.
    pub fn add_forwarding(&mut self, link: u32, mac: Mac, far: IpAddr) -> Result<(), KernelError> {
        let body = neighbour_body(BRIDGE, link, PERMANENT | NO_ARP, SELF);
        self.change(NEW_NEIGHBOUR, CREATE | REPLACE, &body, |attributes| {
            attributes.bytes(1, &octets(far));
            attributes.bytes(2, &mac);
        })
    }

    /// `false` when there was none.
    pub fn delete_forwarding(&mut self, link: u32, mac: Mac, far: IpAddr) -> Result<bool, KernelError> {
        let body = neighbour_body(BRIDGE, link, 0, SELF);
        let deleted = self.change(DELETE_NEIGHBOUR, 0, &body, |attributes| {
            attributes.bytes(1, &octets(far));
            attributes.bytes(2, &mac);
        });
        found(deleted, libc::ENOENT)
    }
}

/// Of forwarding entries (AF_BRIDGE).
const BRIDGE: u8 = 7;
const PERMANENT: u16 = 0x80;
const NO_ARP: u16 = 0x40;
/// The entry is the link's own, not a bridge's above it.
const SELF: u8 = 2;

/// struct ndmsg
fn neighbour_body(family: u8, link: u32, state: u16, flags: u8) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 0];
    body.extend_from_slice(&link.to_ne_bytes());
    body.extend_from_slice(&state.to_ne_bytes());
    body.extend_from_slice(&[flags, 0]);
    body
}

fn found(result: Result<(), KernelError>, absent: i32) -> Result<bool, KernelError> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(absent) => Ok(false),
        Err(error) => Err(error),
    }
}

/// struct ifinfomsg
fn link_body(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&flags.to_ne_bytes());
    body.extend_from_slice(&change.to_ne_bytes());
    body
}

/// struct ifaddrmsg
fn address_body(address: IpAddr, length: u8, flags: u8, scope: u8, link: u32) -> Vec<u8> {
    let mut body = vec![family(address), length, flags, scope];
    body.extend_from_slice(&link.to_ne_bytes());
    body
}

const TABLE_MAIN: u8 = 254;
const TABLE_LOCAL: u8 = 255;
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;

/// struct rtmsg
fn route_body(route: &Route) -> Vec<u8> {
    let scope = match (route.local, route.destination) {
        (true, _) => SCOPE_HOST,
        (false, IpAddr::V4(_)) if route.gateway.is_none() => SCOPE_LINK,
        _ => 0,
    };
    let (table, kind) = if route.local { (TABLE_LOCAL, LOCAL) } else { (TABLE_MAIN, UNICAST) };
    let mut body = vec![family(route.destination), route.length, 0, 0, table, PROTOCOL, scope, kind];
    // A gateway inside of its own destination can only be on the link.
    let on_link = route.gateway.is_some_and(|gateway| gateway == route.destination);
    body.extend_from_slice(&if on_link { ON_LINK } else { 0 }.to_ne_bytes());
    body
}

const ON_LINK: u32 = 4;

/// Ours only: by their protocol number.
fn own_route(payload: &[u8]) -> Option<Route> {
    let header = payload.get(..12)?;
    let any = match i32::from(header[0]) {
        libc::AF_INET => IpAddr::from([0; 4]),
        libc::AF_INET6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    if header[5] != PROTOCOL {
        return None;
    }
    let local = header[7] == LOCAL;
    let mut route = Route { destination: any, length: header[1], link: 0, gateway: None, source: None, local };
    for (kind, value) in attributes(&payload[12..]) {
        match kind {
            1 => route.destination = parse(value)?,
            4 => route.link = u32::from_ne_bytes(value.try_into().ok()?),
            5 => route.gateway = parse(value),
            7 => route.source = parse(value),
            _ => (),
        }
    }
    Some(route)
}

fn parse(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    }
}

fn route_attributes(route: &Route, attributes: &mut Attributes<'_>) {
    if route.length > 0 {
        attributes.bytes(1, &octets(route.destination));
    }
    if route.link != 0 {
        attributes.native(4, route.link);
    }
    if let Some(gateway) = route.gateway {
        attributes.bytes(5, &octets(gateway));
    }
    if let Some(source) = route.source {
        attributes.bytes(7, &octets(source));
    }
}

fn link(payload: &[u8]) -> Option<Link> {
    let index = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let mut link = Link { index, ..Link::default() };
    for (kind, value) in attributes(payload.get(16..)?) {
        match kind {
            3 => link.name = text(value),
            4 => link.mtu = u32::from_ne_bytes(value.try_into().ok()?),
            20 => link.alias = text(value),
            _ => (),
        }
    }
    Some(link)
}

fn address(payload: &[u8]) -> Option<(IpAddr, u32)> {
    let index = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let body = payload.get(8..)?;
    let bytes = attribute(body, 2).or_else(|| attribute(body, 1))?;
    Some((parse(bytes)?, index))
}

fn text(value: &[u8]) -> Box<str> {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into()
}

fn family(address: IpAddr) -> u8 {
    u8::try_from(if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }).expect("address families are small")
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
