//! nf_tables over netlink, without an `nft` binary: rules as expressions, sets, batches.

pub mod batch;
pub mod expression;

pub use batch::{Batch, Data, Hook, Set, Type, Value};
pub use expression::{Rule, Verdict};
