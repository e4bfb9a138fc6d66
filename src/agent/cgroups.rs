//! The cgroups of pods, under a root that carries the instance id; on the unified hierarchy and on version 1
//! (upstream: pkg/kubelet/cm/pod_container_manager_linux.go).

use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::pod::PodExt;
use crate::qos::{self, Class};

/// Where the hierarchies are mounted, and whether there is one for all.
#[derive(Debug, Clone)]
pub struct Cgroups {
    mount: PathBuf,
    is_unified: bool,
    /// `/coracle-<id>/kubepods`
    root: String,
}

const V1: [&str; 8] = ["cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio"];

impl Cgroups {
    pub fn new(instance: &str) -> Self {
        let mount = PathBuf::from("/sys/fs/cgroup");
        let is_unified = mount.join("cgroup.controllers").exists();
        Self { mount, is_unified, root: format!("/coracle-{instance}/kubepods") }
    }

    /// The pod's path, as runtimes take it for a parent.
    pub fn pod_path(&self, pod: &Pod) -> String {
        self.path(qos::class(pod.spec()), pod.uid())
    }

    fn path(&self, class: Class, uid: &str) -> String {
        match class {
            Class::Guaranteed => format!("{}/pod{uid}", self.root),
            Class::Burstable => format!("{}/burstable/pod{uid}", self.root),
            Class::BestEffort => format!("{}/besteffort/pod{uid}", self.root),
        }
    }

    /// Makes the pod's cgroup and sets what all its containers together may use.
    pub fn ensure(&self, pod: &Pod) -> io::Result<()> {
        let path = self.pod_path(pod);
        let spec = pod.spec();
        let cpu = qos::pod_limit(spec, "cpu").map(qos::quota);
        let memory = qos::pod_limit(spec, "memory");
        let shares = qos::shares(qos::pod_cpu_request(spec));
        if self.is_unified {
            let directory = self.unified(&path)?;
            // The kernel's default weight 100 is 1024 shares (KEP-2254).
            let weight = 1 + (shares - 2) * 9999 / 262_142;
            set(&directory, "cpu.weight", &weight.to_string())?;
            if let Some(quota) = cpu {
                set(&directory, "cpu.max", &format!("{quota} 100000"))?;
            }
            if let Some(memory) = memory {
                set(&directory, "memory.max", &memory.to_string())?;
            }
            return Ok(());
        }
        for hierarchy in V1 {
            let top = self.mount.join(hierarchy);
            if !top.is_dir() {
                continue;
            }
            let directory = top.join(path.trim_start_matches('/'));
            std::fs::create_dir_all(&directory)?;
            if hierarchy == "cpuset" {
                inherit_cpuset(&top, &directory)?;
            }
        }
        let at = |hierarchy: &str| self.mount.join(hierarchy).join(path.trim_start_matches('/'));
        set(&at("cpu"), "cpu.shares", &shares.to_string())?;
        if let Some(quota) = cpu {
            set(&at("cpu"), "cpu.cfs_quota_us", &quota.to_string())?;
        }
        if let Some(memory) = memory {
            set(&at("memory"), "memory.limit_in_bytes", &memory.to_string())?;
        }
        Ok(())
    }

    /// Directories from the root down, each with its controllers handed on.
    fn unified(&self, path: &str) -> io::Result<PathBuf> {
        let mut directory = self.mount.clone();
        for part in path.trim_start_matches('/').split('/') {
            for controller in ["cpu", "memory", "pids", "cpuset", "io", "hugetlb"] {
                // A controller that this kernel or this place does not have is not handed on.
                let _ = std::fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"));
            }
            directory.push(part);
            std::fs::create_dir_all(&directory)?;
        }
        Ok(directory)
    }

    /// Takes a pod's cgroup away, whatever class it had.
    pub fn remove(&self, uid: &str) {
        let tops: Vec<PathBuf> = if self.is_unified {
            vec![self.mount.clone()]
        } else {
            V1.iter().map(|name| self.mount.join(name)).collect()
        };
        for class in [Class::Guaranteed, Class::Burstable, Class::BestEffort] {
            let path = self.path(class, uid);
            for top in &tops {
                remove_tree(&top.join(path.trim_start_matches('/')));
            }
        }
    }
}

/// cgroup files are not removed, only directories, the deepest first; one that is in use stays.
fn remove_tree(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&entry.path());
    }
    let _ = std::fs::remove_dir(directory);
}

fn set(directory: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = directory.join(file);
    // A hierarchy that is not mounted has nothing to set.
    if path.exists() { std::fs::write(path, value) } else { Ok(()) }
}

/// A new cpuset is empty, and no process may enter it before it is filled.
fn inherit_cpuset(top: &Path, directory: &Path) -> io::Result<()> {
    let below: Vec<&Path> = directory.ancestors().take_while(|ancestor| *ancestor != top).collect();
    for child in below.into_iter().rev() {
        let parent = child.parent().unwrap_or(top);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if std::fs::read_to_string(child.join(file))?.trim().is_empty() {
                std::fs::write(child.join(file), std::fs::read_to_string(parent.join(file))?.trim())?;
            }
        }
    }
    Ok(())
}
