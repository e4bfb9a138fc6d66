//! Deployments: the history of ReplicaSets behind a pod template, and the moves from one to the next.
//!
//! Upstream: pkg/controller/deployment. ReplicaSets are read live; what to do is planned on them as a whole (`plan`),
//! then written.

use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::events::{Report, Severity};
use coracle_client::{Change, Controller, Error, Item, Key, Next, View, found};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::{Api, DeleteParams, ListParams, PostParams};

use crate::pod_control::Parent;
use crate::pods::PodView;
use crate::replicaset::SetView;
use crate::selector::SelectorView;
use crate::{Scope, owners, resources, time};

mod annotations;
mod plan;
mod scaling;
mod set;
mod status;
#[cfg(test)]
mod tests;

use plan::{Plan, plan};
use set::Set;

const WORKERS: usize = 5;

struct Deployments {
    scope: Scope,
    sets: View<SetView>,
    pods: View<PodView>,
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let deployments = scope.views.view::<SelectorView>(&resources::deployments());
    let sets = scope.views.view::<SetView>(&resources::replica_sets());
    let pods = scope.views.view::<PodView>(&resources::pods());
    let (known, known_sets) = (deployments.clone(), sets.clone());
    let controller = Controller::new("deployment")
        .workers(WORKERS)
        .on(&deployments, |change| Some(change.item().key.clone()))
        .on(&sets, move |change| concerned(change, &known))
        .on(&pods, move |change| recreating(change, &known_sets));
    let shutdown = scope.shutdown.clone();
    let this = Arc::new(Deployments { scope, sets, pods });
    async move { controller.run(&shutdown, move |key| this.clone().reconcile(key)).await }.boxed()
}

/// The owner of a ReplicaSet before and after, and every Deployment that could adopt an orphan.
fn concerned(change: &Change<SetView>, deployments: &View<SelectorView>) -> Vec<Key> {
    let sets = [change.former(), change.present()].into_iter().flatten();
    let mut keys: Vec<Key> = sets.filter_map(|set| owner(set)).collect();
    if let Some(set) = change.present().filter(|set| owners::controller_of(&set.owners).is_none()) {
        let all = deployments.in_namespace(&set.key.namespace).into_iter();
        keys.extend(all.filter(|it| it.selector.matches(&*set.labels)).map(|it| it.key.clone()));
    }
    keys
}

fn owner(set: &Item<SetView>) -> Option<Key> {
    let owner = owners::controller_of(&set.owners).filter(|owner| &*owner.kind == "Deployment")?;
    Some(Key::new(set.key.namespace.clone(), &*owner.name))
}

/// A Deployment that recreates waits for the last of its old pods: a pod that is gone or finished concerns it.
fn recreating(change: &Change<PodView>, sets: &View<SetView>) -> Option<Key> {
    let ended = change.present().is_none_or(|pod| pod.finished());
    let pod = change.item();
    let owner_set = pod.owner.as_ref().filter(|owner| ended && &*owner.kind == "ReplicaSet")?;
    owner(&*sets.get(&Key::new(pod.key.namespace.clone(), &*owner_set.name))?)
}

impl Deployments {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        let client = &self.scope.client;
        let api: Api<Deployment> = Api::namespaced(client.clone(), &key.namespace);
        let Some(deployment) = found(api.get(&key.name).await)? else { return Ok(Next::Done) };
        let replica_sets: Api<ReplicaSet> = Api::namespaced(client.clone(), &key.namespace);
        let sets = self.claim(&key, &deployment, &replica_sets).await?;
        let old_pods = |new: Option<&str>| self.pods_run(&sets, new);
        let plan = plan(&deployment, sets.clone(), &old_pods, self.scope.clock.now())?;
        self.carry_out(&key, &deployment, &api, &replica_sets, plan).await
    }

    /// The Deployment's ReplicaSets: owned and selected. Adopts selected orphans, lets go of owned ones that are not selected.
    async fn claim(&self, key: &Key, deployment: &Deployment, api: &Api<ReplicaSet>) -> Result<Vec<ReplicaSet>, Error> {
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let deleting = deployment.metadata.deletion_timestamp.is_some();
        let selector = serde_json::to_value(&deployment.spec.selector)?;
        let selector = LabelSelector::from_object(Some(&selector)).map_err(Error::Other)?;
        for set in self.sets.find(uid) {
            if !deleting && set.key.namespace == key.namespace && !selector.matches(&*set.labels) {
                owners::release(api, &set.key.name, &set.uid, uid).await?;
            }
        }
        if selector.is_everything() {
            return Ok(Vec::new());
        }
        let mut claimed = Vec::new();
        for set in api.list(&ListParams::default().labels(&selector.to_string())).await? {
            match owners::controller_uid(&set.metadata) {
                owner if owner == uid => claimed.push(set),
                "" if !deleting && set.metadata.deletion_timestamp.is_none() => {
                    let owner = owners::reference("apps/v1", "Deployment", &deployment.metadata);
                    let (name, set_uid) = (set.metadata.name.unwrap_or_default(), set.metadata.uid.unwrap_or_default());
                    claimed.extend(owners::adopt(api, &name, &set_uid, &owner).await?);
                }
                _ => {}
            }
        }
        Ok(claimed)
    }

    /// Whether pods of other sets than the new one still run.
    fn pods_run(&self, sets: &[ReplicaSet], new: Option<&str>) -> bool {
        let old = sets.iter().filter_map(|set| set.metadata.uid.as_deref()).filter(|uid| Some(*uid) != new);
        old.into_iter().any(|uid| self.pods.find(uid).iter().any(|pod| !pod.finished()))
    }

    async fn carry_out(
        &self,
        key: &Key,
        deployment: &Deployment,
        api: &Api<Deployment>,
        replica_sets: &Api<ReplicaSet>,
        mut plan: Plan,
    ) -> Result<Next, Error> {
        if let Some(text) = plan.warning {
            self.report(deployment, Severity::Warning, "SelectingAll", text.to_owned());
        }
        if let Some(set) = plan.create.take()
            && let Err(failure) = self.create(deployment, replica_sets, &set).await
        {
            if failure.is_namespace_terminating() {
                return Ok(Next::Done);
            }
            plan.creation_failed(&set, &failure, self.scope.clock.now());
            self.write_status(deployment, api, &plan).await?;
            return Err(failure);
        }
        for set in plan.sets.iter().filter(|set| set.changed()) {
            replica_sets.replace(set.name(), &PostParams::default(), &set.object).await?;
            if let Some((from, to)) = set.scaled() {
                self.report(deployment, Severity::Normal, "ScalingReplicaSet", scaled_text(set.name(), from, to));
            }
        }
        for name in &plan.delete {
            found(replica_sets.delete(name, &DeleteParams::default()).await)?;
        }
        self.write_status(deployment, api, &plan).await?;
        tracing::trace!(%key, "reconciled");
        Ok(plan.again.map_or(Next::Done, Next::After))
    }

    /// Creates the new set. A set of that name that is not the Deployment's new one is a collision of template hashes.
    async fn create(&self, deployment: &Deployment, api: &Api<ReplicaSet>, set: &ReplicaSet) -> Result<(), Error> {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        match api.create(&PostParams::default(), set).await.map_err(Error::from) {
            Ok(_) => {
                let replicas = set.spec.replicas.unwrap_or(0);
                if replicas > 0 {
                    self.report(deployment, Severity::Normal, "ScalingReplicaSet", scaled_text(name, 0, replicas));
                }
                Ok(())
            }
            Err(error) if error.is_already_exists() => match found(api.get(name).await)? {
                Some(there) if set::is_new(deployment, &there) => Ok(()),
                _ => Err(error),
            },
            Err(error) => {
                if !error.is_namespace_terminating() {
                    let text = format!("Failed to create new replica set {name:?}: {}", error.chain());
                    self.report(deployment, Severity::Warning, "ReplicaSetCreateError", text);
                }
                Err(error)
            }
        }
    }

    async fn write_status(&self, deployment: &Deployment, api: &Api<Deployment>, plan: &Plan) -> Result<(), Error> {
        let mut wanted = deployment.clone();
        wanted.status = Some(plan.status.clone());
        if let Some(revision) = &plan.revision {
            annotations::set(&mut wanted.metadata, annotations::REVISION, revision);
        }
        if wanted == *deployment {
            return Ok(());
        }
        let name = deployment.metadata.name.as_deref().unwrap_or_default();
        found(api.replace_status(name, &PostParams::default(), &wanted).await)?;
        Ok(())
    }

    fn report(&self, deployment: &Deployment, severity: Severity, reason: &'static str, message: String) {
        let parent = Parent { api_version: "apps/v1", kind: "Deployment", meta: &deployment.metadata };
        let subject = parent.subject();
        self.scope.events.report(Report { subject, severity, reason, action: "", message });
    }
}

fn scaled_text(name: &str, from: i32, to: i32) -> String {
    let direction = if from < to { "up" } else { "down" };
    format!("Scaled {direction} replica set {name} from {from} to {to}")
}
