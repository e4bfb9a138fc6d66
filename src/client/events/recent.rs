//! A bounded memory of recent keys, for correlation.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::SystemTime;

/// Remembers values by the hash of their key; when full, the older half is forgotten.
pub(super) struct Recent<V> {
    hasher: RandomState,
    entries: HashMap<u64, (SystemTime, V)>,
    capacity: usize,
}

impl<V> Recent<V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { hasher: RandomState::new(), entries: HashMap::new(), capacity }
    }

    /// What is known of `key`, or what `default` makes; counts as used at `now`.
    pub(super) fn entry(&mut self, key: &impl Hash, now: SystemTime, default: impl FnOnce() -> V) -> &mut V {
        let hash = self.hasher.hash_one(key);
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&hash) {
            let mut times: Vec<_> = self.entries.values().map(|(time, _)| *time).collect();
            times.sort_unstable();
            let middle = times[times.len() / 2];
            self.entries.retain(|_, (time, _)| *time > middle);
        }
        let entry = self.entries.entry(hash).or_insert_with(|| (now, default()));
        entry.0 = now;
        &mut entry.1
    }

    /// Forgets what was last used before `time`.
    pub(super) fn forget_before(&mut self, time: SystemTime) {
        self.entries.retain(|_, (used, _)| *used >= time);
    }
}
