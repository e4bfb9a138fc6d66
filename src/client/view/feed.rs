//! One watch for all views of a resource and selection, and the set of them that a component holds.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use coracle_api::Resource;
use coracle_base::backoff::{Backoff, Shape};
use coracle_base::task::{self, Task};
use futures::StreamExt;
use tokio::sync::Notify;

use super::{Project, Sink, Store, View};
use crate::source::{ObjectEvent, ObjectSource, Selection};

/// The views of one identity over one source. Dropping it does not end views that are held.
pub struct Views {
    source: Arc<dyn ObjectSource>,
    state: Mutex<State>,
}

struct State {
    feeds: HashMap<(Resource, Selection), Weak<Feed>>,
    started: bool,
}

/// The watch behind views; it ends with the last of them.
pub(super) struct Feed {
    shared: Arc<Shared>,
    task: Mutex<Option<Task<()>>>,
}

struct Shared {
    sinks: Mutex<Vec<Weak<dyn Sink>>>,
    stores: Mutex<HashMap<TypeId, Weak<dyn Any + Send + Sync>>>,
    /// A view joined after the watch began, so the list has to come again.
    joined: Notify,
}

/// A stream that ends (it should not) is opened again after these delays.
const REOPEN: Shape = Shape::doubling(Duration::from_millis(100), Duration::from_secs(30));

impl Views {
    pub fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self { source, state: Mutex::new(State { feeds: HashMap::new(), started: false }) }
    }

    /// A view of all objects of a resource. It fills after `start`; views made later cost another list.
    pub fn view<T: Project>(&self, resource: &Resource) -> View<T> {
        self.selected(resource, Selection::default())
    }

    /// A view of the objects that `selection` selects.
    pub fn selected<T: Project>(&self, resource: &Resource, selection: Selection) -> View<T> {
        let mut state = lock(&self.state);
        let place = (resource.clone(), selection);
        let feed = state.feeds.get(&place).and_then(Weak::upgrade).unwrap_or_else(|| {
            let shared = Shared { sinks: Mutex::default(), stores: Mutex::default(), joined: Notify::new() };
            Arc::new(Feed { shared: Arc::new(shared), task: Mutex::default() })
        });
        state.feeds.insert(place.clone(), Arc::downgrade(&feed));
        let store = feed.store::<T>();
        if state.started {
            feed.start(&self.source, &place);
        }
        View { store, feed }
    }

    /// Begins to watch. Make the views and subscribe first, so that each resource is listed once.
    pub fn start(&self) {
        let mut state = lock(&self.state);
        state.started = true;
        state.feeds.retain(|_, feed| feed.strong_count() > 0);
        for (place, feed) in &state.feeds {
            if let Some(feed) = feed.upgrade() {
                feed.start(&self.source, place);
            }
        }
    }
}

impl Feed {
    fn store<T: Project>(&self) -> Arc<Store<T>> {
        let mut stores = lock(&self.shared.stores);
        let known =
            stores.get(&TypeId::of::<T>()).and_then(Weak::upgrade).and_then(|any| any.downcast::<Store<T>>().ok());
        if let Some(store) = known {
            return store;
        }
        let store = Arc::new(Store::<T>::new());
        let any: Arc<dyn Any + Send + Sync> = store.clone();
        stores.insert(TypeId::of::<T>(), Arc::downgrade(&any));
        let sink: Arc<dyn Sink> = store.clone();
        lock(&self.shared.sinks).push(Arc::downgrade(&sink));
        self.shared.joined.notify_one();
        store
    }

    fn start(&self, source: &Arc<dyn ObjectSource>, (resource, selection): &(Resource, Selection)) {
        let mut task = lock(&self.task);
        if task.is_none() {
            let run = run(self.shared.clone(), source.clone(), resource.clone(), selection.clone());
            *task = Some(task::spawn("view", run));
        }
    }
}

async fn run(shared: Arc<Shared>, source: Arc<dyn ObjectSource>, resource: Resource, selection: Selection) {
    let mut reopen = Backoff::new(REOPEN);
    let mut interrupted = false;
    loop {
        // What joined before this point gets the list that is about to come.
        let joined = shared.joined.notified();
        tokio::pin!(joined);
        while joined.as_mut().enable() {
            joined.set(shared.joined.notified());
        }
        let mut stream = source.list_watch(&resource, selection.clone());
        loop {
            let event = tokio::select! {
                biased;
                () = &mut joined => break,
                event = stream.next() => event,
            };
            match event {
                Some(Ok(event)) => {
                    if matches!(event, ObjectEvent::Synced(_)) {
                        reopen.reset();
                    }
                    interrupted = false;
                    shared.apply(&event);
                }
                // Once is what every stop and restart of a server looks like.
                Some(Err(status)) if !std::mem::replace(&mut interrupted, true) => {
                    tracing::debug!(?resource, error = %status, "watch is interrupted");
                }
                Some(Err(status)) => tracing::warn!(?resource, error = %status, "watch is still interrupted"),
                None => {
                    tokio::time::sleep(reopen.next_delay()).await;
                    break;
                }
            }
        }
    }
}

impl Shared {
    fn apply(&self, event: &ObjectEvent) {
        let sinks: Vec<Arc<dyn Sink>> = {
            let mut sinks = lock(&self.sinks);
            sinks.retain(|sink| sink.strong_count() > 0);
            sinks.iter().filter_map(Weak::upgrade).collect()
        };
        sinks.iter().for_each(|sink| sink.apply(event));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
