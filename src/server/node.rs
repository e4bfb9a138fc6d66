//! The node in this process: its instance id, its directories, its network.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use coracle_agent::config::dns::ClusterDns;
use coracle_agent::node::{Registration, Taint};
use coracle_agent::node_server::{NodeServer, Trust};
use coracle_agent::{Agent, AgentConfig};
use coracle_apiserver::authn::{MASTERS, NODES, User, certificate};
use coracle_base::crypto;
use coracle_base::shutdown::Shutdown;
use coracle_base::task::{self, Task};
use coracle_network::{DnsConfig, Prefix};
use tokio::net::TcpListener;

use crate::cidr::Cidr;
use crate::components::{self, Parts, user};
use crate::config::{Config, NodeConfig, Part};
use crate::data_directory::{read_optional, write_private};
use crate::error::Error;
use crate::pod_directories::PodDirectories;
use crate::tls::Tls;

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

/// The agent's port.
const PORT: u16 = 10250;
const MAX_PODS: u32 = 110;

/// The agent, until shutdown; containers go on.
pub async fn agent(config: AgentConfig, parts: Parts) -> anyhow::Result<()> {
    let name = config.registration.name.clone();
    let own = Arc::new(User::new(format!("system:node:{name}"), &[NODES]));
    let (source, client) = (parts.server.source(own.clone()), components::client(&parts.server, own));
    let agent = Agent::run(config, source, client, parts.shutdown.child()).await.context("the node's agent")?;
    let server = NodeServer::new(agent.handle.cri().clone());
    let piped = server.clone();
    parts.dialer.set_node(
        name,
        Arc::new(move |stream| {
            let server = piped.clone();
            Box::pin(server.serve(stream, Trust::Full))
        }),
    );
    let listening = match (&parts.config.node, &parts.node_tls) {
        (Some(node), Some(tls)) => listen(node, &server, tls, &parts.shutdown).await,
        _ => Vec::new(),
    };
    agent.stopped().await;
    drop(listening);
    Ok(())
}

/// Opens the node's port on its addresses. The API server in this process does without it, so one that is not to be had (a second
/// server on this machine, a kubelet) costs outside callers only.
async fn listen(node: &NodeConfig, server: &NodeServer, tls: &Tls, shutdown: &Shutdown) -> Vec<Task<()>> {
    let mut listening = Vec::new();
    for address in &node.addresses {
        let address = SocketAddr::new(*address, PORT);
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let serving = server.clone().listen(listener, tls.config(), trusted, shutdown.child());
                listening.push(task::spawn("node port", serving));
            }
            Err(error) => tracing::warn!(
                %address, %error,
                "the node's port cannot be opened; logs and exec work through the API server, metrics collectors get nothing"
            ),
        }
    }
    listening
}

/// Whether a certificate that our authority signed is an administrator's or an API server's: both are of this group.
fn trusted(certificate: &[u8]) -> bool {
    certificate::user(certificate).is_some_and(|user| user.groups.iter().any(|group| group == MASTERS))
}

/// What the agent is told. Makes the CNI plugin directory and configuration where pods' networking is ours.
pub fn agent_config(config: &Config, node: &NodeConfig, instance: &Instance) -> Result<AgentConfig, Error> {
    let (cni_config, cni_binaries) = match config.disable.contains(&Part::Network) {
        true => ("/etc/cni/net.d".into(), "/opt/cni/bin".into()),
        false => cni(instance)?,
    };
    let directories = PodDirectories::of(&config.data_dir);
    let dns = match config.disable.contains(&Part::Dns) {
        true => Vec::new(),
        false => config.network.cluster_dns.iter().map(ToString::to_string).collect(),
    };
    let socket = node.container_runtime_endpoint.as_deref();
    Ok(AgentConfig {
        registration: Registration {
            name: node.name.clone(),
            addresses: node.addresses.clone(),
            pod_cidrs: config
                .network
                .cluster_cidr
                .iter()
                .map(|cidr| {
                    let own = first_of_node(cidr);
                    format!("{}/{}", own.address, own.length)
                })
                .collect(),
            labels: node.labels.clone(),
            taints: node.taints.iter().map(|taint| taint_of(taint)).collect(),
            storage: instance.directory.clone(),
            max_pods: MAX_PODS,
            kubelet_port: PORT,
        },
        directory: instance.directory.clone(),
        kubelet_directory: directories.kubelet,
        log_directory: directories.logs,
        instance: instance.id.clone(),
        runtime_socket: socket.map(|socket| socket.strip_prefix("unix://").unwrap_or(socket).into()),
        runtime_programs: node.runtime_programs.clone(),
        cni_config,
        cni_binaries,
        registries: PathBuf::new(),
        cluster_dns: ClusterDns { servers: dns, domain: config.network.cluster_domain.clone() },
    })
}

/// Our plugin's configuration and executables, for containerd.
fn cni(instance: &Instance) -> Result<(PathBuf, PathBuf), Error> {
    let (configuration, binaries) = (instance.directory.join("cni/net.d"), instance.directory.join("cni/bin"));
    let own = std::env::current_exe().map_err(Error::file("find the executable of", "/proc/self/exe"))?;
    coracle_network::cni::install_plugins(&binaries, &own).map_err(Error::file("write", &binaries))?;
    coracle_network::cni::write_conf(&configuration, &instance.id, &instance.cni_socket())
        .map_err(Error::file("write", &configuration))?;
    Ok((configuration, binaries))
}

/// `key=value:effect` or `key:effect`.
fn taint_of(text: &str) -> Taint {
    let (key, effect) = text.rsplit_once(':').unwrap_or((text, "NoSchedule"));
    let (key, value) = key.split_once('=').unwrap_or((key, ""));
    Taint { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() }
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
