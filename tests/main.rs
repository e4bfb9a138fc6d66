//! The one binary of end-to-end tests: each suite drives a real `coracle` with unmodified upstream clients.

mod differential;
mod harness;
mod suites;
mod tidy;
