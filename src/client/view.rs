//! Views: what a component remembers of a resource, as small structs kept current by one watch.
//!
//! A view is a projection of every object of a resource (and selection) to a struct with the fields that its user
//! needs. All views of one resource and selection are fed by one watch, and views of the same type are one store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{Bound, Deref};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use coracle_api::Object;
use tokio::sync::watch;

use crate::Key;
use crate::source::ObjectEvent;

mod feed;
#[cfg(test)]
mod tests;

pub use feed::Views;

/// How an object becomes what a view keeps of it.
pub trait Project: Send + Sync + Sized + 'static {
    /// `None` keeps the object out of the view. Decode with a partial struct; this runs for every change.
    fn project(object: &Object) -> Option<Self>;

    /// Terms under which `View::find` finds the object, such as an owner's UID.
    fn terms(&self) -> Vec<Box<str>> {
        Vec::new()
    }
}

/// An object's projection with its identity.
#[derive(Debug)]
pub struct Item<T> {
    pub key: Key,
    pub uid: Box<str>,
    /// Of the object from which the value was made.
    pub revision: u64,
    pub value: T,
}

impl<T> Deref for Item<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// What happened to an object of a view. An object that is replaced by one of the same name comes as gone, then as new.
pub enum Change<T> {
    Added(Arc<Item<T>>),
    Updated { old: Arc<Item<T>>, new: Arc<Item<T>> },
    Removed(Arc<Item<T>>),
}

impl<T> Change<T> {
    /// The present form, or the last one of an object that is gone.
    pub fn item(&self) -> &Arc<Item<T>> {
        match self {
            Change::Added(item) | Change::Updated { new: item, .. } | Change::Removed(item) => item,
        }
    }

    /// The earlier form of an object that was there.
    pub fn former(&self) -> Option<&Arc<Item<T>>> {
        match self {
            Change::Added(_) => None,
            Change::Updated { old: item, .. } | Change::Removed(item) => Some(item),
        }
    }

    /// The present form of an object that is there.
    pub fn present(&self) -> Option<&Arc<Item<T>>> {
        match self {
            Change::Added(item) | Change::Updated { new: item, .. } => Some(item),
            Change::Removed(_) => None,
        }
    }
}

/// A reader's handle on a view; cloning is a reference count. The watch ends with the last handle on any of its views.
pub struct View<T> {
    store: Arc<Store<T>>,
    feed: Arc<feed::Feed>,
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), feed: self.feed.clone() }
    }
}

impl<T: Project> View<T> {
    pub fn get(&self, key: &Key) -> Option<Arc<Item<T>>> {
        self.store.read().items.get(key).cloned()
    }

    /// Everything, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<Item<T>>> {
        self.store.read().items.values().cloned().collect()
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<Item<T>>> {
        let state = self.store.read();
        let from = Key::new(namespace, "");
        let range = state.items.range((Bound::Included(from), Bound::Unbounded));
        range.take_while(|(key, _)| &*key.namespace == namespace).map(|(_, item)| item.clone()).collect()
    }

    /// The objects that have `term` among `Project::terms`, ordered by key.
    pub fn find(&self, term: &str) -> Vec<Arc<Item<T>>> {
        let state = self.store.read();
        let keys = state.terms.get(term).into_iter().flatten();
        keys.filter_map(|key| state.items.get(key).cloned()).collect()
    }

    pub fn len(&self) -> usize {
        self.store.read().items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `handler` for everything that is there and then for every change, in order, from the watch's task: it
    /// must be quick (enqueue a key) and may read views, but not subscribe.
    pub fn subscribe(&self, handler: impl Fn(&Change<T>) + Send + Sync + 'static) {
        let mut handlers = self.store.handlers.lock().unwrap_or_else(PoisonError::into_inner);
        for item in self.list() {
            handler(&Change::Added(item));
        }
        handlers.push(Box::new(handler));
    }

    /// Completes once the first list is complete.
    pub async fn synced(&self) {
        let mut progress = self.store.progress.subscribe();
        // The sender lives as long as this view, so the wait ends only by the condition.
        let _ = progress.wait_for(|progress| progress.synced).await;
    }

    pub fn has_synced(&self) -> bool {
        self.store.progress.borrow().synced
    }

    /// The newest revision that this view has seen of its resource; comparable with what writes answer.
    pub fn revision(&self) -> u64 {
        self.store.progress.borrow().revision
    }

    /// Waits until `holds` says true of the view, asking after every change; false when `limit` passed first. So a
    /// reconcile makes sure that the next one sees what it wrote.
    pub async fn wait(&self, limit: Duration, holds: impl Fn(&Self) -> bool + Send) -> bool {
        let mut progress = self.store.progress.subscribe();
        tokio::time::timeout(limit, progress.wait_for(|_| holds(self))).await.is_ok()
    }

    /// Completes once the view has seen `revision`. Only for revisions of objects that the view's selection holds.
    pub async fn reached(&self, revision: u64) {
        let mut progress = self.store.progress.subscribe();
        let _ = progress.wait_for(|progress| progress.revision >= revision).await;
    }
}

#[derive(Clone, Copy, Default)]
struct Progress {
    revision: u64,
    synced: bool,
}

type Handler<T> = Box<dyn Fn(&Change<T>) + Send + Sync>;

struct Store<T> {
    state: RwLock<State<T>>,
    /// Held while a change is applied and told, so that subscribers see every change once and in order.
    handlers: Mutex<Vec<Handler<T>>>,
    progress: watch::Sender<Progress>,
}

struct State<T> {
    items: BTreeMap<Key, Arc<Item<T>>>,
    terms: HashMap<Box<str>, BTreeSet<Key>>,
    /// During a list: what was known and has not come again.
    unseen: Option<BTreeSet<Key>>,
}

/// Where a feed puts what it reads, whatever the projection.
trait Sink: Send + Sync {
    fn apply(&self, event: &ObjectEvent);
}

impl<T: Project> Store<T> {
    fn new() -> Self {
        let state = State { items: BTreeMap::new(), terms: HashMap::new(), unseen: None };
        Self {
            state: RwLock::new(state),
            handlers: Mutex::default(),
            progress: watch::Sender::new(Progress::default()),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State<T>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Project> Sink for Store<T> {
    fn apply(&self, event: &ObjectEvent) {
        let handlers = self.handlers.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = self.state.write().unwrap_or_else(PoisonError::into_inner).step(event);
        for change in &changes {
            handlers.iter().for_each(|handler| handler(change));
        }
        self.progress.send_modify(|progress| {
            progress.synced |= matches!(event, ObjectEvent::Synced(_));
            progress.revision = progress.revision.max(match event {
                ObjectEvent::Restarted => 0,
                ObjectEvent::Applied(object) | ObjectEvent::Deleted(object) => object.revision(),
                ObjectEvent::Synced(revision) => *revision,
            });
        });
    }
}

impl<T: Project> State<T> {
    fn step(&mut self, event: &ObjectEvent) -> Vec<Change<T>> {
        match event {
            ObjectEvent::Restarted => {
                self.unseen = Some(self.items.keys().cloned().collect());
                Vec::new()
            }
            ObjectEvent::Applied(object) => self.put(object),
            ObjectEvent::Deleted(object) => self.remove(&Key::of(object)).into_iter().collect(),
            ObjectEvent::Synced(_) => {
                let gone = self.unseen.take().unwrap_or_default();
                gone.iter().filter_map(|key| self.remove(key)).collect()
            }
        }
    }

    fn put(&mut self, object: &Object) -> Vec<Change<T>> {
        let key = Key::of(object);
        if let Some(unseen) = &mut self.unseen {
            unseen.remove(&key);
        }
        let same = |item: &Arc<Item<T>>| item.uid == object.meta().uid;
        if self.items.get(&key).is_some_and(|item| same(item) && item.revision == object.revision()) {
            return Vec::new();
        }
        let Some(value) = T::project(object) else { return self.remove(&key).into_iter().collect() };
        let new = Arc::new(Item { key, uid: object.meta().uid.clone(), revision: object.revision(), value });
        let mut changes = Vec::with_capacity(1);
        match self.items.get(&new.key).cloned() {
            Some(old) if same(&old) => {
                self.forget_terms(&old);
                changes.push(Change::Updated { old, new: new.clone() });
            }
            _ => {
                changes.extend(self.remove(&new.key));
                changes.push(Change::Added(new.clone()));
            }
        }
        for term in new.terms() {
            self.terms.entry(term).or_default().insert(new.key.clone());
        }
        self.items.insert(new.key.clone(), new);
        changes
    }

    fn remove(&mut self, key: &Key) -> Option<Change<T>> {
        let old = self.items.remove(key)?;
        self.forget_terms(&old);
        Some(Change::Removed(old))
    }

    fn forget_terms(&mut self, item: &Item<T>) {
        for term in item.terms() {
            if let Some(keys) = self.terms.get_mut(&term) {
                keys.remove(&item.key);
                if keys.is_empty() {
                    self.terms.remove(&term);
                }
            }
        }
    }
}
