//! Connection tracking: UDP flows that lead to endpoints that are gone are deleted, else a busy client never comes to another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::netlink::message::{SUBSYSTEM_CTNETLINK, attribute, message};
use crate::netlink::{KernelError, NetlinkSocket};
use crate::services::Family;
use crate::services::element::{Frontend, Target};
use crate::views::Protocol;

/// linux/netfilter/nfnetlink_conntrack.h
const GET: u16 = (SUBSYSTEM_CTNETLINK << 8) | 1;
const DELETE: u16 = (SUBSYSTEM_CTNETLINK << 8) | 2;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const NESTED: u16 = 0x8000;

/// Frontends and the endpoints that they lead to now.
pub type Live = BTreeMap<Frontend, BTreeSet<SocketAddr>>;

/// Deletes UDP flows to `live`'s frontends that lead elsewhere than to their endpoints. Returns how many. `own` are the node's addresses,
/// for node ports.
pub fn clean_udp(socket: &mut NetlinkSocket, live: &Live, own: &[IpAddr]) -> Result<usize, KernelError> {
    let mut stale = Vec::new();
    for family in Family::BOTH {
        if !live.keys().any(|frontend| frontend.family() == family) {
            continue;
        }
        let mut request = Vec::new();
        message(&mut request, GET, REQUEST | DUMP, 1, family.number(), 0, |_| ());
        socket.request(&request, |received| {
            let Some(body) = received.payload.get(4..) else { return };
            if is_stale(body, live, own) == Some(true)
                && let Some(tuple) = attribute(body, TUPLE_ORIGINAL)
            {
                stale.push((family, tuple.to_vec()));
            }
        })?;
    }
    for (family, tuple) in &stale {
        let mut request = Vec::new();
        message(&mut request, DELETE, REQUEST | ACKNOWLEDGE, 2, family.number(), 0, |attributes| {
            attributes.bytes(TUPLE_ORIGINAL | NESTED, tuple);
        });
        match socket.request(&request, |_| ()) {
            Err(error) if error.errno() == Some(libc::ENOENT) => (),
            result => result?,
        }
    }
    Ok(stale.len())
}

/// `None` for what is no UDP flow.
fn is_stale(body: &[u8], live: &Live, own: &[IpAddr]) -> Option<bool> {
    let (_, original, protocol) = tuple(attribute(body, TUPLE_ORIGINAL)?)?;
    let (answering, ..) = tuple(attribute(body, TUPLE_REPLY)?)?;
    if protocol != Protocol::Udp as u8 {
        return None;
    }
    let address = Frontend::address(original.ip(), Protocol::Udp, original.port());
    let endpoints = live.get(&address).or_else(|| {
        let node = Frontend { target: Target::Node(Family::of(original.ip())), ..address };
        own.contains(&original.ip()).then(|| live.get(&node)).flatten()
    })?;
    Some(!endpoints.contains(&answering))
}

/// Source, destination and protocol.
fn tuple(attributes: &[u8]) -> Option<(SocketAddr, SocketAddr, u8)> {
    let (addresses, transport) = (attribute(attributes, 1)?, attribute(attributes, 2)?);
    let address = |v4: u16, v6: u16| -> Option<IpAddr> {
        if let Some(bytes) = attribute(addresses, v4) {
            return Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into());
        }
        Some(Ipv6Addr::from(<[u8; 16]>::try_from(attribute(addresses, v6)?).ok()?).into())
    };
    let port = |kind: u16| -> Option<u16> { Some(u16::from_be_bytes(attribute(transport, kind)?.try_into().ok()?)) };
    let protocol = *attribute(transport, 1)?.first()?;
    Some((SocketAddr::new(address(1, 3)?, port(2)?), SocketAddr::new(address(2, 4)?, port(3)?), protocol))
}
