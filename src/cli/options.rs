//! Options of `server` and `agent`: from the command line, the environment and the configuration files.

pub mod file;
pub mod flags;
pub mod resolve;
pub mod typed;

pub use typed::Typed;
