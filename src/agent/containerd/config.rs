//! containerd's configuration file: everything in directories and under names of this instance.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::registries::Registries;

/// What the configuration depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Images, snapshots and metadata; on disk.
    pub root: PathBuf,
    /// Mounts, sockets and pipes; gone with a reboot.
    pub state: PathBuf,
    pub cni_config: PathBuf,
    pub cni_binaries: PathBuf,
    pub sandbox_image: String,
    pub registries: Registries,
    /// Directory of `hosts.toml` files that `registries` is written to.
    pub hosts: PathBuf,
    /// Without CAP_SYS_RESOURCE no score below our own can be given, and runc would fail on the attempt.
    pub restrict_oom_score: bool,
}

impl Settings {
    pub fn socket(&self) -> PathBuf {
        self.state.join("containerd.sock")
    }

    /// At most 42 bytes long, for a socket's name has room for that and a hash.
    fn shim_sockets(&self) -> PathBuf {
        self.state.join("s")
    }
}

/// Plugins that cost memory, timers or directories outside of ours, and that nothing here uses.
const DISABLED: [&str; 9] = [
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.nri.v1.nri",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
];

/// The file's text, in the version that containerd 1.6 and 2 both read.
pub fn render(settings: &Settings) -> String {
    let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
    let quoted = |path: &Path| string(&path.to_string_lossy());
    let mut text = String::from("# Written by coracle at every start; changes are lost.\nversion = 2\n");
    let mut line = |args: std::fmt::Arguments| writeln!(text, "{args}").expect("writing to a string does not fail");
    line(format_args!("root = {}", quoted(&settings.root)));
    line(format_args!("state = {}", quoted(&settings.state)));
    let disabled: Vec<String> = DISABLED.iter().map(|plugin| string(plugin)).collect();
    line(format_args!("disabled_plugins = [{}]", disabled.join(", ")));
    line(format_args!("\n[grpc]\naddress = {}", quoted(&settings.socket())));
    line(format_args!("\n[debug]\nlevel = \"warn\""));
    // From 2.4 on; before, shims listen in /run/containerd/s.
    line(format_args!("\n[plugins.\"io.containerd.shim.v1.manager\"]"));
    line(format_args!("socket_dir = {}", quoted(&settings.shim_sockets())));
    line(format_args!("\n[{cri}]"));
    line(format_args!("sandbox_image = {}", string(&settings.sandbox_image)));
    line(format_args!("restrict_oom_score_adj = {}", settings.restrict_oom_score));
    line(format_args!("netns_mounts_under_state_dir = true"));
    line(format_args!("enable_unprivileged_ports = true\nenable_unprivileged_icmp = true"));
    line(format_args!("stats_collect_period = 60"));
    line(format_args!("stream_server_address = \"127.0.0.1\"\nstream_server_port = \"0\""));
    line(format_args!("\n[{cri}.cni]"));
    line(format_args!("bin_dir = {}", quoted(&settings.cni_binaries)));
    line(format_args!("conf_dir = {}", quoted(&settings.cni_config)));
    line(format_args!("\n[{cri}.containerd]\nsnapshotter = \"overlayfs\"\ndefault_runtime_name = \"runc\""));
    line(format_args!("\n[{cri}.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\""));
    line(format_args!("\n[{cri}.containerd.runtimes.runc.options]"));
    line(format_args!("Root = {}", quoted(&settings.state.join("runc"))));
    line(format_args!("SystemdCgroup = false"));
    line(format_args!("\n[{cri}.registry]\nconfig_path = {}", quoted(&settings.hosts)));
    for (host, credentials) in settings.registries.credentials() {
        line(format_args!("\n[{cri}.registry.configs.{}.auth]", string(host)));
        for (key, value) in [
            ("username", &credentials.username),
            ("password", &credentials.password),
            ("auth", &credentials.auth),
            ("identitytoken", &credentials.identity_token),
        ] {
            if !value.is_empty() {
                line(format_args!("{key} = {}", string(value)));
            }
        }
    }
    text
}

/// A TOML basic string.
pub(super) fn string(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(text, "\\u{:04X}", u32::from(control));
            }
            other => text.push(other),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_the_instances_own() {
        let settings = Settings {
            root: "/data/agent/containerd/root".into(),
            state: "/run/coracle-7/containerd".into(),
            cni_config: "/data/agent/cni/conf".into(),
            cni_binaries: "/data/agent/cni/\"bin".into(),
            sandbox_image: "pause:1".into(),
            registries: Registries::default(),
            hosts: "/data/agent/containerd/hosts".into(),
            restrict_oom_score: true,
        };
        let text = render(&settings);
        for expected in [
            "address = \"/run/coracle-7/containerd/containerd.sock\"",
            "root = \"/data/agent/containerd/root\"",
            "Root = \"/run/coracle-7/containerd/runc\"",
            "bin_dir = \"/data/agent/cni/\\\"bin\"",
            "restrict_oom_score_adj = true",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
    }
}
