//! Watching a partition: a cursor into its history, woken by what concerns it.

use std::sync::Arc;

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
    pub(crate) fn holds<E: Entry>(&self, change: &Change<E>) -> bool {
        match self {
            Scope::All => true,
            Scope::Namespace(namespace) => change.namespace() == Some(namespace),
            Scope::Name(name) => *change.key.name == **name,
            Scope::Index(value) => change.indexes().into_iter().flatten().any(|own| *own == **value),
        }
    }
}

/// Cheap while nothing happens; what it has not read yet stays in the partition's history, not in a queue of its own.
pub struct Watch<E> {
    pub(crate) ring: Arc<Ring<E>>,
    pub(crate) scope: Scope,
    pub(crate) cursor: u64,
    pub(crate) wake: watch::Receiver<()>,
    pub(crate) progress: watch::Receiver<u64>,
}

impl<E: Entry> Watch<E> {
    /// Waits for changes and gives all that are pending, oldest first; `None` when the store was closed. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Vec<Change<E>>>, Expired> {
        loop {
            self.wake.borrow_and_update();
            let seen = *self.progress.borrow();
            let changes = self.ring.read(&self.scope, self.cursor)?;
            if let Some(last) = changes.last() {
                self.cursor = seen.max(last.revision);
                return Ok(Some(changes));
            }
            self.cursor = self.cursor.max(seen);
            if self.wake.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// A revision up to which nothing is pending for this watcher: what a bookmark may carry.
    pub fn progress(&mut self) -> u64 {
        let seen = *self.progress.borrow();
        if self.ring.read(&self.scope, self.cursor).is_ok_and(|changes| changes.is_empty()) {
            self.cursor = self.cursor.max(seen);
        }
        self.cursor
    }
}
