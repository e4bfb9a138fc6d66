//! A `coracle server` in a network namespace and a data directory of its own.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::leftovers::PREFIX;
use super::namespace::{NODE_IP, NetworkNamespace};
use super::{Output, cache, eventually, tell_of_panic};

/// The binary under test.
pub const CORACLE: &str = env!("CARGO_BIN_EXE_coracle");

#[derive(Default, Clone)]
pub struct Options {
    /// More flags of `coracle server`.
    pub flags: Vec<String>,
    /// With a node and its containerd.
    pub node: bool,
    /// Archives of `tests/images/make` that are imported before `start` returns.
    pub images: Vec<&'static str>,
}

pub struct Server {
    pub namespace: NetworkNamespace,
    pub directory: TempDir,
    pub kubeconfig: PathBuf,
    /// From exec to the answer `ok` of `/readyz`.
    pub ready_after: Duration,
    options: Options,
    process: Child,
}

impl Server {
    /// A server without a node, ready.
    pub fn control_plane() -> Self {
        Self::start(Options::default())
    }

    /// A server with a Ready node and these images.
    pub fn with_node(images: &[&'static str]) -> Self {
        Self::start(Options { node: true, images: images.to_vec(), ..Options::default() })
    }

    pub fn start(options: Options) -> Self {
        let namespace = NetworkNamespace::new();
        let directory = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .tempdir()
            .expect("a directory in TMPDIR");
        let kubeconfig = directory.path().join("kubeconfig.yaml");
        let (process, ready_after) = launch(&namespace, &directory, &kubeconfig, &options);
        let server = Self { namespace, directory, kubeconfig, ready_after, options, process };
        if server.options.node {
            server.wait_for_node();
            for image in &server.options.images {
                server.import(image).ok();
            }
        }
        server
    }

    pub fn data_directory(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// With which machines join.
    pub fn token(&self) -> String {
        let path = self.data_directory().join("server/token");
        std::fs::read_to_string(path).expect("the server wrote it").trim().to_owned()
    }

    /// The server's standard error and output so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// `coracle <arguments>` in the server's namespace.
    pub fn coracle(&self, arguments: &[&str]) -> Output {
        self.namespace.command(CORACLE).args(arguments).output().expect("coracle starts").into()
    }

    /// Imports one of the archives that `tests/images/make` made.
    pub fn import(&self, image: &str) -> Output {
        let path = cache("CORACLE_IMAGES", "images").join(image);
        let data = self.data_directory();
        let path = path.to_str().expect("the cache's path is UTF-8");
        self.coracle(&["images", "import", "--data-dir", data.to_str().expect("it is UTF-8"), path])
    }

    /// Sends `signal` and waits until the process is gone.
    pub fn end(&mut self, signal: Signal) -> Duration {
        let start = Instant::now();
        let _ = kill(Pid::from_raw(self.process.id() as i32), signal);
        let _ = self.process.wait();
        start.elapsed()
    }

    /// Starts the server again on the same data directory, after `end`; the time to `/readyz`.
    pub fn restart(&mut self) -> Duration {
        let (process, ready_after) = launch(&self.namespace, &self.directory, &self.kubeconfig, &self.options);
        self.process = process;
        ready_after
    }

    /// Waits until a node is registered and Ready.
    pub fn wait_for_node(&self) {
        eventually("a node is registered", Duration::from_secs(30), || {
            let names = self.kubectl("get nodes -o name");
            (names.code == 0 && !names.stdout.is_empty()).then_some(())
        });
        self.kubectl("wait --for=condition=Ready node --all --timeout=60s").ok();
    }
}

fn launch(
    namespace: &NetworkNamespace,
    directory: &TempDir,
    kubeconfig: &PathBuf,
    options: &Options,
) -> (Child, Duration) {
    let log = File::options().create(true).append(true).open(directory.path().join("log")).expect("the log opens");
    let mut command = namespace.command(CORACLE);
    command.args(["server", "--node-ip", NODE_IP, "--data-dir"]).arg(directory.path().join("data"));
    command.arg("--write-kubeconfig").arg(kubeconfig).args(&options.flags);
    if !options.node {
        command.arg("--disable-agent");
    }
    let start = Instant::now();
    let mut process = command
        .stdin(Stdio::null())
        .stderr(log.try_clone().expect("a second handle"))
        .stdout(log)
        .spawn()
        .expect("nsenter is installed");
    let ready_after = eventually("/readyz answers ok", Duration::from_secs(30), || {
        if let Ok(Some(status)) = process.try_wait() {
            let log = std::fs::read_to_string(directory.path().join("log")).unwrap_or_default();
            panic!("the server ended with {status}:\n{log}");
        }
        let answer = namespace
            .command("curl")
            .args(["-sk", "--max-time", "1", &format!("https://{NODE_IP}:6443/readyz")])
            .output()
            .ok()?;
        (answer.stdout == b"ok").then(|| start.elapsed())
    });
    (process, ready_after)
}

impl Drop for Server {
    fn drop(&mut self) {
        tell_of_panic("server", &self.log());
        self.end(Signal::SIGTERM);
        self.namespace.uninstall(&self.data_directory());
    }
}
