//! The node: pods from their sources become containers of the runtime, and their state goes back to the API.
//!
//! Invariants: one worker per pod UID, whose state machine is pure; the runtime is the only memory of what runs, so that an agent that is
//! killed finds its containers again; everything outside the data directory carries the instance id, and only what carries
//! it is deleted; pods are kept as encoded objects and decoded for the moment of use; nothing global is shared.

pub mod actions;
pub mod admission;
pub mod cgroups;
pub mod config;
pub mod containerd;
pub mod cri;
pub mod downward;
pub mod environment;
pub mod events;
pub mod handle;
pub mod images;
pub mod labels;
pub mod logs;
pub mod node;
pub mod node_server;
pub mod objects;
pub mod pod;
pub mod pod_runtime;
pub mod pod_workers;
pub mod pods;
mod probes;
pub mod proto;
pub mod qos;
pub mod resize;
pub mod run;
pub mod services;
pub mod sources;
pub mod status;
mod sync;
pub mod sys;
pub mod volumes;

pub use handle::NodeHandle;
pub use run::{Agent, AgentConfig, AgentError};
pub use sources::PodSource;

#[cfg(test)]
mod testing;
