//! HTTP in, Status out.
//!
//! Invariants: `chain` is one function whose order is the documentation; CRUD is written once (`registry`), a kind's
//! difference is a strategy; nothing here opens a socket except through `Dialer`; every client, also a component in
//! this process, passes authentication, authorization and admission.

pub mod admission;
pub mod authn;
pub mod authz;
pub mod body;
pub mod call;
mod chain;
mod compress;
mod convert;
mod decode;
pub mod dialer;
mod discovery;
mod dispatch;
mod encode;
pub mod failure;
mod flight;
pub mod health;
mod impersonate;
mod load;
mod local;
mod negotiate;
mod openapi;
mod paths;
pub mod peer;
pub mod proxy;
pub mod registry;
pub mod request_info;
mod request_metrics;
pub mod server;
mod table;
pub mod verbs;
mod view;

#[cfg(test)]
mod tests;

pub use body::Body;
pub use dialer::{ByteStream, Dialer};
pub use peer::Peer;
pub use registry::{Network, Networks, Registry, Stored};
pub use request_info::RequestInfo;
pub use server::{ApiServer, Options};
