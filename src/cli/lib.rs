//! Commands, flags and the configuration file.
//!
//! Invariants: a flag is one row of a table, from which parsing, the configuration file, the environment and the help
//! text come; options go through two stages, as typed and then resolved and validated; an error is one line that says
//! what failed, on what, and what to do. Exit codes: 0, 1 (failed), 2 (usage).

use std::process::ExitCode;

mod commands;
mod failure;
pub mod kubectl;
mod nearest;
pub mod options;

pub use failure::Failure;

/// Runs the command line of this process and returns its exit code.
pub fn main() -> ExitCode {
    // containerd starts this executable under the name of a CNI plugin.
    if let Some(code) = coracle_server::cni_dispatch() {
        return code;
    }
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match commands::run(&arguments) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("coracle: {failure}");
            failure.code()
        }
    }
}
