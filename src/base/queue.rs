//! A keyed work queue: a key waits at most once, is worked on by at most one worker, and comes back by delay or by back-off.
//!
//! Semantics as client-go's util/workqueue: a key that is added while it is being worked on is handed out again
//! when that work is done, never at the same time.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backoff::Shape;

/// Shared by producers and workers; cloning is a reference count.
pub struct Queue<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    state: Mutex<State<K>>,
    changed: Notify,
    shape: Shape,
}

struct State<K> {
    /// Keys ready to be handed out, in order; each is also in `dirty`.
    ready: VecDeque<K>,
    /// Keys that need work, also those that wait for their present work to end.
    dirty: HashSet<K>,
    processing: HashSet<K>,
    /// Keys to be added later, by time and a number that keeps equal times apart.
    delayed: BTreeMap<(Instant, u64), K>,
    /// Where a key stands in `delayed`: a key is delayed at most once, to its earliest time.
    deadlines: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    sequence: u64,
    closed: bool,
}

/// A key that is being worked on; dropping it ends the work.
pub struct Item<K: Hash + Eq + Clone> {
    key: K,
    queue: Queue<K>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K: Hash + Eq + Clone> Queue<K> {
    /// `shape` gives the delays of `add_rate_limited`, counted for each key.
    pub fn new(shape: Shape) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            delayed: BTreeMap::new(),
            deadlines: HashMap::new(),
            failures: HashMap::new(),
            sequence: 0,
            closed: false,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), shape }) }
    }

    /// The key needs work. Without effect when it already waits, or after `close`.
    pub fn add(&self, key: K) {
        self.lock().add(key);
        self.shared.changed.notify_one();
    }

    /// Adds the key after `delay`; of several delays of a key the earliest counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.lock().add_at(key, Instant::now() + delay);
        self.shared.changed.notify_one();
    }

    /// Work on the key failed: adds it after a delay that grows until `forget`.
    pub fn add_rate_limited(&self, key: K) {
        let delay = {
            let mut state = self.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            let delay = self.shared.shape.delay(*failures);
            *failures = failures.saturating_add(1);
            delay
        };
        self.add_after(key, delay);
    }

    /// Work on the key went well: its next failure starts with the first delay.
    pub fn forget(&self, key: &K) {
        self.lock().failures.remove(key);
    }

    /// How often in a row work on the key has failed.
    pub fn failures(&self, key: &K) -> u32 {
        self.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// Keys that are ready; delayed ones are not counted.
    pub fn len(&self) -> usize {
        self.lock().ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next key that nobody works on; waits for one. `None` after `close`, once what was ready is handed out. Cancel-safe.
    pub async fn next(&self) -> Option<Item<K>> {
        loop {
            let changed = self.shared.changed.notified();
            let (key, deadline) = {
                let mut state = self.lock();
                state.release_due(Instant::now());
                let key = state.take();
                if key.is_none() && state.closed {
                    return None;
                }
                (key, state.delayed.first_key_value().map(|((at, _), _)| *at))
            };
            let more = deadline.is_some() || !self.is_empty();
            if let Some(key) = key {
                if more {
                    // This worker leaves the watch over what still waits to another one.
                    self.shared.changed.notify_one();
                }
                return Some(Item { key, queue: self.clone() });
            }
            match deadline {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// Nothing is added from now on; workers get what is ready and then `None`.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.delayed.clear();
        state.deadlines.clear();
        drop(state);
        self.shared.changed.notify_waiters();
        self.shared.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> State<K> {
    fn add(&mut self, key: K) {
        if self.closed || !self.dirty.insert(key.clone()) {
            return;
        }
        if !self.processing.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn add_at(&mut self, key: K, at: Instant) {
        if self.closed {
            return;
        }
        if let Some(place) = self.deadlines.get(&key) {
            if place.0 <= at {
                return;
            }
            self.delayed.remove(place);
        }
        self.sequence += 1;
        self.deadlines.insert(key.clone(), (at, self.sequence));
        self.delayed.insert((at, self.sequence), key);
    }

    fn release_due(&mut self, now: Instant) {
        while let Some(first) = self.delayed.first_entry() {
            if first.key().0 > now {
                return;
            }
            let key = first.remove();
            self.deadlines.remove(&key);
            self.add(key);
        }
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.processing.insert(key.clone());
        Some(key)
    }
}

impl<K: Hash + Eq + Clone> Item<K> {
    pub fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Hash + Eq + Clone> Drop for Item<K> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.processing.remove(&self.key);
        if state.dirty.contains(&self.key) {
            state.ready.push_back(self.key.clone());
        }
        drop(state);
        self.queue.shared.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue<&'static str> {
        Queue::new(Shape::doubling(Duration::from_millis(5), Duration::from_secs(1000)))
    }

    #[tokio::test]
    async fn a_key_waits_once() {
        let queue = queue();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        assert_eq!(queue.len(), 2);
        assert_eq!(*queue.next().await.unwrap().key(), "a");
        assert_eq!(*queue.next().await.unwrap().key(), "b");
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn a_key_in_work_comes_again_only_when_that_work_is_done() {
        let queue = queue();
        queue.add("a");
        let work = queue.next().await.unwrap();
        queue.add("a");
        assert!(queue.is_empty(), "handed out twice at the same time");
        drop(work);
        assert_eq!(*queue.next().await.unwrap().key(), "a");
    }

    #[tokio::test(start_paused = true)]
    async fn delays_keep_the_earliest_time() {
        let queue = queue();
        let start = Instant::now();
        queue.add_after("late", Duration::from_secs(10));
        queue.add_after("late", Duration::from_secs(3));
        queue.add_after("late", Duration::from_secs(7));
        assert_eq!(*queue.next().await.unwrap().key(), "late");
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err(), "it came again");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_grow_the_delay_until_forgotten() {
        let queue = queue();
        let mut waited = Vec::new();
        for _ in 0..3 {
            let start = Instant::now();
            queue.add_rate_limited("a");
            drop(queue.next().await.unwrap());
            waited.push(start.elapsed().as_millis());
        }
        assert_eq!(waited, [5, 10, 20]);
        assert_eq!(queue.failures(&"a"), 3);
        queue.forget(&"a");
        assert_eq!(queue.failures(&"a"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_takes_a_key_leaves_no_deadline_unwatched() {
        let queue = queue();
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let queue = queue.clone();
                crate::task::spawn("worker", async move {
                    let item = queue.next().await.unwrap();
                    tokio::time::sleep(Duration::from_secs(100)).await;
                    *item.key()
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        queue.add_after("soon", Duration::from_secs(1));
        queue.add("now");
        let start = Instant::now();
        for worker in waiting {
            worker.await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::from_secs(101), "the second worker slept past the delayed key");
    }

    #[tokio::test]
    async fn close_hands_out_what_is_ready_and_wakes_every_worker() {
        let queue = queue();
        queue.add("a");
        queue.add_after("never", Duration::from_secs(1));
        queue.close();
        queue.add("b");
        assert_eq!(*queue.next().await.unwrap().key(), "a");
        assert!(queue.next().await.is_none());
        assert!(queue.next().await.is_none());
    }

    #[tokio::test]
    async fn close_wakes_workers_that_sleep() {
        let queue = queue();
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                crate::task::spawn("worker", async move { queue.next().await.is_none() })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.close();
        for worker in workers {
            assert!(worker.await.unwrap());
        }
    }
}
