//! The Kubernetes object model as data: no IO, no async.
//!
//! Invariants: what Kubernetes repeats per kind is a table row (`resource`, `schema`), never code; objects at
//! rest are encoded bytes behind `Object`; decoded trees (`serde_json::Value`) live for the moment of use and
//! are normal (exactly what Go would print of the same object, see `codec`); rules
//! read trees only through `node::Node`, never by string index; every error a client may see is a `Status`.

pub mod causes;
pub mod codec;
pub mod columns;
pub mod convert;
pub mod defaults;
pub mod field_set;
pub mod int_or_string;
pub mod managed_fields;
pub mod names;
pub mod node;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod qos;
pub mod quantity;
pub mod quota;
pub mod quoting;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod status;
pub mod validation;
pub mod warnings;

pub use causes::Causes;
pub use object::Object;
pub use resource::Resource;
pub use status::Status;
