//! Services as nf_tables elements: the plan, the ledger of claims, the table and the task that keeps it.

pub mod element;
pub mod guard;
pub mod ledger;
pub mod plan;
pub mod ruleset;
pub mod sync;
pub mod table;

pub use element::{Content, Family, Frontend, Key};
pub use ledger::{Changes, Ledger, Owner};
pub use plan::{HostPort, NodeFacts};
pub use ruleset::{Prefix, TableConfig};
pub use table::Table;

#[cfg(test)]
mod tests;
