//! The admin kubeconfig.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::pki::Leaf;

/// A kubeconfig for `server` (`https://...`) with one cluster, user and context, all named `default` as k3s names them.
pub fn render(server: &str, authority: &str, client: &Leaf) -> String {
    let [authority, certificate, key] = [authority, &client.certificate, &client.key].map(|pem| STANDARD.encode(pem));
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: default
  cluster:
    server: {server}
    certificate-authority-data: {authority}
users:
- name: default
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: default
  context:
    cluster: default
    user: default
current-context: default
"
    )
}
