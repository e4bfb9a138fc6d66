//! What a server is told: plain values, resolved and validated by the command line.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::cidr::Cidr;

/// Of the installed service.
pub const DEFAULT_DATA_DIRECTORY: &str = "/var/lib/coracle";

#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The machine's name.
    pub host: String,
    pub data_dir: PathBuf,
    pub write_kubeconfig: PathBuf,
    /// Permission bits.
    pub write_kubeconfig_mode: u32,
    /// Every address of the machine when `None`.
    pub bind_address: Option<IpAddr>,
    pub https_listen_port: u16,
    /// Where others reach this server; the endpoint of the Service `kubernetes`.
    pub advertise_address: IpAddr,
    /// More names and addresses for the serving certificate.
    pub tls_san: Vec<String>,
    /// The whole join token or its secret; made on first start when `None`.
    pub token: Option<String>,
    pub network: NetworkConfig,
    pub disable: BTreeSet<Part>,
    /// `None` with `--disable-agent`.
    pub node: Option<NodeConfig>,
}

/// The cluster's networks; one per address family.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkConfig {
    pub cluster_cidr: Vec<Cidr>,
    pub service_cidr: Vec<Cidr>,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// First and last.
    pub service_node_ports: (u16, u16),
    /// How nodes reach each other's pods.
    pub backend: coracle_network::Backend,
}

impl NetworkConfig {
    /// The address of the Service `kubernetes`: the first one.
    pub fn api_server(&self) -> Option<IpAddr> {
        self.service_cidr.first().and_then(|cidr| cidr.nth(1))
    }
}

/// What an agent is told: a machine that joins others' cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinConfig {
    /// `https://host:port`
    pub server: String,
    /// Needed until the node has a certificate.
    pub token: Option<String>,
    pub data_dir: PathBuf,
    pub node: NodeConfig,
}

/// The node in this process.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeConfig {
    pub name: String,
    /// One per address family, the preferred one first.
    pub addresses: Vec<IpAddr>,
    pub labels: Vec<(String, String)>,
    /// `key=value:effect` as on the command line.
    pub taints: Vec<String>,
    /// A CRI socket; `None` to start a containerd of our own.
    pub container_runtime_endpoint: Option<String>,
    /// Directory of containerd, its shim and runc; `None` for those on PATH.
    pub runtime_programs: Option<PathBuf>,
    /// `registries.yaml`, which need not be there.
    pub private_registry: PathBuf,
    pub resolv_conf: Option<PathBuf>,
}

/// Parts that `--disable` takes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Dns,
    /// Pod networking and with it the CNI plugin.
    Network,
    /// Services in the kernel.
    KubeProxy,
}
