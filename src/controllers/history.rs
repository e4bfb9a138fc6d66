//! The history of a pod template, kept as ControllerRevisions beside the object.
//!
//! Upstream: pkg/controller/history, constructHistory in pkg/controller/daemon/update.go.

use std::collections::BTreeMap;

use coracle_api::Object;
use coracle_api::selector::LabelSelector;
use coracle_client::{Change, Error, Key, Project, found};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

use crate::hash;
use crate::owners::{self, Owner};
use crate::pod_control::Parent;

/// Of a name, before the hash.
const LONGEST_PREFIX: usize = 223;

/// Who keeps the revision.
pub struct RevisionView {
    owner: Option<Owner>,
}

impl Project for RevisionView {
    fn project(object: &Object) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Decoded {
            metadata: Metadata,
        }
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            #[serde(default)]
            owner_references: Vec<Owner>,
        }
        let decoded: Decoded = object.decode().ok()?;
        Some(Self { owner: owners::controller_of(&decoded.metadata.owner_references).cloned() })
    }
}

/// The owners of a kind that a change of a revision concerns.
pub fn concerned(change: &Change<RevisionView>, kind: &str) -> Vec<Key> {
    let revisions = [change.former(), change.present()].into_iter().flatten();
    let owners = revisions.filter_map(|revision| {
        let owner = revision.owner.as_ref().filter(|owner| &*owner.kind == kind)?;
        Some(Key::new(revision.key.namespace.clone(), &*owner.name))
    });
    owners.collect()
}

pub struct History<'a> {
    pub api: Api<ControllerRevision>,
    pub parent: Parent<'a>,
    /// The label that carries the hash.
    pub label: &'static str,
}

/// The revisions of an object, oldest first.
pub struct Revisions {
    /// Of the present template.
    pub current: ControllerRevision,
    /// Of others.
    pub old: Vec<ControllerRevision>,
    /// Of the present template as well.
    pub doubles: Vec<ControllerRevision>,
}

/// What a revision keeps: the template as a strategic merge patch that replaces it.
pub fn data(template: &PodTemplateSpec) -> Result<Value, Error> {
    let mut template = serde_json::to_value(template)?;
    template["$patch"] = "replace".into();
    Ok(json!({"spec": {"template": template}}))
}

/// The template that a revision keeps.
pub fn template(revision: &ControllerRevision) -> Result<PodTemplateSpec, Error> {
    let mut template = revision.data.0["spec"]["template"].clone();
    template.as_object_mut().map(|template| template.remove("$patch"));
    Ok(serde_json::from_value(template)?)
}

pub fn name(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

impl History<'_> {
    /// The parent's revisions, orphans adopted, oldest first.
    async fn claim(&self, selector: &LabelSelector) -> Result<Vec<ControllerRevision>, Error> {
        let mut claimed = Vec::new();
        for revision in self.api.list(&ListParams::default().labels(&selector.to_string())).await? {
            match owners::controller_uid(&revision.metadata) {
                owner if owner == self.parent.uid() => claimed.push(revision),
                "" if revision.metadata.deletion_timestamp.is_none() => {
                    let uid = revision.metadata.uid.as_deref().unwrap_or_default();
                    let owner = self.parent.reference();
                    claimed.extend(owners::adopt(&self.api, name(&revision), uid, &owner).await?);
                }
                _ => {}
            }
        }
        claimed.sort_by_key(|it| {
            let created = it.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (it.revision, created, it.metadata.name.clone())
        });
        Ok(claimed)
    }

    /// Finds or makes the revision of the present template, and gives it the highest number. `collisions` is counted
    /// up where a name is taken by another template.
    pub async fn bring_up(
        &self,
        selector: &LabelSelector,
        template: &PodTemplateSpec,
        collisions: &mut i32,
    ) -> Result<Revisions, Error> {
        let data = data(template)?;
        let (mut same, old): (Vec<_>, Vec<_>) =
            self.claim(selector).await?.into_iter().partition(|revision| revision.data.0 == data);
        let next = old.iter().filter_map(|revision| revision.revision).max().unwrap_or(0) + 1;
        let current = match same.pop() {
            None => self.create(template, data, next, collisions).await?,
            Some(current) if current.revision < Some(next) => {
                let current = ControllerRevision { revision: Some(next), ..current };
                self.api.replace(name(&current), &PostParams::default(), &current).await?
            }
            Some(current) => current,
        };
        Ok(Revisions { current, old, doubles: same })
    }

    async fn create(
        &self,
        template: &PodTemplateSpec,
        data: Value,
        number: i64,
        collisions: &mut i32,
    ) -> Result<ControllerRevision, Error> {
        let prefix = self.parent.name();
        let prefix = &prefix[..prefix.len().min(LONGEST_PREFIX)];
        loop {
            let hash = hash::name_of(&data, Some(*collisions));
            let labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone());
            let mut labels: BTreeMap<String, String> = labels.unwrap_or_default();
            labels.insert(self.label.to_owned(), hash.clone());
            let revision = ControllerRevision {
                metadata: ObjectMeta {
                    name: Some(format!("{prefix}-{hash}")),
                    namespace: self.parent.meta.namespace.clone(),
                    labels: Some(labels),
                    annotations: self.parent.meta.annotations.clone(),
                    owner_references: Some(vec![self.parent.reference()]),
                    ..ObjectMeta::default()
                },
                data: RawExtension(data.clone()),
                revision: Some(number),
            };
            match self.api.create(&PostParams::default(), &revision).await.map_err(Error::from) {
                Err(error) if error.is_already_exists() => match found(self.api.get(name(&revision)).await)? {
                    Some(there) if there.data.0 == data => return Ok(there),
                    Some(_) => *collisions += 1,
                    None => return Err(error),
                },
                result => return result,
            }
        }
    }

    pub async fn delete(&self, revisions: &[&ControllerRevision]) -> Result<(), Error> {
        for revision in revisions {
            found(self.api.delete(name(revision), &DeleteParams::default()).await)?;
        }
        Ok(())
    }
}
