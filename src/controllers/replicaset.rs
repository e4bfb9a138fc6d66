//! ReplicaSets and ReplicationControllers: as many pods as asked for, and what is known of them in the status.
//!
//! Upstream: pkg/controller/replicaset, pkg/controller/replication (a ReplicationController is an older ReplicaSet).

use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_api::{Object, Resource};
use coracle_client::{Change, Controller, Error, Item, Key, Next, Project, View, found, path, rest};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Method;
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::owners::{self, Owner};
use crate::pod_control::{BURST, Known, Parent, PodControl};
use crate::pods::PodView;
use crate::{Scope, resources, time};

pub(crate) mod rank;
mod status;

const WORKERS: usize = 5;

/// What triggers and ranking need to know of a ReplicaSet.
pub struct SetView {
    pub owners: Box<[Owner]>,
    pub labels: Box<[(Box<str>, Box<str>)]>,
    pub selector: LabelSelector,
}

#[derive(serde::Deserialize)]
struct Set {
    metadata: SetMeta,
    spec: SetSpec,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetMeta {
    #[serde(default)]
    owner_references: Box<[Owner]>,
}

#[derive(serde::Deserialize)]
struct SetSpec {
    selector: serde_json::Value,
}

impl Project for SetView {
    fn project(object: &Object) -> Option<Self> {
        let set: Set = object.decode().ok()?;
        let selector = match &*object.resource().plural {
            "replicationcontrollers" => json!({"matchLabels": set.spec.selector}),
            _ => set.spec.selector,
        };
        let selector = LabelSelector::from_object(Some(&selector)).ok()?;
        Some(Self { owners: set.metadata.owner_references, labels: object.meta().labels.clone(), selector })
    }

    /// The managing owner's UID.
    fn terms(&self) -> Vec<Box<str>> {
        owners::controller_of(&self.owners).map(|owner| owner.uid.clone()).into_iter().collect()
    }
}

/// Which of the two kinds, read and written as a ReplicaSet.
#[derive(Clone, Copy)]
struct Flavor {
    api_version: &'static str,
    kind: &'static str,
    resource: fn() -> Resource,
}

const SET: Flavor = Flavor { api_version: "apps/v1", kind: "ReplicaSet", resource: resources::replica_sets };
const REPLICATION: Flavor =
    Flavor { api_version: "v1", kind: "ReplicationController", resource: resources::replication_controllers };

struct Sets {
    scope: Scope,
    flavor: Flavor,
    control: PodControl,
    pods: View<PodView>,
    sets: View<SetView>,
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    start_flavor(scope, SET)
}

pub fn start_replication(scope: Scope) -> BoxFuture<'static, ()> {
    start_flavor(scope, REPLICATION)
}

fn start_flavor(scope: Scope, flavor: Flavor) -> BoxFuture<'static, ()> {
    let pods = scope.views.view::<PodView>(&resources::pods());
    let sets = scope.views.view::<SetView>(&(flavor.resource)());
    let known = sets.clone();
    let controller = Controller::new(flavor.kind)
        .workers(WORKERS)
        .on(&sets, |change| Some(change.item().key.clone()))
        .on(&pods, move |change| concerned(change, &known, flavor.kind));
    let shutdown = scope.shutdown.clone();
    let control = PodControl::new(&scope, pods.clone());
    let this = Arc::new(Sets { scope, flavor, control, pods, sets });
    async move { controller.run(&shutdown, move |key| this.clone().reconcile(key)).await }.boxed()
}

/// The sets whose pods a change concerns: the owner before and after, and every set that could adopt an orphan.
fn concerned(change: &Change<PodView>, sets: &View<SetView>, kind: &str) -> Vec<Key> {
    let mut keys = owners::keys_of(change, kind);
    if let Some(pod) = change.present().filter(|pod| pod.owner.is_none() && !pod.deleting && !pod.labels.is_empty()) {
        let selecting =
            sets.in_namespace(&pod.key.namespace).into_iter().filter(|set| set.selector.matches(&*pod.labels));
        keys.extend(selecting.map(|set| set.key.clone()));
    }
    keys
}

impl Flavor {
    async fn get(self, client: &kube::Client, key: &Key) -> Result<Option<ReplicaSet>, Error> {
        let uri = path::object(&(self.resource)(), &key.namespace, &key.name);
        let accept = ("accept", "application/json");
        let Some(mut set) = found(rest::ask::<Value>(client, Method::GET, &uri, accept, None).await)? else {
            return Ok(None);
        };
        if self.kind == REPLICATION.kind {
            set["spec"]["selector"] = json!({"matchLabels": set["spec"]["selector"].take()});
            (set["apiVersion"], set["kind"]) = (SET.api_version.into(), SET.kind.into());
        }
        Ok(Some(serde_json::from_value(set)?))
    }

    async fn write_status(self, client: &kube::Client, key: &Key, set: &ReplicaSet) -> Result<(), Error> {
        let mut set = serde_json::to_value(set)?;
        (set["apiVersion"], set["kind"]) = (self.api_version.into(), self.kind.into());
        if self.kind == REPLICATION.kind {
            set["spec"]["selector"] = set["spec"]["selector"]["matchLabels"].take();
            set["status"].as_object_mut().map(|status| status.remove("terminatingReplicas"));
        }
        let uri = format!("{}/status", path::object(&(self.resource)(), &key.namespace, &key.name));
        let header = ("content-type", "application/json");
        found(rest::ask::<IgnoredAny>(client, Method::PUT, &uri, header, Some(&set)).await)?;
        Ok(())
    }
}

impl Sets {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        let Some(set) = self.flavor.get(&self.scope.client, &key).await? else { return Ok(Next::Done) };
        let selector = serde_json::to_value(&set.spec.selector)?;
        let selector = LabelSelector::from_object(Some(&selector)).map_err(Error::Other)?;
        let Flavor { api_version, kind, .. } = self.flavor;
        let parent = Parent { api_version, kind, meta: &set.metadata };
        let pods = self.control.claim(parent, &selector, false, |pod| pod.active()).await?;
        let (active, others): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| pod.active());
        let terminating = others.iter().filter(|pod| pod.deleting && !pod.finished()).count();
        let managed = if parent.deleting() { Ok(()) } else { self.manage(&key, parent, &set, &active).await };

        let now = time::seconds(self.scope.clock.now());
        let failure = managed.as_ref().err().map(Error::chain);
        let time = time::api_time(self.scope.clock.now());
        let mut wanted = status::calculate(&set, &active, terminating, failure, now, time);
        if self.flavor.kind == REPLICATION.kind {
            wanted.terminating_replicas = None;
        }
        if set.status.as_ref() != Some(&wanted) {
            let set = ReplicaSet { status: Some(wanted), ..set.clone() };
            self.flavor.write_status(&self.scope.client, &key, &set).await?;
        }
        managed?;
        let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
        Ok(status::next_check(&active, min_ready, now).map_or(Next::Done, Next::After))
    }

    /// Makes or deletes pods until there are as many as asked for.
    async fn manage(&self, key: &Key, parent: Parent<'_>, set: &ReplicaSet, active: &[Known]) -> Result<(), Error> {
        let wanted = set.spec.replicas.unwrap_or(1).max(0) as usize;
        if active.len() < wanted {
            let pod = parent.pod(&set.spec.template.clone().unwrap_or_default());
            return self.control.create(parent, &vec![pod; (wanted - active.len()).min(BURST)]).await;
        }
        let surplus = (active.len() - wanted).min(BURST);
        if surplus == 0 {
            return Ok(());
        }
        let now = time::seconds(self.scope.clock.now());
        let ranked = rank::first_to_go(active, &self.related(key, set), now);
        self.control.delete(parent, &ranked[..surplus]).await
    }

    /// Active pods of all sets with the same owner: where many of them are ready, pods go first.
    fn related(&self, key: &Key, set: &ReplicaSet) -> Vec<Arc<Item<PodView>>> {
        let owner = owners::controller_uid(&set.metadata);
        let sets = if owner.is_empty() { self.sets.get(key).into_iter().collect() } else { self.sets.find(owner) };
        sets.iter().flat_map(|set| self.pods.find(&set.uid)).filter(|pod| pod.active()).collect()
    }
}
