//! Netlink as a protocol: messages, attributes, sockets.

pub mod message;
pub mod route;
pub mod socket;

pub use socket::{KernelError, NetlinkSocket};
