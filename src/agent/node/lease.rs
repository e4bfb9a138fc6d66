//! The node's Lease in kube-node-lease, renewed every ten seconds: the sign of life that the control plane waits for.
//!
//! Upstream: k8s.io/component-helpers apimachinery/lease/controller.go.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

const NAMESPACE: &str = "kube-node-lease";
/// Seconds after which the node counts as gone, and the quarter of it in which it is renewed.
const DURATION: u64 = 40;
const INTERVAL: Duration = Duration::from_secs(DURATION / 4);
/// After a failed renewal.
const RETRY: Duration = Duration::from_secs(1);

/// Renews for ever; `uid` is of the Node that owns the Lease.
pub(super) async fn renew(client: kube::Client, node: String, uid: String) {
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    loop {
        let delay = match renew_once(&api, &node, &uid).await {
            Ok(()) => INTERVAL,
            Err(error) => {
                tracing::warn!(%error, node, "lease is not renewed");
                RETRY
            }
        };
        tokio::time::sleep(delay).await;
    }
}

async fn renew_once(api: &Api<Lease>, node: &str, uid: &str) -> Result<(), kube::Error> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    let patch = json!({"spec": {"holderIdentity": node, "leaseDurationSeconds": DURATION, "renewTime": now}});
    match api.patch(node, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let lease = json!({
                "metadata": {
                    "name": node,
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}],
                },
                "spec": patch["spec"],
            });
            let lease: Lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
            api.create(&PostParams::default(), &lease).await.map(drop)
        }
        outcome => outcome.map(drop),
    }
}
