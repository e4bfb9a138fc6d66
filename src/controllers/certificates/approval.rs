//! Which requests are approved without a person: a node's own, for its own name only.
//!
//! As upstream's approver (pkg/controller/certificates/approver/sarapprove.go), and further: a name belongs to the key that took it first
//! (k3s does the same with a node password), so that a join token is no way to become a node that is there; and serving
//! certificates are approved for the addresses that the Node itself has.

use std::net::IpAddr;

use coracle_client::{Error, Key, found, path, rest};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Asked, Certificates, JSON, Request};
use crate::resources;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";
const NAMESPACE: &str = "kube-system";

/// What becomes of a request.
enum Verdict {
    Approve(&'static str),
    Deny(String),
    /// A person decides.
    Leave,
}

impl Certificates {
    pub(super) async fn decide(&self, tree: Value, asked: &Asked) -> Result<(), Error> {
        match self.verdict(asked).await? {
            Verdict::Leave => Ok(()),
            Verdict::Approve(message) => self.condemn(tree, "approval", "Approved", "AutoApproved", message).await,
            Verdict::Deny(message) => {
                tracing::warn!(
                    request = asked.metadata.name,
                    user = asked.spec.username,
                    message,
                    "certificate denied"
                );
                self.condemn(tree, "approval", "Denied", "NodeIdentity", &message).await
            }
        }
    }

    async fn verdict(&self, asked: &Asked) -> Result<Verdict, Error> {
        let Ok(request) = Request::read(&asked.spec.request) else { return Ok(Verdict::Leave) };
        let Some(node) = request.node() else { return Ok(Verdict::Leave) };
        let own = asked.spec.username == request.common_name;
        match asked.spec.signer_name.as_str() {
            CLIENT if request.check_node_client(&asked.spec.usages).is_ok() => {
                if own && self.allowed(asked, "selfnodeclient").await? {
                    return Ok(Verdict::Approve(
                        "Auto approving self kubelet client certificate after SubjectAccessReview.",
                    ));
                }
                if !self.allowed(asked, "nodeclient").await? {
                    return Ok(Verdict::Leave);
                }
                if !self.claim(node, &request.key).await? {
                    return Ok(Verdict::Deny(format!("node name {node:?} is taken by a machine with another key")));
                }
                Ok(Verdict::Approve("Auto approving kubelet client certificate after SubjectAccessReview."))
            }
            SERVING if own && request.check_node_server(&asked.spec.usages).is_ok() => {
                let Some(foreign) = self.foreign(node, &request).await? else {
                    return Ok(Verdict::Approve(
                        "Auto approving kubelet serving certificate for the node's own addresses.",
                    ));
                };
                Ok(Verdict::Deny(format!("node {node:?} has no name or address {foreign}")))
            }
            _ => Ok(Verdict::Leave),
        }
    }

    /// Whether the one who asks may have such a certificate at all.
    async fn allowed(&self, asked: &Asked, subresource: &str) -> Result<bool, Error> {
        let spec = &asked.spec;
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
                "resourceAttributes": {
                    "group": "certificates.k8s.io", "resource": "certificatesigningrequests", "verb": "create",
                    "subresource": subresource, "version": "*",
                },
            },
        });
        let uri = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answer: Value =
            rest::ask(&self.scope.client, Method::POST, uri, ("content-type", JSON), Some(&review)).await?;
        Ok(answer["status"]["allowed"] == true)
    }

    /// Takes the node's name for the key, or finds that it has it already. A name whose Node is gone is free again.
    async fn claim(&self, node: &str, key: &str) -> Result<bool, Error> {
        #[derive(Deserialize)]
        struct Record {
            #[serde(default)]
            data: std::collections::BTreeMap<String, String>,
        }
        let name = format!("{node}.node-identity");
        let maps = resources::config_maps();
        let place = path::object(&maps, NAMESPACE, &name);
        let client = &self.scope.client;
        let record = found(rest::ask::<Record>(client, Method::GET, &place, ("accept", JSON), None).await)?;
        let known = record.as_ref().and_then(|record| record.data.get("key")).is_some_and(|known| known == key);
        if known {
            return Ok(true);
        }
        if found(rest::metadata(client, &resources::nodes(), &Key::cluster(node)).await)?.is_some() {
            return Ok(false);
        }
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": key}});
        let (method, uri) = match record {
            Some(_) => (Method::PUT, place),
            None => (Method::POST, path::collection(&maps, Some(NAMESPACE))),
        };
        rest::ask::<Value>(client, method, &uri, ("content-type", JSON), Some(&object)).await?;
        Ok(true)
    }

    /// A name or address of the request that the Node does not have.
    async fn foreign(&self, node: &str, request: &Request) -> Result<Option<String>, Error> {
        let tree = found(self.read(&resources::nodes(), node).await)?.unwrap_or_default();
        let addresses = tree["status"]["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
        let known: Vec<&str> = addresses.iter().filter_map(|address| address["address"].as_str()).collect();
        let has = |address: &IpAddr| known.iter().any(|known| known.parse() == Ok(*address));
        let domain = request.domains.iter().find(|domain| *domain != node && !known.contains(&domain.as_str()));
        let address = request.addresses.iter().find(|address| !has(address));
        Ok(domain.cloned().or_else(|| address.map(ToString::to_string)))
    }
}
