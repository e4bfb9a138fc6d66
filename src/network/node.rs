//! What the node's network namespace needs besides links and table: forwarding, and routes for addresses that no interface has.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use crate::cni::link;
use crate::netlink::KernelError;
use crate::netlink::route::{Route, RouteSocket};
use crate::overlay;
use crate::services::{Family, Prefix, table};

/// Index of `lo` in every network namespace.
const LOOPBACK: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(
        "IP forwarding cannot be switched on, {0} is not to be written: set it to 1 before coracle starts, or run as root where /proc/sys is writable"
    )]
    Forwarding(String, #[source] std::io::Error),
    #[error("routes")]
    Routes(#[from] KernelError),
}

/// Makes the machine forward, leads the Services' ranges to `lo` (so that the machine's own packets reach the output hook without a
/// default route), and takes `own` (the cluster's DNS) as addresses of the machine without giving them to an interface.
pub fn prepare(services: &[Prefix], own: &[IpAddr], node_ips: &[IpAddr]) -> Result<(), NodeError> {
    forward()?;
    let mut socket = RouteSocket::open()?;
    let of_family = |address: IpAddr| node_ips.iter().copied().find(|node| Family::of(*node) == Family::of(address));
    for range in services {
        let Some(source) = of_family(range.address) else { continue };
        let (destination, length) = (range.address, range.length);
        let route = Route { destination, length, link: LOOPBACK, gateway: None, source: Some(source), local: false };
        socket.add_route(&route)?;
    }
    for address in own {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let destination = *address;
        socket.add_route(&Route { destination, length, link: LOOPBACK, gateway: None, source: None, local: true })?;
    }
    Ok(())
}

fn forward() -> Result<(), NodeError> {
    // Where it is right already it may be read-only.
    let set = |path: &str, value: &str| match fs::read_to_string(path) {
        Ok(present) if present.trim() == value => Ok(()),
        _ => fs::write(path, value).map_err(|error| NodeError::Forwarding(path.to_owned(), error)),
    };
    set("/proc/sys/net/ipv4/ip_forward", "1")?;
    let all = "/proc/sys/net/ipv6/conf/all/forwarding";
    let Ok(forwarding) = fs::read_to_string(all) else { return Ok(()) };
    if forwarding.trim() == "1" {
        return Ok(());
    }
    // A forwarding machine ignores router advertisements unless told otherwise, and would lose its default route.
    for interface in fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten() {
        let accept = interface.path().join("accept_ra");
        if fs::read_to_string(&accept).is_ok_and(|value| value.trim() == "1") {
            let _ = fs::write(&accept, "2");
        }
    }
    set(all, "1")
}

/// The MTU of the link that has one of these addresses; 1500 when none has.
pub fn mtu(node_ips: &[IpAddr]) -> Result<u32, KernelError> {
    let mut socket = RouteSocket::open()?;
    let addresses = socket.addresses()?;
    let link = addresses.iter().find(|(address, _)| node_ips.contains(address)).map(|(_, link)| *link);
    let links = socket.links()?;
    Ok(links.iter().find(|known| Some(known.index) == link && known.index != LOOPBACK).map_or(1500, |link| link.mtu))
}

/// Removes what this instance has in the network namespace: table, links, routes; and its socket's directory. What is not there is fine.
pub fn cleanup(instance: &str) -> Result<(), NodeError> {
    table::remove()?;
    overlay::cleanup(instance)?;
    let mut socket = RouteSocket::open()?;
    for link in link::host_ends(instance)? {
        socket.delete_link(&link.name)?;
    }
    for route in socket.own_routes()?.iter().filter(|route| route.link == LOOPBACK) {
        socket.delete_route(route)?;
    }
    let _ = fs::remove_file(Path::new("/run").join(format!("coracle-{instance}")).join("cni.sock"));
    Ok(())
}
