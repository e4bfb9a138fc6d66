//! Pods that nobody will end: on nodes that are gone, or deleted before they had a node; and too many finished ones.
//!
//! Upstream: pkg/controller/podgc.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::Object;
use coracle_client::{Change, Controller, Error, Key, Next, Project, View, found};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use crate::pods::{PodView, on_node};
use crate::{Scope, resources, time};

/// A node may come back under its name within this time.
const QUARANTINE: Duration = Duration::from_secs(40);
/// Finished pods kept in all (upstream's --terminated-pod-gc-threshold).
const FINISHED_KEPT: usize = 12_500;

/// That a node is there.
struct Presence;

impl Project for Presence {
    fn project(_: &Object) -> Option<Self> {
        Some(Presence)
    }
}

struct Pods {
    scope: Scope,
    pods: View<PodView>,
    nodes: View<Presence>,
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let pods = scope.views.view::<PodView>(&resources::pods());
    let nodes = scope.views.view::<Presence>(&resources::nodes());
    let controller = Controller::<Key>::new("pod-gc");
    let (later, there) = (controller.queue(), pods.clone());
    let controller = controller
        .on(&nodes, move |change| {
            if let Change::Removed(node) = change {
                let orphans = there.find(&on_node(&node.key.name));
                orphans.into_iter().for_each(|pod| later.add_after(pod.key.clone(), QUARANTINE));
            }
            None
        })
        .on(&pods, |change| {
            let finished_now = change.present().is_some_and(|pod| pod.finished());
            let unbound = change.present().is_some_and(|pod| pod.node.is_empty() && pod.deleting);
            // At start, and when it gets its node.
            let placed = change.present().is_some_and(|pod| !pod.node.is_empty())
                && change.former().is_none_or(|pod| pod.node.is_empty());
            (finished_now || unbound || placed).then(|| change.item().key.clone())
        });
    let shutdown = scope.shutdown.clone();
    let this = Arc::new(Pods { scope, pods, nodes });
    async move { controller.run(&shutdown, move |key| this.clone().reconcile(key)).await }.boxed()
}

impl Pods {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        let Some(pod) = self.pods.get(&key) else { return Ok(Next::Done) };
        if pod.node.is_empty() {
            if pod.deleting {
                self.remove(&key, &pod.uid, None).await?;
            }
            return Ok(Next::Done);
        }
        if self.nodes.get(&Key::cluster(&*pod.node)).is_none() {
            let nodes: Api<Node> = Api::all(self.scope.client.clone());
            if found(nodes.get_metadata(&pod.node).await)?.is_some() {
                return Ok(Next::Done);
            }
            let age = time::until(pod.created, std::time::UNIX_EPOCH).saturating_sub(self.scope.clock.since_epoch());
            let young = age.is_zero()
                && self.scope.clock.since_epoch().as_secs() as i64 - pod.created < QUARANTINE.as_secs() as i64;
            if young {
                return Ok(Next::After(QUARANTINE));
            }
            self.remove(&key, &pod.uid, (!pod.finished()).then_some("PodGC: node no longer exists")).await?;
            return Ok(Next::Done);
        }
        if pod.finished() {
            self.prune().await?;
        }
        Ok(Next::Done)
    }

    /// Removes the oldest of too many finished pods.
    async fn prune(&self) -> Result<(), Error> {
        let mut finished: Vec<_> = self.pods.list().into_iter().filter(|pod| pod.finished()).collect();
        let surplus = finished.len().saturating_sub(FINISHED_KEPT);
        finished.sort_by_key(|pod| pod.created);
        for pod in finished.into_iter().take(surplus) {
            self.remove(&pod.key, &pod.uid, None).await?;
        }
        Ok(())
    }

    /// Deletes at once; `lost` says why a pod that had not finished counts as failed.
    async fn remove(&self, key: &Key, uid: &str, lost: Option<&str>) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.scope.client.clone(), &key.namespace);
        if let Some(message) = lost {
            let condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByPodGC",
                "message": message,
                "lastTransitionTime": time::api_time(self.scope.clock.now()),
            });
            let patch = json!({"metadata": {"uid": uid}, "status": {"phase": "Failed", "conditions": [condition]}});
            found(api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await)?;
        }
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        found(api.delete(&key.name, &now).await)?;
        tracing::info!(pod = %key, "collected a pod that nobody would end");
        Ok(())
    }
}
