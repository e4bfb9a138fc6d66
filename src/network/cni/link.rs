//! A pod's link: a veth whose host end is routed, made without a bridge.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sched::{CloneFlags, setns};

use super::protocol::CniError;
use crate::netlink::KernelError;
use crate::netlink::route::{Link, Mac, Route, RouteSocket, VethEnd};

/// Every pod's gateway; no interface has the address, the neighbour entry is permanent.
pub const GATEWAY4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Of every host end, so that pods keep their neighbour entries.
pub const HOST_MAC: Mac = [0xee; 6];

pub fn gateway(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { GATEWAY4.into() } else { GATEWAY6.into() }
}

/// Locally administered, unique by the pod's first address.
pub fn pod_mac(addresses: &[IpAddr]) -> Mac {
    let tail: [u8; 4] = match addresses.first() {
        Some(IpAddr::V4(address)) => address.octets(),
        Some(IpAddr::V6(address)) => {
            let octets = address.octets();
            [octets[12], octets[13], octets[14], octets[15]]
        }
        None => [0; 4],
    };
    [0x0a, 0x58, tail[0], tail[1], tail[2], tail[3]]
}

pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// `c`, six characters of the instance, eight of the attachment: an interface's name has fifteen at most.
pub fn host_name(instance: &str, attachment: &str) -> String {
    let hash = coracle_base::crypto::hex(&coracle_base::crypto::sha256(attachment.as_bytes())[..4]);
    let instance: String = instance.chars().filter(char::is_ascii_alphanumeric).take(6).collect();
    format!("c{instance}{hash}")
}

/// What host ends carry as alias; by it `cleanup` knows them.
pub fn alias(instance: &str) -> String {
    format!("coracle-{instance}")
}

/// What a link is made of.
pub struct Plan<'a> {
    pub instance: &'a str,
    pub host_name: &'a str,
    pub pod_name: &'a str,
    pub addresses: &'a [IpAddr],
    pub mtu: u32,
}

/// Creates the link. When it fails the caller deletes what there is of it.
pub fn create(plan: &Plan<'_>, namespace: BorrowedFd<'_>) -> Result<(), CniError> {
    let mut host = RouteSocket::open().map_err(failed("netlink"))?;
    let pod_mac = pod_mac(plan.addresses);
    host.delete_link(plan.host_name).map_err(failed("former link"))?;
    host.create_veth(
        &VethEnd { name: plan.host_name, mac: HOST_MAC },
        &alias(plan.instance),
        &VethEnd { name: plan.pod_name, mac: pod_mac },
        namespace,
        plan.mtu,
    )
    .map_err(failed("veth"))?;
    inside(namespace, || pod_end(plan))??;

    let link = host.find(plan.host_name).map_err(failed("host end"))?.ok_or_else(|| gone(plan.host_name))?;
    // No other machine is on this link: addresses need no check, and packets come by its routes only.
    set(&format!("/proc/sys/net/ipv6/conf/{}/accept_dad", plan.host_name), "0");
    set(&format!("/proc/sys/net/ipv6/conf/{}/accept_ra", plan.host_name), "0");
    set(&format!("/proc/sys/net/ipv4/conf/{}/rp_filter", plan.host_name), "1");
    host.set_up(link.index).map_err(failed("host end"))?;
    for address in plan.addresses {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let route =
            Route { destination: *address, length, link: link.index, gateway: None, source: None, local: false };
        host.add_route(&route).map_err(failed("route"))?;
        host.add_neighbour(link.index, *address, pod_mac).map_err(failed("neighbour"))?;
    }
    Ok(())
}

/// Runs in the pod's namespace.
fn pod_end(plan: &Plan<'_>) -> Result<(), CniError> {
    let mut socket = RouteSocket::open().map_err(failed("netlink"))?;
    set("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
    set(&format!("/proc/sys/net/ipv6/conf/{}/accept_dad", plan.pod_name), "0");
    set(&format!("/proc/sys/net/ipv6/conf/{}/accept_ra", plan.pod_name), "0");
    socket.set_up(1).map_err(failed("lo"))?;
    let link = socket.find(plan.pod_name).map_err(failed("pod end"))?.ok_or_else(|| gone(plan.pod_name))?;
    socket.set_up(link.index).map_err(failed("pod end"))?;
    for address in plan.addresses {
        let gateway = gateway(*address);
        let (length, any) = if address.is_ipv4() {
            (32, IpAddr::from(Ipv4Addr::UNSPECIFIED))
        } else {
            (128, IpAddr::from(Ipv6Addr::UNSPECIFIED))
        };
        socket.add_address(link.index, *address, length, 0).map_err(failed("address"))?;
        socket.add_neighbour(link.index, gateway, HOST_MAC).map_err(failed("neighbour"))?;
        if address.is_ipv4() {
            let route =
                Route { destination: gateway, length, link: link.index, gateway: None, source: None, local: false };
            socket.add_route(&route).map_err(failed("gateway"))?;
        }
        let route = Route {
            destination: any,
            length: 0,
            link: link.index,
            gateway: Some(gateway),
            source: Some(*address),
            local: false,
        };
        socket.add_route(&route).map_err(failed("default route"))?;
    }
    Ok(())
}

/// Whether the pod's end is there with these addresses.
pub fn check(name: &str, addresses: &[IpAddr], namespace: BorrowedFd<'_>) -> Result<(), CniError> {
    inside(namespace, || {
        let mut socket = RouteSocket::open().map_err(failed("netlink"))?;
        let link = socket.find(name).map_err(failed("pod end"))?.ok_or_else(|| gone(name))?;
        let present = socket.addresses().map_err(failed("addresses"))?;
        match addresses.iter().find(|address| !present.contains(&(**address, link.index))) {
            Some(address) => Err(CniError::new(CniError::FAILED, format!("{name} does not have {address}"))),
            None => Ok(()),
        }
    })?
}

/// Deletes the host end, and with it the pod's; fine when it is gone.
pub fn delete(host_name: &str) -> Result<(), CniError> {
    let deleted = RouteSocket::open().and_then(|mut socket| socket.delete_link(host_name));
    deleted.map(|_| ()).map_err(failed("link"))
}

/// The host ends of this instance that are there.
pub fn host_ends(instance: &str) -> Result<Vec<Link>, KernelError> {
    let alias = alias(instance);
    let links = RouteSocket::open()?.links()?;
    Ok(links.into_iter().filter(|link| *link.alias == *alias).collect())
}

/// Runs `work` in another network namespace, on a thread that ends with it.
fn inside<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T, CniError> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|error| {
                CniError::new(CniError::FAILED, format!("the sandbox's network namespace: {error}"))
            })?;
            Ok(work())
        });
        thread.join().unwrap_or_else(|_| Err(CniError::new(CniError::FAILED, "a thread panicked")))
    })
}

/// Sysctls are set where the kernel has them (IPv6 may be off).
fn set(path: &str, value: &str) {
    if let Err(error) = fs::write(path, value) {
        tracing::debug!(path, %error, "sysctl is not set");
    }
}

fn failed(what: &'static str) -> impl Fn(KernelError) -> CniError {
    move |error| {
        let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        CniError::new(CniError::FAILED, format!("{what}: {error}{cause}"))
    }
}

fn gone(name: &str) -> CniError {
    CniError::new(CniError::FAILED, format!("interface {name} is gone"))
}
