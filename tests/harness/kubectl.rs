//! Runs upstream's kubectl in a server's network namespace.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{Server, cache};

/// What a command answered.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Of a command that must succeed: its standard output without the last newline.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout.trim_end().to_owned()
    }

    /// Of a command that must fail: its standard error.
    #[track_caller]
    pub fn error(self) -> String {
        assert_ne!(self.code, 0, "it succeeded: {}", self.stdout);
        self.stderr.trim_end().to_owned()
    }
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The kubectl built from its Go module.
pub fn program() -> PathBuf {
    cache("CORACLE_UPSTREAM", "upstream-v1.37.2").join("kubectl")
}

impl Server {
    /// `kubectl <arguments>`, split at spaces; for arguments with spaces in them use `kubectl_args`.
    pub fn kubectl(&self, arguments: &str) -> Output {
        self.kubectl_args(&arguments.split_whitespace().collect::<Vec<_>>(), "")
    }

    /// `kubectl <arguments> <<< input`.
    pub fn kubectl_args(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .kubectl_command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("kubectl reads its input");
        child.wait_with_output().expect("kubectl ends").into()
    }

    /// Applies `manifest` with `kubectl apply -f -`.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        self.kubectl_args(&["apply", "-f", "-"], manifest).ok()
    }

    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command(program());
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        command.env("HOME", self.directory.path());
        command
    }
}
