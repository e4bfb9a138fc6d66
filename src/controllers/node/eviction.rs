//! Eviction by taints: pods that do not tolerate a NoExecute taint go, at once or after the time they tolerate it.
//!
//! Upstream: pkg/controller/tainteviction. The time counts from when the taint was added, so it survives restarts.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coracle_client::events::{Report, Severity};
use coracle_client::placement::{Taint, Toleration};
use coracle_client::{Change, Controller, Error, Key, Next, View, found};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use super::NodeView;
use crate::pod_control::Parent;
use crate::pods::{PodView, on_node, placement};
use crate::{Scope, resources, time};

const WORKERS: usize = 4;

struct Evictions {
    scope: Scope,
    nodes: View<NodeView>,
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let nodes = scope.views.view::<NodeView>(&resources::nodes());
    let pods = scope.views.view::<PodView>(&resources::pods());
    let (there, known) = (pods.clone(), nodes.clone());
    let controller = Controller::new("taint-eviction")
        .workers(WORKERS)
        .on(&nodes, move |change| {
            let changed = evicting(change.former().map(|it| &***it)) != evicting(change.present().map(|it| &***it));
            let pods = if changed { there.find(&on_node(&change.item().key.name)) } else { Vec::new() };
            pods.into_iter().map(|pod| pod.key.clone()).collect::<Vec<_>>()
        })
        .on(&pods, move |change| arrived(change, &known));
    let shutdown = scope.shutdown.clone();
    let this = Arc::new(Evictions { scope, nodes });
    async move { controller.run(&shutdown, move |key| this.clone().reconcile(key)).await }.boxed()
}

fn evicting(node: Option<&NodeView>) -> Vec<Taint> {
    let taints = node.iter().flat_map(|node| node.taints.iter());
    taints.filter(|taint| &*taint.effect == "NoExecute").cloned().collect()
}

/// A pod that is new on a node with such taints.
fn arrived(change: &Change<PodView>, nodes: &View<NodeView>) -> Option<Key> {
    let pod = change.present().filter(|pod| !pod.node.is_empty() && !pod.deleting)?;
    let node = nodes.get(&Key::cluster(&*pod.node))?;
    (!evicting(Some(&node)).is_empty()).then(|| pod.key.clone())
}

impl Evictions {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        let api: Api<Pod> = Api::namespaced(self.scope.client.clone(), &key.namespace);
        let Some(pod) = found(api.get(&key.name).await)? else { return Ok(Next::Done) };
        let Some(spec) = pod.spec.as_ref().filter(|_| pod.metadata.deletion_timestamp.is_none()) else {
            return Ok(Next::Done);
        };
        let node = spec.node_name.as_deref().and_then(|name| self.nodes.get(&Key::cluster(name)));
        let taints = evicting(node.as_ref().map(|it| &***it));
        let tolerations: Vec<Toleration> = placement(&spec.tolerations)?;
        match stays(&taints, &tolerations, self.scope.clock.now()) {
            Stay::Forever => Ok(Next::Done),
            Stay::For(left) if !left.is_zero() => Ok(Next::After(left)),
            Stay::For(_) => self.evict(&api, &key, &pod).await,
        }
    }

    async fn evict(&self, api: &Api<Pod>, key: &Key, pod: &Pod) -> Result<Next, Error> {
        let subject = Parent { api_version: "v1", kind: "Pod", meta: &pod.metadata }.subject();
        let message = format!("Marking for deletion Pod {key}");
        let report =
            Report { subject, severity: Severity::Normal, reason: "TaintManagerEviction", action: "", message };
        self.scope.events.report(report);
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": time::api_time(self.scope.clock.now()),
        });
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        if found(api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await)?.is_none() {
            return Ok(Next::Done);
        }
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let options = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        found(api.delete(&key.name, &options).await)?;
        Ok(Next::Done)
    }
}

#[derive(Debug, PartialEq)]
enum Stay {
    Forever,
    For(Duration),
}

/// How long a pod with these tolerations may stay on a node with these NoExecute taints.
fn stays(taints: &[Taint], tolerations: &[Toleration], now: SystemTime) -> Stay {
    let mut stay = Stay::Forever;
    for taint in taints {
        let matching: Vec<_> = tolerations.iter().filter(|toleration| toleration.tolerates(taint)).collect();
        if matching.is_empty() {
            return Stay::For(Duration::ZERO);
        }
        let Some(seconds) = matching.iter().filter_map(|toleration| toleration.toleration_seconds).min() else {
            continue;
        };
        let added = taint.time_added.as_deref().and_then(time::parse_seconds).unwrap_or_else(|| time::seconds(now));
        let left = time::until(added.saturating_add(seconds.max(0)), now);
        stay = match stay {
            Stay::For(other) if other < left => Stay::For(other),
            _ => Stay::For(left),
        };
    }
    stay
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toleration(key: &str, seconds: Option<i64>) -> Toleration {
        Toleration {
            key: key.into(),
            operator: "Exists".into(),
            effect: "NoExecute".into(),
            toleration_seconds: seconds,
            value: "".into(),
        }
    }

    fn taint(key: &str, added: &str) -> Taint {
        Taint { key: key.into(), effect: "NoExecute".into(), time_added: Some(added.into()), ..Taint::default() }
    }

    #[test]
    fn pods_stay_as_long_as_they_tolerate_every_taint() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let minute = "1970-01-01T00:01:00Z";
        let (a, b) = (taint("a", minute), taint("b", minute));
        let seconds = |seconds| Stay::For(Duration::from_secs(seconds));
        let cases = [
            (vec![], vec![], Stay::Forever),
            (vec![a.clone()], vec![], seconds(0)),
            (vec![a.clone()], vec![toleration("a", None)], Stay::Forever),
            (vec![a.clone()], vec![toleration("a", Some(300))], seconds(260)),
            (vec![a.clone()], vec![toleration("a", Some(30))], seconds(0)),
            (vec![a.clone(), b.clone()], vec![toleration("a", Some(300))], seconds(0)),
            (vec![a.clone(), b.clone()], vec![toleration("a", Some(300)), toleration("b", Some(60))], seconds(20)),
            (vec![a, b], vec![toleration("", Some(50))], seconds(10)),
        ];
        for (taints, tolerations, expected) in cases {
            assert_eq!(stays(&taints, &tolerations, now), expected, "{taints:?} {tolerations:?}");
        }
    }
}
