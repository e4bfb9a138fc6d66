//! Owner references: who controls an object, and taking over or letting go of objects.
//!
//! Upstream: pkg/controller/controller_ref_manager.go.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, Patch, PatchParams};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use coracle_client::{Change, Error, Item, Key, found};

use crate::pods::PodView;

/// metav1.OwnerReference, as views keep it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Owner {
    pub api_version: Box<str>,
    pub kind: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    pub controller: bool,
    pub block_owner_deletion: bool,
}

/// The one that manages the object, among its owners.
pub fn controller_of(owners: &[Owner]) -> Option<&Owner> {
    owners.iter().find(|owner| owner.controller)
}

/// The UID of the owner that manages the object; empty when there is none.
pub fn controller_uid(meta: &ObjectMeta) -> &str {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true)).map_or("", |owner| &owner.uid)
}

/// The keys of the owners of a kind that manage a pod, or did before the change.
pub fn keys_of(change: &Change<PodView>, kind: &str) -> Vec<Key> {
    let pods = [change.former(), change.present()].into_iter().flatten();
    let owner = |pod: &Arc<Item<PodView>>| {
        let owner = pod.owner.as_ref().filter(|owner| &*owner.kind == kind)?;
        Some(Key::new(pod.key.namespace.clone(), &*owner.name))
    };
    pods.filter_map(owner).collect()
}

/// A reference that makes `meta` the managing owner.
pub fn reference(api_version: &str, kind: &str, meta: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Makes `owner` the managing owner of an object without one. `uid` guards against another object of the same name.
/// Gives what the object then is; `None` when it is gone.
pub async fn adopt<K>(api: &Api<K>, name: &str, uid: &str, owner: &OwnerReference) -> Result<Option<K>, Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    patch(api, name, json!({"metadata": {"ownerReferences": [owner], "uid": uid}})).await
}

/// Takes the reference to the owner `owner_uid` from an object that is no longer selected.
pub async fn release<K>(api: &Api<K>, name: &str, uid: &str, owner_uid: &str) -> Result<Option<K>, Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    patch(api, name, json!({"metadata": {"ownerReferences": [{"$patch": "delete", "uid": owner_uid}], "uid": uid}}))
        .await
}

/// A strategic merge patch of metadata that names the object's UID; `None` when the object, or what is to be taken
/// away, is gone.
pub async fn patch<K>(api: &Api<K>, name: &str, patch: Value) -> Result<Option<K>, Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    match found(api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await) {
        // Another object of the name, or the reference is gone already.
        Err(error) if error.reason() == "Invalid" => Ok(None),
        result => result,
    }
}
