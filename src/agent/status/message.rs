//! The message that a container leaves when it ends (upstream: kuberuntime_container.go getTerminationMessage).

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::labels;
use crate::proto::cri as wire;

const FILE_LIMIT: u64 = 4096;
const LOG_LIMIT: u64 = 2048;

/// Reads a few kilobytes of files; the runtime's own message (why it could not start) comes after it.
pub fn read(status: &wire::ContainerStatus) -> String {
    let path = status.annotations.get(labels::TERMINATION_MESSAGE_PATH).map_or("", String::as_str);
    let mount = status.mounts.iter().find(|mount| !path.is_empty() && mount.container_path == path);
    let mut message = mount.map(|mount| tail(Path::new(&mount.host_path), FILE_LIMIT)).unwrap_or_default();
    let policy = status.annotations.get(labels::TERMINATION_MESSAGE_POLICY).map_or("", String::as_str);
    if message.is_empty() && policy == "FallbackToLogsOnError" && status.exit_code != 0 {
        let log = tail(Path::new(&status.log_path), LOG_LIMIT);
        // Each line is: time, stream, tag, text; the first may have been cut.
        let texts = log.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
        message = texts.collect::<Vec<_>>().join("\n");
    }
    match (message.is_empty(), status.message.is_empty()) {
        (true, _) => status.message.clone(),
        (false, true) => message,
        (false, false) => format!("{}: {message}", status.message),
    }
}

fn tail(path: &Path, limit: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(limit)))?;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
