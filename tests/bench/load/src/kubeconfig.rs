//! The current context of a kubeconfig: where the server is and who we are.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

pub struct Target {
    pub host: String,
    pub port: u16,
    pub tls: Arc<ClientConfig>,
    /// The value of `Authorization`, where a token is used.
    pub authorization: Option<String>,
}

impl Target {
    pub fn read(path: &str) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
        let config: Value = serde_yaml::from_str(&text).context("the kubeconfig is no YAML")?;
        let context = named(&config, "contexts", config["current-context"].as_str(), "context")?;
        let cluster = named(&config, "clusters", context["cluster"].as_str(), "cluster")?;
        let user = named(&config, "users", context["user"].as_str(), "user")?;
        let server: http::Uri = cluster["server"].as_str().context("no server")?.parse()?;
        let mut roots = RootCertStore::empty();
        for certificate in pem::parse_many(data(cluster, "certificate-authority")?)? {
            roots.add(CertificateDer::from(certificate.into_contents()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = tls.with_root_certificates(roots);
        let mut tls = match user.get("token") {
            Some(_) => tls.with_no_client_auth(),
            None => {
                let chain = pem::parse_many(data(user, "client-certificate")?)?;
                let chain = chain.into_iter().map(|block| CertificateDer::from(block.into_contents())).collect();
                let key = pem::parse(data(user, "client-key")?)?;
                let key = match key.tag() {
                    "EC PRIVATE KEY" => PrivateKeyDer::Sec1(key.into_contents().into()),
                    "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(key.into_contents().into()),
                    _ => PrivateKeyDer::Pkcs8(key.into_contents().into()),
                };
                tls.with_client_auth_cert(chain, key)?
            }
        };
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            host: server.host().context("no host")?.trim_matches(['[', ']']).to_owned(),
            port: server.port_u16().unwrap_or(443),
            tls: Arc::new(tls),
            authorization: user["token"].as_str().map(|token| format!("Bearer {token}")),
        })
    }
}

fn named<'a>(config: &'a Value, list: &str, name: Option<&str>, kind: &str) -> anyhow::Result<&'a Value> {
    let rows = config[list].as_array().into_iter().flatten();
    let row = rows.into_iter().find(|row| row["name"].as_str() == name);
    row.map(|row| &row[kind]).with_context(|| format!("no {name:?} among {list}"))
}

/// The PEM text of `NAME-data`, or of the file that `NAME` names.
fn data(holder: &Value, name: &str) -> anyhow::Result<Vec<u8>> {
    if let Some(data) = holder[format!("{name}-data")].as_str() {
        return Ok(STANDARD.decode(data.trim())?);
    }
    let path = holder[name].as_str().with_context(|| format!("no {name}"))?;
    std::fs::read(Path::new(path)).with_context(|| path.to_owned())
}
