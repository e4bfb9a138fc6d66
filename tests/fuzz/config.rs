//! Configuration files: config.yaml and kubeconfigs.

use std::path::Path;

use coracle_cli::kubectl::kubeconfig::Kubeconfig;
use coracle_cli::options::{Typed, file, resolve};

/// Keys are set or refused in one line, and what is set resolves or is refused.
pub fn options(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut typed = Typed::default();
    if let Err(failure) = file::merge(&mut typed, Path::new("config.yaml"), text) {
        assert!(!failure.to_string().contains('\n'));
        return;
    }
    let _ = resolve::logging(&typed);
}

pub fn option_seeds() -> Vec<Vec<u8>> {
    let seeds = [
        "node-ip: 192.0.2.1\nnode-label: [a=b, c=d]\nnode-label+: e=f\ndebug: true\nlog: warn,store=debug\n",
        "tls-san:\n- a.example\n- 10.0.0.1\ndisable: traefik\nv: 3\n",
        "write-kubeconfig-mode: \"0644\"\ncluster-cidr: 10.42.0.0/16,fd42::/48\n",
    ];
    seeds.map(|seed| seed.as_bytes().to_vec()).into()
}

pub fn kubeconfig(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // No file of this machine is to be read.
    let path = Path::new("/nonexistent/kubeconfig");
    if let Ok(config) = Kubeconfig::parse(text, path) {
        let _ = config.endpoint(path);
    }
}

pub fn kubeconfig_seeds() -> Vec<Vec<u8>> {
    let config = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
        clusters:\n- name: c\n  cluster: {server: 'https://127.0.0.1:6443', certificate-authority-data: LS0tLS1CRUdJTg==}\n\
        contexts:\n- name: a\n  context: {cluster: c, user: u, namespace: n}\n\
        users:\n- name: u\n  user: {token: t, client-certificate-data: aGk=, client-key-data: aGk=}\n";
    vec![config.as_bytes().to_vec()]
}
