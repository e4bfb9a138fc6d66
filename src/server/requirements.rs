//! What a node needs of the machine, looked at before anything is started: rights, cgroup controllers, overlayfs. What the network
//! needs of the kernel, the network finds out by using it.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::error::Error;

/// Capabilities with their bits (include/uapi/linux/capability.h), and what goes without them.
const CAPABILITIES: [(u32, &str, &str); 2] =
    [(12, "CAP_NET_ADMIN", "set up pods' networks"), (21, "CAP_SYS_ADMIN", "mount and make namespaces")];

/// Controllers with what to do for each: upstream refuses to start without the first two
/// (pkg/kubelet/cm/container_manager_linux.go), and pods' limits need the third.
const CONTROLLERS: [(&str, &str); 3] = [
    ("cpu", "use a kernel with CONFIG_CGROUP_SCHED and CONFIG_FAIR_GROUP_SCHED"),
    ("memory", "boot the kernel with cgroup_enable=memory, or use one with CONFIG_MEMCG"),
    ("pids", "use a kernel with CONFIG_CGROUP_PIDS"),
];

/// Fails with one line that says what is missing and what to do. `data` is a directory that exists.
pub fn check(data: &Path) -> Result<(), Error> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = rights(&status).or_else(|| cgroups(Path::new("/sys/fs/cgroup"))).or_else(|| overlay(data, "overlay"));
    missing.map_or(Ok(()), |missing| Err(Error::Machine { missing }))
}

/// `status` is a process's file of that name in /proc.
fn rights(status: &str) -> Option<String> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    let (_, name, what) = CAPABILITIES.into_iter().find(|(bit, ..)| mask >> bit & 1 == 0)?;
    Some(format!("{name} is missing to {what}: run as root (sudo), in a container privileged"))
}

/// On the unified hierarchy a file lists the controllers; on version 1 each is a mounted directory.
fn cgroups(mount: &Path) -> Option<String> {
    let unified = fs::read_to_string(mount.join("cgroup.controllers")).ok();
    let has = |name: &str| match &unified {
        Some(list) => list.split_whitespace().any(|listed| listed == name),
        None => mount.join(name).join("tasks").exists(),
    };
    if unified.is_none() && !CONTROLLERS.into_iter().any(|(name, _)| has(name)) {
        return Some(format!(
            "no cgroups are mounted at {}: mount them (OpenRC: rc-update add cgroups sysinit, then rc-service cgroups start)",
            mount.display()
        ));
    }
    let (name, remedy) = CONTROLLERS.into_iter().find(|(name, _)| !has(name))?;
    Some(format!("the cgroup controller {name} is missing: {remedy}"))
}

/// Asks the kernel to mount `kind` without the options that it wants: it says whether it knows it, loading its module, and mounts nothing.
fn overlay(place: &Path, kind: &str) -> Option<String> {
    match mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>) {
        Err(Errno::ENODEV) => Some(format!(
            "the file system {kind} is missing: load its module (modprobe {kind}), or use a kernel with CONFIG_OVERLAY_FS"
        )),
        Err(Errno::EPERM) => Some("mounting is not permitted here: run as root, in a container privileged".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with these files; a name's last part is the file.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    #[test]
    fn each_missing_controller_is_named_with_its_remedy() {
        let unified = |list| cgroups(tree(&[("cgroup.controllers", list)]).path());
        assert_eq!(unified("cpuset cpu io memory pids\n"), None);
        let memory = unified("cpuset cpu io pids\n").unwrap();
        assert!(
            memory.starts_with("the cgroup controller memory is missing: boot the kernel with cgroup_enable=memory")
        );
        assert!(unified("memory pids").unwrap().contains("controller cpu"));
        let old = tree(&[("cpu/tasks", ""), ("memory/tasks", "")]);
        assert!(cgroups(old.path()).unwrap().contains("controller pids"));
        fs::create_dir(old.path().join("pids")).unwrap();
        assert!(cgroups(old.path()).unwrap().contains("controller pids"), "an empty directory is none");
        let none = tree(&[]);
        assert!(cgroups(none.path()).unwrap().starts_with("no cgroups are mounted at"));
    }

    #[test]
    fn rights_are_read_from_the_mask() {
        assert_eq!(rights("Name:\tx\nCapEff:\t000001ffffffffff\n"), None);
        assert!(rights("CapEff:\t0000000000000000\n").unwrap().starts_with("CAP_NET_ADMIN is missing"));
        assert!(rights(&format!("CapEff:\t{:016x}\n", 1 << 12)).unwrap().starts_with("CAP_SYS_ADMIN is missing"));
    }

    #[test]
    fn the_kernel_is_asked_for_file_systems_and_mounts_nothing() {
        let place = tempfile::tempdir().unwrap();
        let mounts = || fs::read_to_string("/proc/self/mounts").unwrap().contains(&*place.path().to_string_lossy());
        assert_eq!(overlay(place.path(), "overlay"), None);
        assert!(!mounts());
        let missing = overlay(place.path(), "boatfs").unwrap();
        assert!(
            missing.starts_with("the file system boatfs is missing: load its module (modprobe boatfs)"),
            "{missing}"
        );
    }
}
