//! Keys, frames and revisions. Knows no kinds.
//!
//! Invariants: a revision is never handed out twice, over crashes and restores; nothing is acknowledged before it is durable
//! (two named exceptions: renewals and the volatile partitions); the one writer thread owns the map and
//! numbers every change; readers see immutable snapshots and never wait for the writer; get, list and watch never
//! touch the disk (volatile partitions apart).

pub mod entry;
pub mod txn;

pub use entry::{Entry, Frame, Key};
pub use txn::{Committed, Expect, Op, Txn, TxnError, Write};
