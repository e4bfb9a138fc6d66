//! The suites, one file per part of the main job.

mod api;
