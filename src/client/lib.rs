//! What every component is given: reads as a stream of objects, writes through `kube::Client`.
//!
//! Invariants: a component never sees the store or another component's memory; what it remembers are views (small
//! structs with the fields it needs), never whole objects; every component acts under its own identity.

pub mod controller;
pub mod error;
pub mod events;
pub mod key;
pub mod lease;
pub mod path;
pub mod placement;
pub mod remote;
pub mod rest;
pub mod source;
pub mod transport;
pub mod view;

pub use controller::{Controller, Next};
pub use error::{Error, found};
pub use key::Key;
pub use remote::RemoteSource;
pub use source::{ObjectEvent, ObjectSource, Selection};
pub use view::{Change, Item, Project, View, Views};
