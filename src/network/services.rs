//! Services as nf_tables elements: the plan, the ledger of claims, the table.

pub mod element;
pub mod ledger;
pub mod plan;
pub mod ruleset;

pub use element::{Content, Family, Frontend, Key};
pub use ledger::{Changes, Ledger, Owner};
pub use plan::{HostPort, NodeFacts};
pub use ruleset::{Prefix, TableConfig};

#[cfg(test)]
mod tests;
