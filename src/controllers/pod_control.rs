//! How controllers own, make and delete pods: one way for all of them.
//!
//! Upstream: RealPodControl and PodControllerRefManager in pkg/controller. Where upstream keeps expectations, every
//! write here waits until the view of pods shows it, so that the next reconcile counts it.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::selector::LabelSelector;
use coracle_client::events::{Recorder, Report, Severity, Subject};
use coracle_client::{Error, Item, Key, View, found};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{self as meta, ObjectMeta};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::pods::{JOB_TRACKING, PodView};
use crate::{Scope, owners};

/// Pods made or deleted in one reconcile at most.
pub const BURST: usize = 500;
/// How long the view may take to show what was written.
const CATCH_UP: Duration = Duration::from_secs(30);

pub type Known = Arc<Item<PodView>>;

/// The object that manages pods.
#[derive(Clone, Copy)]
pub struct Parent<'a> {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub meta: &'a ObjectMeta,
}

impl Parent<'_> {
    pub fn name(&self) -> &str {
        self.meta.name.as_deref().unwrap_or_default()
    }

    pub fn namespace(&self) -> &str {
        self.meta.namespace.as_deref().unwrap_or_default()
    }

    pub fn uid(&self) -> &str {
        self.meta.uid.as_deref().unwrap_or_default()
    }

    pub fn deleting(&self) -> bool {
        self.meta.deletion_timestamp.is_some()
    }

    pub fn reference(&self) -> meta::OwnerReference {
        owners::reference(self.api_version, self.kind, self.meta)
    }

    /// The reference to the object in an event.
    pub fn subject(&self) -> Subject {
        let key = Key::new(self.namespace(), self.name());
        Subject {
            resource_version: self.meta.resource_version.clone().unwrap_or_default(),
            ..Subject::new(self.api_version, self.kind, &key, self.uid())
        }
    }

    /// A pod from the template, which the server names.
    pub fn pod(&self, template: &PodTemplateSpec) -> Pod {
        let meta = template.metadata.clone().unwrap_or_default();
        Pod {
            metadata: ObjectMeta {
                // A name that long would leave no room for the suffix; the server cuts it.
                generate_name: Some(format!("{}-", self.name())),
                namespace: self.meta.namespace.clone(),
                labels: meta.labels,
                annotations: meta.annotations,
                finalizers: meta.finalizers,
                owner_references: Some(vec![self.reference()]),
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    }
}

#[derive(Clone)]
pub struct PodControl {
    client: kube::Client,
    events: Recorder,
    pods: View<PodView>,
}

impl PodControl {
    pub fn new(scope: &Scope, pods: View<PodView>) -> Self {
        Self { client: scope.client.clone(), events: scope.events.clone(), pods }
    }

    pub fn api(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The pods that are the parent's: owned and selected, whatever their phase. Adopts selected orphans for which
    /// `adopts` holds and lets go of owned pods that are not selected. `counted` are the pods of a Job, which carry its finalizer.
    pub async fn claim(
        &self,
        parent: Parent<'_>,
        selector: &LabelSelector,
        counted: bool,
        adopts: impl Fn(&Item<PodView>) -> bool,
    ) -> Result<Vec<Known>, Error> {
        let api = self.api(parent.namespace());
        let mut claimed = Vec::new();
        for pod in self.pods.find(parent.uid()) {
            if selector.matches(&*pod.labels) {
                claimed.push(pod);
            } else if !parent.deleting() && !pod.deleting {
                let mut patch = json!({"metadata": {
                    "ownerReferences": [{"$patch": "delete", "uid": parent.uid()}], "uid": pod.uid,
                }});
                if counted {
                    patch["metadata"]["$deleteFromPrimitiveList/finalizers"] = json!([JOB_TRACKING]);
                }
                let released = owners::patch(&api, &pod.key.name, patch).await?;
                self.caught_up(released.as_slice()).await?;
            }
        }
        if parent.deleting() {
            return Ok(claimed);
        }
        let orphans = self.pods.find("orphan").into_iter();
        let wanted = orphans.filter(|pod| {
            *pod.key.namespace == *parent.namespace()
                && !pod.deleting
                && !pod.labels.is_empty()
                && selector.matches(&*pod.labels)
                && adopts(pod)
        });
        for pod in wanted {
            let mut patch = json!({"metadata": {"ownerReferences": [parent.reference()], "uid": pod.uid}});
            if counted {
                patch["metadata"]["finalizers"] = json!([JOB_TRACKING]);
            }
            let adopted = owners::patch(&api, &pod.key.name, patch).await?;
            self.caught_up(adopted.as_slice()).await?;
            claimed.extend(self.pods.get(&pod.key).filter(|now| now.uid == pod.uid));
        }
        Ok(claimed)
    }

    /// Creates pods in batches that double, so that what fails for all fails first for one.
    pub async fn create(&self, parent: Parent<'_>, pods: &[Pod]) -> Result<(), Error> {
        let mut left = pods;
        let mut batch = 1;
        while !left.is_empty() {
            let (now, rest) = left.split_at(batch.min(left.len()));
            let created = join_all(now.iter().map(|pod| self.create_one(parent, pod))).await;
            let written: Vec<Pod> =
                created.iter().filter_map(|result| result.as_ref().ok().cloned().flatten()).collect();
            self.caught_up(&written).await?;
            created.into_iter().collect::<Result<Vec<_>, _>>()?;
            left = rest;
            batch *= 2;
        }
        Ok(())
    }

    async fn create_one(&self, parent: Parent<'_>, pod: &Pod) -> Result<Option<Pod>, Error> {
        match self.api(parent.namespace()).create(&PostParams::default(), pod).await.map_err(Error::from) {
            Ok(pod) => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                self.report(parent, Severity::Normal, "SuccessfulCreate", format!("Created pod: {name}"));
                Ok(Some(pod))
            }
            Err(error) if error.is_namespace_terminating() => Ok(None),
            Err(error) => {
                self.report(parent, Severity::Warning, "FailedCreate", format!("Error creating: {}", error.chain()));
                Err(error)
            }
        }
    }

    /// Creates one pod, without a word in the events.
    pub async fn make(&self, pod: &Pod) -> Result<(), Error> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let made = self.api(namespace).create(&PostParams::default(), pod).await?;
        self.caught_up(&[made]).await
    }

    /// Deletes one pod, without a word in the events.
    pub async fn remove(&self, pod: &Item<PodView>) -> Result<(), Error> {
        found(self.api(&pod.key.namespace).delete(&pod.key.name, &DeleteParams::default()).await)?;
        self.until(pod, |now| now.deleting).await
    }

    /// The pod as the view shows it.
    pub fn known(&self, key: &Key) -> Option<Known> {
        self.pods.get(key)
    }

    /// Deletes all of them at once; the first failure is returned.
    pub async fn delete(&self, parent: Parent<'_>, pods: &[Known]) -> Result<(), Error> {
        join_all(pods.iter().map(|pod| self.delete_one(parent, pod))).await.into_iter().collect()
    }

    async fn delete_one(&self, parent: Parent<'_>, pod: &Known) -> Result<(), Error> {
        let deleted = self.api(parent.namespace()).delete(&pod.key.name, &DeleteParams::default()).await;
        if let Err(error) = deleted.map_err(Error::from) {
            if error.is_not_found() {
                return Ok(());
            }
            self.report(parent, Severity::Warning, "FailedDelete", format!("Error deleting: {}", error.chain()));
            return Err(error);
        }
        self.report(parent, Severity::Normal, "SuccessfulDelete", format!("Deleted pod: {}", pod.key.name));
        self.until(pod, |now| now.deleting).await
    }

    /// Takes the finalizer of Jobs from a pod.
    pub async fn untrack(&self, pod: &Item<PodView>) -> Result<(), Error> {
        if !pod.work.as_ref().is_some_and(|work| work.tracked) {
            return Ok(());
        }
        let patch = json!({"metadata": {"uid": pod.uid, "$deleteFromPrimitiveList/finalizers": [JOB_TRACKING]}});
        owners::patch(&self.api(&pod.key.namespace), &pod.key.name, patch).await?;
        self.until(pod, |now| !now.work.as_ref().is_some_and(|work| work.tracked)).await
    }

    /// Waits until the pod is gone from the view, or as it should be there.
    async fn until(&self, pod: &Item<PodView>, holds: impl Fn(&PodView) -> bool + Send + Sync) -> Result<(), Error> {
        let seen = |pods: &View<PodView>| pods.get(&pod.key).is_none_or(|now| now.uid != pod.uid || holds(&now));
        if self.pods.wait(CATCH_UP, seen).await { Ok(()) } else { Err(behind()) }
    }

    /// Waits until the view shows what was written.
    async fn caught_up(&self, written: &[Pod]) -> Result<(), Error> {
        let revisions = written.iter().filter_map(|pod| pod.metadata.resource_version.as_deref()?.parse().ok());
        let revision: u64 = revisions.max().unwrap_or(0);
        if self.pods.wait(CATCH_UP, |pods| pods.revision() >= revision).await { Ok(()) } else { Err(behind()) }
    }

    /// Changes a pod's metadata by a strategic merge patch; `None` when it is gone.
    pub async fn patch(&self, pod: &Item<PodView>, patch: serde_json::Value) -> Result<Option<Pod>, Error> {
        let patched: Option<Pod> = found(
            self.api(&pod.key.namespace).patch(&pod.key.name, &PatchParams::default(), &Patch::Strategic(patch)).await,
        )?;
        self.caught_up(patched.as_slice()).await?;
        Ok(patched)
    }

    pub fn report(&self, parent: Parent<'_>, severity: Severity, reason: &'static str, message: String) {
        report(&self.events, parent, severity, reason, message);
    }
}

pub fn report(events: &Recorder, parent: Parent<'_>, severity: Severity, reason: &'static str, message: String) {
    events.report(Report { subject: parent.subject(), severity, reason, action: "", message });
}

fn behind() -> Error {
    Error::Other("the view of pods does not show what was written".to_owned())
}
