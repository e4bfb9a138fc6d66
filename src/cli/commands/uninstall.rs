//! `coracle uninstall`: what a server left on this machine goes away, its state included.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use lexopt::Arg;

use super::asks_for_help;
use crate::Failure;
use crate::options::Typed;

const USAGE: &str = "\
Usage: coracle uninstall [--data-dir DIRECTORY | --flags-file FILE] [--yes]

  --data-dir DIRECTORY   the server's (default: /var/lib/coracle)
  --flags-file FILE      a file with the flags of the server, instead
  --yes                  do not ask; CORACLE_CONFIRM=true says the same
";

pub fn run(arguments: &[OsString]) -> Result<ExitCode, Failure> {
    if asks_for_help(arguments) {
        print!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut server_flags = Vec::new();
    let mut confirmed = std::env::var("CORACLE_CONFIRM").is_ok_and(|value| value == "true");
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Arg::Long("yes") => confirmed = true,
            Arg::Long("data-dir") => {
                let directory = parser.value().map_err(usage)?;
                server_flags.extend([OsString::from("--data-dir"), directory]);
            }
            Arg::Long("flags-file") => {
                let path = PathBuf::from(parser.value().map_err(usage)?);
                server_flags.extend(flags_of(&path)?);
            }
            other => return Err(Failure::usage(other.unexpected().to_string())),
        }
    }
    let typed = Typed::gather(&server_flags, [])?;
    let data = std::path::absolute(typed.value("data-dir"))?;
    if !confirmed {
        ask(&data)?;
    }
    coracle_server::uninstall::uninstall(&data)?;
    let kubeconfig = Path::new(typed.value("write-kubeconfig"));
    match std::fs::remove_file(kubeconfig) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", kubeconfig.display()))?
        }
        _ => {}
    }
    println!("removed {}", data.display());
    Ok(ExitCode::SUCCESS)
}

/// The words of a file of flags; a missing file has none.
fn flags_of(path: &Path) -> Result<Vec<OsString>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.split_whitespace().map(OsString::from).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => {
            Err(Failure::Failed(anyhow::Error::from(error).context(format!("cannot read {}", path.display()))))
        }
    }
}

fn ask(data: &Path) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("uninstall removes all state: confirm with --yes"));
    }
    eprint!("Remove {} with all state of the cluster, and its containers? [y/N] ", data.display());
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Failed(anyhow::anyhow!("nothing was removed"))),
    }
}

fn usage(error: lexopt::Error) -> Failure {
    Failure::usage(error.to_string())
}
