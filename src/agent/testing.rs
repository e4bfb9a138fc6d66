//! A real containerd for tests: everything of it in a temporary directory, under an instance id of its own.

pub mod api;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use coracle_base::shutdown::Shutdown;

use crate::containerd::config::Settings;
use crate::containerd::content::{Blob, ContentStore, ImageContent};
use crate::containerd::programs::Programs;
use crate::containerd::{self, Containerd};
use crate::cri::Cri;
use crate::images::pause;

/// The image that tests run: Debian's busybox with its libraries.
pub const BUSYBOX: &str = "coracle.local/busybox:1";

pub struct TestRuntime {
    pub instance: String,
    pub directory: tempfile::TempDir,
    pub programs: Programs,
    pub settings: Settings,
    pub containerd: Option<Containerd>,
    pub shutdown: Shutdown,
    pub cri: Cri,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The runtime that the tests are told to use, as the server is by the same variable.
pub fn bundle() -> Option<PathBuf> {
    std::env::var_os("CORACLE_RUNTIME_DIR").map(PathBuf::from)
}

impl TestRuntime {
    pub async fn start() -> Self {
        let instance = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("containerd");
        let settings = Settings {
            root: base.join("root"),
            state: PathBuf::from(format!("/run/coracle-{instance}/containerd")),
            cni_config: directory.path().join("cni/conf"),
            cni_binaries: directory.path().join("cni/bin"),
            sandbox_image: pause::NAME.to_owned(),
            registries: Default::default(),
            hosts: base.join("hosts"),
            restrict_oom_score: !containerd::may_adjust_oom_score(),
        };
        write_cni(&settings);
        let shutdown = Shutdown::new();
        let programs = Programs::find(bundle().as_deref()).unwrap();
        let started = containerd::start(&base, programs.clone(), &settings, shutdown.clone()).await.unwrap();
        let cri = Cri::new(&started.socket);
        let content = ContentStore::new(&started.socket);
        let runtime = Self { instance, directory, programs, settings, containerd: Some(started), shutdown, cri };
        content.import(pause::image()).await.unwrap();
        content.import(busybox()).await.unwrap();
        for image in [pause::NAME, BUSYBOX] {
            crate::images::known(&runtime.cri, image).await.unwrap();
        }
        runtime
    }

    /// Takes every sandbox, the runtime and its mounts away.
    pub async fn stop(mut self) {
        for sandbox in self.cri.pod_sandboxes(&[]).await.unwrap_or_default() {
            let _ = self.cri.stop_pod_sandbox(&sandbox.id).await;
            let _ = self.cri.remove_pod_sandbox(&sandbox.id).await;
        }
        self.shutdown.begin();
        if let Some(containerd) = self.containerd.take() {
            let _ = containerd.task.await;
        }
    }
}

impl Drop for TestRuntime {
    /// What a failed test leaves: shims and their containers, mounts, directories, cgroups.
    fn drop(&mut self) {
        self.shutdown.begin();
        let state = format!("/run/coracle-{}", self.instance);
        let base = self.directory.path().to_string_lossy().into_owned();
        let pid = std::fs::read_to_string(self.directory.path().join("containerd/containerd.pid"));
        let mut doomed: Vec<i32> = pid.ok().and_then(|pid| pid.parse().ok()).into_iter().collect();
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = process.file_name().to_string_lossy().parse::<i32>() else { continue };
            let cgroup = std::fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
            let command = std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            if cgroup.contains(&format!("/coracle-{}/", self.instance))
                || command.contains(&format!("{state}/containerd"))
            {
                doomed.push(pid);
            }
        }
        for pid in doomed {
            if std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.contains("containerd") || !line.is_empty())
            {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for mount in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
            if mount.starts_with(&state) || mount.starts_with(&base) {
                let _ = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
            }
        }
        let _ = std::fs::remove_dir_all(&state);
        remove_cgroups(&format!("coracle-{}", self.instance));
    }
}

fn remove_cgroups(name: &str) {
    fn remove(directory: &Path) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
        let _ = std::fs::remove_dir(directory);
    }
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let directory = hierarchy.path().join(name);
        if directory.is_dir() {
            remove(&directory);
        }
    }
}

/// A network plugin that gives every pod the same address and does nothing, and the loopback plugin that 1.6 insists on.
pub fn write_cni(settings: &Settings) {
    std::fs::create_dir_all(&settings.cni_config).unwrap();
    std::fs::create_dir_all(&settings.cni_binaries).unwrap();
    let config = r#"{"cniVersion":"1.0.0","name":"coracle","plugins":[{"type":"coracle-test"}]}"#;
    std::fs::write(settings.cni_config.join("10-coracle.conflist"), config).unwrap();
    let script = "#!/bin/sh\ncat >/dev/null\ncase $CNI_COMMAND in\n\
        ADD) echo '{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":\"x\"}],\"ips\":[{\"address\":\"10.99.0.5/32\",\"interface\":0}]}';;\n\
        VERSION) echo '{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"0.3.1\",\"0.4.0\",\"1.0.0\"]}';;\nesac\n";
    use std::os::unix::fs::PermissionsExt;
    for name in ["coracle-test", "loopback"] {
        let path = settings.cni_binaries.join(name);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// An image of Debian's busybox, with the libraries that `ldd` names.
pub fn busybox() -> ImageContent {
    let busybox = "/usr/bin/busybox";
    let listing = std::process::Command::new("ldd").arg(busybox).output().unwrap();
    let libraries = String::from_utf8_lossy(&listing.stdout).into_owned();
    let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    let mut archive = tar::Builder::new(Vec::new());
    for (path, name) in paths.map(|path| (path, &path[1..])).chain([(busybox, "bin/busybox")]) {
        let mut file = std::fs::File::open(path).unwrap();
        archive.append_file(name, &mut file).unwrap();
    }
    for applet in [
        "sh", "sleep", "cat", "echo", "true", "false", "env", "id", "hostname", "ls", "touch", "httpd", "nc", "trap",
        "rm", "stat",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        archive.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o1777);
    archive.append_data(&mut header, "tmp/", std::io::empty()).unwrap();
    let layer = Blob::new("application/vnd.oci.image.layer.v1.tar", archive.into_inner().unwrap());
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
    });
    let config = Blob::new("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
    ImageContent::from_parts(BUSYBOX, config, vec![layer])
}
