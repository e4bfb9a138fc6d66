//! Tells when files of a directory change, by inotify; nothing polls.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Editors write a file in several steps; changes this close to each other are told once.
const SETTLE: Duration = Duration::from_millis(100);

/// A watch on one directory, not on those inside of it.
pub struct DirectoryWatch {
    /// An inotify descriptor reads as a pipe does.
    inotify: pipe::Receiver,
}

impl DirectoryWatch {
    /// From here on no change is missed.
    pub fn new(directory: &Path) -> io::Result<Self> {
        Self::watch(
            directory,
            AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_MOVED_FROM
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_CREATE,
        )
    }

    /// A watch on one file that is written to; use `event`.
    pub fn of_file(file: &Path) -> io::Result<Self> {
        Self::watch(file, AddWatchFlags::IN_MODIFY)
    }

    fn watch(path: &Path, changes: AddWatchFlags) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(path, changes)?;
        Ok(Self { inotify: pipe::Receiver::from_owned_fd_unchecked(inotify.into())? })
    }

    /// Completes after files were written, moved or removed, once they have settled. Cancel-safe.
    pub async fn changed(&mut self) -> io::Result<()> {
        self.event().await?;
        while tokio::time::timeout(SETTLE, self.event()).await.is_ok_and(|waited| waited.is_ok()) {}
        Ok(())
    }

    /// Completes at the next event, settled or not. Cancel-safe.
    pub async fn event(&mut self) -> io::Result<()> {
        // Which files is not asked: whoever watches looks at all of them.
        let mut events = [0; 4096];
        self.inotify.read(&mut events).await.map(drop)
    }
}

/// Any number of files over one descriptor, of which a machine has few.
pub struct FilesWatch {
    inotify: Inotify,
    /// The same descriptor.
    events: pipe::Receiver,
}

impl FilesWatch {
    pub fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let events = pipe::Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)?;
        Ok(Self { inotify, events })
    }

    /// The next write to the file is told, and no other before this is called again; as often as one likes.
    pub fn once(&self, file: &Path) -> io::Result<()> {
        self.inotify.add_watch(file, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ONESHOT)?;
        Ok(())
    }

    /// Completes when one of them, it is not said which, was written to. Cancel-safe.
    pub async fn event(&mut self) -> io::Result<()> {
        let mut events = [0; 4096];
        self.events.read(&mut events).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_written_file_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let mut watch = DirectoryWatch::new(directory.path()).unwrap();
        std::fs::write(directory.path().join("a"), "1").unwrap();
        watch.changed().await.unwrap();
        std::fs::rename(directory.path().join("a"), directory.path().join("b")).unwrap();
        watch.changed().await.unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(50), watch.changed());
        assert!(quiet.await.is_err(), "nothing happened");
    }

    #[tokio::test]
    async fn a_file_is_told_of_once() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (directory.path().join("a"), directory.path().join("b"));
        let write = |path: &Path| std::fs::write(path, "1").unwrap();
        write(&one);
        write(&other);
        let mut watch = FilesWatch::new().unwrap();
        for _ in 0..2 {
            watch.once(&one).unwrap();
            watch.once(&other).unwrap();
        }
        write(&other);
        watch.event().await.unwrap();
        write(&other);
        let quiet = tokio::time::timeout(Duration::from_millis(50), watch.event());
        assert!(quiet.await.is_err(), "it was told of already");
        write(&one);
        watch.event().await.unwrap();
    }
}
