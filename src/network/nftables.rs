//! nf_tables over netlink, without an `nft` binary: messages, rules, batches, dumps.

pub mod batch;
pub mod expression;
pub mod message;
pub mod socket;

pub use batch::{Batch, Data, Hook, Set, Type, Value};
pub use expression::{Rule, Verdict};
pub use socket::{KernelError, NetfilterSocket};
