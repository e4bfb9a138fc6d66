//! A connection to the cluster of a kubeconfig, and the requests that verbs send over it.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use coracle_client::transport::{self, Endpoint};
use coracle_streams::remote_command::V5;
use coracle_streams::websocket::{self, WebSocketStream};
use coracle_streams::{Refused, upgrade::Stream};
use http::{Method, Request, header};
use serde_json::Value;

use super::kubeconfig::Kubeconfig;
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
        let (endpoint, namespace) = Kubeconfig::parse(&text, &path)?.endpoint(&path)?;
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
