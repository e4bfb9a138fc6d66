//! Names: a pod's host name, its resolver and its hosts file (upstream: pkg/kubelet/network/dns, kubelet_pods.go).

use std::fmt::Write;

use k8s_openapi::api::core::v1::Pod;

use crate::pod::PodExt;
use crate::proto::cri as wire;

/// What the cluster offers.
#[derive(Debug, Clone, Default)]
pub struct ClusterDns {
    /// Empty where the cluster has no DNS.
    pub servers: Vec<String>,
    pub domain: String,
}

const NAME_LIMIT: usize = 63;

/// The host name, and the domain where the pod has one.
pub fn host_name(pod: &Pod, cluster: &ClusterDns) -> (String, String) {
    let spec = pod.spec();
    let named = spec.hostname_override.as_deref().or(spec.hostname.as_deref()).filter(|name| !name.is_empty());
    let mut name = named.unwrap_or(pod.name()).to_owned();
    if name.len() > NAME_LIMIT {
        name.truncate(NAME_LIMIT);
        name.truncate(name.trim_end_matches(['-', '.']).len());
    }
    let subdomain = spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty());
    let domain = subdomain.map(|subdomain| format!("{subdomain}.{}.svc.{}", pod.namespace(), cluster.domain));
    (name, domain.unwrap_or_default())
}

/// The resolver's configuration by the pod's policy; `host` is the node's own resolv.conf.
pub fn resolver(pod: &Pod, cluster: &ClusterDns, host: &str) -> wire::DnsConfig {
    let spec = pod.spec();
    let mut policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    if policy == "ClusterFirst" && pod.uses_host_network() {
        policy = "Default";
    }
    if matches!(policy, "ClusterFirst" | "ClusterFirstWithHostNet") && cluster.servers.is_empty() {
        policy = "Default";
    }
    let mut config = match policy {
        "None" => wire::DnsConfig::default(),
        "Default" => parse(host),
        _ => {
            let domain = &cluster.domain;
            let mut searches =
                vec![format!("{}.svc.{domain}", pod.namespace()), format!("svc.{domain}"), domain.clone()];
            for search in parse(host).searches {
                if !searches.contains(&search) {
                    searches.push(search);
                }
            }
            wire::DnsConfig { servers: cluster.servers.clone(), searches, options: vec!["ndots:5".to_owned()] }
        }
    };
    if let Some(own) = &spec.dns_config {
        let add = |list: &mut Vec<String>, more: Option<&Vec<String>>| {
            for item in more.into_iter().flatten() {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }
        };
        add(&mut config.servers, own.nameservers.as_ref());
        add(&mut config.searches, own.searches.as_ref());
        for option in own.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            config.options.retain(|present| present.split(':').next() != Some(name));
            config.options.push(option.value.as_ref().map_or(name.to_owned(), |value| format!("{name}:{value}")));
        }
    }
    config
}

fn parse(text: &str) -> wire::DnsConfig {
    let mut config = wire::DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let rest = |words: std::str::SplitWhitespace| words.map(str::to_owned).collect::<Vec<_>>();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search") => config.searches = rest(words),
            Some("options") => config.options = rest(words),
            _ => {}
        }
    }
    config
}

/// `/etc/hosts` of a pod with an address of its own.
pub fn hosts(pod: &Pod, cluster: &ClusterDns, addresses: &[String]) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let (name, domain) = host_name(pod, cluster);
    for address in addresses {
        let names = if domain.is_empty() { name.clone() } else { format!("{name}.{domain}\t{name}") };
        let _ = writeln!(text, "{address}\t{names}");
    }
    text + &aliases(pod)
}

/// What the pod adds to whatever hosts file it has.
pub fn aliases(pod: &Pod) -> String {
    let mut text = String::new();
    let aliases = pod.spec().host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec})).unwrap()
    }

    #[test]
    fn policies() {
        let cluster = ClusterDns { servers: vec!["10.43.0.10".into()], domain: "cluster.local".into() };
        let host = "nameserver 192.0.2.53\nsearch example.com\n";
        let first = resolver(&pod(serde_json::json!({"containers": []})), &cluster, host);
        assert_eq!(first.servers, ["10.43.0.10"]);
        assert_eq!(first.searches, ["n.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.com"]);
        assert_eq!(first.options, ["ndots:5"]);
        let node = resolver(&pod(serde_json::json!({"hostNetwork": true, "containers": []})), &cluster, host);
        assert_eq!(node.servers, ["192.0.2.53"]);
        let own = serde_json::json!({"containers": [], "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}});
        assert_eq!(resolver(&pod(own), &cluster, host).options, ["ndots:1"]);
    }

    #[test]
    fn a_subdomain_gives_a_full_name() {
        let cluster = ClusterDns { servers: vec![], domain: "cluster.local".into() };
        let pod = pod(serde_json::json!({"containers": [], "hostname": "h", "subdomain": "s"}));
        assert!(hosts(&pod, &cluster, &["10.0.0.1".into()]).contains("10.0.0.1\th.s.n.svc.cluster.local\th\n"));
    }
}
