//! A ReplicaSet as a plan changes it, and the making of a new one.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::annotations;
use crate::{hash, owners};

/// The label that tells the pods of a Deployment's sets apart.
const HASH_LABEL: &str = "pod-template-hash";
const NAME_LIMIT: usize = 253;

/// A set as it was read and as it is to be.
#[derive(Clone, Debug)]
pub(super) struct Set {
    before: ReplicaSet,
    pub(super) object: ReplicaSet,
}

impl Set {
    pub(super) fn new(object: ReplicaSet) -> Self {
        Self { before: object.clone(), object }
    }

    pub(super) fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &str {
        self.object.metadata.uid.as_deref().unwrap_or_default()
    }

    /// As asked for.
    pub(super) fn replicas(&self) -> i32 {
        replicas(&self.object)
    }

    /// As there are.
    pub(super) fn actual(&self) -> i32 {
        self.object.status.as_ref().map_or(0, |status| status.replicas)
    }

    pub(super) fn ready(&self) -> i32 {
        self.object.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
    }

    pub(super) fn available(&self) -> i32 {
        self.object.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
    }

    pub(super) fn terminating(&self) -> Option<i32> {
        self.object.status.as_ref().and_then(|status| status.terminating_replicas)
    }

    pub(super) fn revision(&self) -> i64 {
        annotations::revision(&self.object)
    }

    /// What sorts by age: creation time, then name.
    pub(super) fn age(&self) -> (i64, &str) {
        let created = self.object.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second());
        (created, self.name())
    }

    pub(super) fn deleting(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// Nothing runs, nothing is asked for, and the controller of the set knows that.
    pub(super) fn idle(&self) -> bool {
        let observed = self.object.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
        self.actual() == 0 && self.replicas() == 0 && self.object.metadata.generation.unwrap_or(0) <= observed
    }

    /// Sets the size, and notes which size of the Deployment it was made for.
    pub(super) fn scale(&mut self, replicas: i32, desired: i32, max: i32) {
        self.object.spec.replicas = Some(replicas);
        annotations::set_sizes(&mut self.object.metadata, desired, max);
    }

    pub(super) fn changed(&self) -> bool {
        self.before != self.object
    }

    /// From and to, when the size changed.
    pub(super) fn scaled(&self) -> Option<(i32, i32)> {
        let (before, after) = (replicas(&self.before), self.replicas());
        (before != after).then_some((before, after))
    }
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// Whether the set was made from the Deployment's present template and is its own.
pub(super) fn is_new(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
    owners::controller_uid(&set.metadata) == uid && same_template(deployment, set)
}

/// Equal templates, the hash label aside.
pub(super) fn same_template(deployment: &Deployment, set: &ReplicaSet) -> bool {
    set.spec.template.as_ref().is_some_and(|template| without_hash(template) == without_hash(&deployment.spec.template))
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH_LABEL);
        if labels.is_empty() {
            meta.labels = None;
        }
    }
    meta.creation_timestamp = None;
    template
}

/// The set for the Deployment's present template, of size 0 and without annotations.
pub(super) fn make(deployment: &Deployment) -> ReplicaSet {
    let spec = deployment.spec.clone();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = hash::name_of(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    let mut name = deployment.metadata.name.clone().unwrap_or_default();
    name.truncate(NAME_LIMIT - 1 - hash.len());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{hash}")),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![owners::reference("apps/v1", "Deployment", &deployment.metadata)]),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        },
        status: None,
    }
}
