//! Takes away everything that a server with this data directory left on the machine.
//!
//! Only what carries the directory's instance id is touched, and nothing while a server runs in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::data_directory::DataDirectory;
use crate::pod_directories::PodDirectories;

/// What processes get to end after they were killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes processes, mounts, interfaces, rules, cgroups and the directory itself. What is not there is no error.
pub fn uninstall(data: &Path) -> anyhow::Result<()> {
    if !data.exists() {
        return Ok(());
    }
    if !data.join("server/format").exists() && fs::read_dir(data)?.next().is_some() {
        bail!("{} holds no coracle data: nothing is removed", data.display());
    }
    // Fails when a server runs here.
    let _held = DataDirectory::open(data)?;
    if let Ok(id) = fs::read_to_string(data.join("agent/instance")) {
        let id = id.trim();
        let runtime = PathBuf::from(format!("/run/coracle-{id}"));
        let PodDirectories { kubelet, logs } = PodDirectories::of(data);
        let sockets = shim_sockets(&runtime);
        kill_processes(data, id)?;
        for socket in &sockets {
            let _ = fs::remove_file(socket);
        }
        coracle_network::cleanup(id).context("interfaces and rules")?;
        unmount_below(&[data, &runtime, &kubelet])?;
        remove_cgroups(id);
        for path in [&runtime, &kubelet.join("pods"), &logs] {
            remove(path)?;
        }
        // containerd makes the last two beside its own state. What others use is not empty, and stays.
        for path in [&*kubelet, Path::new("/run/containerd/s"), Path::new("/run/containerd")] {
            let _ = fs::remove_dir(path);
        }
    } else {
        unmount_below(&[data])?;
    }
    remove(data)
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Where the shims of running containers listen: beside containerd's usual state, under names that say nothing of whose they are.
fn shim_sockets(runtime: &Path) -> Vec<PathBuf> {
    let bundles = runtime.join("containerd/io.containerd.runtime.v2.task/k8s.io");
    let bundles = fs::read_dir(bundles).into_iter().flatten().flatten();
    let addresses = bundles.filter_map(|bundle| fs::read_to_string(bundle.path().join("address")).ok());
    addresses.filter_map(|address| address.trim().strip_prefix("unix://").map(PathBuf::from)).collect()
}

/// Runtime, shims and containers: whatever has the instance in its cgroup, or its paths on its command line.
fn kill_processes(data: &Path, id: &str) -> anyhow::Result<()> {
    let agent = data.join("agent");
    let marks = [format!("/run/coracle-{id}/"), format!("{}/", agent.display())];
    let cgroup = format!("/coracle-{id}/");
    let started = Instant::now();
    loop {
        let ours = processes(&marks, &cgroup);
        if ours.is_empty() {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            bail!("processes {ours:?} do not end");
        }
        for pid in ours {
            // Gone already is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn processes(marks: &[String], cgroup: &str) -> BTreeSet<i32> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| u32::try_from(*pid) != Ok(own))
        .filter(|pid| {
            let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let line = String::from_utf8_lossy(&read("cmdline")).into_owned();
            // The command line of a kernel thread or a zombie is empty.
            let runtime = line.contains("containerd") && marks.iter().any(|mark| line.contains(mark));
            let contained = String::from_utf8_lossy(&read("cgroup")).contains(cgroup);
            !line.is_empty() && (runtime || contained)
        })
        .collect()
}

/// The deepest first; a mount may stand on another.
fn unmount_below(roots: &[&Path]) -> anyhow::Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot read the table of mounts")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(|text| PathBuf::from(unescape(text)));
    let mut points: Vec<PathBuf> = points.filter(|point| roots.iter().any(|root| point.starts_with(root))).collect();
    points.sort();
    for point in points.into_iter().rev() {
        umount2(&point, MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {}", point.display()))?;
    }
    Ok(())
}

/// Blanks in paths are octal in the table.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Empty by now; one that is not stays, and nothing is lost by it.
fn remove_cgroups(id: &str) {
    let roots = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    for root in roots.chain([PathBuf::from("/sys/fs/cgroup")]) {
        remove_tree(&root.join(format!("coracle-{id}")));
    }
}

fn remove_tree(path: &Path) {
    let children = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    children.filter(|child| child.is_dir()).for_each(|child| remove_tree(&child));
    let _ = fs::remove_dir(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_data_directory_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        assert!(uninstall(&data).is_ok(), "nothing is there");
        drop(DataDirectory::open(&data).unwrap());
        uninstall(&data).unwrap();
        assert!(!data.exists());
        fs::create_dir(&data).unwrap();
        fs::write(data.join("thesis.tex"), "").unwrap();
        assert!(uninstall(&data).unwrap_err().to_string().contains("holds no coracle data"));
        assert!(data.join("thesis.tex").exists());
    }

    #[test]
    fn a_running_server_keeps_its_data() {
        let directory = tempfile::tempdir().unwrap();
        let _running = DataDirectory::open(directory.path()).unwrap();
        assert!(uninstall(directory.path()).unwrap_err().to_string().contains("in use by another server"));
    }
}
