//! ReplicaSets: as many pods as asked for, and what is known of them in the status.
//!
//! Upstream: pkg/controller/replicaset. Where upstream keeps expectations, a reconcile here ends when the view of
//! pods has caught up with its own writes.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::Object;
use coracle_api::selector::LabelSelector;
use coracle_client::events::{Report, Severity, Subject};
use coracle_client::{Change, Controller, Error, Item, Key, Next, Project, View, found};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, PostParams};

use crate::owners::{self, Owner};
use crate::pods::PodView;
use crate::{Scope, resources, time};

mod rank;
mod status;

/// Pods made or deleted in one reconcile at most.
const BURST: usize = 500;
/// How long the view may take to show what was written.
const CATCH_UP: Duration = Duration::from_secs(30);
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
        let selector = LabelSelector::from_object(Some(&set.spec.selector)).ok()?;
        Some(Self { owners: set.metadata.owner_references, labels: object.meta().labels.clone(), selector })
    }

    /// The managing owner's UID.
    fn terms(&self) -> Vec<Box<str>> {
        owners::controller_of(&self.owners).map(|owner| owner.uid.clone()).into_iter().collect()
    }
}

struct Sets {
    scope: Scope,
    pods: View<PodView>,
    sets: View<SetView>,
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let pods = scope.views.view::<PodView>(&resources::pods());
    let sets = scope.views.view::<SetView>(&resources::replica_sets());
    let known = sets.clone();
    let controller = Controller::new("replicaset")
        .workers(WORKERS)
        .on(&sets, |change| Some(change.item().key.clone()))
        .on(&pods, move |change| concerned(change, &known));
    let shutdown = scope.shutdown.clone();
    let this = Arc::new(Sets { scope, pods, sets });
    async move { controller.run(&shutdown, move |key| this.clone().reconcile(key)).await }.boxed()
}

/// The sets whose pods a change concerns: the owner before and after, and every set that could adopt an orphan.
fn concerned(change: &Change<PodView>, sets: &View<SetView>) -> Vec<Key> {
    let mut keys: Vec<Key> =
        [change.former(), change.present()].into_iter().flatten().filter_map(|pod| owner(pod)).collect();
    if let Some(pod) = change.present().filter(|pod| pod.owner.is_none() && !pod.deleting && !pod.labels.is_empty()) {
        let selecting =
            sets.in_namespace(&pod.key.namespace).into_iter().filter(|set| set.selector.matches(&*pod.labels));
        keys.extend(selecting.map(|set| set.key.clone()));
    }
    keys
}

fn owner(pod: &Item<PodView>) -> Option<Key> {
    let owner = pod.owner.as_ref().filter(|owner| &*owner.kind == "ReplicaSet")?;
    Some(Key::new(pod.key.namespace.clone(), &*owner.name))
}

impl Sets {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        let api: Api<ReplicaSet> = Api::namespaced(self.scope.client.clone(), &key.namespace);
        let Some(set) = found(api.get(&key.name).await)? else { return Ok(Next::Done) };
        let selector = serde_json::to_value(&set.spec.selector)?;
        let selector = LabelSelector::from_object(Some(&selector)).map_err(Error::Other)?;
        let pods = self.claim(&key, &set, &selector).await?;
        let (active, others): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| pod.active());
        let terminating = others.iter().filter(|pod| pod.deleting && !pod.finished()).count();
        let deleting = set.metadata.deletion_timestamp.is_some();
        let managed = if deleting { Ok(()) } else { self.manage(&key, &set, &active).await };

        let now = time::seconds(self.scope.clock.now());
        let failure = managed.as_ref().err().map(Error::chain);
        let time = time::api_time(self.scope.clock.now());
        let wanted = status::calculate(&set, &active, terminating, failure, now, time);
        if set.status.as_ref() != Some(&wanted) {
            let mut set = set.clone();
            set.status = Some(wanted);
            found(api.replace_status(&key.name, &PostParams::default(), &set).await)?;
        }
        managed?;
        let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
        Ok(status::next_check(&active, min_ready, now).map_or(Next::Done, Next::After))
    }

    /// The set's pods: owned and selected. Adopts selected orphans and lets go of owned pods that are not selected.
    async fn claim(
        &self,
        key: &Key,
        set: &ReplicaSet,
        selector: &LabelSelector,
    ) -> Result<Vec<Arc<Item<PodView>>>, Error> {
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let deleting = set.metadata.deletion_timestamp.is_some();
        let api: Api<Pod> = Api::namespaced(self.scope.client.clone(), &key.namespace);
        let mut claimed = Vec::new();
        for pod in self.pods.find(uid) {
            if selector.matches(&*pod.labels) {
                claimed.push(pod);
            } else if !deleting && !pod.deleting {
                let released = owners::release(&api, &pod.key.name, &pod.uid, uid).await?;
                self.caught_up(released.as_slice()).await?;
            }
        }
        if deleting {
            return Ok(claimed);
        }
        let orphans = self.pods.find("orphan").into_iter();
        let wanted = orphans.filter(|pod| {
            pod.key.namespace == key.namespace
                && pod.active()
                && !pod.labels.is_empty()
                && selector.matches(&*pod.labels)
        });
        for pod in wanted {
            let owner = owners::reference("apps/v1", "ReplicaSet", &set.metadata);
            let adopted = owners::adopt(&api, &pod.key.name, &pod.uid, &owner).await?;
            self.caught_up(adopted.as_slice()).await?;
            claimed.extend(self.pods.get(&pod.key));
        }
        Ok(claimed)
    }

    /// Makes or deletes pods until there are as many as asked for.
    async fn manage(&self, key: &Key, set: &ReplicaSet, active: &[Arc<Item<PodView>>]) -> Result<(), Error> {
        let wanted = set.spec.replicas.unwrap_or(1).max(0) as usize;
        if active.len() < wanted {
            return self.create(key, set, (wanted - active.len()).min(BURST)).await;
        }
        let surplus = (active.len() - wanted).min(BURST);
        if surplus == 0 {
            return Ok(());
        }
        let now = time::seconds(self.scope.clock.now());
        let ranked = rank::first_to_go(active, &self.related(key, set), now);
        let api: Api<Pod> = Api::namespaced(self.scope.client.clone(), &key.namespace);
        let deletions = ranked.into_iter().take(surplus).map(|pod| self.delete(&api, set, pod));
        join_all(deletions).await.into_iter().collect()
    }

    /// Active pods of all sets with the same owner: where many of them are ready, pods go first.
    fn related(&self, key: &Key, set: &ReplicaSet) -> Vec<Arc<Item<PodView>>> {
        let owner = owners::controller_uid(&set.metadata);
        let sets = if owner.is_empty() { self.sets.get(key).into_iter().collect() } else { self.sets.find(owner) };
        sets.iter().flat_map(|set| self.pods.find(&set.uid)).filter(|pod| pod.active()).collect()
    }

    /// Creates in batches that double, so that what fails for all fails first for one.
    async fn create(&self, key: &Key, set: &ReplicaSet, count: usize) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.scope.client.clone(), &key.namespace);
        let pod = pod_of(set);
        let mut left = count;
        let mut batch = 1;
        while left > 0 {
            let size = batch.min(left);
            let created = join_all((0..size).map(|_| self.create_one(&api, set, &pod))).await;
            let pods: Vec<Pod> = created.iter().filter_map(|result| result.as_ref().ok().cloned().flatten()).collect();
            self.caught_up(&pods).await?;
            created.into_iter().collect::<Result<Vec<_>, _>>()?;
            left -= size;
            batch *= 2;
        }
        Ok(())
    }

    async fn create_one(&self, api: &Api<Pod>, set: &ReplicaSet, pod: &Pod) -> Result<Option<Pod>, Error> {
        match api.create(&PostParams::default(), pod).await.map_err(Error::from) {
            Ok(pod) => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                self.report(set, Severity::Normal, "SuccessfulCreate", format!("Created pod: {name}"));
                Ok(Some(pod))
            }
            Err(error) if error.is_namespace_terminating() => Ok(None),
            Err(error) => {
                self.report(set, Severity::Warning, "FailedCreate", format!("Error creating: {}", error.chain()));
                Err(error)
            }
        }
    }

    async fn delete(&self, api: &Api<Pod>, set: &ReplicaSet, pod: Arc<Item<PodView>>) -> Result<(), Error> {
        if let Err(error) = api.delete(&pod.key.name, &DeleteParams::default()).await.map_err(Error::from) {
            if error.is_not_found() {
                return Ok(());
            }
            self.report(set, Severity::Warning, "FailedDelete", format!("Error deleting: {}", error.chain()));
            return Err(error);
        }
        self.report(set, Severity::Normal, "SuccessfulDelete", format!("Deleted pod: {}", pod.key.name));
        let gone = |pods: &View<PodView>| pods.get(&pod.key).is_none_or(|now| now.uid != pod.uid || now.deleting);
        if self.pods.wait(CATCH_UP, gone).await { Ok(()) } else { Err(behind()) }
    }

    /// Waits until the view shows what was written, so that the next reconcile counts it.
    async fn caught_up(&self, written: &[Pod]) -> Result<(), Error> {
        let revisions = written.iter().filter_map(|pod| pod.metadata.resource_version.as_deref()?.parse().ok());
        let revision: u64 = revisions.max().unwrap_or(0);
        if self.pods.wait(CATCH_UP, |pods| pods.revision() >= revision).await { Ok(()) } else { Err(behind()) }
    }

    fn report(&self, set: &ReplicaSet, severity: Severity, reason: &'static str, message: String) {
        let subject = subject("apps/v1", "ReplicaSet", &set.metadata);
        self.scope.events.report(Report { subject, severity, reason, action: "", message });
    }
}

fn behind() -> Error {
    Error::Other("the view of pods does not show what was written".to_owned())
}

/// The reference to an object at hand.
pub(crate) fn subject(api_version: &str, kind: &str, meta: &ObjectMeta) -> Subject {
    let key = Key::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    Subject {
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        ..Subject::new(api_version, kind, &key, meta.uid.as_deref().unwrap_or_default())
    }
}

/// A pod from the set's template.
fn pod_of(set: &ReplicaSet) -> Pod {
    let template = set.spec.template.clone().unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let name = set.metadata.name.as_deref().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            // A name that long would leave no room for the suffix; the server cuts it.
            generate_name: Some(format!("{name}-")),
            namespace: set.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owners::reference("apps/v1", "ReplicaSet", &set.metadata)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}
