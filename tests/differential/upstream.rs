//! Upstream's kube-apiserver on its etcd, in a network namespace of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::Target;
use crate::harness::namespace::{NODE_IP, NetworkNamespace};
use crate::harness::{Server, cache, eventually};

pub struct Upstream {
    namespace: NetworkNamespace,
    directory: TempDir,
    etcd: Child,
    apiserver: Option<Child>,
}

const TOKEN: &str = "differential";

impl Upstream {
    pub fn start() -> Self {
        let namespace = NetworkNamespace::new();
        let directory = tempfile::tempdir().expect("a directory in TMPDIR");
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("tokens"), format!("{TOKEN},admin,admin,system:masters\n")).expect("tokens are written");
        let key = Command::new("openssl")
            .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
            .arg(path("key"))
            .output()
            .expect("openssl is installed by tests/run");
        assert!(key.status.success(), "{}", String::from_utf8_lossy(&key.stderr));
        let programs = cache("CORACLE_UPSTREAM", "upstream-v1.37.2");
        let log = |name: &str| std::fs::File::create(path(name)).expect("a log");
        let etcd = namespace
            .command(programs.join("etcd"))
            .arg("--data-dir")
            .arg(path("etcd"))
            .args(["--unsafe-no-fsync", "--log-level=error"])
            .stdin(Stdio::null())
            .stdout(log("etcd.log"))
            .stderr(log("etcd.err"))
            .spawn()
            .expect("etcd starts");
        let key = path("key");
        let apiserver = namespace
            .command(programs.join("kube-apiserver"))
            .args(["--etcd-servers=http://127.0.0.1:2379", "--service-cluster-ip-range=10.43.0.0/16"])
            .args([
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                "--authorization-mode=RBAC",
            ])
            .arg(format!("--service-account-key-file={}", key.display()))
            .arg(format!("--service-account-signing-key-file={}", key.display()))
            .arg(format!("--token-auth-file={}", path("tokens").display()))
            .arg(format!("--cert-dir={}", path("certificates").display()))
            .args(["--advertise-address", NODE_IP, "--allow-privileged=true"])
            .stdin(Stdio::null())
            .stdout(log("apiserver.log"))
            .stderr(log("apiserver.err"))
            .spawn()
            .expect("kube-apiserver starts");
        let upstream = Self { namespace, directory, etcd, apiserver: Some(apiserver) };
        eventually("kube-apiserver is ready", Duration::from_secs(60), || {
            let answer = upstream.curl("/readyz", &[]);
            (answer == "ok").then_some(())
        });
        let account = r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default"}}"#;
        eventually("the default namespace exists", Duration::from_secs(20), || {
            let path = "/api/v1/namespaces/default/serviceaccounts";
            let answer = upstream.curl(path, &["-H", "Content-Type: application/json", "-d", account]);
            answer.contains("\"uid\"").then_some(())
        });
        upstream
    }

    pub fn target(&self) -> Target<'_> {
        Target {
            namespace: &self.namespace,
            base: format!("https://{NODE_IP}:6443"),
            identity: vec!["-H".to_owned(), format!("Authorization: Bearer {TOKEN}")],
            scratch: self.directory.path(),
        }
    }

    fn curl(&self, path: &str, arguments: &[&str]) -> String {
        let output = self
            .namespace
            .command("curl")
            .args(["-sk", "--max-time", "5", "-H", &format!("Authorization: Bearer {TOKEN}")])
            .args(arguments)
            .arg(format!("https://{NODE_IP}:6443{path}"))
            .output()
            .expect("curl starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Upstream {
    /// The API server goes before its etcd: without it, it hangs on SIGTERM for minutes.
    fn drop(&mut self) {
        for child in self.apiserver.iter_mut().chain([&mut self.etcd]) {
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
            let _ = child.wait();
        }
    }
}

/// curl's arguments for the client certificate in the server's kubeconfig.
pub fn coracle_identity(server: &Server) -> Vec<String> {
    let text = std::fs::read_to_string(&server.kubeconfig).expect("the kubeconfig is there");
    let config: serde_json::Value = serde_yaml::from_str(&text).expect("it is YAML");
    let user = &config["users"][0]["user"];
    let write = |field: &str, name: &str| {
        let data = user[field].as_str().expect("the kubeconfig has a client certificate");
        let path = server.directory.path().join(name);
        decode(data, &path);
        path.display().to_string()
    };
    let certificate = write("client-certificate-data", "admin.crt");
    let key = write("client-key-data", "admin.key");
    vec!["--cert".to_owned(), certificate, "--key".to_owned(), key]
}

fn decode(data: &str, path: &Path) {
    let input = path.with_extension("base64");
    std::fs::write(&input, data).expect("it is written");
    let output = Command::new("base64").arg("-d").arg(&input).output().expect("coreutils");
    std::fs::write(path, output.stdout).expect("it is written");
}
