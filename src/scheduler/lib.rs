//! The scheduler: finds a node for every pod that has none.
//!
//! Invariants: one task owns all state and decides synchronously (`Scheduler`, pure, testable without a server);
//! binding and reporting are asynchronous; a decision is assumed at once, so that the next one counts it; a refusal
//! names the plugins that refused, and only what can change their minds brings the pod back. Upstream: pkg/scheduler.

pub mod budgets;
pub mod cycle;
pub mod framework;
pub mod node;
pub mod plugins;
pub mod pod;
pub mod preemption;
pub mod queue;
pub mod requests;
pub mod scheduler;
pub mod service;
pub mod snapshot;
pub mod terms;

pub use service::{Context, run};
