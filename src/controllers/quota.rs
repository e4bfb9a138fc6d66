//! ResourceQuotas: how much of each a namespace holds.
//!
//! Upstream: pkg/controller/resourcequota. Admission adds what is created; here all is counted anew when a quota
//! changes, and when something goes or ends. The resources that quotas are about are watched only once there is one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use coracle_api::quantity::Quantity;
use coracle_api::quota::{self, Amounts};
use coracle_api::{Object, Resource};
use coracle_base::queue::Queue;
use coracle_client::{Change, Controller, Error, Key, Next, Project, View, found, path, rest};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use kube::api::{Api, ListParams, PostParams};
use serde::Deserialize;
use serde_json::Value;

use crate::{Scope, resources};

/// That a quota is there.
struct QuotaView;

impl Project for QuotaView {
    fn project(_: &Object) -> Option<Self> {
        Some(Self)
    }
}

/// That an object is there, and whether it is a pod that ended, which counts no more.
struct Presence {
    ended: bool,
}

impl Project for Presence {
    fn project(object: &Object) -> Option<Self> {
        #[derive(Deserialize)]
        struct Decoded {
            #[serde(default)]
            status: Status,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Status {
            phase: Box<str>,
        }
        if object.resource().plural != "pods" {
            return Some(Self { ended: false });
        }
        let pod: Decoded = object.decode().ok()?;
        Some(Self { ended: matches!(&*pod.status.phase, "Succeeded" | "Failed") })
    }
}

struct Quotas {
    scope: Scope,
    quotas: View<QuotaView>,
    queue: Queue<Key>,
    watched: Mutex<HashMap<Resource, View<Presence>>>,
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let quotas = scope.views.view::<QuotaView>(&resources::quotas());
    let controller = Controller::new("resourcequota").on(&quotas, |change| Some(change.item().key.clone()));
    let shutdown = scope.shutdown.clone();
    let this = Arc::new(Quotas { scope, quotas, queue: controller.queue(), watched: Mutex::default() });
    async move { controller.run(&shutdown, move |key| this.clone().reconcile(key)).await }.boxed()
}

impl Quotas {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        let api: Api<ResourceQuota> = Api::namespaced(self.scope.client.clone(), &key.namespace);
        // Its role may list quotas, but not get one.
        let named = ListParams::default().fields(&format!("metadata.name={}", key.name));
        let Some(quota) = api.list(&named).await?.items.into_iter().next() else {
            if self.quotas.is_empty() {
                self.watched.lock().unwrap_or_else(PoisonError::into_inner).clear();
            }
            return Ok(Next::Done);
        };
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone()).unwrap_or_default();
        let tree = serde_json::to_value(&quota)?;
        let mut used: Amounts = hard
            .keys()
            .map(|name| (name.clone(), Quantity::new(0, coracle_api::quantity::Notation::Decimal)))
            .collect();
        for resource in quota::resources(hard.keys().map(String::as_str)) {
            self.watch(&resource);
            let total = self.count(&key, &tree, &resource).await?;
            let mine: Amounts = total.into_iter().filter(|(name, _)| used.contains_key(name)).collect();
            quota::add(&mut used, &mine);
        }
        let used = used.into_iter().map(|(name, amount)| (name, Written(amount.to_string())));
        let used: BTreeMap<String, Written> = used.collect();
        let status = ResourceQuotaStatus { hard: Some(hard), used: Some(used) };
        if quota.status.as_ref() != Some(&status) {
            let quota = ResourceQuota { status: Some(status), ..quota };
            found(api.replace_status(&key.name, &PostParams::default(), &quota).await)?;
        }
        Ok(Next::Done)
    }

    /// What the namespace's objects of a resource come to.
    async fn count(&self, key: &Key, quota: &Value, resource: &Resource) -> Result<Amounts, Error> {
        let uri = path::collection(resource, Some(&key.namespace));
        let accept = ("accept", "application/json");
        let list: Value = rest::ask(&self.scope.client, Method::GET, &uri, accept, None).await?;
        let now = Timestamp::try_from(self.scope.clock.now()).unwrap_or_default();
        let mut total = Amounts::new();
        for object in list["items"].as_array().into_iter().flatten() {
            if quota::in_scope(quota, resource, object) {
                quota::add(&mut total, &quota::usage(resource, object, now));
            }
        }
        Ok(total)
    }

    /// Has quotas counted anew when objects of a resource come, go or end.
    fn watch(&self, resource: &Resource) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.contains_key(resource) {
            return;
        }
        let view = self.scope.views.view::<Presence>(resource);
        watched.insert(resource.clone(), view.clone());
        // A change during the first list may concern what was counted before it.
        drop(watched);
        let (quotas, queue) = (self.quotas.clone(), self.queue.clone());
        let by_use = matches!(&*resource.plural, "services" | "persistentvolumeclaims");
        view.subscribe(move |change| {
            let same = match change {
                Change::Updated { old, new } => old.ended == new.ended && !by_use,
                _ => false,
            };
            if !same {
                let concerned = quotas.in_namespace(&change.item().key.namespace);
                concerned.into_iter().for_each(|quota| queue.add(quota.key.clone()));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_name_resources() {
        let names = ["pods", "count/deployments.apps", "requests.storage", "services.nodeports", "configmaps"];
        let mut found: Vec<String> = quota::resources(names).iter().map(|it| it.plural.to_string()).collect();
        found.sort();
        assert_eq!(found, ["configmaps", "deployments", "persistentvolumeclaims", "pods", "services"]);
        assert_eq!(quota::resources(["limits.cpu"]).len(), 1);
    }
}
