//! Keys, frames and revisions. Knows no kinds.
//!
//! Invariants: a revision is never handed out twice, over crashes and restores; nothing is acknowledged before it is durable
//! (two named exceptions: renewals and the volatile partitions); the one writer thread owns the map and
//! numbers every change; readers see immutable snapshots and never wait for the writer; get, list and watch never
//! touch the disk (volatile partitions apart).

pub mod datastore;
pub mod entry;
pub mod memory;
pub mod ring;
pub mod snapshot;
pub mod sqlite;
pub mod store;
#[cfg(test)]
mod tests;
pub mod txn;
mod volatile;
pub mod watch;
mod writer;

pub use datastore::{Datastore, OpenError};
pub use entry::{Entry, Frame, Key};
pub use snapshot::{ReadError, Snapshot};
pub use sqlite::Sqlite;
pub use store::{Options, Store};
pub use txn::{Committed, Expect, Op, Txn, TxnError, Write};
pub use watch::{Change, Expired, Scope, Watch};
