//! `coracle server`: reads its options, then runs until a signal or a failure.

use std::ffi::OsString;
use std::process::ExitCode;

use coracle_base::shutdown::Shutdown;
use coracle_base::task;
use tokio::signal::unix::{SignalKind, signal};

use super::asks_for_help;
use crate::Failure;
use crate::options::flags::Of;
use crate::options::{Typed, flags, resolve};

pub fn run(arguments: &[OsString]) -> Result<ExitCode, Failure> {
    if asks_for_help(arguments) {
        print!("Usage: coracle server [OPTION]...\n\n{}", flags::help(Of::Server));
        return Ok(ExitCode::SUCCESS);
    }
    let typed = gather(arguments, Of::Server)?;
    let config = resolve::server(&typed)?;
    log(&typed)?;
    run_until_signal(|shutdown| async { Ok(coracle_server::run(config, shutdown).await?) })
}

/// The options of a command that runs for long.
pub fn gather(arguments: &[OsString], command: Of) -> Result<Typed, Failure> {
    let typed = Typed::gather(
        arguments,
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    )?;
    typed.only(command)?;
    Ok(typed)
}

/// Begins to log, with what was noticed before.
pub fn log(typed: &Typed) -> Result<(), Failure> {
    coracle_base::log::setup(&resolve::logging(typed)?).map_err(|error| Failure::usage(error.to_string()))?;
    for warning in &typed.warnings {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// Runs `work` on the runtime of this process until it ends; a signal begins its shutdown.
pub fn run_until_signal<F: Future<Output = anyhow::Result<()>>>(
    work: impl FnOnce(Shutdown) -> F,
) -> Result<ExitCode, Failure> {
    coracle_server::sys::tune_allocator();
    // One core is left to the store's writer and to containerd.
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1)).max(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let result = runtime.block_on(async {
        let shutdown = Shutdown::new();
        let _signals = task::spawn("signals", stop_on_signal(shutdown.clone()));
        work(shutdown).await
    });
    // Blocking threads hold nothing that a crash-only program would miss.
    runtime.shutdown_background();
    result?;
    Ok(ExitCode::SUCCESS)
}

/// The first signal asks for a clean stop; a second one ends the process as signals do.
async fn stop_on_signal(shutdown: Shutdown) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be handled");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    shutdown.begin();
}
