//! `/containerLogs`: streams a container's log file, following it until the container has ended.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use coracle_base::directory_watch::DirectoryWatch;
use coracle_base::task;
use coracle_base::url::Query;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use super::log_file::{Selection, Stream, tail};
use super::target::Target;
use super::{Body, Failure, text};
use crate::cri::Cri;
use crate::proto::cri as wire;

/// While a log is followed: how often it is asked whether its container still runs, beside the file's own events.
const CHECK: Duration = Duration::from_secs(1);

struct Options {
    follow: bool,
    tail: Option<u64>,
    /// Bytes after which the answer ends.
    limit: Option<u64>,
    selection: Selection,
}

pub(super) async fn answer(cri: &Cri, target: &Target, query: &Query) -> Result<Response<Body>, Failure> {
    let options = Options::parse(query)?;
    let runs = target.runs(cri).await?;
    let previous = query.flag("previous");
    let Some(run) = runs.into_iter().nth(usize::from(previous)) else {
        let (kind, name) = (if previous { "previous terminated container" } else { "container" }, &target.container);
        let message = format!("{kind} {name:?} in pod {:?} not found", target.pod);
        let message = if previous { message } else { format!("{message}: it is waiting to start") };
        return Err(Failure::new(StatusCode::BAD_REQUEST, message));
    };
    let path = PathBuf::from(cri.container_status(&run.id).await?.log_path);
    let mut file = match File::open(&path).await {
        Ok(file) => file,
        // The runtime makes the file when the container starts.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !options.follow => {
            return Ok(text(StatusCode::OK, ""));
        }
        Err(error) => {
            let message = format!("failed to open log file {path:?}: {error}");
            return Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, message));
        }
    };
    if let Some(lines) = options.tail {
        let mut whole = file.into_std().await;
        let start = task::blocking(move || tail(&mut whole, lines).map(|start| (whole, start))).await;
        let (whole, start) = start
            .map_err(|error| std::io::Error::other(error.to_string()))
            .flatten()
            .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        file = File::from_std(whole);
        file.seek(std::io::SeekFrom::Start(start))
            .await
            .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    }
    let (sender, chunks) = mpsc::channel(4);
    let follower = Follower { file, path, container: run.id, cri: cri.clone(), options, sender };
    task::spawn("log", follower.run()).detach();
    let frames = futures::stream::unfold(chunks, |mut chunks| async move {
        let chunk: Bytes = chunks.recv().await?;
        Some((Ok(Frame::data(chunk)), chunks))
    });
    let mut response = text(StatusCode::OK, "");
    *response.body_mut() = StreamBody::new(frames).boxed();
    Ok(response)
}

impl Options {
    fn parse(query: &Query) -> Result<Self, Failure> {
        let number = |key: &str| {
            let message = |_| Failure::new(StatusCode::BAD_REQUEST, format!("{key} must be a non-negative number"));
            query.number::<u64>(key).map_err(message)
        };
        let since_time = query.get("sinceTime").map(str::parse::<Timestamp>).transpose();
        let since_time =
            since_time.map_err(|error| Failure::new(StatusCode::BAD_REQUEST, format!("sinceTime: {error}")))?;
        let ago = number("sinceSeconds")?.and_then(|seconds| {
            Timestamp::from_second(Timestamp::now().as_second().checked_sub(i64::try_from(seconds).ok()?)?).ok()
        });
        let stream = match query.get("stream") {
            Some("Stdout") => Some(Stream::Stdout),
            Some("Stderr") => Some(Stream::Stderr),
            _ => None,
        };
        Ok(Self {
            follow: query.flag("follow"),
            tail: number("tailLines")?,
            limit: number("limitBytes")?,
            selection: Selection { timestamps: query.flag("timestamps"), since: since_time.or(ago), stream },
        })
    }
}

struct Follower {
    file: File,
    path: PathBuf,
    container: String,
    cri: Cri,
    options: Options,
    sender: mpsc::Sender<Bytes>,
}

impl Follower {
    async fn run(mut self) {
        let sender = self.sender.clone();
        tokio::select! {
            outcome = self.copy() => if let Err(error) = outcome {
                tracing::debug!(%error, path = %self.path.display(), "log ended");
            },
            // The client went away.
            () = sender.closed() => {}
        }
    }

    async fn copy(&mut self) -> std::io::Result<()> {
        let mut events = if self.options.follow { Some(DirectoryWatch::of_file(&self.path)?) } else { None };
        let mut pending = Vec::new();
        let mut buffer = vec![0; 32 << 10];
        // The container may write its last words between the last read and its end: one more read after the end is seen.
        let mut ended = false;
        loop {
            let read = self.file.read(&mut buffer).await?;
            if read > 0 {
                pending.extend_from_slice(&buffer[..read]);
                if !self.show(&mut pending).await {
                    return Ok(());
                }
                continue;
            }
            let Some(events) = &mut events else { return Ok(()) };
            if ended {
                return Ok(());
            }
            match tokio::time::timeout(CHECK, events.event()).await {
                Ok(event) => event?,
                Err(_nothing_written) if self.is_rotated().await => {
                    self.file = File::open(&self.path).await?;
                    *events = DirectoryWatch::of_file(&self.path)?;
                }
                Err(_nothing_written) => ended = !self.is_running().await,
            }
        }
    }

    /// Whether another file than the one that is read has taken the log's place; all of the old one has been read by now.
    async fn is_rotated(&self) -> bool {
        let (Ok(own), Ok(present)) = (self.file.metadata().await, tokio::fs::metadata(&self.path).await) else {
            return false;
        };
        (own.dev(), own.ino()) != (present.dev(), present.ino())
    }

    /// Sends whole lines out of `pending`; `false` when nothing more is wanted.
    async fn show(&mut self, pending: &mut Vec<u8>) -> bool {
        let Some(end) = pending.iter().rposition(|byte| *byte == b'\n') else { return true };
        let mut out = Vec::with_capacity(end);
        pending[..end].split(|byte| *byte == b'\n').for_each(|line| self.options.selection.render(line, &mut out));
        pending.drain(..=end);
        let mut last = false;
        if let Some(limit) = &mut self.options.limit {
            out.truncate(usize::try_from(*limit).unwrap_or(usize::MAX));
            *limit -= out.len() as u64;
            last = *limit == 0;
        }
        (out.is_empty() || self.sender.send(Bytes::from(out)).await.is_ok()) && !last
    }

    async fn is_running(&self) -> bool {
        let status = self.cri.container_status(&self.container).await;
        status.is_ok_and(|status| status.state() == wire::ContainerState::ContainerRunning)
    }
}
