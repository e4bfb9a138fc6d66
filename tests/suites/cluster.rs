//! A second machine joins: its pods are reached from everywhere, through the tunnel and over the VXLAN, and what must not join does not.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::namespace::{NODE_IP, NetworkNamespace};
use crate::harness::node::agent;
use crate::harness::{Node, Output, Server, eventually};

fn pod(name: &str, node: &str, image: &str, command: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 1
  containers: [{{name: main, image: '{image}'{command}}}]
---
"
    )
}

#[test]
fn a_second_node_joins_and_its_pods_are_reached() {
    let server = Server::with_node(&["nginx.tar.gz", "busybox.tar"]);
    let mut node = Node::join(&server, 2);
    node.import("nginx.tar.gz").ok();
    node.import("busybox.tar").ok();
    let first = server.kubectl("get nodes -o jsonpath={.items[?(@.metadata.name!=\"n2\")].metadata.name}").ok();
    let sleep = ", command: [sleep, '3600']";
    server.apply(&[
        pod("web1", &first, "nginx:1.22", ""),
        pod("web2", "n2", "nginx:1.22", ""),
        pod("client1", &first, "busybox:1.35", sleep),
        pod("client2", "n2", "busybox:1.35", sleep),
        "{apiVersion: v1, kind: Service, metadata: {name: web2}, spec: {selector: {app: web2}, ports: [{port: 80}]}}\n---\n".into(),
        "{apiVersion: v1, kind: Service, metadata: {name: web1}, spec: {selector: {app: web1}, ports: [{port: 80}]}}\n".into(),
    ].concat());
    server.kubectl("wait --for=condition=Ready pod --all --timeout=60s").ok();
    let ranges = server.kubectl("get nodes -o jsonpath={.items[*].spec.podCIDR}").ok();
    let mut ranges: Vec<&str> = ranges.split(' ').collect();
    ranges.sort_unstable();
    assert_eq!(ranges, ["10.42.0.0/24", "10.42.1.0/24"]);

    // Through the tunnel.
    assert_eq!(server.kubectl("exec client2 -- hostname").ok(), "client2");
    let proxied = server.kubectl("get --raw /api/v1/namespaces/default/pods/web2:80/proxy/hostname").ok();
    assert_eq!(proxied, "web2");

    // Pod to pod, by address, Service and name, both ways; and from each machine itself.
    let address = |pod: &str| server.kubectl(&format!("get pod {pod} -o jsonpath={{.status.podIP}}")).ok();
    for (from, to) in [("client1", "web2"), ("client2", "web1")] {
        for host in [address(to), to.to_owned()] {
            let said = eventually("the other node answers", Duration::from_secs(10), || {
                let output = server.kubectl(&format!("exec {from} -- wget -q -O - http://{host}/hostname"));
                (output.code == 0).then(|| output.ok())
            });
            assert_eq!(said, to, "from {from} to {host}");
        }
    }
    for (machine, to) in [(&server.namespace, "web2"), (&node.namespace, "web1")] {
        let url = format!("http://{}/hostname", address(to));
        let answer = machine.command("curl").args(["-s", "--max-time", "2", &url]).output().expect("curl starts");
        assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), to);
    }

    // The agent comes again as the node it was, without its token's help, and finds its containers.
    let container = "get pod web2 -o jsonpath={.status.containerStatuses[0].containerID}";
    let before = server.kubectl(container).ok();
    node.end(Signal::SIGKILL);
    std::fs::write(node.directory.path().join("log"), "").expect("the log is ours");
    node.restart();
    eventually("the tunnel is open again", Duration::from_secs(20), || {
        (server.kubectl("exec client2 -- hostname").code == 0).then_some(())
    });
    assert_eq!(server.kubectl(container).ok(), before);
    server.kubectl("logs web2").ok();
}

#[test]
fn what_must_not_join_does_not() {
    let server = Server::with_node(&[]);
    let machine = server.namespace.beside("192.0.2.12");
    let directory = tempfile::tempdir().expect("a directory");
    let token = server.token();
    let first = server.kubectl("get nodes -o jsonpath={.items[0].metadata.name}").ok();
    let try_with = |name: &str, token: &str, data: &str| -> Output {
        let mut command = agent(&machine, &directory.path().join(data), name, "192.0.2.12");
        command.args(["--token", token]).output().expect("coracle starts").into()
    };
    let refused = |output: Output, says: &str| {
        assert_eq!(output.code, 1, "{output:?}");
        let last = output.stderr.trim_end().lines().last().unwrap_or_default().to_owned();
        assert!(last.contains(says), "{last}");
    };
    let (pinned, secret) = token.split_once("::").expect("a whole token");
    refused(try_with("n2", "rubbish", "a"), "--token is no join token");
    refused(try_with("n2", &format!("{pinned}::server:wrong"), "b"), "refuses the token");
    refused(
        try_with("n2", &format!("K10{}::{secret}", "0".repeat(64)), "c"),
        "certificate authority is not the token's",
    );
    refused(try_with(&first, &token, "d"), &format!("node name {first:?} is taken"));
    let away = {
        let elsewhere = NetworkNamespace::new();
        let mut command = elsewhere.command(crate::harness::server::CORACLE);
        command.args(["agent", "--server", "https://127.0.0.1:6443", "--token", &token, "--node-name", "n2"]);
        command.arg("--data-dir").arg(directory.path().join("e")).output().expect("coracle starts").into()
    };
    refused(away, "cannot reach 127.0.0.1:6443");

    // A token is for asking, not for reading; nor does a foreign certificate open a tunnel.
    let ask = |path: &str, more: &[&str]| {
        let mut command = machine.command("curl");
        command.args(["-sk", "-o", "/dev/null", "-w", "%{http_code}"]).args(more);
        let answer = command.arg(format!("https://{NODE_IP}:6443{path}")).output().expect("curl starts");
        String::from_utf8_lossy(&answer.stdout).into_owned()
    };
    let bearer = format!("Authorization: Bearer {}", secret.rsplit(':').next().unwrap_or_default());
    assert_eq!(ask("/api/v1/nodes", &["-H", &bearer]), "403");
    assert_eq!(ask("/apis/certificates.k8s.io/v1/certificatesigningrequests", &["-H", &bearer]), "200");
    assert_eq!(ask("/v1-coracle/tunnel", &["-H", &bearer]), "401");
}
