//! How a machine becomes a node of others' cluster: it checks the server against its token, then asks for certificates.
//!
//! The token's hash pins the authority before anything secret is sent. The node keeps one key for its life, which is how the
//! server knows it again; its certificate comes by a CertificateSigningRequest, and so does the one that its own port shows.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_api::Resource;
use coracle_client::transport::{self, Endpoint};
use coracle_client::{Error as ApiError, path, rest};
use http::{Method, Request, StatusCode};
use jiff::Timestamp;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::JoinConfig;
use crate::data_directory::{read_optional, write_private};
use crate::gate;
use crate::pki::Leaf;
use crate::tls::{certified, provider};
use crate::token::JoinToken;

/// How long approval and signing may take.
const PATIENCE: Duration = Duration::from_secs(30);
const JSON: &str = "application/json";

/// What this machine has of the cluster, in files under `<data>/agent`.
pub struct Membership {
    directory: PathBuf,
    /// `host:port`
    server: String,
    node: String,
    /// PEM
    authority: String,
    key: KeyPair,
    shown: Arc<Shown>,
    tls: Arc<ClientConfig>,
}

impl Membership {
    /// What an earlier start has left, or a new membership by the token.
    pub async fn open(config: &JoinConfig, directory: PathBuf) -> anyhow::Result<Self> {
        let server = address(&config.server)?;
        let token = match &config.token {
            Some(text) => Some(JoinToken::parse(text).ok_or_else(|| {
                anyhow!("--token is no join token (K10...): read it from server/token in the server's data directory")
            })?),
            None => None,
        };
        let authority = match read_optional(&directory.join("server-ca.crt"))? {
            Some(known) => known,
            None => {
                let token = token.as_ref().context("this machine has not joined yet: give --token")?;
                let found = authority(&server).await?;
                if !token.trusts(&found) {
                    bail!(
                        "{}: its certificate authority is not the token's: the token is another cluster's, or somebody stands between",
                        config.server
                    );
                }
                found
            }
        };
        let key = match read_optional(&directory.join("node.key"))? {
            Some(pem) => KeyPair::from_pem(&pem).context("agent/node.key is damaged")?,
            None => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
                write_private(&directory.join("node.key"), key.serialize_pem().as_bytes())?;
                key
            }
        };
        let shown = Arc::new(Shown::default());
        let tls = Arc::new(client_tls(&authority, shown.clone())?);
        let member = Self { directory, server, node: config.node.name.clone(), authority, key, shown, tls };
        match read_optional(&member.certificate_path())? {
            Some(certificate) if left(&certificate) > Duration::ZERO => member.show(&certificate)?,
            _ => {
                let token = token.context("the node's certificate has ended: give --token to join again")?;
                let client = transport::client(&Endpoint { token: Some(token.credential), ..member.endpoint() })?;
                let certificate = member.ask(&client, CLIENT_SIGNER, "client auth", &[]).await?;
                write_private(&member.certificate_path(), certificate.as_bytes())?;
                // Last, so that a join that failed is begun anew.
                write_private(&member.directory.join("server-ca.crt"), member.authority.as_bytes())?;
                member.show(&certificate)?;
            }
        }
        Ok(member)
    }

    /// How the cluster is reached as this node.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { servers: vec![self.server.clone()], tls: self.tls.clone(), token: None }
    }

    pub fn client(&self) -> anyhow::Result<kube::Client> {
        Ok(transport::client(&self.endpoint())?)
    }

    /// Asks for a new certificate when the old one nears its end.
    pub async fn renew(&self) -> anyhow::Result<()> {
        let known = read_optional(&self.certificate_path())?.unwrap_or_default();
        if left(&known) > RENEW_BEFORE {
            return Ok(());
        }
        let certificate = self.ask(&self.client()?, CLIENT_SIGNER, "client auth", &[]).await?;
        write_private(&self.certificate_path(), certificate.as_bytes())?;
        self.show(&certificate)
    }

    /// What the node's own port shows. Its Node must have these addresses.
    pub async fn serving(&self, addresses: &[IpAddr]) -> anyhow::Result<Leaf> {
        let path = self.directory.join("serving-kubelet.crt");
        let known = read_optional(&path)?.filter(|known| left(known) > RENEW_BEFORE);
        let certificate = match known {
            Some(known) => known,
            None => {
                let made = self.ask(&self.client()?, SERVING_SIGNER, "server auth", addresses).await?;
                write_private(&path, made.as_bytes())?;
                made
            }
        };
        Ok(Leaf { certificate, key: self.key.serialize_pem() })
    }

    fn certificate_path(&self) -> PathBuf {
        self.directory.join("node.crt")
    }

    fn show(&self, certificate: &str) -> anyhow::Result<()> {
        let leaf = Leaf { certificate: certificate.to_owned(), key: self.key.serialize_pem() };
        let certified = certified(&leaf, &provider())?;
        *self.shown.certificate.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(certified);
        Ok(())
    }

    /// A certificate for this node's key, PEM.
    async fn ask(
        &self,
        client: &kube::Client,
        signer: &str,
        usage: &str,
        addresses: &[IpAddr],
    ) -> anyhow::Result<String> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        parameters.distinguished_name.push(DnType::CommonName, format!("system:node:{}", self.node));
        if !addresses.is_empty() {
            let names = addresses.iter().map(|address| rcgen::SanType::IpAddress(*address));
            let domain = rcgen::SanType::DnsName(self.node.as_str().try_into()?);
            parameters.subject_alt_names = names.chain([domain]).collect();
        }
        let request = parameters.serialize_request(&self.key)?.pem()?;
        let object = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": { "generateName": "node-csr-" },
            "spec": { "request": STANDARD.encode(request), "signerName": signer, "usages": ["digital signature", usage] },
        });
        let resource = Resource::find("certificates.k8s.io", "v1", "certificatesigningrequests")
            .context("certificate requests are not in the catalog")?;
        let uri = path::collection(&resource, None);
        let made = rest::ask::<Value>(client, Method::POST, &uri, ("content-type", JSON), Some(&object)).await;
        let made = made.map_err(|error| self.explain(error))?;
        let name = made["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let answered = tokio::time::timeout(PATIENCE, self.answer(client, &uri, &name)).await;
        answered.map_err(|_| {
            anyhow!(
                "{}: certificate request {name} waits for approval: kubectl certificate approve {name}",
                self.server
            )
        })?
    }

    /// Waits for what becomes of the request `name`.
    async fn answer(&self, client: &kube::Client, collection: &str, name: &str) -> anyhow::Result<String> {
        loop {
            let object: Value = rest::ask(client, Method::GET, &format!("{collection}/{name}"), ("accept", JSON), None)
                .await
                .map_err(|error| self.explain(error))?;
            if let Some(certificate) = object["status"]["certificate"].as_str() {
                return Ok(String::from_utf8(STANDARD.decode(certificate)?)?);
            }
            let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
            if let Some(refused) =
                conditions.iter().find(|condition| condition["type"] == "Denied" || condition["type"] == "Failed")
            {
                let why = refused["message"].as_str().unwrap_or_default();
                bail!("{}: {why}: choose another --node-name, or delete the Node there", self.server);
            }
            let watched = format!(
                "{collection}?watch=true&fieldSelector=metadata.name%3D{name}&timeoutSeconds=10&resourceVersion={}",
                object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
            );
            self.change(client, &watched).await?;
        }
    }

    /// Completes with the first event of a watch, or when it ends.
    async fn change(&self, client: &kube::Client, uri: &str) -> anyhow::Result<()> {
        use http_body_util::BodyExt;
        let request = Request::get(uri).body(kube::client::Body::empty())?;
        let mut body = client.send(request).await.map_err(|error| self.explain(error.into()))?.into_body();
        let _ = body.frame().await;
        Ok(())
    }

    /// What went wrong, in the words of someone who can do something about it.
    fn explain(&self, error: ApiError) -> anyhow::Error {
        let server = &self.server;
        let chain = error.chain();
        match error.code().and_then(|code| StatusCode::from_u16(code).ok()) {
            Some(StatusCode::UNAUTHORIZED) => anyhow!("{server} refuses the token: it is wrong, or its time is over"),
            Some(_) => anyhow!("{server}: {chain}"),
            None => unreachable_server(server, &chain),
        }
    }
}

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
/// A year's certificate is renewed in its last quarter.
const RENEW_BEFORE: Duration = Duration::from_secs(90 * 86_400);

fn unreachable_server(server: &str, chain: &str) -> anyhow::Error {
    // rustls' words for a certificate whose time has not come, or is over.
    if ["NotValidYet", "not valid yet", "Expired", "expired"].iter().any(|word| chain.contains(word)) {
        return anyhow!("{server} shows a certificate that is not valid now: check the clock of both machines");
    }
    anyhow!("cannot reach {server}: {chain}")
}

/// `host:port` of `https://host:port`.
fn address(url: &str) -> anyhow::Result<String> {
    let wrong = || anyhow!("--server {url}: not a URL like https://192.0.2.1:6443");
    let uri: http::Uri = url.parse().map_err(|_| wrong())?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("https")).ok_or_else(wrong)?;
    Ok(match authority.port_u16() {
        Some(_) => authority.to_string(),
        None => format!("{authority}:6443"),
    })
}

/// The authority behind a server that is not trusted yet.
async fn authority(server: &str) -> anyhow::Result<String> {
    let endpoint = Endpoint { servers: vec![server.to_owned()], tls: Arc::new(transport::unverified()?), token: None };
    let client = transport::client(&endpoint)?;
    let request = Request::get(gate::AUTHORITY_PATH).body(Vec::new())?;
    client.request_text(request).await.map_err(|error| unreachable_server(server, &ApiError::from(error).chain()))
}

fn client_tls(authority: &str, shown: Arc<Shown>) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate?)?;
    }
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_client_cert_resolver(shown))
}

/// How long a certificate is good for yet.
fn left(pem: &str) -> Duration {
    let end = || {
        let der = pem::parse(pem).ok()?;
        let (_, certificate) = X509Certificate::from_der(der.contents()).ok()?;
        u64::try_from(certificate.validity().not_after.timestamp() - Timestamp::now().as_second()).ok()
    };
    Duration::from_secs(end().unwrap_or_default())
}

/// The certificate that connections show from now on; none while the machine only has its token.
#[derive(Debug, Default)]
struct Shown {
    certificate: RwLock<Option<Arc<CertifiedKey>>>,
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certificate.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn has_certs(&self) -> bool {
        self.certificate.read().unwrap_or_else(|poisoned| poisoned.into_inner()).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_by_url() {
        assert_eq!(address("https://192.0.2.1:7443").unwrap(), "192.0.2.1:7443");
        assert_eq!(address("https://[fd00::1]").unwrap(), "[fd00::1]:6443");
        assert_eq!(address("https://a.example").unwrap(), "a.example:6443");
        for wrong in ["192.0.2.1:6443", "http://192.0.2.1", "", "https://"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
