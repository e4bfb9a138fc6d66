//! A connection to the cluster of a kubeconfig, and the requests that verbs send over it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use coracle_client::transport::{self, Endpoint};
use coracle_streams::remote_command::V5;
use coracle_streams::websocket::{self, WebSocketStream};
use coracle_streams::{Refused, upgrade::Stream};
use http::{Method, Request, header};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use serde_json::Value;

use super::line::Line;
use crate::Failure;

/// Where `coracle server` leaves the admin kubeconfig.
pub const KUBECONFIG: &str = "/etc/coracle/coracle.yaml";

pub struct Session {
    client: kube::Client,
    endpoint: Endpoint,
    /// Of the command line, else of the context, else `default`.
    pub namespace: String,
}

impl Session {
    pub fn open(line: &Line) -> Result<Self, Failure> {
        let path = kubeconfig_path(line.value("kubeconfig"));
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read the kubeconfig {}: is the server running?", path.display()))?;
        let config: Kubeconfig =
            serde_yaml::from_str(&text).with_context(|| format!("{} is no kubeconfig", path.display()))?;
        let (endpoint, namespace) = config.endpoint(&path)?;
        let namespace = line.value("namespace").map(str::to_owned).or(namespace);
        let namespace = namespace.unwrap_or_else(|| "default".to_owned());
        Ok(Self { client: transport::client(&endpoint)?, endpoint, namespace })
    }

    pub async fn get(&self, target: &str, accept: &str) -> Result<Value, Failure> {
        let request = Request::get(target).header(header::ACCEPT, accept).body(Vec::new())?;
        Ok(self.client.request(request).await.map_err(told)?)
    }

    /// `None` when there is no such object.
    pub async fn find(&self, target: &str) -> Result<Option<Value>, Failure> {
        let request = Request::get(target).body(Vec::new())?;
        match self.client.request(request).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(told(error).into()),
        }
    }

    pub async fn send(&self, method: Method, target: &str, kind: &str, body: &Value) -> Result<Value, Failure> {
        let request = Request::builder().method(method).uri(target).header(header::CONTENT_TYPE, kind);
        let request = request.body(serde_json::to_vec(body)?)?;
        Ok(self.client.request(request).await.map_err(told)?)
    }

    /// A WebSocket of exec and attach, on a connection of its own.
    pub async fn websocket(&self, target: &str) -> Result<WebSocketStream<Stream>, Failure> {
        let connection = transport::connect(&self.endpoint).await.context("the server is not reached")?;
        let mut headers = http::HeaderMap::new();
        let host = self.endpoint.servers.first().context("the kubeconfig names no server")?;
        headers.insert(header::HOST, host.parse()?);
        headers.extend(self.endpoint.authorization()?.map(|value| (header::AUTHORIZATION, value)));
        Ok(websocket::client::connect(connection, target, headers, V5).await.map_err(refused)?)
    }

    /// The answer as it comes.
    pub async fn stream(&self, target: &str) -> Result<impl futures::AsyncBufRead + use<>, Failure> {
        let request = Request::get(target).body(Vec::new())?;
        Ok(self.client.request_stream(request).await.map_err(told)?)
    }
}

/// A refused upgrade as the Status that it holds.
fn refused(refused: Refused) -> anyhow::Error {
    let Refused::Answered { body, .. } = &refused else { return refused.into() };
    let Ok(status) = serde_json::from_slice::<Value>(body) else { return refused.into() };
    match (status["reason"].as_str(), status["message"].as_str()) {
        (Some(reason), Some(message)) => anyhow!("Error from server ({reason}): {message}"),
        (_, Some(message)) => anyhow!("Error from server: {message}"),
        _ => refused.into(),
    }
}

/// Errors of the server in the words kubectl uses.
fn told(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow!("Error from server ({}): {}", status.reason, status.message),
        error => anyhow::Error::from(error).context("the server is not reached"),
    }
}

fn kubeconfig_path(given: Option<&str>) -> PathBuf {
    let variable = || std::env::var("KUBECONFIG").ok().filter(|path| !path.is_empty());
    let home = || {
        std::env::var("HOME").ok().map(|home| format!("{home}/.kube/config")).filter(|path| Path::new(path).exists())
    };
    let own = || Path::new(KUBECONFIG).exists().then(|| KUBECONFIG.to_owned());
    let chosen = given.map(str::to_owned).or_else(variable).or_else(own).or_else(home);
    chosen.unwrap_or_else(|| KUBECONFIG.to_owned()).into()
}

#[derive(Deserialize)]
struct Kubeconfig {
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
    /// The current context's server, and its namespace.
    fn endpoint(&self, path: &Path) -> anyhow::Result<(Endpoint, Option<String>)> {
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
