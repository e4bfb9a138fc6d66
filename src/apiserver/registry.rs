//! The generic registry: every resource's objects over one store, in Kubernetes' terms.
//!
//! Reads are snapshots in memory; writes go through `write`, where the order of every create, update and delete is.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::{Object, Resource, Status};
use coracle_store::{Committed, Expect, Extent, Op, ReadError, Scope, Snapshot, Store, Txn, TxnError, Watch, Write};
use futures::FutureExt;
use serde_json::Value;

use crate::authn::Lookup;
use crate::failure;

pub mod entry;
pub mod metadata;
pub mod networks;
pub mod ownership;
pub mod partition;
pub mod strategy;
pub mod validate;
pub mod write;

pub use entry::Stored;
pub use networks::{Network, Networks};

/// 410 for a revision whose history is gone.
pub fn too_old(revision: u64, floor: u64) -> Status {
    Status::expired(format!("too old resource version: {revision} ({floor})"))
}

pub fn read_failure(error: &ReadError) -> Status {
    match error {
        ReadError::Future { asked, current } => failure::too_large_revision(*asked, *current),
        ReadError::Expired(expired) => Status::expired(expired.to_string()),
        other => Status::internal(other),
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    store: Store<Stored>,
    networks: Arc<Networks>,
}

impl Registry {
    pub fn new(store: Store<Stored>, networks: Networks) -> Self {
        Self { store, networks: Arc::new(networks) }
    }

    pub fn store(&self) -> &Store<Stored> {
        &self.store
    }

    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// The current form; `namespace` is `""` for cluster-scoped resources.
    pub async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Option<Object>, Status> {
        let key = partition::key(resource, namespace, name);
        let found = self.store.get(&key).await.map_err(|error| read_failure(&error))?;
        Ok(found.map(|stored| stored.0))
    }

    /// The current form, or the 404 that clients expect.
    pub async fn find(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Object, Status> {
        self.get(resource, namespace, name).await?.ok_or_else(|| Status::not_found(resource, name))
    }

    /// The current form of an object that is resident: of any resource but events.
    pub fn resident(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Object> {
        self.get(resource, namespace, name).now_or_never().and_then(Result::ok).flatten()
    }

    /// All objects of a resident resource, in one namespace where `namespace` is not empty.
    pub fn all(&self, resource: &Resource, namespace: &str) -> Vec<Object> {
        let Some(Ok(snapshot)) = self.snapshot(resource).now_or_never() else { return Vec::new() };
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        snapshot.range(&prefix, "").map(|(_, stored)| stored.0.clone()).collect()
    }

    /// All objects of a resource at one revision.
    pub async fn snapshot(&self, resource: &Resource) -> Result<Snapshot<Stored>, Status> {
        self.store.snapshot(&partition::of(resource)).await.map_err(|error| read_failure(&error))
    }

    /// At least an extent of the objects, as they are now or were at a revision.
    pub async fn extent(
        &self,
        resource: &Resource,
        extent: Extent<'_>,
        at: Option<u64>,
    ) -> Result<Snapshot<Stored>, ReadError> {
        self.store.extent(&partition::of(resource), extent, at).await
    }

    /// Changes of `scope` after `revision`; 410 when not all of them are known any more.
    pub fn watch(&self, resource: &Resource, scope: Scope, after: u64) -> Result<Watch<Stored>, Status> {
        self.store.watch(&partition::of(resource), scope, after).map_err(|expired| too_old(after, expired.floor))
    }

    /// Waits until an object is there.
    pub async fn appears(&self, resource: &Resource, namespace: &str, name: &str, limit: Duration) -> Option<Object> {
        let wait = async {
            let scope = Scope::Name((*partition::key(resource, namespace, name).name).into());
            let mut watch = self.watch(resource, scope, self.store.revision()).ok()?;
            loop {
                if let Some(object) = self.resident(resource, namespace, name) {
                    return Some(object);
                }
                watch.next().await.ok()??;
            }
        };
        tokio::time::timeout(limit, wait).await.ok().flatten()
    }

    pub async fn commit(&self, ops: Vec<Op<Stored>>) -> Result<Committed<Stored>, TxnError> {
        self.store.commit(Txn { ops }).await
    }
}

impl Lookup for Registry {
    fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Object> {
        self.resident(resource, namespace, name)
    }

    fn list(&self, resource: &Resource, namespace: &str) -> Vec<Object> {
        self.all(resource, namespace)
    }
}

/// Puts `tree` under its own name.
pub fn put(resource: &Resource, tree: &Value, expect: Expect) -> Op<Stored> {
    let stored = partition::stored(resource);
    let meta = entry::cut(&stored, tree);
    let key = partition::key(&stored, &meta.namespace, &meta.name);
    let frame = entry::frame(&stored, tree);
    Op { key, expect, write: Write::Put { frame, draft: entry::Draft { resource: stored, meta }, renewal: false } }
}

/// Deletes `object` as it is.
pub fn remove(object: &Object) -> Op<Stored> {
    let meta = object.meta();
    let key = partition::key(object.resource(), &meta.namespace, &meta.name);
    Op { key, expect: Expect::Revision(object.revision()), write: Write::Delete }
}

/// What a transaction error means to a client, conflicts apart.
pub fn store_failure(resource: &Resource, error: &TxnError) -> Status {
    match error {
        TxnError::Conflict { key, .. } => Status::modified(resource, key.name.rsplit('/').next().unwrap_or_default()),
        TxnError::Full(_) | TxnError::NotWritten(_) => Status::service_unavailable(error.to_string()),
        TxnError::Closed => Status::service_unavailable("the server is shutting down"),
        TxnError::Unknown(_) => Status::internal(error),
    }
}

/// The tree of a stored object, with its resourceVersion.
pub fn tree(object: &Object) -> Result<Value, Status> {
    object.decode()
}
