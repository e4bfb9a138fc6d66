//! A network namespace of a test's own, gone when the test is.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::leftovers::{self, PREFIX};
use super::server::CORACLE;

/// Named `coracle-test-<process>-<n>`, with loopback up and one dummy-like address on a veth pair, so that a node has an address
/// of its own that is not loopback.
pub struct NetworkNamespace {
    pub name: String,
}

/// The node's address in every test namespace; they are apart, so it can be the same.
pub const NODE_IP: &str = "192.0.2.10";

impl NetworkNamespace {
    pub fn new() -> Self {
        let namespace = Self::empty();
        namespace.ip("link add node0 type veth peer name node1");
        namespace.ip(&format!("addr add {NODE_IP}/24 dev node0"));
        namespace.ip("addr add 2001:db8::10/64 dev node0 nodad");
        namespace.ip("link set node0 up");
        namespace.ip("link set node1 up");
        namespace
    }

    /// With loopback alone.
    fn empty() -> Self {
        leftovers::remove();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run("ip", &["netns", "add", &name]);
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// A machine of its own on the same link, with `address`.
    pub fn beside(&self, address: &str) -> Self {
        let other = Self::empty();
        other.ip(&format!("link add node0 type veth peer name peer netns {}", self.name));
        other.ip(&format!("addr add {address}/24 dev node0"));
        other.ip("link set node0 up");
        let near = format!("to-{}", address.rsplit('.').next().unwrap_or_default());
        self.ip(&format!("link set peer name {near}"));
        self.ip(&format!("link set {near} up"));
        self.ip(&format!("route add {address}/32 dev {near} src {NODE_IP}"));
        other
    }

    /// `program`, to be run in this namespace with the mount namespace of the test.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command
    }

    /// Removes what a coracle with this data directory has left here.
    pub fn uninstall(&self, data: &Path) {
        let removed = self.command(CORACLE).arg("uninstall").arg("--yes").arg("--data-dir").arg(data).output();
        if let Ok(output) = removed
            && !output.status.success()
        {
            eprintln!("uninstall failed: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    fn ip(&self, arguments: &str) {
        let all: Vec<&str> = ["-n", self.name.as_str()].into_iter().chain(arguments.split(' ')).collect();
        run("ip", &all);
    }
}

impl Drop for NetworkNamespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect("iproute2 is installed by tests/run");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
