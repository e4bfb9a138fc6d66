//! Certificate requests: those of nodes are approved, approved ones are signed, old ones go.
//!
//! Upstream: pkg/controller/certificates (approver, signer, cleaner).

use std::sync::Arc;
use std::time::Duration;

use coracle_api::{Object, Resource};
use coracle_client::{Controller, Error, Key, Next, Project, View, found, path, rest};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Scope, resources, time};

mod approval;
mod request;
mod signing;

pub use request::Request;

/// How long requests of each fate are kept. Upstream: pkg/controller/certificates/cleaner.
const ISSUED_KEPT: Duration = Duration::from_secs(3600);
const REFUSED_KEPT: Duration = Duration::from_secs(3600);
const PENDING_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Signs with the cluster's authorities; the keys stay with whoever implements it.
pub trait Authority: Send + Sync + 'static {
    /// A PEM certificate for the PEM request, good for exactly these uses and at most this long from now; or why not.
    fn sign(&self, signer: &str, request: &str, usages: &[String], lifetime: Duration) -> Result<String, String>;
}

/// A certificates.k8s.io/v1 CertificateSigningRequest, as far as it is looked at.
#[derive(Debug, Clone, Deserialize)]
struct Asked {
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    creation_timestamp: Option<Timestamp>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    /// PEM in base64.
    request: String,
    signer_name: String,
    #[serde(default)]
    usages: Vec<String>,
    expiration_seconds: Option<i64>,
    #[serde(default)]
    username: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    extra: Value,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Status {
    certificate: String,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    status: String,
    last_update_time: Option<Timestamp>,
}

impl Asked {
    fn is(&self, kind: &str) -> bool {
        self.condition(kind).is_some()
    }

    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.kind == kind && condition.status == "True")
    }

    /// When it may be forgotten; `None` while a certificate is still to come of it at once.
    fn forgotten_at(&self) -> Option<Timestamp> {
        let since = |kind: &str, kept: Duration| {
            let time = self.condition(kind)?.last_update_time.or(self.metadata.creation_timestamp)?;
            time.checked_add(kept).ok()
        };
        let refused = since("Denied", REFUSED_KEPT).or_else(|| since("Failed", REFUSED_KEPT));
        refused.or_else(|| since("Approved", ISSUED_KEPT)).or_else(|| {
            let created = self.metadata.creation_timestamp?;
            created.checked_add(PENDING_KEPT).ok()
        })
    }
}

/// That a request is there; what it says is read when something is done with it.
struct RequestView;

impl Project for RequestView {
    fn project(_: &Object) -> Option<Self> {
        Some(RequestView)
    }
}

struct Certificates {
    scope: Scope,
    requests: View<RequestView>,
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let requests = scope.views.view::<RequestView>(&resources::certificate_requests());
    let controller = Controller::<Key>::new("certificates")
        .on(&requests, |change| change.present().map(|request| request.key.clone()));
    let shutdown = scope.shutdown.clone();
    let this = Arc::new(Certificates { scope, requests });
    async move { controller.run(&shutdown, move |key| this.clone().reconcile(key)).await }.boxed()
}

impl Certificates {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        if self.requests.get(&key).is_none() {
            return Ok(Next::Done);
        }
        let Some(tree) = found(self.read(&resources::certificate_requests(), &key.name).await)? else {
            return Ok(Next::Done);
        };
        let asked: Asked = serde_json::from_value(tree.clone())?;
        let decided = asked.is("Approved") || asked.is("Denied");
        if !decided && asked.status.certificate.is_empty() {
            self.decide(tree, &asked).await?;
        } else if asked.is("Approved") && !asked.is("Failed") && asked.status.certificate.is_empty() {
            self.issue(tree, &asked).await?;
        }
        let Some(end) = asked.forgotten_at() else { return Ok(Next::Done) };
        let left = time::until(end.as_second(), self.scope.clock.now());
        if !left.is_zero() {
            return Ok(Next::After(left));
        }
        let none = json!({});
        found(rest::delete(&self.scope.client, &resources::certificate_requests(), &key, &none).await)?;
        Ok(Next::Done)
    }

    async fn read(&self, resource: &Resource, name: &str) -> Result<Value, Error> {
        rest::ask(&self.scope.client, Method::GET, &path::object(resource, "", name), ("accept", JSON), None).await
    }

    /// Writes a condition by way of the subresource `approval` or `status`.
    async fn condemn(
        &self,
        tree: Value,
        subresource: &str,
        kind: &str,
        reason: &str,
        message: &str,
    ) -> Result<(), Error> {
        let mut tree = tree;
        let condition = json!({"type": kind, "status": "True", "reason": reason, "message": message});
        match tree["status"]["conditions"].as_array_mut() {
            Some(conditions) => conditions.push(condition),
            None => tree["status"]["conditions"] = json!([condition]),
        }
        self.put(&tree, subresource).await
    }

    async fn put(&self, tree: &Value, subresource: &str) -> Result<(), Error> {
        let name = tree["metadata"]["name"].as_str().unwrap_or_default();
        let uri = format!("{}/{subresource}", path::object(&resources::certificate_requests(), "", name));
        rest::ask::<Value>(&self.scope.client, Method::PUT, &uri, ("content-type", JSON), Some(tree)).await.map(drop)
    }
}

const JSON: &str = "application/json";
