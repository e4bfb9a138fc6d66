//! `coracle kubectl`: the everyday verbs, for machines without kubectl; everything else goes to a kubectl on PATH.
//!
//! What objects look like is the server's business: `get` prints the tables that the server makes, `apply` is server-side.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::Failure;

mod apply;
mod delete;
mod exec;
mod get;
pub mod kubeconfig;
mod line;
mod logs;
mod manifest;
mod session;
mod target;
mod terminal;
mod wait;

use line::Line;
use session::Session;

/// Runs what follows `coracle kubectl`.
pub fn run(arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let Some(line) = Line::parse(arguments) else { return pass_on(arguments) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let session = Session::open(&line)?;
        match line.verb.as_str() {
            "get" => get::run(&session, &line).await,
            "apply" => apply::run(&session, &line).await,
            "delete" => delete::run(&session, &line).await,
            "wait" => wait::run(&session, &line).await,
            "logs" => logs::run(&session, &line).await,
            "exec" => exec::run(&session, &line).await,
            verb => Err(Failure::usage(format!("kubectl {verb} is not built in"))),
        }
    });
    // Nothing waits for a read that the terminal will not answer.
    runtime.shutdown_background();
    outcome
}

/// Becomes the machine's kubectl, with our kubeconfig where none is chosen.
fn pass_on(arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let mut kubectl = Command::new("kubectl");
    kubectl.args(arguments);
    if std::env::var_os("KUBECONFIG").is_none() && std::path::Path::new(session::KUBECONFIG).exists() {
        kubectl.env("KUBECONFIG", session::KUBECONFIG);
    }
    let error = kubectl.exec();
    let verb = arguments.first().map(|verb| verb.to_string_lossy().into_owned()).unwrap_or_default();
    if error.kind() == std::io::ErrorKind::NotFound {
        let built_in = "built in are get, apply, delete, wait, logs and exec with their common options";
        return Err(Failure::usage(format!("kubectl {verb}: {built_in}; install kubectl for the rest")));
    }
    Err(Failure::Failed(anyhow::Error::from(error).context("kubectl does not start")))
}
