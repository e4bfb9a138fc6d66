//! Watching a partition: a cursor into its history, woken by what concerns it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::entry::{Entry, Key};
use crate::ring::Ring;

/// What happened to a key.
#[derive(Clone, Debug)]
pub struct Change<E> {
    pub revision: u64,
    pub key: Key,
    /// `None` when it was deleted.
    pub entry: Option<E>,
    /// What was there before.
    pub previous: Option<E>,
}

/// The changes of one commit to a partition, in order and never empty; shared by everyone who watches it.
pub struct Batch<E: Entry> {
    pub changes: Box<[Change<E>]>,
    rendering: Mutex<E::Rendering>,
}

/// Which changes of a partition a watcher wants.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Scope {
    All,
    /// Names that begin with it and a slash.
    Namespace(Box<str>),
    /// One key's whole name.
    Name(Box<str>),
    /// Entries that have, or had, this `Entry::index`.
    Index(Box<str>),
}

/// History before this revision is gone; list again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("history before revision {floor} is gone")]
pub struct Expired {
    pub floor: u64,
}

impl<E: Entry> Change<E> {
    pub(crate) fn size(&self) -> usize {
        // The next change's `previous` is this one's entry: what is shared is counted once.
        self.entry.as_ref().or(self.previous.as_ref()).map_or(0, Entry::size) + 128
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        self.key.name.split_once('/').map(|(namespace, _)| namespace)
    }

    pub(crate) fn indexes(&self) -> [Option<&str>; 2] {
        let new = self.entry.as_ref().and_then(Entry::index);
        let old = self.previous.as_ref().and_then(Entry::index);
        [new, old.filter(|_| old != new)]
    }
}

impl Scope {
    pub fn holds<E: Entry>(&self, change: &Change<E>) -> bool {
        match self {
            Scope::All => true,
            Scope::Namespace(namespace) => change.namespace() == Some(namespace),
            Scope::Name(name) => *change.key.name == **name,
            Scope::Index(value) => change.indexes().into_iter().flatten().any(|own| *own == **value),
        }
    }
}

impl<E: Entry> Batch<E> {
    pub(crate) fn new(changes: Vec<Change<E>>) -> Self {
        Self { changes: changes.into(), rendering: Mutex::default() }
    }

    /// The revision of its last change.
    pub fn last(&self) -> u64 {
        self.changes.last().map_or(0, |change| change.revision)
    }

    /// The changes after `revision`.
    pub fn after(&self, revision: u64) -> &[Change<E>] {
        &self.changes[self.changes.partition_point(|change| change.revision <= revision)..]
    }

    /// What the first watcher of a commit made of it for the others; gone again when newer commits came.
    pub fn rendering(&self) -> MutexGuard<'_, E::Rendering> {
        self.rendering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn forget(&self) {
        *self.rendering() = E::Rendering::default();
    }
}

/// What waits for a watcher, oldest first.
pub struct Pending<E: Entry> {
    /// Each with at least one change of the scope after `after`; not empty.
    pub batches: Vec<Arc<Batch<E>>>,
    /// What the watcher has seen.
    pub after: u64,
    /// What it will have seen with these.
    pub until: u64,
}

/// Cheap while nothing happens; what it has not read yet stays in the partition's history, not in a queue of its own.
pub struct Watch<E: Entry> {
    pub(crate) ring: Arc<Ring<E>>,
    pub(crate) scope: Scope,
    pub(crate) cursor: u64,
    pub(crate) wake: watch::Receiver<()>,
    pub(crate) progress: watch::Receiver<u64>,
}

impl<E: Entry> Watch<E> {
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Waits for changes and gives all that are pending; `None` when the store was closed. What was taken of them is said
    /// with `advance`. Cancel-safe.
    pub async fn pending(&mut self) -> Result<Option<Pending<E>>, Expired> {
        loop {
            self.wake.borrow_and_update();
            let seen = *self.progress.borrow();
            let batches = self.ring.read(&self.scope, self.cursor)?;
            if let Some(last) = batches.last() {
                let until = seen.max(last.last());
                return Ok(Some(Pending { batches, after: self.cursor, until }));
            }
            self.cursor = self.cursor.max(seen);
            if self.wake.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Everything up to `revision` was taken.
    pub fn advance(&mut self, revision: u64) {
        self.cursor = self.cursor.max(revision);
    }

    /// Waits for changes and takes all that are pending, oldest first; `None` when the store was closed. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Vec<Change<E>>>, Expired> {
        let Some(Pending { batches, after, until }) = self.pending().await? else { return Ok(None) };
        self.advance(until);
        let changes = batches.iter().flat_map(|batch| batch.after(after));
        Ok(Some(changes.filter(|change| self.scope.holds(change)).cloned().collect()))
    }

    /// A revision up to which nothing is pending for this watcher: what a bookmark may carry.
    pub fn progress(&mut self) -> u64 {
        let seen = *self.progress.borrow();
        if self.ring.read(&self.scope, self.cursor).is_ok_and(|batches| batches.is_empty()) {
            self.cursor = self.cursor.max(seen);
        }
        self.cursor
    }
}
