//! Keys, frames and revisions. Knows no kinds.
//!
//! Invariants:
//! - A revision is never handed out twice, over crashes and restores: blocks of 65,536 are reserved durably before use, and a start that
//!   does not follow a clean close goes on at the end of the block.
//! - Nothing is acknowledged before it is durable, with two named exceptions: renewals (in memory until the key's next durable write or a
//!   clean close) and the volatile partitions (a second file, without fsync).
//! - The one writer thread owns the map and numbers every change. A group of transactions commits whole or is taken back whole;
//!   after an unknown outcome the store ends itself, and the next start decides.
//! - Order of a commit: durable, then visible to readers, then answered, then published to watchers, then counted as progress.
//! - Readers see immutable snapshots and never wait for the writer; get, list and watch never touch the disk (volatile partitions apart).
//! - A watcher sees every change of its scope once and in order, or is told `Expired`; after a restart that is so from the partition's last
//!   durable change on. Volatile partitions are always `Expired` then.
//! - Nothing wakes without a cause: the only timer is the next expiry of a volatile entry.

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
pub use snapshot::{Extent, ReadError, Snapshot};
pub use sqlite::Sqlite;
pub use store::{Options, Store};
pub use txn::{Committed, Expect, Op, Txn, TxnError, Write};
pub use watch::{Batch, Change, Expired, Pending, Scope, Watch};
