//! `coracle agent`: joins a server as a further node, and runs until a signal or a failure.

use std::ffi::OsString;
use std::process::ExitCode;

use super::asks_for_help;
use super::server::{gather, log, run_until_signal};
use crate::Failure;
use crate::options::flags::{self, Of};
use crate::options::resolve;

pub fn run(arguments: &[OsString]) -> Result<ExitCode, Failure> {
    if asks_for_help(arguments) {
        print!("Usage: coracle agent --server URL --token TOKEN [OPTION]...\n\n{}", flags::help(Of::Agent));
        return Ok(ExitCode::SUCCESS);
    }
    let typed = gather(arguments, Of::Agent)?;
    let config = resolve::agent(&typed)?;
    log(&typed)?;
    run_until_signal(|shutdown| coracle_server::joined::run(config, shutdown))
}
