//! Where the directories of pods and their logs stand: where CSI drivers and log collectors expect them, for the one
//! server that has the default data directory; within the data directory for every other.

use std::path::{Path, PathBuf};

use crate::config::DEFAULT_DATA_DIRECTORY;

pub struct PodDirectories {
    pub kubelet: PathBuf,
    pub logs: PathBuf,
}

impl PodDirectories {
    pub fn of(data: &Path) -> Self {
        if data == Path::new(DEFAULT_DATA_DIRECTORY) {
            return Self { kubelet: "/var/lib/kubelet".into(), logs: "/var/log/pods".into() };
        }
        let agent = data.join("agent");
        Self { kubelet: agent.join("kubelet"), logs: agent.join("logs/pods") }
    }
}
