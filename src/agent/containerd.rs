//! containerd as a supervised child: started, watched, started again; adopted when it outlived an earlier agent.
//!
//! Containers belong to their shims, so they outlive containerd, and containerd outlives an agent that is killed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use coracle_base::backoff::{Backoff, Shape};
use coracle_base::shutdown::Shutdown;
use coracle_base::task::{self, Task};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cri::Cri;
use crate::sys;
use programs::Programs;

pub mod config;
pub mod content;
pub mod events;
pub mod programs;
pub mod registries;
#[cfg(test)]
mod tests;

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    #[error(
        "{0} is not installed: install containerd and runc (Debian, Ubuntu: apt-get install containerd runc), or name a runtime's socket"
    )]
    Missing(&'static str),
    #[error("{} holds no {program}: containerd, containerd-shim-runc-v2 and runc must all be there", directory.display())]
    Incomplete { directory: PathBuf, program: &'static str },
    #[error("{path} cannot be used")]
    Registries {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write {path}")]
    Files {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("containerd cannot be started")]
    Start(#[source] std::io::Error),
    #[error("containerd ended while it started; its log is {log}")]
    Ended { log: PathBuf },
    #[error("containerd does not answer after {0:?}")]
    Silent(Duration),
}

/// A runtime under supervision.
pub struct Containerd {
    pub socket: PathBuf,
    /// Counts the runtime's starts; 0 while it is down. Event streams are opened again when it changes.
    pub generation: watch::Receiver<u64>,
    /// Ends after shutdown has begun and containerd is stopped.
    pub task: Task<()>,
}

/// Where its configuration, log and pid file stand.
#[derive(Clone)]
struct Supervisor {
    programs: Programs,
    directory: PathBuf,
    socket: PathBuf,
}

/// A process that is ours to watch: a child of this agent, or one of an earlier agent.
struct Process {
    pid: u32,
    /// Kept so that the child is reaped; `None` for one that was adopted.
    child: Option<tokio::process::Child>,
    ended: AsyncFd<std::os::fd::OwnedFd>,
}

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// A start that holds this long counts as good.
const SETTLED: Duration = Duration::from_secs(30);
const RESTART: Shape = Shape::doubling(Duration::from_millis(100), Duration::from_secs(10));
const LOG_LIMIT: u64 = 10 << 20;

/// Starts containerd, or finds the one that an earlier agent left, and answers when it answers.
/// `directory` takes its configuration, log and pid file.
pub async fn start(
    directory: &Path,
    programs: Programs,
    settings: &config::Settings,
    shutdown: Shutdown,
) -> Result<Containerd, ContainerdError> {
    for path in [directory, &settings.root, &settings.state, &settings.cni_config, &settings.cni_binaries] {
        std::fs::create_dir_all(path).map_err(|source| ContainerdError::Files { path: path.to_owned(), source })?;
    }
    let supervisor = Supervisor { programs, directory: directory.to_owned(), socket: settings.socket() };
    let changed = supervisor.write_config(&config::render(settings))?;
    let process = match supervisor.left_running() {
        Some(process) if !changed && supervisor.runs_our_program(&process) => {
            tracing::info!(pid = process.pid, "found containerd running");
            process
        }
        left => {
            if let Some(process) = left {
                process.stop().await;
            }
            supervisor.spawn()?
        }
    };
    let process = supervisor.answering(process).await?;
    let (generation, receiver) = watch::channel(1);
    let socket = supervisor.socket.clone();
    let task = task::spawn("containerd", supervisor.watch(process, generation, shutdown));
    Ok(Containerd { socket, generation: receiver, task })
}

impl Supervisor {
    async fn watch(self, process: Process, generation: watch::Sender<u64>, shutdown: Shutdown) {
        let mut count = 1;
        let mut process = Some(process);
        let mut backoff = Backoff::new(RESTART);
        loop {
            if let Some(running) = process.take() {
                let since = Instant::now();
                if shutdown.bound(running.ended.readable()).await.is_none() {
                    return running.stop().await;
                }
                generation.send_replace(0);
                if since.elapsed() > SETTLED {
                    backoff.reset();
                }
                tracing::warn!(pid = running.pid, "containerd ended, starting it again");
            }
            if shutdown.bound(tokio::time::sleep(backoff.next_delay())).await.is_none() {
                return;
            }
            let started = match self.spawn() {
                Ok(started) => self.answering(started).await,
                Err(error) => Err(error),
            };
            match started {
                Ok(started) => {
                    count += 1;
                    generation.send_replace(count);
                    process = Some(started);
                }
                Err(error) => tracing::error!(%error, "containerd does not start"),
            }
        }
    }

    /// Writes the configuration where it differs from what stands there; says whether it did.
    fn write_config(&self, text: &str) -> Result<bool, ContainerdError> {
        let path = self.directory.join("config.toml");
        if std::fs::read_to_string(&path).is_ok_and(|present| present == text) {
            return Ok(false);
        }
        // It may hold credentials.
        let written = std::fs::write(&path, text)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)));
        written.map_err(|source| ContainerdError::Files { path, source })?;
        Ok(true)
    }

    /// The containerd of our pid file, if that process is one with our configuration.
    fn left_running(&self) -> Option<Process> {
        let pid: u32 = std::fs::read_to_string(self.directory.join("containerd.pid")).ok()?.trim().parse().ok()?;
        let ended = sys::pidfd(pid).ok()?;
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let config = self.directory.join("config.toml");
        let ours = command.split(|byte| *byte == 0).any(|argument| argument == config.as_os_str().as_encoded_bytes());
        ours.then_some(Process { pid, child: None, ended })
    }

    /// Whether it is the program that would be started now, and not one that an upgrade has replaced.
    fn runs_our_program(&self, process: &Process) -> bool {
        let program = std::fs::read_link(format!("/proc/{}/exe", process.pid)).ok();
        program.is_some() && program == self.programs.containerd.canonicalize().ok()
    }

    fn spawn(&self) -> Result<Process, ContainerdError> {
        let log = self.directory.join("containerd.log");
        let files = |path: &Path| {
            let path = path.to_owned();
            |source| ContainerdError::Files { path, source }
        };
        let keep = std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() < LOG_LIMIT);
        let mut options = std::fs::OpenOptions::new();
        let output = options.create(true).write(true).append(keep).truncate(!keep).open(&log).map_err(files(&log))?;
        let errors = output.try_clone().map_err(files(&log))?;
        let mut command = tokio::process::Command::new(&self.programs.containerd);
        command.arg("--config").arg(self.directory.join("config.toml"));
        command.env("PATH", &self.programs.path);
        // The service manager waits for this process, not for containerd.
        command.env_remove("NOTIFY_SOCKET");
        // A group of its own: what is typed at the agent's terminal is not meant for containerd.
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let child = command.spawn().map_err(ContainerdError::Start)?;
        let pid = child.id().ok_or_else(|| ContainerdError::Start(std::io::ErrorKind::NotFound.into()))?;
        let path = self.directory.join("containerd.pid");
        std::fs::write(&path, pid.to_string()).map_err(files(&path))?;
        let ended = sys::pidfd(pid).map_err(ContainerdError::Start)?;
        tracing::info!(pid, "started containerd");
        Ok(Process { pid, child: Some(child), ended })
    }

    /// Waits until the runtime answers on its socket.
    async fn answering(&self, process: Process) -> Result<Process, ContainerdError> {
        let cri = Cri::new(&self.socket);
        let mut backoff = Backoff::new(Shape::doubling(Duration::from_millis(10), Duration::from_millis(200)));
        let answers = async {
            while cri.conditions().await.is_err() {
                tokio::time::sleep(backoff.next_delay()).await;
            }
        };
        let ended = tokio::select! {
            () = answers => return Ok(process),
            _ = process.ended.readable() => true,
            () = tokio::time::sleep(START_LIMIT) => false,
        };
        process.stop().await;
        Err(if ended {
            ContainerdError::Ended { log: self.directory.join("containerd.log") }
        } else {
            ContainerdError::Silent(START_LIMIT)
        })
    }
}

impl Process {
    /// Asks it to end, insists after three seconds, and reaps it.
    async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        if tokio::time::timeout(STOP_LIMIT, self.ended.readable()).await.is_err() {
            self.signal(Signal::SIGKILL);
            let _ = self.ended.readable().await;
        }
        if let Some(child) = &mut self.child {
            let _ = child.wait().await;
        }
    }

    fn signal(&self, signal: Signal) {
        // The pid is still its own: its end would have been seen on the descriptor.
        let _ = kill(Pid::from_raw(self.pid as i32), signal);
    }
}

/// Whether this process may lower the score of its children (CAP_SYS_RESOURCE, bit 24).
pub fn may_adjust_oom_score() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> 24 & 1 == 1)
}
