//! Transactions: several keys, each with what the writer expects of it, that commit together or not at all.

use crate::entry::{Entry, Frame, Key};

/// Committed together, at one revision per op in order. In one batch a later transaction sees the earlier ones.
pub struct Txn<E: Entry> {
    pub ops: Vec<Op<E>>,
}

pub struct Op<E: Entry> {
    pub key: Key,
    pub expect: Expect,
    pub write: Write<E>,
}

/// What must hold of the key when the transaction is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    Absent,
    /// The entry was last written at this revision.
    Revision(u64),
    Present,
    Anything,
}

pub enum Write<E: Entry> {
    Put {
        frame: Frame,
        draft: E::Draft,
        /// Kept in memory only until the next durable write of the key (a Lease's renewTime).
        renewal: bool,
    },
    Delete,
    /// Only the expectation is checked.
    Check,
}

/// What came of a transaction.
pub struct Committed<E: Entry> {
    /// The revision of the last op.
    pub revision: u64,
    /// Per op: the new entry, or for deletes the last one.
    pub entries: Vec<Option<E>>,
}

/// Errors that surely left nothing behind, and the one that may have.
#[derive(Debug, thiserror::Error)]
pub enum TxnError {
    /// The expectation of op `op` does not hold; `revision` is what stands there, `None` when nothing does.
    #[error("key {key:?} is at {revision:?}")]
    Conflict { op: usize, key: Key, revision: Option<u64> },
    #[error("the store is full: {0}")]
    Full(String),
    #[error("not written: {0}")]
    NotWritten(String),
    #[error("the store is closed")]
    Closed,
    /// The commit may or may not have reached the disk; the store ends itself, so that a restart decides.
    #[error("unknown outcome: {0}")]
    Unknown(String),
}
