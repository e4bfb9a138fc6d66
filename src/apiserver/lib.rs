//! HTTP in, Status out.
//!
//! Invariants: `chain` is one function whose order is the documentation; CRUD is written once (`registry`), a kind's
//! difference is a strategy; nothing here opens a socket except through `Dialer`; every client, also a component in
//! this process, passes authentication, authorization and admission.

pub mod authn;
pub mod dialer;

pub use dialer::{ByteStream, Dialer};
