//! Logs of containers on disk: rotated when they are large, and linked where log collectors look
//! (upstream: pkg/kubelet/logs/container_log_manager.go, kuberuntime/legacy.go).
//!
//! Nothing is read to find out which log is large. The kernel tells once of a log that it is written to; its size is looked at a
//! moment later, and only then the kernel is asked again. So a container that is silent costs nothing, and one that is not, one look in
//! ten seconds.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_base::directory_watch::FilesWatch;
use coracle_base::task::{self, Task};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cri::{Cri, RuntimeError};
use crate::pod::PodExt;
use crate::pod_runtime::PodRuntime;

/// containerLogMaxSize and containerLogMaxFiles, as upstream defaults them.
const LARGE: u64 = 10 << 20;
const FILES: usize = 5;
/// How soon after a write a log's size is looked at (upstream: containerLogMonitorInterval).
const PAUSE: Duration = Duration::from_secs(10);
/// ext4's.
const NAME_LIMIT: usize = 255;

/// The logs of running containers. Cloning is a reference count.
#[derive(Clone)]
pub struct Logs {
    /// `/var/log/containers` of the installed service.
    links: Arc<PathBuf>,
    /// By container ID.
    watched: Shared,
    /// A container has begun.
    begun: Arc<Notify>,
    _task: Arc<Task<()>>,
}

struct Watched {
    pod: Box<str>,
    link: PathBuf,
    path: PathBuf,
}

impl Logs {
    pub fn new(cri: Cri, links: PathBuf) -> Self {
        let (watched, begun) = (Shared::default(), Arc::new(Notify::new()));
        let task = task::spawn("log sizes", watch(cri, Arc::clone(&watched), Arc::clone(&begun)));
        Self { links: Arc::new(links), watched, begun, _task: Arc::new(task) }
    }

    /// Links the logs of the containers that the runtime has of the pod, and looks after those of running ones.
    pub fn follow(&self, pod: &Pod, runtime: &PodRuntime) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|id, entry| {
            let is_there = runtime.containers.iter().any(|container| container.status.id == **id);
            if *entry.pod == *pod.uid() && !is_there {
                let _ = std::fs::remove_file(&entry.link);
                return false;
            }
            true
        });
        for container in runtime.containers.iter().filter(|container| container.is_running()) {
            let (id, path) = (&container.status.id, &container.status.log_path);
            if path.is_empty() || watched.contains_key(id.as_str()) {
                continue;
            }
            let link = self.links.join(link_name(pod, &container.name, id));
            let linked = std::fs::create_dir_all(&*self.links).and_then(|()| link_to(Path::new(path), &link));
            if let Err(error) = linked {
                tracing::warn!(%error, link = %link.display(), "a log is not linked");
            }
            watched.insert(id.as_str().into(), Watched { pod: pod.uid().into(), link, path: path.into() });
            self.begun.notify_one();
        }
    }

    /// Nothing of the pod is left.
    pub fn forget(&self, uid: &str) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|_, entry| {
            if *entry.pod == *uid {
                let _ = std::fs::remove_file(&entry.link);
            }
            *entry.pod != *uid
        });
    }

    /// Removes links of containers that an earlier agent knew and nobody has any more.
    pub fn remove_dead_links(&self) {
        for entry in std::fs::read_dir(&*self.links).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_symlink() && !path.exists() {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// `<pod>_<namespace>_<container>-<id>.log`
fn link_name(pod: &Pod, container: &str, id: &str) -> String {
    let mut name = format!("{}_{}_{container}-{id}", pod.name(), pod.namespace());
    name.truncate(NAME_LIMIT - ".log".len());
    name + ".log"
}

fn link_to(path: &Path, link: &Path) -> io::Result<()> {
    let _ = std::fs::remove_file(link);
    std::os::unix::fs::symlink(path, link)
}

type Shared = Arc<Mutex<HashMap<Box<str>, Watched>>>;

/// Looks at all logs when a container has begun, and a moment after one was written to.
async fn watch(cri: Cri, watched: Shared, begun: Arc<Notify>) {
    let mut files = match FilesWatch::new() {
        Ok(files) => files,
        Err(error) => return tracing::error!(%error, "logs are not rotated"),
    };
    let mut due: Option<Instant> = None;
    loop {
        tokio::select! {
            () = begun.notified() => look(&cri, &watched, &files).await,
            written = files.event(), if due.is_none() => match written {
                Ok(()) => due = Some(Instant::now() + PAUSE),
                Err(error) => return tracing::error!(%error, "logs are not rotated any more"),
            },
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                due = None;
                look(&cri, &watched, &files).await;
            }
        }
    }
}

/// Asks to be told of the next write to each log, and rotates those that are large.
async fn look(cri: &Cri, watched: &Shared, files: &FilesWatch) {
    let logs: Vec<(Box<str>, PathBuf)> = {
        let watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.iter().map(|(id, entry)| (id.clone(), entry.path.clone())).collect()
    };
    for (id, path) in logs {
        if is_large(&path)
            && let Err(error) = rotate(cri, &id, &path).await
        {
            tracing::warn!(%error, path = %path.display(), "a log is not rotated");
        }
        // A log that is gone has a container that is gone.
        let _ = files.once(&path);
    }
}

fn is_large(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() >= LARGE)
}

#[derive(Debug, thiserror::Error)]
enum RotateError {
    #[error(transparent)]
    Files(#[from] io::Error),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Task(#[from] task::TaskError),
}

/// The oldest go, those before the last are compressed, and the present one is put aside for its readers to finish.
async fn rotate(cri: &Cri, id: &str, path: &Path) -> Result<(), RotateError> {
    let log = path.to_owned();
    task::blocking(move || compress_old(&log)).await??;
    let aside = PathBuf::from(format!("{}.{}", path.display(), Timestamp::now().strftime("%Y%m%d-%H%M%S")));
    std::fs::rename(path, &aside)?;
    if let Err(error) = cri.reopen_log(id).await {
        std::fs::rename(&aside, path)?;
        return Err(error.into());
    }
    Ok(())
}

/// Leaves room for the log that is put aside next and the one that is written.
fn compress_old(path: &Path) -> io::Result<()> {
    let mut old = rotated(path)?;
    for spent in old.drain(..old.len().saturating_sub(FILES - 2)) {
        std::fs::remove_file(spent)?;
    }
    for log in old.iter().filter(|log| log.extension().is_none_or(|extension| extension != "gz")) {
        let (compressed, unfinished) = (with(log, ".gz"), with(log, ".tmp"));
        let mut writer =
            flate2::write::GzEncoder::new(std::fs::File::create(&unfinished)?, flate2::Compression::default());
        io::copy(&mut std::fs::File::open(log)?, &mut writer)?;
        writer.finish()?;
        std::fs::rename(unfinished, compressed)?;
        std::fs::remove_file(log)?;
    }
    Ok(())
}

/// The log's earlier parts, the oldest first; what an interrupted rotation left goes.
fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let log = directory.join(&name);
        if name.starts_with(&prefix) && (name.ends_with(".tmp") || with(&log, ".gz").exists()) {
            std::fs::remove_file(log)?;
        } else if name.starts_with(&prefix) {
            found.push(log);
        }
    }
    found.sort();
    Ok(found)
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_the_others_are_compressed() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("0.log");
        let write = |name: &str| std::fs::write(directory.path().join(name), name).unwrap();
        for name in ["0.log", "0.log.1.gz", "0.log.2.gz", "0.log.3.gz", "0.log.4", "0.log.4.tmp", "1.log.0"] {
            write(name);
        }
        compress_old(&log).unwrap();
        let mut names: Vec<String> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["0.log", "0.log.2.gz", "0.log.3.gz", "0.log.4.gz", "1.log.0"]);
        let mut text = String::new();
        let file = std::fs::File::open(directory.path().join("0.log.4.gz")).unwrap();
        io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut text).unwrap();
        assert_eq!(text, "0.log.4");
    }
}
