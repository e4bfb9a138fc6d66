//! The pods that wait for a node: ready now, backing off, or refused until something helps.
//!
//! Upstream: pkg/scheduler/backend/queue. Pure: the caller says what time it is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use coracle_base::backoff::Shape;
use coracle_client::Key;
use tokio::time::Instant;

/// As upstream's podInitialBackoffSeconds and podMaxBackoffSeconds.
const BACKOFF: Shape = Shape::doubling(Duration::from_secs(1), Duration::from_secs(10));
/// A pod that nothing seemed to help is tried again after this time all the same.
const LEFT_OVER: Duration = Duration::from_secs(300);

/// Where pods wait.
#[derive(Default)]
pub struct SchedulingQueue {
    pods: HashMap<Key, Waiting>,
    /// Ready ones: higher priority first, then who waited longest.
    active: BTreeMap<(Reverse<i32>, u64), Key>,
    /// When waiting ones become ready.
    timers: BTreeMap<(Instant, u64), Key>,
    sequence: u64,
}

struct Waiting {
    priority: i32,
    /// Refusals or failures so far.
    attempts: u32,
    last_attempt: Option<Instant>,
    place: Place,
}

#[derive(Clone)]
enum Place {
    Active((Reverse<i32>, u64)),
    Backoff((Instant, u64)),
    /// Refused by these plugins; with the time when it is tried anyway.
    Refused(Vec<&'static str>, (Instant, u64)),
    /// Handed out.
    InHand,
}

impl SchedulingQueue {
    /// A pod that is new, or changed so that it may fit now.
    pub fn add(&mut self, key: Key, priority: i32) {
        let waiting = self.pods.entry(key.clone()).or_insert(Waiting {
            priority,
            attempts: 0,
            last_attempt: None,
            place: Place::InHand,
        });
        waiting.priority = priority;
        self.activate(&key);
    }

    /// The pod needs no node any more.
    pub fn remove(&mut self, key: &Key) {
        self.unplace(key);
        self.pods.remove(key);
    }

    /// The next pod to schedule, which is then in hand until `refused`, `failed` or `remove`.
    pub fn next(&mut self, now: Instant) -> Option<Key> {
        self.release(now);
        let (_, key) = self.active.pop_first()?;
        let waiting = self.pods.get_mut(&key)?;
        waiting.place = Place::InHand;
        waiting.last_attempt = Some(now);
        waiting.attempts += 1;
        Some(key)
    }

    /// When the next waiting pod becomes ready by itself.
    pub fn next_wake(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn is_ready(&self) -> bool {
        !self.active.is_empty()
    }

    /// The pod in hand was refused by these plugins; without any, only time helps.
    pub fn refused(&mut self, key: &Key, plugins: Vec<&'static str>, now: Instant) {
        self.place_at(key, now + LEFT_OVER, |at| Place::Refused(plugins, at));
    }

    /// Scheduling the pod in hand failed for reasons that are not the pod's: it backs off.
    pub fn failed(&mut self, key: &Key, now: Instant) {
        self.back_off(key, now);
    }

    /// Something happened that may help pods refused by a plugin for which `helps` says so.
    pub fn helped(&mut self, now: Instant, helps: impl Fn(&str) -> bool) {
        let helped = self.pods.iter().filter(|(_, waiting)| match &waiting.place {
            // Refused by no plugin means that there was no node at all.
            Place::Refused(plugins, _) => plugins.is_empty() || plugins.iter().any(|plugin| helps(plugin)),
            _ => false,
        });
        let helped: Vec<Key> = helped.map(|(key, _)| key.clone()).collect();
        for key in helped {
            self.back_off(&key, now);
        }
    }

    pub fn len(&self) -> usize {
        self.pods.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Ready when its back-off, counted from its last attempt, is over.
    fn back_off(&mut self, key: &Key, now: Instant) {
        let Some(waiting) = self.pods.get(key) else { return };
        let delay = BACKOFF.delay(waiting.attempts.saturating_sub(1));
        let at = waiting.last_attempt.map_or(now, |last| last + delay);
        if at <= now { self.activate(key) } else { self.place_at(key, at, Place::Backoff) }
    }

    fn activate(&mut self, key: &Key) {
        self.unplace(key);
        self.sequence += 1;
        let Some(waiting) = self.pods.get_mut(key) else { return };
        let order = (Reverse(waiting.priority), self.sequence);
        waiting.place = Place::Active(order);
        self.active.insert(order, key.clone());
    }

    fn place_at(&mut self, key: &Key, at: Instant, place: impl FnOnce((Instant, u64)) -> Place) {
        self.unplace(key);
        self.sequence += 1;
        let timer = (at, self.sequence);
        let Some(waiting) = self.pods.get_mut(key) else { return };
        waiting.place = place(timer);
        self.timers.insert(timer, key.clone());
    }

    fn unplace(&mut self, key: &Key) {
        match self.pods.get(key).map(|waiting| &waiting.place) {
            Some(Place::Active(order)) => drop(self.active.remove(order)),
            Some(Place::Backoff(timer) | Place::Refused(_, timer)) => drop(self.timers.remove(timer)),
            Some(Place::InHand) | None => {}
        }
    }

    fn release(&mut self, now: Instant) {
        while let Some((_, key)) = self.timers.first_key_value().filter(|((at, _), _)| *at <= now) {
            let key = key.clone();
            self.activate(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("a", name)
    }

    fn take(queue: &mut SchedulingQueue, now: Instant) -> String {
        std::iter::from_fn(|| queue.next(now)).map(|key| key.name.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test]
    async fn priority_comes_first_then_age() {
        let mut queue = SchedulingQueue::default();
        for (name, priority) in [("a", 0), ("b", 10), ("c", 0), ("d", 10), ("gone", 99)] {
            queue.add(key(name), priority);
        }
        queue.remove(&key("gone"));
        assert_eq!(take(&mut queue, Instant::now()), "b d a c");
        assert_eq!(queue.len(), 4, "in hand, not forgotten");
    }

    #[tokio::test]
    async fn a_refused_pod_waits_for_what_helps_it() {
        let (mut queue, start) = (SchedulingQueue::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        queue.add(key("a"), 0);
        queue.add(key("b"), 0);
        take(&mut queue, start);
        queue.refused(&key("a"), vec!["NodePorts", "NodeResourcesFit"], start);
        queue.refused(&key("b"), vec!["NodeAffinity"], start);
        queue.helped(at(20), |plugin| plugin == "NodeResourcesFit");
        assert_eq!(take(&mut queue, at(20)), "a");
        // Its second refusal backs off two seconds from the attempt, however soon help comes.
        queue.refused(&key("a"), vec!["NodeResourcesFit"], at(20));
        queue.helped(at(20), |_| true);
        assert_eq!(queue.next_wake(), Some(at(22)));
        assert_eq!(take(&mut queue, at(21)), "b");
        assert_eq!(take(&mut queue, at(22)), "a");
        queue.refused(&key("a"), vec!["NodeResourcesFit"], at(22));
        assert_eq!(take(&mut queue, at(321)), "");
        assert_eq!(take(&mut queue, at(322)), "a", "left over");
    }

    #[tokio::test]
    async fn failures_back_off_up_to_ten_seconds() {
        let (mut queue, mut now) = (SchedulingQueue::default(), Instant::now());
        queue.add(key("a"), 0);
        let mut delays = Vec::new();
        for _ in 0..6 {
            assert_eq!(take(&mut queue, now), "a");
            queue.failed(&key("a"), now);
            let wake = queue.next_wake().unwrap();
            delays.push((wake - now).as_secs());
            now = wake;
        }
        assert_eq!(delays, [1, 2, 4, 8, 10, 10]);
    }
}
