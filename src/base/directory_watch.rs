//! Tells when files of a directory change, by inotify; nothing polls.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

/// Editors write a file in several steps; changes this close to each other are told once.
const SETTLE: Duration = Duration::from_millis(100);

/// A watch on one directory, not on those inside of it.
pub struct DirectoryWatch {
    inotify: AsyncFd<OwnedFd>,
}

impl DirectoryWatch {
    /// From here on no change is missed.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let changes = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_CREATE;
        inotify.add_watch(directory, changes)?;
        // The sound successor is unsafe to call; an `OwnedFd` is what it asks for, and it stays open as long as the watch.
        #[allow(deprecated)]
        let inotify = AsyncFd::try_new(inotify.into())?;
        Ok(Self { inotify })
    }

    /// Completes after files were written, moved or removed, once they have settled. Cancel-safe.
    pub async fn changed(&mut self) -> io::Result<()> {
        self.wait().await?;
        while tokio::time::timeout(SETTLE, self.wait()).await.is_ok_and(|waited| waited.is_ok()) {}
        Ok(())
    }

    async fn wait(&mut self) -> io::Result<()> {
        // Which files is not asked: whoever watches looks at all of them.
        let mut events = [0; 4096];
        loop {
            let mut ready = self.inotify.readable().await?;
            match ready.try_io(|inotify| nix::unistd::read(inotify.get_ref(), &mut events).map_err(io::Error::from)) {
                Ok(read) => return read.map(|_| ()),
                Err(_would_block) => {}
            }
        }
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
}
