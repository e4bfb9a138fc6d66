//! The node in this process: its instance id, its directories, its network.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use coracle_base::crypto;
use coracle_network::{DnsConfig, Prefix};

use crate::cidr::Cidr;
use crate::components::{Parts, user};
use crate::config::{Config, NodeConfig, Part};
use crate::data_directory::{read_optional, write_private};
use crate::error::Error;

/// What the node calls its own, outside of the data directory too.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Part of every name of an interface, cgroup or socket.
    pub id: String,
    /// `<data>/agent`
    pub directory: PathBuf,
    /// `/run/coracle-<id>`
    pub runtime: PathBuf,
}

impl Instance {
    /// The data directory's own id, made once, so that several servers on one machine share nothing.
    pub fn open(data: &Path) -> Result<Self, Error> {
        let directory = data.join("agent");
        make(&directory)?;
        let path = directory.join("instance");
        let id = match read_optional(&path)? {
            Some(id) => id.trim().to_owned(),
            None => {
                let id = crypto::random_hex::<4>();
                write_private(&path, id.as_bytes())?;
                id
            }
        };
        let runtime = PathBuf::from(format!("/run/coracle-{id}"));
        make(&runtime)?;
        Ok(Self { id, directory, runtime })
    }

    pub fn cni_socket(&self) -> PathBuf {
        self.runtime.join("cni.sock")
    }
}

fn make(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(path);
    made.map_err(Error::file("create the directory", path))
}

/// Pod networking, Services and DNS, until shutdown.
pub async fn network(config: coracle_network::NetworkConfig, parts: Parts) -> anyhow::Result<()> {
    let source = parts.server.source(user("system:kube-proxy"));
    let running = coracle_network::run(config, source, parts.shutdown.child()).await.context("the node's network")?;
    running.ended().await;
    Ok(())
}

/// What the node's network is told.
pub fn network_config(config: &Config, node: &NodeConfig, instance: &Instance) -> coracle_network::NetworkConfig {
    let prefixes = |ranges: &[Cidr]| ranges.iter().map(prefix).collect::<Vec<_>>();
    let disabled = |part| config.disable.contains(&part);
    let dns = DnsConfig {
        addresses: config.network.cluster_dns.clone(),
        domain: config.network.cluster_domain.as_str().into(),
        resolv_conf: resolv_conf(node),
    };
    coracle_network::NetworkConfig {
        instance: instance.id.as_str().into(),
        node_name: node.name.as_str().into(),
        zone: "".into(),
        node_ips: node.addresses.clone(),
        pod_ranges: config.network.cluster_cidr.iter().map(first_of_node).collect(),
        cluster_ranges: prefixes(&config.network.cluster_cidr),
        service_ranges: prefixes(&config.network.service_cidr),
        dns: (!disabled(Part::Dns)).then_some(dns),
        cni_socket: (!disabled(Part::Network)).then(|| instance.cni_socket()),
        state_directory: instance.directory.join("network"),
        services: !disabled(Part::KubeProxy),
    }
}

fn prefix(cidr: &Cidr) -> Prefix {
    Prefix { address: cidr.address(), length: cidr.prefix() }
}

/// A node takes a /24 or /64 of the cluster's range, as in k3s; the only node takes the first.
fn first_of_node(cidr: &Cidr) -> Prefix {
    let own = if cidr.is_ipv4() { 24 } else { 64 };
    Prefix { address: cidr.address(), length: own.max(cidr.prefix()) }
}

/// What pods and the DNS forwarder read; systemd-resolved's stub on a loopback address would mean nothing to a pod.
pub fn resolv_conf(node: &NodeConfig) -> PathBuf {
    const OWN: &str = "/etc/resolv.conf";
    const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
    if let Some(given) = &node.resolv_conf {
        return given.clone();
    }
    let text = fs::read_to_string(OWN).unwrap_or_default();
    let mut servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")).map(str::trim).peekable();
    let only_loopback = servers.peek().is_some()
        && servers.all(|server| server.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()));
    if only_loopback && Path::new(RESOLVED).exists() { RESOLVED.into() } else { OWN.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_takes_the_first_part_of_the_range() {
        let of = |text: &str| first_of_node(&text.parse().unwrap());
        assert_eq!((of("10.42.0.0/16").length, of("10.42.0.0/28").length, of("fd00::/48").length), (24, 28, 64));
    }
}
