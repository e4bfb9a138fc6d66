//! `coracle images import`: image archives into the node's runtime, with progress on a terminal.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use coracle_agent::containerd::content::ContentStore;
use coracle_agent::cri::Cri;
use coracle_agent::images::{archive::BytesRead, known};
use lexopt::Arg;

use super::asks_for_help;
use crate::Failure;
use crate::options::Typed;

const USAGE: &str = "\
Usage: coracle images import [--data-dir DIRECTORY] ARCHIVE...

Archives of `docker save` or OCI layouts, plain or compressed with gzip or zstd.

  --data-dir DIRECTORY   of the server whose node takes them (default: /var/lib/coracle)
";

/// How often the line of progress is drawn again.
const DRAW: Duration = Duration::from_millis(100);

pub fn run(arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let Some((verb, rest)) = arguments.split_first().filter(|_| !asks_for_help(arguments)) else {
        print!("{USAGE}");
        return Ok(ExitCode::from(if asks_for_help(arguments) { 0 } else { 2 }));
    };
    if verb != "import" {
        return Err(Failure::usage(format!("images {}: only `images import` is known", verb.to_string_lossy())));
    }
    let mut server_flags = Vec::new();
    let mut archives = Vec::new();
    let mut parser = lexopt::Parser::from_args(rest);
    while let Some(argument) = parser.next().map_err(|error| Failure::usage(error.to_string()))? {
        match argument {
            Arg::Long("data-dir") => {
                let directory = parser.value().map_err(|error| Failure::usage(error.to_string()))?;
                server_flags.extend([OsString::from("--data-dir"), directory]);
            }
            Arg::Value(path) => archives.push(PathBuf::from(path)),
            other => return Err(Failure::usage(other.unexpected().to_string())),
        }
    }
    if archives.is_empty() {
        return Err(Failure::usage("images import needs the paths of archives"));
    }
    let typed = Typed::gather(&server_flags, [])?;
    let data = std::path::absolute(typed.value("data-dir"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(import(&data, &archives))
}

async fn import(data: &Path, archives: &[PathBuf]) -> Result<ExitCode, Failure> {
    let socket = socket(data)?;
    let (store, cri) = (ContentStore::new(&socket), Cri::new(&socket));
    for path in archives {
        let size = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
        let read = BytesRead::default();
        let importing = store.import_archive(path, read.clone());
        let names = tokio::select! {
            names = importing => names,
            never = draw(path, &read, size) => match never {},
        };
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
        for name in names? {
            known(&cri, &name).await?;
            println!("imported {name}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The socket of the runtime that the server with this data directory runs.
fn socket(data: &Path) -> anyhow::Result<PathBuf> {
    let path = data.join("agent/instance");
    let id = std::fs::read_to_string(&path)
        .with_context(|| format!("no node has run in {}: start `coracle server` there first", data.display()))?;
    let socket = PathBuf::from(format!("/run/coracle-{}/containerd/containerd.sock", id.trim()));
    if socket.exists() {
        Ok(socket)
    } else {
        Err(anyhow!("the node's runtime does not run ({} is missing): start `coracle server` first", socket.display()))
    }
}

/// Draws how much of the archive was read, on terminals only, until it is dropped.
async fn draw(path: &Path, read: &BytesRead, size: u64) -> std::convert::Infallible {
    if !std::io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    loop {
        let percent = (read.get() * 100).checked_div(size).unwrap_or(100).min(100);
        let filled = percent as usize * 30 / 100;
        eprint!("\r{name} [{}{}] {percent:3} %\x1b[K", "=".repeat(filled), " ".repeat(30 - filled));
        let _ = std::io::stderr().flush();
        tokio::time::sleep(DRAW).await;
    }
}
