//! What a machine must know of the cluster to be a node of it: the cluster's networks, the parts that are left out,
//! and whom its port may trust.
//!
//! Servers keep it as ConfigMap `coracle-cluster` in kube-system, which nodes may read.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::cidr::Cidr;
use crate::config::{Config, NetworkConfig, Part};

/// The ConfigMap's name; its only key is `cluster.json`.
pub const NAME: &str = "coracle-cluster";
pub const NAMESPACE: &str = "kube-system";
pub const KEY: &str = "cluster.json";

/// The same on every node.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    pub network: NetworkConfig,
    pub disable: BTreeSet<Part>,
    /// PEM; signs what the callers of a node's port show.
    pub client_authority: String,
}

impl Cluster {
    pub fn of(config: &Config, client_authority: &str) -> Self {
        Self {
            network: config.network.clone(),
            disable: config.disable.clone(),
            client_authority: client_authority.to_owned(),
        }
    }

    pub fn to_text(&self) -> String {
        let texts = |cidrs: &[Cidr]| cidrs.iter().map(ToString::to_string).collect();
        let written = Written {
            cluster_cidr: texts(&self.network.cluster_cidr),
            service_cidr: texts(&self.network.service_cidr),
            cluster_dns: self.network.cluster_dns.clone(),
            cluster_domain: self.network.cluster_domain.clone(),
            node_ports: self.network.service_node_ports,
            backend: self.network.backend,
            client_authority: self.client_authority.clone(),
            disable: PARTS
                .iter()
                .filter(|(_, part)| self.disable.contains(part))
                .map(|(name, _)| (*name).into())
                .collect(),
        };
        serde_json::to_string(&written).expect("texts and numbers have a JSON form")
    }

    /// `None` for what is not ours. Parts that this coracle does not know are skipped.
    pub fn from_text(text: &str) -> Option<Self> {
        let written: Written = serde_json::from_str(text).ok()?;
        let cidrs = |texts: &[String]| texts.iter().map(|text| text.parse().ok()).collect::<Option<Vec<Cidr>>>();
        let network = NetworkConfig {
            cluster_cidr: cidrs(&written.cluster_cidr)?,
            service_cidr: cidrs(&written.service_cidr)?,
            cluster_dns: written.cluster_dns,
            cluster_domain: written.cluster_domain,
            service_node_ports: written.node_ports,
            backend: written.backend,
        };
        let known = PARTS.iter().filter(|(name, _)| written.disable.iter().any(|disabled| disabled == name));
        let disable = known.map(|(_, part)| *part).collect();
        Some(Self { network, disable, client_authority: written.client_authority })
    }
}

const PARTS: [(&str, Part); 3] = [("dns", Part::Dns), ("network", Part::Network), ("kube-proxy", Part::KubeProxy)];

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    cluster_cidr: Vec<String>,
    service_cidr: Vec<String>,
    #[serde(rename = "clusterDNS")]
    cluster_dns: Vec<IpAddr>,
    cluster_domain: String,
    node_ports: (u16, u16),
    backend: coracle_network::Backend,
    client_authority: String,
    disable: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_writes_a_node_reads() {
        let network = NetworkConfig {
            cluster_cidr: vec!["10.42.0.0/16".parse().unwrap(), "fd42::/56".parse().unwrap()],
            service_cidr: vec!["10.43.0.0/16".parse().unwrap()],
            cluster_dns: vec!["10.43.0.10".parse().unwrap()],
            cluster_domain: "cluster.local".to_owned(),
            service_node_ports: (30000, 32767),
            backend: coracle_network::Backend::HostGateway,
        };
        let cluster = Cluster { network, disable: [Part::Dns].into(), client_authority: "CA".to_owned() };
        assert_eq!(Cluster::from_text(&cluster.to_text()), Some(cluster));
        assert_eq!(Cluster::from_text("{}"), None);
    }
}
