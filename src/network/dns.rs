//! The cluster's DNS on this node: answers from the last known state, forwards the rest to the host's servers.

pub mod server;
pub mod upstream;
pub mod zone;

pub use server::{Listeners, Resolver};
pub use upstream::Upstream;
pub use zone::Zone;

#[cfg(test)]
mod tests;
