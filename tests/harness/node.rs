//! A `coracle agent` in a network namespace of its own, on one link with a server.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::leftovers::PREFIX;
use super::namespace::{NODE_IP, NetworkNamespace};
use super::server::CORACLE;
use super::{Output, Server, cache, tell_of_panic};

pub struct Node {
    pub name: String,
    pub address: String,
    pub namespace: NetworkNamespace,
    pub directory: TempDir,
    token: String,
    process: Child,
}

impl Node {
    /// Joins `server` as `n<number>` and waits until it is Ready there.
    pub fn join(server: &Server, number: u8) -> Self {
        let (name, address) = (format!("n{number}"), format!("192.0.2.{}", 10 + number));
        let namespace = server.namespace.beside(&address);
        let directory = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .tempdir()
            .expect("a directory in TMPDIR");
        let token = server.token();
        let process = launch(&namespace, &directory, &name, &address, &token);
        let node = Self { name, address, namespace, directory, token, process };
        node.wait_until_ready(server);
        node
    }

    pub fn wait_until_ready(&self, server: &Server) {
        super::eventually("the node is registered", std::time::Duration::from_secs(30), || {
            (server.kubectl(&format!("get node {}", self.name)).code == 0).then_some(())
        });
        server.kubectl(&format!("wait --for=condition=Ready node/{} --timeout=60s", self.name)).ok();
    }

    pub fn data_directory(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Imports one of the archives that `tests/images/make` made.
    pub fn import(&self, image: &str) -> Output {
        let path = cache("CORACLE_IMAGES", "images").join(image);
        let mut command = self.namespace.command(CORACLE);
        command.args(["images", "import", "--data-dir"]).arg(self.data_directory()).arg(path);
        command.output().expect("coracle starts").into()
    }

    /// Sends `signal` and waits until the process is gone.
    pub fn end(&mut self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.process.id() as i32), signal);
        let _ = self.process.wait();
    }

    /// Starts the agent again on the same data directory, after `end`.
    pub fn restart(&mut self) {
        self.process = launch(&self.namespace, &self.directory, &self.name, &self.address, &self.token);
    }
}

/// `coracle agent` with what every call says.
pub fn agent(namespace: &NetworkNamespace, data: &std::path::Path, name: &str, address: &str) -> Command {
    let mut command = namespace.command(CORACLE);
    command.args(["agent", "--server", &format!("https://{NODE_IP}:6443"), "--node-name", name, "--node-ip", address]);
    command.arg("--data-dir").arg(data);
    command
}

fn launch(namespace: &NetworkNamespace, directory: &TempDir, name: &str, address: &str, token: &str) -> Child {
    let log = File::options().create(true).append(true).open(directory.path().join("log")).expect("the log opens");
    let mut command = agent(namespace, &directory.path().join("data"), name, address);
    command.args(["--token", token]).stdin(Stdio::null());
    command.stderr(log.try_clone().expect("a second handle")).stdout(log).spawn().expect("nsenter is installed")
}

impl Drop for Node {
    fn drop(&mut self) {
        tell_of_panic("agent", &self.log());
        self.end(Signal::SIGTERM);
        self.namespace.uninstall(&self.data_directory());
    }
}
