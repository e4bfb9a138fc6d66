//! Snapshots: a partition as it was at one revision, in the order of its names.

use std::ops::Bound;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use crate::entry::Entry;
use crate::watch::{Change, Expired};

/// Names and entries of a partition; a copy is O(1).
pub(crate) type Entries<E> = RedBlackTreeMapSync<Arc<str>, E>;

/// Immutable; holding one keeps old entries in memory.
#[derive(Clone)]
pub struct Snapshot<E> {
    pub(crate) entries: Entries<E>,
    pub(crate) revision: u64,
    pub(crate) end: Option<Arc<str>>,
}

/// Which names a reader wants: those that begin with `prefix` and come after `after`, at most `limit`. Volatile partitions are
/// read from the file by extents; resident ones give everything, which costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct Extent<'a> {
    pub prefix: &'a str,
    pub after: &'a str,
    pub limit: usize,
}

impl Extent<'_> {
    pub const WHOLE: Extent<'static> = Extent { prefix: "", after: "", limit: usize::MAX };

    fn holds(&self, name: &str, end: Option<&str>) -> bool {
        name.starts_with(self.prefix)
            && (self.after.is_empty() || name > self.after)
            && end.is_none_or(|end| name <= end)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Expired(#[from] Expired),
    /// The revision was not handed out yet.
    #[error("revision {asked} is ahead of {current}")]
    Future { asked: u64, current: u64 },
    #[error("cannot read the volatile store: {0}")]
    Volatile(String),
}

impl<E: Entry> Snapshot<E> {
    /// Everything up to this revision is in it, nothing above.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The last name that it was read up to, where there may be more.
    pub fn end(&self) -> Option<&Arc<str>> {
        self.end.as_ref()
    }

    pub fn get(&self, name: &str) -> Option<&E> {
        self.entries.get(name)
    }

    pub fn len(&self) -> usize {
        self.entries.size()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries whose names begin with `prefix` and come after the name `after` (all when empty), by name.
    pub fn range<'a>(&'a self, prefix: &'a str, after: &'a str) -> impl Iterator<Item = (&'a Arc<str>, &'a E)> {
        let start = if after >= prefix && !after.is_empty() { Bound::Excluded(after) } else { Bound::Included(prefix) };
        let entries = self.entries.range::<str, _>((start, Bound::Unbounded));
        entries.take_while(move |(name, _)| name.starts_with(prefix))
    }

    /// The state of `extent` before `changes`, which come newest first.
    pub(crate) fn rewind(
        mut self,
        extent: Extent<'_>,
        revision: u64,
        changes: impl IntoIterator<Item = Change<E>>,
    ) -> Self {
        for change in changes {
            match change.previous {
                _ if !extent.holds(&change.key.name, self.end.as_deref()) => {}
                Some(previous) => self.entries.insert_mut(change.key.name, previous),
                None => drop(self.entries.remove_mut(&change.key.name)),
            }
        }
        self.revision = revision;
        self
    }
}
