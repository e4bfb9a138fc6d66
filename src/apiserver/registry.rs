//! The generic registry: every resource's objects over one store, in Kubernetes' terms.
//!
//! Reads are snapshots in memory; writes go through `write`, where the order of every create, update and delete is.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use coracle_api::{Object, Resource, Status};
use coracle_store::{Committed, Expect, Op, Txn, TxnError, Write};
use serde_json::Value;

use crate::authn::Lookup;
use crate::failure;
use crate::standin::{Cursor, Snapshot, Store};

pub mod entry;
pub mod metadata;
pub mod networks;
pub mod partition;
pub mod strategy;
pub mod write;

pub use entry::Stored;
pub use networks::{Network, Networks};

fn expired(revision: u64) -> Status {
    Status::expired(format!("too old resource version: {revision}"))
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    store: Arc<Store<Stored>>,
    networks: Arc<Networks>,
}

impl Registry {
    pub fn new(store: Arc<Store<Stored>>, networks: Networks) -> Self {
        Self { store, networks: Arc::new(networks) }
    }

    pub fn store(&self) -> &Store<Stored> {
        &self.store
    }

    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// The current form; `namespace` is `""` for cluster-scoped resources.
    pub fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Object> {
        let key = partition::key(resource, namespace, name);
        self.store.get(&key).map(|stored| stored.0)
    }

    /// The current form, or the 404 that clients expect.
    pub fn find(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Object, Status> {
        self.get(resource, namespace, name).ok_or_else(|| Status::not_found(resource, name))
    }

    /// All objects, in one namespace where `namespace` is not empty.
    pub fn all(&self, resource: &Resource, namespace: &str) -> Vec<Object> {
        let snapshot = self.snapshot(resource);
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let objects = snapshot.range(Bound::Included(prefix.as_str()));
        objects.take_while(|(name, _)| name.starts_with(&prefix)).map(|(_, stored)| stored.0.clone()).collect()
    }

    /// All objects of a resource at one revision.
    pub fn snapshot(&self, resource: &Resource) -> Snapshot<Stored> {
        self.store.snapshot(&partition::of(resource))
    }

    /// All objects as they were at `revision`: 410 when that is not known any more, 504 when it is not known yet.
    pub fn snapshot_at(&self, resource: &Resource, revision: u64) -> Result<Snapshot<Stored>, Status> {
        let current = self.snapshot(resource);
        match revision.cmp(&current.revision()) {
            std::cmp::Ordering::Greater => return Err(failure::too_large_revision(revision, current.revision())),
            std::cmp::Ordering::Equal => return Ok(current),
            std::cmp::Ordering::Less => {}
        }
        let snapshot = self.store.snapshot_at(&partition::of(resource), revision);
        snapshot.map_err(|_| expired(revision))
    }

    /// Changes after `revision`; 410 when not all of them are known any more.
    pub fn watch(&self, resource: &Resource, after: u64) -> Result<Cursor<Stored>, Status> {
        self.store.watch(&partition::of(resource), after).map_err(|_| expired(after))
    }

    /// Waits until an object is there.
    pub async fn appears(&self, resource: &Resource, namespace: &str, name: &str, limit: Duration) -> Option<Object> {
        let wait = async {
            let mut cursor = self.watch(resource, self.snapshot(resource).revision()).ok()?;
            loop {
                if let Some(object) = self.get(resource, namespace, name) {
                    return Some(object);
                }
                cursor.next().await;
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
        Registry::get(self, resource, namespace, name)
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
