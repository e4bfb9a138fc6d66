//! Approved requests get their certificate from the signer that they name.
//!
//! Upstream: pkg/controller/certificates/signer.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_client::Error;
use serde_json::{Value, json};

use super::request::check_client_usages;
use super::{Asked, Certificates, Request};

/// Upstream's --cluster-signing-duration, and what it gives at least.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
const SHORTEST: Duration = Duration::from_secs(600);

impl Certificates {
    pub(super) async fn issue(&self, mut tree: Value, asked: &Asked) -> Result<(), Error> {
        let signer = asked.spec.signer_name.as_str();
        let request = Request::read(&asked.spec.request).map_err(Error::Other)?;
        let usages = &asked.spec.usages;
        let checked = match signer {
            "kubernetes.io/kube-apiserver-client" => check_client_usages(usages),
            "kubernetes.io/kube-apiserver-client-kubelet" => request.check_node_client(usages),
            "kubernetes.io/kubelet-serving" => request.check_node_server(usages),
            "kubernetes.io/legacy-unknown" => Ok(()),
            // Somebody else's.
            _ => return Ok(()),
        };
        let asked_for = asked.spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let lifetime = asked_for.map_or(LONGEST, |seconds| Duration::from_secs(seconds).clamp(SHORTEST, LONGEST));
        let signed = checked.and_then(|()| self.scope.authority.sign(signer, &request.pem, usages, lifetime));
        match signed {
            Ok(certificate) => {
                tracing::info!(
                    request = asked.metadata.name,
                    subject = request.common_name,
                    signer,
                    "certificate issued"
                );
                tree["status"]["certificate"] = json!(STANDARD.encode(certificate));
                self.put(&tree, "status").await
            }
            Err(why) => self.condemn(tree, "status", "Failed", "SignerValidationFailure", &why).await,
        }
    }
}
