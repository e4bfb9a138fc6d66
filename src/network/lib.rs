//! What reaches the kernel's network: Services, the CNI plugin, DNS, the way to other nodes' pods.
//!
//! Invariants: one nftables table `inet coracle` per network namespace, written over netlink; it is replaced as a whole
//! at start and changed by elements afterwards, each batch all or nothing. What should be in it is a pure function of
//! (Services, EndpointSlices, node, host ports). A packet costs the same few lookups however many Services there are. IPv4 and IPv6 are
//! alike in every structure. Nothing is deleted that does not carry this node's instance id. No system call changes a tokio worker's
//! namespace. What serves goes on serving while this process is away: the table stays, and is replaced only by a complete one.

pub mod cni;
pub mod conntrack;
pub mod dns;
pub mod netlink;
pub mod nftables;
pub mod node;
pub mod overlay;
pub mod run;
pub mod services;
mod sys;
pub mod views;

pub use node::cleanup;
pub use overlay::Backend;
pub use run::{DnsConfig, NetworkConfig, NetworkError, Running, run};
pub use services::Prefix;

#[cfg(test)]
mod testing;
