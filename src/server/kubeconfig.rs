//! The admin kubeconfig.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::data_directory::{read_optional, write_with_mode};
use crate::error::Error;
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

/// Writes the kubeconfig, and nothing when it is there with the same text and permissions.
pub fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let same_mode = fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o777 == mode);
    if same_mode && read_optional(path)?.as_deref() == Some(text) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(Error::file("create the directory", directory))?;
    }
    write_with_mode(path, text.as_bytes(), mode)
}
