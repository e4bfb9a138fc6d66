//! The second stage: options resolved against this machine and validated.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use coracle_base::log::{LogFormat, LogOptions};
use coracle_server::{Backend, Cidr, Config, JoinConfig, NetworkConfig, NodeConfig, Part};

use super::Typed;
use crate::Failure;
use crate::nearest::hint;

/// A server's configuration.
pub fn server(typed: &Typed) -> Result<Config, Failure> {
    let node_addresses = node_addresses(typed)?;
    let network = network(typed)?;
    let mut disable = parts(typed)?;
    if switch(typed, "disable-kube-proxy")? {
        disable.insert(Part::KubeProxy);
    }
    let advertise_address = match optional(typed, "advertise-address")? {
        Some(address) => address,
        None => node_addresses.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    let node = match switch(typed, "disable-agent")? {
        true => None,
        false => Some(node(typed, node_addresses)?),
    };
    Ok(Config {
        host: host_name()?,
        data_dir: absolute(typed.value("data-dir"))?,
        write_kubeconfig: absolute(typed.value("write-kubeconfig"))?,
        write_kubeconfig_mode: u32::from_str_radix(typed.value("write-kubeconfig-mode"), 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
            .ok_or_else(|| wrong(typed, "write-kubeconfig-mode", "not permission bits like 0600"))?,
        bind_address: optional(typed, "bind-address")?.filter(|address: &IpAddr| !address.is_unspecified()),
        https_listen_port: parse(typed, "https-listen-port", "not a port")?,
        advertise_address,
        tls_san: typed.list("tls-san").into_iter().map(str::to_owned).collect(),
        token: Some(typed.value("token")).filter(|token| !token.is_empty()).map(str::to_owned),
        network,
        disable,
        node,
    })
}

/// An agent's configuration.
pub fn agent(typed: &Typed) -> Result<JoinConfig, Failure> {
    let text = |name: &str| Some(typed.value(name)).filter(|text| !text.is_empty()).map(str::to_owned);
    let server =
        text("server").ok_or_else(|| Failure::usage("an agent needs --server, the URL of the server to join"))?;
    Ok(JoinConfig {
        server,
        token: text("token"),
        data_dir: absolute(typed.value("data-dir"))?,
        node: node(typed, node_addresses(typed)?)?,
    })
}

/// How to log, from the same options.
pub fn logging(typed: &Typed) -> Result<LogOptions, Failure> {
    let verbosity: u8 = parse(typed, "v", "not a number from 0 to 3")?;
    let format = match typed.value("log-format") {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        _ => return Err(wrong(typed, "log-format", "neither text nor json")),
    };
    let verbosity = if switch(typed, "debug")? { verbosity.max(1) } else { verbosity };
    Ok(LogOptions { format, verbosity, filter: typed.value("log-filter").to_owned() })
}

fn network(typed: &Typed) -> Result<NetworkConfig, Failure> {
    let cluster_cidr = parse_list::<Cidr>(typed, "cluster-cidr", "not a network like 10.42.0.0/16")?;
    let service_cidr = parse_list::<Cidr>(typed, "service-cidr", "not a network like 10.43.0.0/16")?;
    for (name, list) in [("cluster-cidr", &cluster_cidr), ("service-cidr", &service_cidr)] {
        if list.is_empty() || list.len() > 2 || (list.len() == 2 && list[0].is_ipv4() == list[1].is_ipv4()) {
            return Err(wrong(typed, name, "wants one network, or one of each family"));
        }
    }
    for pods in &cluster_cidr {
        if service_cidr.iter().any(|services| services.overlaps(pods)) {
            return Err(wrong(typed, "service-cidr", &format!("overlaps --cluster-cidr {pods}")));
        }
    }
    let mut cluster_dns = parse_list::<IpAddr>(typed, "cluster-dns", "not an address")?;
    if cluster_dns.is_empty() {
        cluster_dns = service_cidr.iter().filter_map(|cidr| cidr.nth(10)).collect();
    }
    if let Some(outside) = cluster_dns.iter().find(|dns| !service_cidr.iter().any(|cidr| cidr.contains(**dns))) {
        return Err(wrong(typed, "cluster-dns", &format!("{outside} is outside of --service-cidr")));
    }
    let ports = typed.value("service-node-port-range");
    let range = ports.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    let range = range.filter(|(first, last): &(u16, u16)| *first > 0 && first <= last);
    let backend = Backend::ALL.into_iter().find(|(name, _)| *name == typed.value("flannel-backend"));
    let (_, backend) = backend.ok_or_else(|| match typed.value("flannel-backend") {
        "wireguard-native" => wrong(typed, "flannel-backend", "not built yet: use vxlan or host-gw"),
        _ => wrong(typed, "flannel-backend", "none of vxlan, host-gw, none"),
    })?;
    Ok(NetworkConfig {
        backend,
        cluster_cidr,
        service_cidr,
        cluster_dns,
        cluster_domain: typed.value("cluster-domain").trim_matches('.').to_owned(),
        service_node_ports: range
            .ok_or_else(|| wrong(typed, "service-node-port-range", "not ports like 30000-32767"))?,
    })
}

/// Names of parts; those of k3s for the same things are understood.
const PARTS: &[(&str, Option<Part>)] = &[
    ("dns", Some(Part::Dns)),
    ("coredns", Some(Part::Dns)),
    ("network", Some(Part::Network)),
    ("servicelb", None),
    ("traefik", None),
    ("local-storage", None),
    ("metrics-server", None),
];

fn parts(typed: &Typed) -> Result<BTreeSet<Part>, Failure> {
    let mut parts = BTreeSet::new();
    for name in typed.list("disable") {
        match PARTS.iter().find(|(known, _)| *known == name) {
            Some((_, part)) => parts.extend(*part),
            None => {
                let known = PARTS.iter().filter(|(_, part)| part.is_some()).map(|(name, _)| *name);
                return Err(Failure::usage(format!("--disable {name}: no such part{}", hint(name, known, ""))));
            }
        }
    }
    Ok(parts)
}

fn node(typed: &Typed, addresses: Vec<IpAddr>) -> Result<NodeConfig, Failure> {
    let name = match typed.value("node-name") {
        "" => host_name()?,
        name => name.to_owned(),
    };
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let good = name.len() <= 253
        && name.split('.').all(|label| {
            let bytes = label.as_bytes();
            bytes.first().copied().is_some_and(letter)
                && bytes.last().copied().is_some_and(letter)
                && bytes.iter().all(|byte| letter(*byte) || *byte == b'-')
        });
    if !good {
        let text = format!("the node's name {name:?} is no DNS name: choose one with --node-name");
        return Err(Failure::usage(text));
    }
    let label = |text: &str| text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    let labels = typed.list("node-label").into_iter().map(label).collect::<Option<Vec<_>>>();
    let taints: Vec<String> = typed.list("node-taint").into_iter().map(str::to_owned).collect();
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if !taints.iter().all(|taint| taint.rsplit_once(':').is_some_and(|(_, effect)| effects.contains(&effect))) {
        return Err(wrong(typed, "node-taint", "not key=value:NoSchedule, :PreferNoSchedule or :NoExecute"));
    }
    let text = |name: &str| Some(typed.value(name)).filter(|text| !text.is_empty()).map(str::to_owned);
    Ok(NodeConfig {
        name,
        addresses,
        labels: labels.ok_or_else(|| wrong(typed, "node-label", "not key=value"))?,
        taints,
        container_runtime_endpoint: text("container-runtime-endpoint"),
        runtime_programs: text("runtime-dir").map(|text| absolute(&text)).transpose()?.or_else(bundle),
        private_registry: typed.value("private-registry").into(),
        resolv_conf: text("resolv-conf").map(PathBuf::from),
    })
}

/// The container runtime that install.sh puts beside the binary: `/usr/local/bin/coracle`, `/usr/local/lib/coracle/runtime`.
fn bundle() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    Some(own.parent()?.parent()?.join("lib/coracle/runtime")).filter(|directory| directory.is_dir())
}

fn host_name() -> Result<String, Failure> {
    let name = nix::unistd::gethostname()?;
    Ok(name.to_string_lossy().to_lowercase())
}

/// The given addresses, or the one with which this machine reaches others.
fn node_addresses(typed: &Typed) -> Result<Vec<IpAddr>, Failure> {
    let given = parse_list::<IpAddr>(typed, "node-ip", "not an address")?;
    if given.len() > 2 || (given.len() == 2 && given[0].is_ipv4() == given[1].is_ipv4()) {
        return Err(wrong(typed, "node-ip", "wants one address, or one of each family"));
    }
    if !given.is_empty() {
        return Ok(given);
    }
    Ok(default_route_address().or_else(first_address).into_iter().collect())
}

/// Connecting a UDP socket sends nothing, but chooses the source address.
fn default_route_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_loopback())
}

fn first_address() -> Option<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().ok()?;
    let addresses = interfaces.filter_map(|interface| interface.address?.as_sockaddr_in().map(|found| found.ip()));
    addresses.map(IpAddr::V4).find(|address| !address.is_loopback())
}

fn absolute(path: &str) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(Path::new(path))?)
}

fn switch(typed: &Typed, name: &str) -> Result<bool, Failure> {
    match typed.value(name) {
        "" | "false" => Ok(false),
        "true" => Ok(true),
        _ => Err(wrong(typed, name, "neither true nor false")),
    }
}

fn optional<T: FromStr>(typed: &Typed, name: &str) -> Result<Option<T>, Failure> {
    match typed.value(name) {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| wrong(typed, name, "not an address")),
    }
}

fn parse<T: FromStr>(typed: &Typed, name: &str, problem: &str) -> Result<T, Failure> {
    typed.value(name).parse().map_err(|_| wrong(typed, name, problem))
}

fn parse_list<T: FromStr>(typed: &Typed, name: &str, problem: &str) -> Result<Vec<T>, Failure> {
    typed.list(name).into_iter().map(|text| text.parse().map_err(|_| wrong(typed, name, problem))).collect()
}

fn wrong(typed: &Typed, name: &str, problem: &str) -> Failure {
    Failure::usage(format!("--{name} {}: {problem}", typed.list(name).join(",")))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn resolve(arguments: &str) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.yaml");
        std::fs::write(&config, "").unwrap();
        let config = format!("--config={} {arguments}", config.display());
        let arguments: Vec<OsString> = config.split_whitespace().map(OsString::from).collect();
        let typed = Typed::gather(&arguments, []).map_err(|failure| failure.to_string())?;
        server(&typed).map_err(|failure| failure.to_string())
    }

    #[test]
    fn defaults_are_those_of_k3s() {
        let config = resolve("--node-ip 192.0.2.7 --node-name n1").unwrap();
        assert_eq!(config.data_dir, Path::new("/var/lib/coracle"));
        assert_eq!((config.https_listen_port, config.write_kubeconfig_mode), (6443, 0o600));
        assert_eq!(config.network.cluster_dns, ["10.43.0.10".parse::<IpAddr>().unwrap()]);
        assert_eq!(config.network.api_server(), "10.43.0.1".parse().ok());
        assert_eq!(config.advertise_address, "192.0.2.7".parse::<IpAddr>().unwrap());
        assert_eq!(config.node.unwrap().name, "n1");
    }

    #[test]
    fn both_families_are_taken() {
        let both = "--node-ip 192.0.2.7,fd00::7 --node-name n --cluster-cidr 10.1.0.0/16,fd00:1::/56 \
                    --service-cidr 10.2.0.0/16,fd00:2::/112";
        let config = resolve(both).unwrap();
        let dns = ["10.2.0.10".parse::<IpAddr>().unwrap(), "fd00:2::a".parse().unwrap()];
        assert_eq!(config.network.cluster_dns, dns);
        assert!(resolve("--node-ip 192.0.2.7,192.0.2.8").is_err());
    }

    #[test]
    fn mistakes_say_what_is_wrong() {
        let cases = [
            ("--https-listen-port 70000", "--https-listen-port 70000: not a port"),
            ("--cluster-cidr 10.42.0.1/16", "--cluster-cidr 10.42.0.1/16: not a network like 10.42.0.0/16"),
            ("--service-cidr 10.42.1.0/24", "--service-cidr 10.42.1.0/24: overlaps --cluster-cidr 10.42.0.0/16"),
            ("--cluster-dns 10.44.0.1", "--cluster-dns 10.44.0.1: 10.44.0.1 is outside of --service-cidr"),
            ("--disable dnss", "--disable dnss: no such part: did you mean dns?"),
            ("--node-name Bad_Name", "the node's name \"Bad_Name\" is no DNS name: choose one with --node-name"),
            ("--node-taint a=b", "--node-taint a=b: not key=value:NoSchedule, :PreferNoSchedule or :NoExecute"),
            ("--disable-agent=maybe", "--disable-agent maybe: neither true nor false"),
            ("--write-kubeconfig-mode 999", "--write-kubeconfig-mode 999: not permission bits like 0600"),
        ];
        for (arguments, message) in cases {
            assert_eq!(resolve(&format!("--node-name n {arguments}")).unwrap_err(), message);
        }
    }
}
