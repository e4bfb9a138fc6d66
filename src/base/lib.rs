//! The house's standard library: what every room needs and no Kubernetes word.
//!
//! Invariants: every task has a name and dies with its handle; nothing polls a flag; work flows by
//! keyed queues and state by watch channels; nothing here knows what a pod is.

pub mod backoff;
pub mod clock;
pub mod crypto;
pub mod directory_watch;
pub mod log;
pub mod metrics;
pub mod queue;
pub mod shutdown;
pub mod task;
pub mod url;
