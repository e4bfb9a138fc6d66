//! A store in memory until `coracle-store` lands; has the surface that `registry` uses and nothing of its guarantees.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use coracle_store::{Committed, Entry, Expect, Key, Txn, TxnError, Write};
use tokio::sync::watch;

type Map<E> = Arc<BTreeMap<Arc<str>, E>>;

pub struct Store<E: Entry> {
    state: Mutex<State<E>>,
    changed: watch::Sender<u64>,
}

struct State<E> {
    revision: u64,
    partitions: BTreeMap<Arc<str>, Map<E>>,
    log: Vec<Change<E>>,
}

#[derive(Clone)]
pub struct Change<E> {
    pub revision: u64,
    pub key: Key,
    pub entry: Option<E>,
    pub previous: Option<E>,
}

pub struct Snapshot<E> {
    revision: u64,
    map: Map<E>,
}

pub struct Expired;

pub struct Cursor<E: Entry> {
    store: Arc<Store<E>>,
    partition: Arc<str>,
    after: u64,
    changed: watch::Receiver<u64>,
}

impl<E: Entry> Store<E> {
    pub fn memory() -> Arc<Self> {
        let state = State { revision: 1, partitions: BTreeMap::new(), log: Vec::new() };
        Arc::new(Self { state: Mutex::new(state), changed: watch::Sender::new(1) })
    }

    pub fn get(&self, key: &Key) -> Option<E> {
        self.snapshot(&key.partition).map.get(&key.name).cloned()
    }

    pub fn snapshot(&self, partition: &str) -> Snapshot<E> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Snapshot { revision: state.revision, map: state.partitions.get(partition).cloned().unwrap_or_default() }
    }

    pub fn snapshot_at(&self, partition: &str, revision: u64) -> Result<Snapshot<E>, Expired> {
        let snapshot = self.snapshot(partition);
        let mut map = (*snapshot.map).clone();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for change in state.log.iter().rev().take_while(|change| change.revision > revision) {
            if *change.key.partition == *partition {
                match &change.previous {
                    Some(previous) => map.insert(change.key.name.clone(), previous.clone()),
                    None => map.remove(&change.key.name),
                };
            }
        }
        Ok(Snapshot { revision, map: Arc::new(map) })
    }

    pub async fn commit(&self, txn: Txn<E>) -> Result<Committed<E>, TxnError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, op) in txn.ops.iter().enumerate() {
            let present = state.partitions.get(&op.key.partition).and_then(|map| map.get(&op.key.name));
            let at = present
                .and_then(|_| state.log.iter().rev().find(|change| change.key == op.key).map(|change| change.revision));
            let holds = match op.expect {
                Expect::Absent => at.is_none(),
                Expect::Revision(revision) => at == Some(revision),
                Expect::Present => at.is_some(),
                Expect::Anything => true,
            };
            if !holds {
                return Err(TxnError::Conflict { op: index, key: op.key.clone(), revision: at });
            }
        }
        let mut entries = Vec::new();
        for op in txn.ops {
            let previous = state.partitions.get(&op.key.partition).and_then(|map| map.get(&op.key.name)).cloned();
            let entry = match op.write {
                Write::Check => {
                    entries.push(previous);
                    continue;
                }
                Write::Put { frame, draft, .. } => {
                    state.revision += 1;
                    Some(E::commit(&op.key, &frame, draft, state.revision))
                }
                Write::Delete => {
                    state.revision += 1;
                    None
                }
            };
            let revision = state.revision;
            let map = Arc::make_mut(state.partitions.entry(op.key.partition.clone()).or_default());
            match &entry {
                Some(entry) => map.insert(op.key.name.clone(), entry.clone()),
                None => map.remove(&op.key.name),
            };
            entries.push(entry.clone().or_else(|| previous.clone()));
            state.log.push(Change { revision, key: op.key, entry, previous });
        }
        let revision = state.revision;
        drop(state);
        self.changed.send_replace(revision);
        Ok(Committed { revision, entries })
    }

    pub fn watch(self: &Arc<Self>, partition: &str, after: u64) -> Result<Cursor<E>, Expired> {
        Ok(Cursor { store: self.clone(), partition: partition.into(), after, changed: self.changed.subscribe() })
    }
}

impl<E: Entry> Cursor<E> {
    /// The next changes and the revision up to which all are known.
    pub async fn next(&mut self) -> (Vec<Change<E>>, u64) {
        loop {
            self.changed.borrow_and_update();
            {
                let state = self.store.state.lock().unwrap_or_else(PoisonError::into_inner);
                let start = state.log.partition_point(|change| change.revision <= self.after);
                let changes: Vec<Change<E>> = state.log[start..]
                    .iter()
                    .filter(|change| change.key.partition == self.partition)
                    .cloned()
                    .collect();
                self.after = state.revision;
                if !changes.is_empty() {
                    return (changes, state.revision);
                }
            }
            let _ = self.changed.changed().await;
        }
    }
}

impl<E> Snapshot<E> {
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn range<'a>(&'a self, start: Bound<&'a str>) -> impl Iterator<Item = (&'a Arc<str>, &'a E)> {
        self.map.range::<str, _>((start, Bound::Unbounded))
    }
}
