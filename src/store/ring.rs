//! The watch history of one partition: recent changes, bounded by age, bytes and count, and who waits for more.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::entry::Entry;
use crate::watch::{Change, Expired, Scope};

/// Changes are kept this long, unless they are too many.
const AGE: Duration = Duration::from_secs(75);
/// Bytes of one ring.
const BYTES: usize = 1 << 20;
/// Kept whatever their age and size.
const AT_LEAST: usize = 100;

pub(crate) struct Ring<E> {
    state: Mutex<State<E>>,
}

struct State<E> {
    changes: VecDeque<(Instant, Change<E>)>,
    bytes: usize,
    /// Every change above this revision is here.
    floor: u64,
    waiting: Waiting,
    closed: bool,
}

/// Who waits, by what they wait for.
#[derive(Default)]
struct Waiting {
    all: Option<Waiter>,
    namespaces: HashMap<Box<str>, Waiter>,
    names: HashMap<Box<str>, Waiter>,
    indexed: HashMap<Box<str>, Waiter>,
}

struct Waiter {
    wake: watch::Sender<()>,
    /// The last change of this scope that left the ring.
    evicted: u64,
}

impl<E: Entry> Ring<E> {
    pub(crate) fn new(floor: u64) -> Self {
        let waiting = Waiting::default();
        Self { state: Mutex::new(State { changes: VecDeque::new(), bytes: 0, floor, waiting, closed: false }) }
    }

    fn state(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends the changes of one commit and wakes whom they concern. Gives the bytes now held.
    pub(crate) fn push(&self, changes: Vec<Change<E>>) -> usize {
        let mut state = self.state();
        let now = Instant::now();
        let mut woken: Vec<watch::Sender<()>> = Vec::new();
        for change in changes {
            state.waiting.concerned(&change, |waiter| {
                if !woken.iter().any(|known| known.same_channel(&waiter.wake)) {
                    woken.push(waiter.wake.clone());
                }
            });
            state.bytes += change.size();
            state.changes.push_back((now, change));
        }
        while state.changes.len() > AT_LEAST && (state.bytes > BYTES || now - state.changes[0].0 > AGE) {
            state.evict();
        }
        let bytes = state.bytes;
        drop(state);
        for wake in woken {
            let _ = wake.send(()); // Its watchers may just have gone.
        }
        bytes
    }

    /// Drops the oldest changes until `bytes` are left; gives the bytes now held.
    pub(crate) fn shrink(&self, bytes: usize) -> usize {
        let mut state = self.state();
        while state.bytes > bytes && state.changes.len() > AT_LEAST {
            state.evict();
        }
        state.bytes
    }

    /// Ends all watches.
    fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.waiting = Waiting::default();
    }

    /// What wakes a watcher of `scope` that has seen everything up to `after`.
    pub(crate) fn wait(&self, scope: &Scope, after: u64) -> Result<watch::Receiver<()>, Expired> {
        let mut state = self.state();
        if after < state.floor {
            return Err(Expired { floor: state.floor });
        }
        if state.closed {
            // Its sender is gone already, so the watcher ends after what is still in the history.
            return Ok(watch::channel(()).1);
        }
        let floor = state.floor;
        let new = || Waiter { wake: watch::Sender::new(()), evicted: floor };
        let waiting = &mut state.waiting;
        waiting.forget_idle();
        let waiter = match scope {
            Scope::All => waiting.all.get_or_insert_with(new),
            Scope::Namespace(namespace) => waiting.namespaces.entry(namespace.clone()).or_insert_with(new),
            Scope::Name(name) => waiting.names.entry(name.clone()).or_insert_with(new),
            Scope::Index(value) => waiting.indexed.entry(value.clone()).or_insert_with(new),
        };
        Ok(waiter.wake.subscribe())
    }

    /// The changes of `scope` after revision `after`, oldest first; `Expired` when one of them is no longer here.
    pub(crate) fn read(&self, scope: &Scope, after: u64) -> Result<Vec<Change<E>>, Expired> {
        let state = self.state();
        let lost = state.waiting.evicted(scope).unwrap_or(state.floor);
        if after < lost {
            return Err(Expired { floor: lost });
        }
        let start = state.changes.partition_point(|(_, change)| change.revision <= after);
        Ok(state
            .changes
            .range(start..)
            .map(|(_, change)| change)
            .filter(|change| scope.holds(change))
            .cloned()
            .collect())
    }

    /// The same without a scope, newest first, for looking back from the present.
    pub(crate) fn since(&self, after: u64) -> Result<Vec<Change<E>>, Expired> {
        let state = self.state();
        if after < state.floor {
            return Err(Expired { floor: state.floor });
        }
        let start = state.changes.partition_point(|(_, change)| change.revision <= after);
        Ok(state.changes.range(start..).rev().map(|(_, change)| change.clone()).collect())
    }
}

impl<E: Entry> State<E> {
    fn evict(&mut self) {
        if let Some((_, change)) = self.changes.pop_front() {
            self.bytes -= change.size();
            self.floor = change.revision;
            self.waiting.concerned_mut(&change, |waiter| waiter.evicted = change.revision);
        }
    }
}

impl Waiting {
    fn concerned<E: Entry>(&self, change: &Change<E>, mut found: impl FnMut(&Waiter)) {
        let (namespace, indexes) = (change.namespace(), change.indexes());
        self.all.iter().for_each(&mut found);
        namespace.and_then(|namespace| self.namespaces.get(namespace)).into_iter().for_each(&mut found);
        self.names.get(&*change.key.name).into_iter().for_each(&mut found);
        indexes.into_iter().flatten().filter_map(|value| self.indexed.get(value)).for_each(&mut found);
    }

    fn concerned_mut<E: Entry>(&mut self, change: &Change<E>, mut found: impl FnMut(&mut Waiter)) {
        let (namespace, indexes) = (change.namespace(), change.indexes());
        self.all.iter_mut().for_each(&mut found);
        namespace.and_then(|namespace| self.namespaces.get_mut(namespace)).into_iter().for_each(&mut found);
        self.names.get_mut(&*change.key.name).into_iter().for_each(&mut found);
        for value in indexes.into_iter().flatten() {
            self.indexed.get_mut(value).into_iter().for_each(&mut found);
        }
    }

    fn evicted(&self, scope: &Scope) -> Option<u64> {
        let waiter = match scope {
            Scope::All => self.all.as_ref(),
            Scope::Namespace(namespace) => self.namespaces.get(namespace),
            Scope::Name(name) => self.names.get(name),
            Scope::Index(value) => self.indexed.get(value),
        };
        waiter.map(|waiter| waiter.evicted)
    }

    /// Scopes whose watchers are gone cost memory only until the next watcher comes.
    fn forget_idle(&mut self) {
        for waiters in [&mut self.namespaces, &mut self.names, &mut self.indexed] {
            waiters.retain(|_, waiter| waiter.wake.receiver_count() > 0);
        }
    }
}

/// All rings of a store, made when a partition is first written or watched.
pub(crate) struct Rings<E> {
    rings: Mutex<HashMap<Arc<str>, Arc<Ring<E>>>>,
    closed: AtomicBool,
    /// Floors of partitions without a ring yet: the revision of their last durable change.
    floors: HashMap<Arc<str>, u64>,
    /// The floor of partitions whose history ends with each start.
    start: u64,
    volatile: Vec<Arc<str>>,
}

/// Bytes of all rings together.
const ALL_BYTES: usize = 8 << 20;

impl<E: Entry> Rings<E> {
    pub(crate) fn new(floors: HashMap<Arc<str>, u64>, start: u64, volatile: Vec<Arc<str>>) -> Self {
        Self { rings: Mutex::default(), closed: AtomicBool::new(false), floors, start, volatile }
    }

    pub(crate) fn ring(&self, partition: &str) -> Arc<Ring<E>> {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ring) = rings.get(partition) {
            return ring.clone();
        }
        let is_volatile = self.volatile.iter().any(|name| **name == *partition);
        let floor = if is_volatile { self.start } else { self.floors.get(partition).copied().unwrap_or(0) };
        let ring = Arc::new(Ring::new(floor));
        if self.closed.load(Ordering::Relaxed) {
            ring.close();
        }
        rings.insert(Arc::from(partition), ring.clone());
        ring
    }

    /// Publishes one commit's changes.
    pub(crate) fn push(&self, changes: Vec<Change<E>>) {
        let mut by_partition: HashMap<Arc<str>, Vec<Change<E>>> = HashMap::new();
        for change in changes {
            by_partition.entry(change.key.partition.clone()).or_default().push(change);
        }
        for (partition, changes) in by_partition {
            self.ring(&partition).push(changes);
        }
        self.shrink();
    }

    /// Ends all watches; the store is closed.
    pub(crate) fn close(&self) {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock of the map, so that no ring is made open after this.
        self.closed.store(true, Ordering::Relaxed);
        rings.values().for_each(|ring| ring.close());
    }

    /// Takes from the largest ring until the whole is within its bounds.
    fn shrink(&self) {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sizes: Vec<(usize, &Arc<Ring<E>>)> = rings.values().map(|ring| (ring.state().bytes, ring)).collect();
        let mut whole: usize = sizes.iter().map(|(bytes, _)| bytes).sum();
        sizes.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for (bytes, ring) in sizes {
            if whole <= ALL_BYTES {
                break;
            }
            whole -= bytes - ring.shrink(bytes / 2);
        }
    }
}
