//! The pods this node should run, as encoded objects by UID.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use coracle_api::Object;

/// By namespace and name.
type Mirrors = HashMap<(Box<str>, Box<str>), Object>;

/// Shared by the agent's parts; a read never waits for anything but another short read or write.
#[derive(Clone, Default)]
pub struct PodStore {
    pods: Arc<RwLock<HashMap<Box<str>, Object>>>,
    /// What the API shows of static pods, by namespace and name.
    mirrors: Arc<RwLock<Mirrors>>,
}

impl PodStore {
    pub fn get(&self, uid: &str) -> Option<Object> {
        self.pods.read().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// The pod of that name; of several (a static pod and its successor), any.
    pub fn named(&self, namespace: &str, name: &str) -> Option<Object> {
        let pods = self.pods.read().unwrap_or_else(PoisonError::into_inner);
        pods.values().find(|pod| &*pod.meta().name == name && &*pod.meta().namespace == namespace).cloned()
    }

    /// The API's picture of the static pod of that name.
    pub fn mirror(&self, namespace: &str, name: &str) -> Option<Object> {
        let mirrors = self.mirrors.read().unwrap_or_else(PoisonError::into_inner);
        mirrors.get(&(namespace.into(), name.into())).cloned()
    }

    pub fn mirrors(&self) -> Vec<Object> {
        self.mirrors.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Keeps the newer form, as `put_newer`; revisions grow over deletions too.
    pub fn put_mirror(&self, mirror: Object) {
        let mut mirrors = self.mirrors.write().unwrap_or_else(PoisonError::into_inner);
        let key = (mirror.meta().namespace.clone(), mirror.meta().name.clone());
        if mirrors.get(&key).is_none_or(|present| present.revision() <= mirror.revision()) {
            mirrors.insert(key, mirror);
        }
    }

    /// Forgets this mirror, and no newer one of its name.
    pub fn remove_mirror(&self, mirror: &Object) {
        let mut mirrors = self.mirrors.write().unwrap_or_else(PoisonError::into_inner);
        let key = (mirror.meta().namespace.clone(), mirror.meta().name.clone());
        if mirrors.get(&key).is_some_and(|present| present.meta().uid == mirror.meta().uid) {
            mirrors.remove(&key);
        }
    }

    pub fn all(&self) -> Vec<Object> {
        self.pods.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Keeps the newer of this form and the one that is there: our own writes and the watch both bring forms.
    pub fn put_newer(&self, pod: Object) {
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        let present = pods.get(&pod.meta().uid).map(Object::revision);
        if present.is_none_or(|present| present <= pod.revision()) {
            pods.insert(pod.meta().uid.clone(), pod);
        }
    }

    pub fn remove(&self, uid: &str) -> Option<Object> {
        self.pods.write().unwrap_or_else(PoisonError::into_inner).remove(uid)
    }
}
