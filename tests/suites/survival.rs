//! What survives `kill -9` and a clean stop.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Server, eventually};

const WEB: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: nginx, image: 'nginx:1.22'}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
";

#[test]
fn nothing_acknowledged_is_lost_to_kill_nine() {
    let mut server = Server::control_plane();
    let mut last = 0;
    for round in 0..5 {
        for number in 0..10 {
            server.kubectl(&format!("create configmap c-{round}-{number} --from-literal=a=b")).ok();
        }
        server.end(Signal::SIGKILL);
        server.restart();
        let names = server.kubectl("get configmap -o name").ok();
        let kept = names.lines().filter(|name| name.contains("/c-")).count();
        assert_eq!(kept, (round + 1) * 10);
        let created =
            server.kubectl("create configmap probe --from-literal=a=b -o jsonpath={.metadata.resourceVersion}").ok();
        let revision: u64 = created.parse().expect("a revision is a number");
        assert!(revision > last, "no revision comes twice");
        last = revision;
        server.kubectl("delete configmap probe").ok();
    }
}

#[test]
fn containers_outlive_the_server() {
    let mut server = Server::with_node(&["nginx.tar.gz"]);
    server.apply(WEB);
    server.kubectl("wait --for=condition=Ready pod/web --timeout=30s").ok();
    let address = server.kubectl("get service web -o jsonpath={.spec.clusterIP}").ok();
    let container = server.kubectl("get pod web -o jsonpath={.status.containerStatuses[0].containerID}").ok();
    let answers = |server: &Server| {
        let url = format!("http://{address}/");
        let answer =
            server.namespace.command("curl").args(["-s", "--max-time", "1", &url]).output().expect("curl starts");
        answer.stdout == b"Welcome to nginx!\n"
    };
    eventually("the Service answers", Duration::from_secs(5), || answers(&server).then_some(()));
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let took = server.end(signal);
        assert!(took < Duration::from_secs(5), "stopped after {took:?}");
        assert!(answers(&server), "without a server the Service goes on");
        server.restart();
        server.wait_for_node();
        let now = server.kubectl("get pod web -o jsonpath={.status.containerStatuses[0].containerID}").ok();
        assert_eq!(now, container, "the same container is adopted");
        assert!(answers(&server));
    }
}
