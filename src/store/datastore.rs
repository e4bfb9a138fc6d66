//! `Datastore`: the durable half of the store, a log of batch records applied to a table of frames.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::entry::{Frame, Key};

/// What one commit changes, numbered by the writer: ops in rising order of revision from `first_revision` on (renewals and
/// volatile changes take revisions between them). Applying it is deterministic, so a replicated
/// log could carry it as it is.
#[derive(Debug, Default)]
pub struct Batch {
    pub first_revision: u64,
    pub ops: Vec<BatchOp>,
}

#[derive(Debug)]
pub struct BatchOp {
    pub key: Key,
    /// `None` deletes.
    pub frame: Option<Frame>,
    pub revision: u64,
}

/// Everything that was durable when the store was opened.
#[derive(Debug, Default)]
pub struct Loaded {
    pub entries: Vec<(Key, Frame, u64)>,
    /// The last durable change of partitions in which it was a deletion; for others the newest entry tells.
    pub last_changes: BTreeMap<Arc<str>, u64>,
    /// No revision above this was ever handed out.
    pub ceiling: u64,
    /// The last revision that was handed out, known after a clean close only.
    pub closed_at: Option<u64>,
}

/// Why a commit failed. The distinction decides whether the store may go on.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Surely not applied: the medium is full.
    #[error("no space: {0}")]
    Full(String),
    /// Surely not applied.
    #[error("not written: {0}")]
    NotWritten(String),
    /// Applied or not; only a new start can tell.
    #[error("unknown outcome: {0}")]
    Unknown(String),
}

/// Why a store cannot be opened; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{path}: written by another version of coracle (format {found}, this one reads {known}); use that version or another data directory"
    )]
    Version { path: String, found: i64, known: i64 },
    #[error("{path}: in use by another process; stop it or use another data directory")]
    Locked { path: String },
    #[error("{path}: cannot be written ({why}); check the permissions and mount options of the data directory")]
    ReadOnly { path: String, why: String },
    #[error("{path}: no space left; free some and start again")]
    Full { path: String },
    #[error("{path}: damaged or no datastore ({why}); restore a snapshot or use another data directory")]
    Damaged { path: String, why: String },
}

/// Called by the writer thread only, one call at a time.
pub trait Datastore: Send {
    /// Reads everything, once, before the first commit.
    fn load(&mut self) -> Result<Loaded, OpenError>;

    /// Applies the batch whole or not at all, durably before it returns.
    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError>;

    /// Durably reserves every revision up to `ceiling` and forgets that the last close was clean.
    fn reserve(&mut self, ceiling: u64) -> Result<(), CommitError>;

    /// Remembers that nothing above `revision` was handed out.
    fn close(&mut self, revision: u64) -> Result<(), CommitError>;
}
