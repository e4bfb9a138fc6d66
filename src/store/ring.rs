//! The watch history of one partition: the batches of recent commits, bounded by bytes and age, and who waits for more.
//!
//! Bytes win: a ring holds `BYTES`, for some seconds after a burst `BURST_BYTES`, and all rings together `ALL_BYTES`, however few changes
//! that is; a busy writer makes 30 MB a second, and a watcher that is woken late must still find what it missed. Below `BYTES` the
//! last `AT_LEAST` changes stay whatever their age. The newest batch always stays.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::entry::Entry;
use crate::watch::{Batch, Change, Expired, Scope};

/// Changes are kept this long, unless they are too many.
const AGE: Duration = Duration::from_secs(75);
/// Bytes of one ring that are kept for `AGE`.
const BYTES: usize = 1 << 20;
/// Kept whatever their age, within `BYTES`.
const AT_LEAST: usize = 100;
/// Bytes of one ring that are kept for `BURST`.
const BURST_BYTES: usize = 4 << 20;
const BURST: Duration = Duration::from_secs(5);
/// Bytes of all rings together.
const ALL_BYTES: usize = 8 << 20;
/// The watchers of a scope are woken at once when they rest, and no more often than this.
const PACE: Duration = Duration::from_millis(1);
/// Batches, from the newest on, that keep what was rendered of them.
const RENDERED: usize = 4;

pub(crate) struct Ring<E: Entry> {
    state: Mutex<State<E>>,
}

struct State<E: Entry> {
    batches: VecDeque<(Instant, Arc<Batch<E>>)>,
    bytes: usize,
    /// The number of changes in all batches.
    changes: usize,
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
    /// When its watchers were woken last, or will be.
    woken: Option<Instant>,
    /// The last change of this scope that left the ring.
    evicted: u64,
}

/// Wakes that are not due yet. Held by the writer, whose thread is the clock.
#[derive(Default)]
pub(crate) struct Owed(Vec<(Instant, watch::Sender<()>)>);

impl Owed {
    /// How long until one is due.
    pub(crate) fn next(&self, now: Instant) -> Option<Duration> {
        self.0.iter().map(|(due, _)| due.saturating_duration_since(now)).min()
    }

    /// Wakes whose time has come.
    pub(crate) fn pay(&mut self, now: Instant) {
        self.0.retain(|(due, wake)| {
            let early = *due > now;
            if !early {
                let _ = wake.send(()); // Its watchers may just have gone.
            }
            early
        });
    }
}

impl<E: Entry> Ring<E> {
    pub(crate) fn new(floor: u64) -> Self {
        let waiting = Waiting::default();
        let state = State { batches: VecDeque::new(), bytes: 0, changes: 0, floor, waiting, closed: false };
        Self { state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends the changes of one commit and wakes whom they concern, now or soon.
    pub(crate) fn push(&self, changes: Vec<Change<E>>, owed: &mut Owed) {
        let mut state = self.state();
        let now = Instant::now();
        let mut due: Vec<watch::Sender<()>> = Vec::new();
        for change in &changes {
            state.waiting.concerned(change, |waiter| match waiter.woken {
                // Its wake is owed already, or was given for an earlier change of this commit.
                Some(woken) if woken >= now => {}
                Some(woken) if now - woken < PACE => {
                    let then = woken + PACE;
                    waiter.woken = Some(then);
                    owed.0.push((then, waiter.wake.clone()));
                }
                _ => {
                    waiter.woken = Some(now);
                    due.push(waiter.wake.clone());
                }
            });
            state.bytes += change.size();
        }
        state.changes += changes.len();
        state.batches.push_back((now, Arc::new(Batch::new(changes))));
        if let Some(faded) = state.batches.len().checked_sub(RENDERED + 1) {
            state.batches[faded].1.forget();
        }
        state.trim(now);
        drop(state);
        for wake in due {
            let _ = wake.send(()); // Its watchers may just have gone.
        }
    }

    fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// Drops the oldest batches until `bytes` are left.
    fn shrink(&self, bytes: usize) {
        let mut state = self.state();
        while state.bytes > bytes && state.batches.len() > 1 {
            state.evict();
        }
    }

    /// Drops what is too old, and all that was rendered.
    fn rest(&self) {
        let mut state = self.state();
        state.trim(Instant::now());
        state.batches.iter().rev().take(RENDERED).for_each(|(_, batch)| batch.forget());
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
        let new = || Waiter { wake: watch::Sender::new(()), woken: None, evicted: floor };
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

    /// The batches with changes of `scope` after revision `after`, oldest first; `Expired` when such a change is no longer here.
    pub(crate) fn read(&self, scope: &Scope, after: u64) -> Result<Vec<Arc<Batch<E>>>, Expired> {
        let state = self.state();
        let lost = state.waiting.evicted(scope).unwrap_or(state.floor);
        if after < lost {
            return Err(Expired { floor: lost });
        }
        let concerned = |batch: &Batch<E>| batch.after(after).iter().any(|change| scope.holds(change));
        Ok(state.after(after).map(|(_, batch)| batch).filter(|batch| concerned(batch)).cloned().collect())
    }

    /// The changes after `after` without a scope, newest first, for looking back from the present.
    pub(crate) fn since(&self, after: u64) -> Result<Vec<Change<E>>, Expired> {
        let state = self.state();
        if after < state.floor {
            return Err(Expired { floor: state.floor });
        }
        Ok(state.after(after).rev().flat_map(|(_, batch)| batch.after(after).iter().rev()).cloned().collect())
    }
}

impl<E: Entry> State<E> {
    /// The batches that end after `revision`.
    fn after(&self, revision: u64) -> impl DoubleEndedIterator<Item = &(Instant, Arc<Batch<E>>)> {
        let start = self.batches.partition_point(|(_, batch)| batch.last() <= revision);
        self.batches.range(start..)
    }

    fn trim(&mut self, now: Instant) {
        while self.batches.len() > 1 {
            let age = now - self.batches[0].0;
            let old = age > AGE && self.changes > AT_LEAST;
            if !old && self.bytes <= BURST_BYTES && (self.bytes <= BYTES || age <= BURST) {
                break;
            }
            self.evict();
        }
    }

    fn evict(&mut self) {
        let Some((_, batch)) = self.batches.pop_front() else { return };
        for change in &batch.changes {
            self.bytes -= change.size();
            self.waiting.concerned(change, |waiter| waiter.evicted = change.revision);
        }
        self.changes -= batch.changes.len();
        self.floor = batch.last();
    }
}

impl Waiting {
    fn concerned<E: Entry>(&mut self, change: &Change<E>, mut found: impl FnMut(&mut Waiter)) {
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
pub(crate) struct Rings<E: Entry> {
    rings: Mutex<HashMap<Arc<str>, Arc<Ring<E>>>>,
    closed: AtomicBool,
    /// Floors of partitions without a ring yet: the revision of their last durable change.
    floors: HashMap<Arc<str>, u64>,
    /// The floor of partitions whose history ends with each start.
    start: u64,
    volatile: Vec<Arc<str>>,
}

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
    pub(crate) fn push(&self, changes: Vec<Change<E>>, owed: &mut Owed) {
        let mut by_partition: HashMap<Arc<str>, Vec<Change<E>>> = HashMap::new();
        for change in changes {
            by_partition.entry(change.key.partition.clone()).or_default().push(change);
        }
        for (partition, changes) in by_partition {
            self.ring(&partition).push(changes, owed);
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

    /// Drops what is too old while nothing is written.
    pub(crate) fn rest(&self) {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(|ring| ring.rest());
    }

    /// Takes from the largest ring until the whole is within its bounds.
    fn shrink(&self) {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sizes: Vec<(usize, &Arc<Ring<E>>)> = rings.values().map(|ring| (ring.bytes(), ring)).collect();
        let mut whole: usize = sizes.iter().map(|(bytes, _)| bytes).sum();
        sizes.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for (bytes, ring) in sizes {
            if whole <= ALL_BYTES {
                break;
            }
            ring.shrink(bytes / 2);
            whole -= bytes - ring.bytes();
        }
    }
}
