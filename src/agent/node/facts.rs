//! What the machine is and has, read from the kernel's files.

use std::path::Path;

use serde_json::{Value, json};

/// Upstream's default hard eviction threshold: this much memory is never given to pods.
const RESERVED_MEMORY: u64 = 100 << 20;
/// The API level of this node, as kubelets say it.
const VERSION: &str = "v1.37.2+coracle";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub cpus: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes.
    pub storage: u64,
    /// Page size in KiB and bytes in pages of that size.
    huge_pages: Vec<(u64, u64)>,
    machine_id: String,
    system_uuid: String,
    boot_id: String,
    kernel: String,
    os: String,
}

impl Facts {
    pub fn read(storage: &Path) -> Self {
        let line = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let machine_id = line("/etc/machine-id");
        let uuid = line("/sys/class/dmi/id/product_uuid").to_lowercase();
        Self {
            cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64),
            memory: memory(&line("/proc/meminfo")),
            storage: file_system_size(storage),
            huge_pages: huge_pages(),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel: line("/proc/sys/kernel/osrelease"),
            os: os_name(&line("/etc/os-release")),
        }
    }

    pub(super) fn capacity(&self, max_pods: u32) -> Value {
        self.resources(max_pods, self.memory, format!("{}Ki", self.storage >> 10))
    }

    pub(super) fn allocatable(&self, max_pods: u32) -> Value {
        // Nine tenths of the storage: upstream's default threshold of the node's file system.
        let storage = (self.storage / 10 * 9).to_string();
        self.resources(max_pods, self.memory.saturating_sub(RESERVED_MEMORY), storage)
    }

    fn resources(&self, max_pods: u32, memory: u64, storage: String) -> Value {
        let huge: u64 = self.huge_pages.iter().map(|(_, bytes)| bytes).sum();
        let mut resources = json!({
            "cpu": self.cpus.to_string(),
            "memory": format!("{}Ki", memory.saturating_sub(huge) >> 10),
            "ephemeral-storage": storage,
            "pods": max_pods.to_string(),
        });
        for (size, bytes) in &self.huge_pages {
            let name = if size % (1 << 20) == 0 { format!("{}Gi", size >> 20) } else { format!("{}Mi", size >> 10) };
            resources[format!("hugepages-{name}")] = bytes.to_string().into();
        }
        resources
    }

    pub(super) fn node_info(&self, runtime: &str) -> Value {
        json!({
            "architecture": architecture(),
            "bootID": self.boot_id,
            "containerRuntimeVersion": runtime,
            "kernelVersion": self.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": VERSION,
            "machineID": self.machine_id,
            "operatingSystem": "linux",
            "osImage": self.os,
            "systemUUID": self.system_uuid,
        })
    }
}

#[allow(clippy::unnecessary_cast)] // Both are 32 bits wide on 32-bit machines.
fn file_system_size(path: &Path) -> u64 {
    nix::sys::statvfs::statvfs(path).map_or(0, |fs| fs.blocks() as u64 * fs.fragment_size() as u64)
}

/// Whether the kernel enforces AppArmor profiles.
pub fn has_app_armor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// Go's name of the machine's architecture.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes: Option<u64> =
        line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok());
    kibibytes.unwrap_or(0) << 10
}

fn os_name(release: &str) -> String {
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// `/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages`
fn huge_pages() -> Vec<(u64, u64)> {
    let directories = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let mut found: Vec<(u64, u64)> = directories
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let size: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count: u64 = std::fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
            Some((size, (count * size) << 10))
        })
        .collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_files_are_read() {
        assert_eq!(memory("MemTotal:       16384 kB\nMemFree: 1 kB"), 16 << 20);
        assert_eq!(
            os_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\""),
            "Debian GNU/Linux 12 (bookworm)"
        );
        let facts = Facts::read(Path::new("/"));
        assert!(facts.cpus > 0 && facts.memory > 0 && facts.storage > 0 && !facts.kernel.is_empty());
    }
}
