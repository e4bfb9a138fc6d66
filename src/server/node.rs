//! The node in this process: its instance id, its directories, its network.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use coracle_agent::config::dns::ClusterDns;
use coracle_agent::node::{Registration, Taint};
use coracle_agent::node_server::NodeServer;
use coracle_agent::{Agent, AgentConfig};
use coracle_api::Resource;
use coracle_apiserver::authn::{MASTERS, certificate};
use coracle_base::backoff::{Backoff, Shape};
use coracle_base::crypto;
use coracle_base::shutdown::Shutdown;
use coracle_base::task::{self, Task};
use coracle_client::{ObjectEvent, ObjectSource, Project, Selection};
use coracle_network::overlay::NodeView;
use coracle_network::{DnsConfig, Prefix};
use futures::StreamExt;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpListener;

use crate::cidr::Cidr;
use crate::cluster::Cluster;
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

/// Makes a directory for root only.
pub fn make(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(path);
    made.map_err(Error::file("create the directory", path))
}

/// The agent's port.
const PORT: u16 = 10250;
const MAX_PODS: u32 = 110;

/// What a node is made of, wherever its server is.
#[derive(Debug, Clone)]
pub struct Setup {
    pub data_dir: PathBuf,
    pub cluster: Cluster,
    pub node: NodeConfig,
    pub instance: Instance,
}

impl Setup {
    /// The server's own node, where it has one.
    pub fn of(config: &Config, client_authority: &str) -> Result<Option<Self>, Error> {
        let Some(node) = config.node.clone() else { return Ok(None) };
        let instance = Instance::open(&config.data_dir)?;
        Ok(Some(Self {
            data_dir: config.data_dir.clone(),
            cluster: Cluster::of(config, client_authority),
            node,
            instance,
        }))
    }
}

/// The API as the node's parts use it.
pub struct Access {
    /// As `system:node:NAME`.
    pub agent: Arc<dyn ObjectSource>,
    /// For Services, endpoints and other nodes.
    pub network: Arc<dyn ObjectSource>,
    /// As `system:node:NAME`.
    pub client: kube::Client,
}

/// Network and agent, until shutdown; containers go on. `started` gets the node's server once it can answer.
pub async fn run(
    setup: Setup,
    access: Access,
    tls: Option<Arc<Tls>>,
    started: impl FnOnce(NodeServer),
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let Some(ranges) = shutdown.bound(ranges(&setup, &access)).await.transpose()? else { return Ok(()) };
    let network = network_config(&setup, &ranges);
    let network = coracle_network::run(network, access.network, shutdown.child()).await;
    let network = network.context("the node's network")?;
    let config = agent_config(&setup, &ranges)?;
    let agent = Agent::run(config, access.agent, access.client, shutdown.child()).await;
    let agent = agent.context("the node's agent")?;
    let server = NodeServer::new(agent.handle.clone());
    started(server.clone());
    let listening = match &tls {
        Some(tls) => listen(&setup.node.addresses, &server, tls, &shutdown).await,
        None => Vec::new(),
    };
    agent.stopped().await;
    drop(listening);
    network.ended().await;
    Ok(())
}

/// The node's own pod addresses: those it had, or those that the cluster gives to its Node, which is registered for it.
async fn ranges(setup: &Setup, access: &Access) -> anyhow::Result<Vec<Prefix>> {
    let path = setup.instance.directory.join("ranges");
    if let Some(text) = read_optional(&path)? {
        let known: Result<Vec<Prefix>, _> = text.lines().map(str::parse).collect();
        return known.with_context(|| format!("{} holds no address ranges: remove it", path.display()));
    }
    let registration = registration(setup, &[]);
    let mut backoff = Backoff::new(Shape::doubling(Duration::from_millis(50), Duration::from_secs(5)));
    while let Err(error) = coracle_agent::node::register(&registration, &access.client).await {
        tracing::warn!(%error, "node is not registered yet");
        tokio::time::sleep(backoff.next_delay()).await;
    }
    let nodes = Resource::find("", "v1", "nodes").context("nodes are not in the catalog")?;
    let fields = format!("metadata.name={}", setup.node.name);
    let mut events = access.agent.list_watch(&nodes, Selection { fields, ..Selection::default() });
    while let Some(event) = events.next().await {
        let Ok(ObjectEvent::Applied(node)) = event else { continue };
        let Some(given) = NodeView::project(&node).filter(|node| !node.ranges.is_empty()) else { continue };
        let lines: Vec<String> =
            given.ranges.iter().map(|range| format!("{}/{}\n", range.address, range.length)).collect();
        write_private(&path, lines.concat().as_bytes())?;
        return Ok(given.ranges.into_vec());
    }
    anyhow::bail!("the watch of the node's own Node ended")
}

/// Opens the node's port on its addresses. The API server in this process does without it, so one that is not to be had (a second
/// server on this machine, a kubelet) costs outside callers only.
pub async fn listen(addresses: &[IpAddr], server: &NodeServer, tls: &Arc<Tls>, shutdown: &Shutdown) -> Vec<Task<()>> {
    let mut listening = Vec::new();
    for address in addresses {
        let address = SocketAddr::new(*address, PORT);
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let judge = tls.clone();
                let trusted = Arc::new(move |chain: &[CertificateDer<'static>]| trusted(&judge, chain));
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

/// Whether our authority signed a client's certificate, and it is an administrator's or an API server's: both are of this group.
fn trusted(tls: &Tls, chain: &[CertificateDer<'static>]) -> bool {
    let Some((leaf, rest)) = chain.split_first() else { return false };
    tls.trusts(leaf, rest)
        && certificate::user(leaf).is_some_and(|user| user.groups.iter().any(|group| group == MASTERS))
}

/// What is said of the node when it registers.
fn registration(setup: &Setup, ranges: &[Prefix]) -> Registration {
    let node = &setup.node;
    Registration {
        name: node.name.clone(),
        addresses: node.addresses.clone(),
        pod_cidrs: ranges.iter().map(|range| format!("{}/{}", range.address, range.length)).collect(),
        labels: node.labels.clone(),
        taints: node.taints.iter().map(|taint| taint_of(taint)).collect(),
        storage: setup.instance.directory.clone(),
        max_pods: MAX_PODS,
        kubelet_port: PORT,
    }
}

/// What the agent is told. Makes the CNI plugin directory and configuration where pods' networking is ours.
fn agent_config(setup: &Setup, ranges: &[Prefix]) -> Result<AgentConfig, Error> {
    let (node, instance, network) = (&setup.node, &setup.instance, &setup.cluster.network);
    let (cni_config, cni_binaries) = match setup.cluster.disable.contains(&Part::Network) {
        true => ("/etc/cni/net.d".into(), "/opt/cni/bin".into()),
        false => cni(instance)?,
    };
    let directories = PodDirectories::of(&setup.data_dir);
    let dns = match setup.cluster.disable.contains(&Part::Dns) {
        true => Vec::new(),
        false => network.cluster_dns.iter().map(ToString::to_string).collect(),
    };
    let socket = node.container_runtime_endpoint.as_deref();
    Ok(AgentConfig {
        registration: registration(setup, ranges),
        directory: instance.directory.clone(),
        kubelet_directory: directories.kubelet,
        log_directory: directories.logs,
        instance: instance.id.clone(),
        runtime_socket: socket.map(|socket| socket.strip_prefix("unix://").unwrap_or(socket).into()),
        runtime_programs: node.runtime_programs.clone(),
        cni_config,
        cni_binaries,
        registries: node.private_registry.clone(),
        cluster_dns: ClusterDns { servers: dns, domain: network.cluster_domain.clone() },
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

/// What the node's network is told.
fn network_config(setup: &Setup, ranges: &[Prefix]) -> coracle_network::NetworkConfig {
    let (node, instance, network) = (&setup.node, &setup.instance, &setup.cluster.network);
    let prefixes = |ranges: &[Cidr]| ranges.iter().map(prefix).collect::<Vec<_>>();
    let disabled = |part| setup.cluster.disable.contains(&part);
    let dns = DnsConfig {
        addresses: network.cluster_dns.clone(),
        domain: network.cluster_domain.as_str().into(),
        resolv_conf: resolv_conf(node),
    };
    coracle_network::NetworkConfig {
        instance: instance.id.as_str().into(),
        node_name: node.name.as_str().into(),
        zone: "".into(),
        node_ips: node.addresses.clone(),
        pod_ranges: ranges.to_vec(),
        cluster_ranges: prefixes(&network.cluster_cidr),
        service_ranges: prefixes(&network.service_cidr),
        dns: (!disabled(Part::Dns)).then_some(dns),
        cni_socket: (!disabled(Part::Network)).then(|| instance.cni_socket()),
        state_directory: instance.directory.join("network"),
        backend: network.backend,
        services: !disabled(Part::KubeProxy),
    }
}

fn prefix(cidr: &Cidr) -> Prefix {
    Prefix { address: cidr.address(), length: cidr.prefix() }
}

/// The cluster's range, of which a node gets a /24 or /64, as in k3s.
pub fn range(cidr: &Cidr) -> coracle_controllers::node_ranges::Range {
    let own: u8 = if cidr.is_ipv4() { 24 } else { 64 };
    coracle_controllers::node_ranges::Range {
        address: cidr.address(),
        length: cidr.prefix(),
        node_length: own.max(cidr.prefix()),
    }
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
