//! The flags of `coracle server` and `coracle agent`, one row each; names and defaults follow k3s.

/// How a flag is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `--name`, `--name=false`
    Switch,
    /// `--name VALUE`; the last one counts.
    Value,
    /// `--name A --name B` or `--name A,B`
    List,
    /// As `List`, but a comma is part of the value.
    Whole,
}

/// One option: `--name`, the key `name` in configuration files, and `CORACLE_NAME` in the environment.
#[derive(Debug)]
pub struct Flag {
    pub name: &'static str,
    pub short: Option<char>,
    pub kind: Kind,
    /// Shown in the help text, and used where nothing is given; empty where there is none.
    pub default: &'static str,
    pub help: &'static str,
    /// Which commands take it.
    pub of: Of,
}

/// The commands that take a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Server,
    Agent,
    Both,
}

impl Flag {
    const fn of(self, of: Of) -> Flag {
        Flag { of, ..self }
    }

    pub fn is_of(&self, command: Of) -> bool {
        self.of == Of::Both || self.of == command
    }
}

const fn flag(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, kind, default, help, of: Of::Server }
}

const fn short(name: &'static str, letter: char, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, short: Some(letter), kind, default, help, of: Of::Server }
}

use Kind::{List, Switch, Value, Whole};

pub static FLAGS: &[Flag] = &[
    short("config", 'c', Value, "/etc/coracle/config.yaml", "configuration file; config.yaml.d beside it adds to it")
        .of(Of::Both),
    short("data-dir", 'd', Value, "/var/lib/coracle", "where state is kept").of(Of::Both),
    flag("bind-address", Value, "", "address to listen on (default: all)"),
    flag("https-listen-port", Value, "6443", "port of the API server"),
    flag("advertise-address", Value, "", "address where others reach this server (default: the node's)"),
    flag("tls-san", List, "", "more names and addresses for the serving certificate"),
    short("write-kubeconfig", 'o', Value, "/etc/coracle/coracle.yaml", "where the admin kubeconfig is written"),
    flag("write-kubeconfig-mode", Value, "0600", "its permission bits"),
    short("server", 's', Value, "", "URL of the server to join, https://HOST:6443").of(Of::Agent),
    short("token", 't', Value, "", "secret with which nodes join (default: made on first start)").of(Of::Both),
    flag("cluster-cidr", List, "10.42.0.0/16", "addresses of pods"),
    flag("service-cidr", List, "10.43.0.0/16", "addresses of Services"),
    flag("service-node-port-range", Value, "30000-32767", "node ports of Services"),
    flag("cluster-dns", List, "", "address of the cluster's DNS (default: the tenth of --service-cidr)"),
    flag("flannel-backend", Value, "vxlan", "how nodes reach each other's pods: vxlan, host-gw or none"),
    flag("cluster-domain", Value, "cluster.local", "domain of the cluster"),
    flag("disable", List, "", "parts to leave out: dns, network"),
    flag("disable-agent", Switch, "", "run no node in this server"),
    flag("disable-kube-proxy", Switch, "", "leave Services to something else"),
    flag("node-name", Value, "", "name of the node (default: the host's)").of(Of::Both),
    short("node-ip", 'i', List, "", "addresses of the node, one per family (default: that of the default route)")
        .of(Of::Both),
    flag("node-label", List, "", "labels of the node when it registers, key=value").of(Of::Both),
    flag("node-taint", List, "", "taints of the node when it registers, key=value:effect").of(Of::Both),
    flag("container-runtime-endpoint", Value, "", "a CRI socket to use instead of a containerd of our own")
        .of(Of::Both),
    flag(
        "runtime-dir",
        Value,
        "",
        "where containerd, its shim and runc are (default: the bundle beside coracle, or PATH)",
    )
    .of(Of::Both),
    flag("private-registry", Value, "/etc/coracle/registries.yaml", "mirrors, credentials and TLS of image registries")
        .of(Of::Both),
    flag("resolv-conf", Value, "", "resolv.conf for pods (default: /etc/resolv.conf, or that of systemd-resolved)")
        .of(Of::Both),
    flag("debug", Switch, "", "log more").of(Of::Both),
    short("v", 'v', Value, "0", "log level: 0 to 3").of(Of::Both),
    flag("log-format", Value, "text", "text or json").of(Of::Both),
    flag("log-filter", Whole, "", "log levels per room, as info,apiserver=debug").of(Of::Both),
];

/// Keys of k3s that have no meaning here. They are accepted with a warning, so that a k3s configuration file works.
/// A trailing `*` stands for any rest.
pub static IGNORED: &[&str] = &[
    "flannel-iface",
    "flannel-conf",
    "flannel-cni-conf",
    "flannel-ipv6-masq",
    "flannel-external-ip",
    "etcd-*",
    "embedded-registry",
    "supervisor-metrics",
    "disable-cloud-controller",
    "disable-helm-controller",
    "disable-network-policy",
    "disable-scheduler",
    "disable-controller-manager",
    "egress-selector-mode",
    "servicelb-namespace",
    "helm-job-image",
    "kine-*",
    "cluster-init",
    "prefer-bundled-bin",
    "selinux",
    "lb-server-port",
    "multi-cluster-cidr",
    "rootless",
    "pause-image",
    "snapshotter",
    "docker",
    "default-runtime",
    "image-service-endpoint",
    "enable-pprof",
    "vpn-auth",
    "vpn-auth-file",
    "system-default-registry",
    "airgap-extra-registry",
    "alsologtostderr",
    "log",
    "vmodule",
    "protect-kernel-defaults",
    "default-local-storage-path",
    "write-kubeconfig-group",
    "kube-apiserver-arg",
    "kube-controller-manager-arg",
    "kube-scheduler-arg",
    "kube-cloud-controller-manager-arg",
    "kube-proxy-arg",
    "kubelet-arg",
    "secrets-encryption*",
    "datastore-*",
    "agent-token*",
    "token-file",
    "node-external-ip",
    "node-internal-dns",
    "node-external-dns",
    "with-node-id",
    "advertise-port",
    "tls-san-security",
    "disable-apiserver",
    "disable-etcd",
];

/// The row of a name.
pub fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

pub fn find_short(letter: char) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.short == Some(letter))
}

pub fn is_ignored(name: &str) -> bool {
    IGNORED.iter().any(|ignored| match ignored.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => *ignored == name,
    })
}

impl Flag {
    /// `CORACLE_DATA_DIR`
    pub fn variable(&self) -> String {
        format!("CORACLE_{}", self.name.replace('-', "_").to_uppercase())
    }
}

/// The help text of a command's flags.
pub fn help(command: Of) -> String {
    let mut text = String::new();
    for flag in FLAGS.iter().filter(|flag| flag.is_of(command)) {
        let short = flag.short.map(|letter| format!("-{letter}, ")).unwrap_or_else(|| "    ".to_owned());
        let value = if flag.kind == Switch { "" } else { " VALUE" };
        let dashes = if flag.name.len() == 1 { "" } else { "--" };
        let name = if flag.name.len() == 1 { "" } else { flag.name };
        let default = if flag.default.is_empty() { String::new() } else { format!(" (default: {})", flag.default) };
        let left = format!("  {short}{dashes}{name}{value}");
        text.push_str(&format!("{left:<38} {}{default}\n", flag.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flag_is_ignored_or_there_twice() {
        for (index, flag) in FLAGS.iter().enumerate() {
            assert!(!is_ignored(flag.name), "{}", flag.name);
            let twice = |other: &&Flag| other.name == flag.name || (flag.short.is_some() && other.short == flag.short);
            assert!(!FLAGS[index + 1..].iter().any(|other| twice(&other)), "{}", flag.name);
        }
        assert!(is_ignored("etcd-snapshot") && !is_ignored("etcd") && !is_ignored("flannel-backend"));
        assert_eq!(find("data-dir").unwrap().variable(), "CORACLE_DATA_DIR");
    }
}
