//! From pod specs to what the runtime is asked for.

pub mod container;
pub mod dns;
pub mod sandbox;
pub mod security;
