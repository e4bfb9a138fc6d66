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

/// What a cgroup has used and uses: nanoseconds of CPU, bytes. Zero where the kernel does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu: u64,
    pub memory: u64,
    /// Without what the kernel could drop at once.
    pub working_set: u64,
    pub anonymous: u64,
}

/// The whole machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine {
    pub usage: Usage,
    pub available_memory: u64,
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

    /// Makes the pod's cgroup and sets what all its containers together may use. Limits only grow here, for a container may still
    /// have the larger one; `settle` lowers them.
    pub fn ensure(&self, pod: &Pod) -> io::Result<()> {
        self.set(pod, true)
    }

    /// Limits as they are wanted, once every container has its own.
    pub fn settle(&self, pod: &Pod) -> io::Result<()> {
        self.set(pod, false)
    }

    fn set(&self, pod: &Pod, grow_only: bool) -> io::Result<()> {
        let path = self.pod_path(pod);
        let spec = pod.spec();
        let quota = qos::pod_limit(spec, "cpu").map(qos::quota);
        let memory = qos::pod_limit(spec, "memory");
        let shares = qos::shares(qos::pod_request(spec, "cpu"));
        if self.is_unified {
            let directory = self.unified(&path)?;
            // The kernel's default weight 100 is 1024 shares (KEP-2254).
            let weight = 1 + (shares - 2) * 9999 / 262_142;
            set(&directory, "cpu.weight", &weight.to_string())?;
            limit(&directory, "cpu.max", quota, "max", grow_only)?;
            return limit(&directory, "memory.max", memory, "max", grow_only);
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
        limit(&at("cpu"), "cpu.cfs_quota_us", quota, "-1", grow_only)?;
        limit(&at("memory"), "memory.limit_in_bytes", memory, "-1", grow_only)
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

    /// Of one cgroup, by its path from the hierarchies' roots.
    pub fn usage(&self, path: &str) -> Usage {
        let path = path.trim_start_matches('/');
        let read = |hierarchy: &str, file: &str| {
            let top = if self.is_unified { self.mount.clone() } else { self.mount.join(hierarchy) };
            std::fs::read_to_string(top.join(path).join(file)).unwrap_or_default()
        };
        let number = |text: String| text.trim().parse::<u64>().unwrap_or(0);
        let stat = read("memory", "memory.stat");
        let (cpu, memory, inactive, anonymous) = if self.is_unified {
            let cpu = field(&read("cpu", "cpu.stat"), "usage_usec") * 1000;
            (cpu, number(read("memory", "memory.current")), "inactive_file", "anon")
        } else {
            let cpu = number(read("cpuacct", "cpuacct.usage"));
            (cpu, number(read("memory", "memory.usage_in_bytes")), "total_inactive_file", "total_rss")
        };
        let working_set = memory.saturating_sub(field(&stat, inactive));
        Usage { cpu, memory, working_set, anonymous: field(&stat, anonymous) }
    }

    /// The root has no count of memory on version 2, so memory is the kernel's own account of the machine.
    pub fn machine(&self) -> Machine {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let bytes = |name: &str| field(&text, &format!("{name}:")) << 10;
        let memory = bytes("MemTotal").saturating_sub(bytes("MemFree"));
        let usage = Usage {
            memory,
            working_set: memory.saturating_sub(bytes("Inactive(file)")),
            anonymous: bytes("AnonPages"),
            ..self.usage("/")
        };
        Machine { usage, available_memory: bytes("MemAvailable") }
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

/// The number behind a name, of lines of names and numbers.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(|next: char| next.is_whitespace()));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// cgroup files are not removed, only directories, the deepest first; one that is in use stays.
fn remove_tree(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&entry.path());
    }
    let _ = std::fs::remove_dir(directory);
}

/// Writes a limit where it is another than the present one; `unlimited` is the kernel's word for none.
fn limit(directory: &Path, file: &str, wanted: Option<i64>, unlimited: &str, grow_only: bool) -> io::Result<()> {
    /// As large as version 1 shows what has no limit.
    const ENDLESS: i64 = i64::MAX >> 1;
    let path = directory.join(file);
    if !path.exists() {
        return Ok(());
    }
    // `cpu.max` has its period behind it.
    let text = std::fs::read_to_string(&path)?;
    let present = text.split_whitespace().next().and_then(|word| word.parse::<i64>().ok());
    let present = present.filter(|limit| (0..ENDLESS).contains(limit));
    let grows = match (present, wanted) {
        (Some(present), Some(wanted)) => wanted > present,
        (Some(_), None) => true,
        // A limit where there was none: nothing runs yet, or it is lowered.
        (None, _) => !has_children(directory),
    };
    if present == wanted || (grow_only && !grows) {
        return Ok(());
    }
    std::fs::write(path, wanted.map_or(unlimited.to_owned(), |limit| limit.to_string()))
}

fn has_children(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
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
