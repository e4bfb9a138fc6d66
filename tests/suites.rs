//! The suites, one file per part of the main job.

mod api;
mod bad_input;
mod cluster;
mod images;
mod install;
mod kubectl;
mod node_port;
mod pods;
mod services;
mod survival;
mod terminal;
