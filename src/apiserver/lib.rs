//! HTTP in, Status out.
//!
//! Invariants: `chain` is one function whose order is the documentation; CRUD is written once (`registry`), a kind's
//! difference is a strategy; nothing here opens a socket except through `Dialer`; every client, also a component in
//! this process, passes authentication, authorization and admission.

pub mod authn;
pub mod authz;
pub mod body;
pub mod dialer;
pub mod failure;
pub mod peer;
pub mod proxy;
pub mod query;
pub mod request_info;

pub use body::Body;
pub use dialer::{ByteStream, Dialer};
pub use peer::Peer;
pub use request_info::RequestInfo;
