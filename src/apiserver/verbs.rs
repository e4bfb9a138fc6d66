//! One file per verb: from the request's options to the registry, and from there to the answer.

pub mod answer;
pub mod continuation;
pub mod create;
pub mod delete;
pub mod deletecollection;
pub mod get;
pub mod list;
pub mod options;
pub mod patch;
pub mod subresource;
pub mod update;
pub mod watch;
