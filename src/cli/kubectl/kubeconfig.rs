//! Kubeconfig files: the server of the current context, and how a user proves who it is.
//!
//! Upstream: k8s.io/client-go tools/clientcmd/api/v1/types.go.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use coracle_client::transport::Endpoint;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

/// What is read of a kubeconfig.
#[derive(Deserialize)]
pub struct Kubeconfig {
    #[serde(default)]
    clusters: Vec<Named<Cluster>>,
    #[serde(default)]
    users: Vec<Named<User>>,
    #[serde(default)]
    contexts: Vec<Named<Context_>>,
    #[serde(default, rename = "current-context")]
    current: String,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "user", alias = "context")]
    value: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
}

#[derive(Deserialize)]
struct Context_ {
    cluster: String,
    user: String,
    namespace: Option<String>,
}

impl Kubeconfig {
    /// `path` is where the text comes from.
    pub fn parse(text: &str, path: &Path) -> anyhow::Result<Self> {
        serde_yaml::from_str(text).with_context(|| format!("{} is no kubeconfig", path.display()))
    }

    /// The current context's server, and its namespace; files are looked for beside `path`.
    pub fn endpoint(&self, path: &Path) -> anyhow::Result<(Endpoint, Option<String>)> {
        let missing = |what: &str, name: &str| anyhow!("{} has no {what} {name:?}", path.display());
        let context = find(&self.contexts, &self.current).ok_or_else(|| missing("context", &self.current))?;
        let cluster = find(&self.clusters, &context.cluster).ok_or_else(|| missing("cluster", &context.cluster))?;
        let user = find(&self.users, &context.user).ok_or_else(|| missing("user", &context.user))?;
        let server = cluster.server.strip_prefix("https://").context("the cluster's server is no https:// URL")?;
        let server = server.trim_end_matches('/');
        let has_port = server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let server = if has_port { server.to_owned() } else { format!("{server}:443") };
        let directory = path.parent().unwrap_or(Path::new("."));
        let read = |file: &Option<PathBuf>, data: &Option<String>| -> anyhow::Result<Option<Vec<u8>>> {
            Ok(match (data, file) {
                (Some(data), _) => Some(decode(data)?),
                (None, Some(file)) => Some(
                    std::fs::read(directory.join(file)).with_context(|| format!("cannot read {}", file.display()))?,
                ),
                (None, None) => None,
            })
        };
        let mut roots = rustls::RootCertStore::empty();
        let authority = read(&cluster.certificate_authority, &cluster.certificate_authority_data)?;
        for certificate in
            CertificateDer::pem_slice_iter(&authority.context("the cluster has no certificate authority")?)
        {
            roots.add(certificate?)?;
        }
        let tls = rustls::ClientConfig::builder_with_provider(coracle_server::tls::provider());
        let tls = tls.with_safe_default_protocol_versions()?.with_root_certificates(roots);
        let certificate = read(&user.client_certificate, &user.client_certificate_data)?;
        let key = read(&user.client_key, &user.client_key_data)?;
        let tls = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>()?;
                tls.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?
            }
            _ => tls.with_no_client_auth(),
        };
        let endpoint = Endpoint { servers: vec![server], tls: Arc::new(tls), token: user.token.clone() };
        Ok((endpoint, context.namespace.clone()))
    }
}

fn find<'a, T>(list: &'a [Named<T>], name: &str) -> Option<&'a T> {
    list.iter().find(|named| named.name == name).map(|named| &named.value)
}

fn decode(data: &str) -> anyhow::Result<Vec<u8>> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(data.trim()).context("kubeconfig data is not base64")
}
