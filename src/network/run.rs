//! The room's entry: one call starts everything a node's network needs.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use coracle_api::Resource;
use coracle_base::shutdown::Shutdown;
use coracle_base::task::{self, Task};
use coracle_client::{ObjectSource, View, Views};
use tokio::sync::watch;

use crate::cni::{Server, ServerConfig, ServerError};
use crate::dns::{Listeners, Resolver, Upstream, Zone};
use crate::netlink::KernelError;
use crate::node::{self, NodeError};
use crate::overlay::{self, Backend, NodeView, Own};
use crate::services::guard::Guard;
use crate::services::sync::{self, Sources};
use crate::services::{NodeFacts, Owner, Prefix, Table, TableConfig, plan};
use crate::views::{ServiceView, SliceView};

/// What a node's network is made from.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// The node instance's id: part of every name outside the data directory.
    pub instance: Box<str>,
    pub node_name: Box<str>,
    /// The node's label topology.kubernetes.io/zone, or empty.
    pub zone: Box<str>,
    /// At most one of each family counts as the source of the node's own packets to Services.
    pub node_ips: Vec<IpAddr>,
    /// This node's pods (spec.podCIDRs).
    pub pod_ranges: Vec<Prefix>,
    /// All pods of the cluster.
    pub cluster_ranges: Vec<Prefix>,
    pub service_ranges: Vec<Prefix>,
    /// `None` leaves DNS to others.
    pub dns: Option<DnsConfig>,
    /// Where the CNI plugin finds the agent: `/run/coracle-<id>/cni.sock`. `None` leaves pods to another CNI plugin.
    pub cni_socket: Option<PathBuf>,
    /// Where pod addresses are remembered.
    pub state_directory: PathBuf,
    /// How other nodes' pods are reached.
    pub backend: Backend,
    /// `false` leaves Services to another proxy.
    pub services: bool,
}

/// The cluster's DNS on this node.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// The cluster's DNS addresses, in the Services' ranges.
    pub addresses: Vec<IpAddr>,
    /// `cluster.local`
    pub domain: Box<str>,
    /// Names the upstream servers: usually `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("the node's network namespace")]
    Node(#[from] NodeError),
    #[error("{}", nftables_remedy(.0))]
    Table(#[from] KernelError),
    #[error("DNS sockets")]
    Dns(#[source] std::io::Error),
    #[error(transparent)]
    Cni(#[from] ServerError),
    #[error("{0} is not in the catalog")]
    NotServed(&'static str),
    #[error(transparent)]
    Task(#[from] task::TaskError),
}

/// What to do when the kernel does not take the table at all.
fn nftables_remedy(error: &KernelError) -> &'static str {
    match error.errno() {
        Some(libc::EPERM) => "nf_tables may not be changed here: run as root with CAP_NET_ADMIN",
        // No such socket, no such subsystem of it, no such kind of object in it.
        Some(libc::EPROTONOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT) => {
            "this kernel lacks nf_tables or a part of it (nat, reject, ct, numgen, fib): load the modules nf_tables, nft_chain_nat, \
             nft_reject_inet, nft_ct, nft_masq and nft_numgen, or use a kernel with them"
        }
        _ => "nf_tables",
    }
}

/// The network's tasks; they end when this is dropped, or after shutdown has begun. Links and table stay.
pub struct Running {
    installed: watch::Receiver<bool>,
    tasks: Vec<Task<()>>,
}

impl Running {
    /// Completes once the Services known to the API server are in the kernel. Pods can start before.
    pub async fn ready(&self) {
        // The sender lives in the task; when that is gone there is nothing to wait for.
        let _ = self.installed.clone().wait_for(|installed| *installed).await;
    }

    pub fn is_ready(&self) -> bool {
        *self.installed.borrow()
    }

    /// Completes once every task has ended, after shutdown has begun.
    pub async fn ended(self) {
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "network task ended");
            }
        }
    }
}

/// Prepares the network namespace and starts the tasks. When it returns, the CNI socket listens and DNS answers; a table is in the kernel:
/// an earlier process's until the present Services are known, or one that holds no Services yet.
pub async fn run(
    config: NetworkConfig,
    source: Arc<dyn ObjectSource>,
    shutdown: Shutdown,
) -> Result<Running, NetworkError> {
    let views = Views::new(source);
    let services: View<ServiceView> = views.view(&resource("", "services")?);
    let slices: View<SliceView> = views.view(&resource("discovery.k8s.io", "endpointslices")?);
    let nodes: View<NodeView> = views.view(&resource("", "nodes")?);
    let mut tasks = Vec::new();

    let dns_addresses = config.dns.as_ref().map(|dns| dns.addresses.clone()).unwrap_or_default();
    let mut table_config = TableConfig {
        pods: config.pod_ranges.clone(),
        cluster: config.cluster_ranges.clone(),
        services: if config.services { config.service_ranges.clone() } else { Vec::new() },
        dns: None,
    };
    let prepared = config.clone();
    task::blocking(move || {
        let ranges = if prepared.services { prepared.service_ranges.as_slice() } else { &[] };
        let dns = prepared.dns.as_ref().map(|dns| dns.addresses.as_slice()).unwrap_or_default();
        node::prepare(ranges, dns, &prepared.node_ips)
    })
    .await??;
    if let Some(dns) = &config.dns {
        let listeners = Listeners::bind(&dns.addresses).map_err(NetworkError::Dns)?;
        table_config.dns = Some(listeners.port);
        let ranges = [config.service_ranges.as_slice(), config.cluster_ranges.as_slice()].concat();
        let zone = Zone::new(&dns.domain, services.clone(), slices.clone(), ranges);
        let resolver = Resolver::new(zone, Upstream::new(&dns.resolv_conf, &dns.addresses));
        tasks.push(task::spawn("dns", listeners.run(Arc::new(resolver), shutdown.clone())));
    }
    let given = config.clone();
    let (table, guard, mtu) = task::blocking(move || {
        let table = Arc::new(Table::open(table_config)?);
        table.change(|ledger| ledger.set(&Owner::Dns, plan::dns(&dns_addresses)))?;
        if !table.exists()? {
            table.install()?;
        }
        let guard = Guard::new(table.clone())?;
        Ok::<_, NetworkError>((table, guard, node::mtu(&given.node_ips)?))
    })
    .await??;

    let own = Own {
        instance: config.instance.clone(),
        name: config.node_name.clone(),
        addresses: config.node_ips.clone(),
        ranges: config.pod_ranges.clone(),
        backend: if config.cni_socket.is_some() { config.backend } else { Backend::None },
        mtu,
    };
    let mtu = mtu - config.node_ips.first().map_or(0, |outer| own.backend.overhead(*outer));
    tasks.push(task::spawn("overlay", overlay::run(own, nodes, shutdown.clone())));
    tasks.push(task::spawn("table guard", guard.run(shutdown.clone())));
    let (sender, installed) = watch::channel(false);
    if let Some(socket) = config.cni_socket {
        let server = ServerConfig {
            instance: config.instance.clone(),
            socket,
            directory: config.state_directory.clone(),
            ranges: config.pod_ranges,
            mtu,
        };
        let (table, installed) = (table.clone(), installed.clone());
        let runtime = tokio::runtime::Handle::current();
        let server = task::blocking(move || {
            let _entered = runtime.enter();
            Server::start(server, table, installed)
        })
        .await??;
        tasks.push(task::spawn("cni", server.run(shutdown.clone())));
    }
    if config.services {
        let node = NodeFacts { name: config.node_name, zone: config.zone, addresses: config.node_ips };
        let sources = Sources { services, slices, node: Arc::new(node), table };
        tasks.push(task::spawn("services", sync::run(sources, sender, shutdown)));
    } else {
        task::blocking(move || table.install()).await??;
        sender.send_replace(true);
    }
    views.start();
    Ok(Running { installed, tasks })
}

fn resource(group: &'static str, plural: &'static str) -> Result<Resource, NetworkError> {
    Resource::find(group, "v1", plural).ok_or(NetworkError::NotServed(plural))
}

#[cfg(test)]
mod tests;
