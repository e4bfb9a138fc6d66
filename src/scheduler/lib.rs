//! coracle-scheduler.
