//! `coracle agent`: refused until nodes can join over the network.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::Failure;

pub fn run(_: &[OsString]) -> Result<ExitCode, Failure> {
    let missing = "further nodes cannot join a server yet; `coracle server` runs a server with a node";
    Err(Failure::Failed(anyhow::anyhow!("agent: {missing}")))
}
