//! What survives `kill -9` and a clean stop.

mod kills;
mod writers;

use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::namespace::NODE_IP;
use crate::harness::{Server, eventually};
use writers::Clients;

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

/// kubectl, once it has shown a first byte.
fn follow(server: &Server, arguments: &[&str]) -> Child {
    let mut child = server.kubectl_command(arguments).stdout(Stdio::piped()).spawn().expect("kubectl starts");
    let output = child.stdout.as_mut().expect("it is piped");
    assert_eq!(output.read(&mut [0]).expect("it reads"), 1);
    child
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
    let mut following = follow(&server, &["get", "pods", "--watch"]);
    let mut logs = follow(&server, &["logs", "--follow", "web"]);
    let took = server.end(Signal::SIGTERM);
    assert!(took < Duration::from_millis(1400), "stopped after {took:?} with a watch and a log open");
    for child in [&mut following, &mut logs] {
        let _ = child.kill();
        let _ = child.wait();
    }
    server.restart();
    server.wait_for_node();
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

#[test]
fn writers_and_watchers_go_on_over_kill_nine() {
    let mut server = Server::control_plane();
    server.kubectl("create clusterrolebinding all --clusterrole=cluster-admin --serviceaccount=default:default").ok();
    let token = eventually("the service account is there", Duration::from_secs(5), || {
        let token = server.kubectl("create token default");
        (token.code == 0).then(|| token.ok())
    });
    let clients = Clients::new(&server, &token);
    std::thread::scope(|scope| {
        let stop = StopOnDrop(&clients);
        scope.spawn(|| clients.watch());
        let maps = scope.spawn(|| clients.config_maps());
        let others = [scope.spawn(|| clients.lease()), scope.spawn(|| clients.events())];
        let created = || clients.created.load(Ordering::Relaxed);
        for _ in 0..3 {
            let before = created();
            eventually("writes are acknowledged", Duration::from_secs(20), || (created() > before + 10).then_some(()));
            server.end(Signal::SIGKILL);
            server.restart();
        }
        let before = created();
        eventually("writes go on", Duration::from_secs(20), || (created() > before).then_some(()));
        clients.enough.store(true, Ordering::Relaxed);
        let maps = maps.join().expect("the writer ends");
        eventually("the watcher has seen every acknowledged ConfigMap", Duration::from_secs(20), || {
            let seen = clients.seen.lock().expect("no panic while it is held");
            maps.iter().all(|(name, _)| seen.contains(name)).then_some(())
        });
        drop(stop);
        let mut all: Vec<(String, u64)> = maps.clone();
        for writer in others {
            let written = writer.join().expect("the writer ends");
            assert!(written.is_sorted_by(|one, next| one.1 < next.1), "revisions grow: {written:?}");
            all.extend(written);
        }
        assert!(maps.is_sorted_by(|one, next| one.1 < next.1), "revisions grow: {maps:?}");
        let revisions: BTreeSet<u64> = all.iter().map(|(_, revision)| *revision).collect();
        assert_eq!(revisions.len(), all.len(), "no revision is given twice");
        let kept: BTreeSet<String> = server
            .kubectl("get configmaps -o name")
            .ok()
            .lines()
            .filter_map(|name| Some(name.split_once('/')?.1.to_owned()))
            .collect();
        for (name, revision) in &maps {
            assert!(kept.contains(name), "{name} was acknowledged at {revision} and is lost");
        }
        eprintln!("{} writes, {} lists of the watcher", all.len(), clients.relists.load(Ordering::Relaxed));
    });
}

/// Threads of a scope are waited for also when the test fails, so they are told.
struct StopOnDrop<'a>(&'a Clients<'a>);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.enough.store(true, Ordering::Relaxed);
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn five_thousand_objects_come_back() {
    let mut server = Server::control_plane();
    server
        .kubectl("create clusterrolebinding all --clusterrole=cluster-admin --serviceaccount=kube-system:default")
        .ok();
    let token = server.kubectl("create token default -n kube-system").ok();
    let requests: Vec<String> = (0..5000)
        .map(|number| {
            format!(
                "url = \"https://{NODE_IP}:6443/api/v1/namespaces/default/configmaps\"\n\
                 header = \"Authorization: Bearer {token}\"\nheader = \"Content-Type: application/json\"\n\
                 data = \"{{\\\"metadata\\\":{{\\\"name\\\":\\\"c-{number}\\\"}}}}\"\noutput = \"/dev/null\"\n"
            )
        })
        .collect();
    let file = server.directory.path().join("requests");
    std::fs::write(&file, requests.join("insecure\nnext\n") + "insecure\n").expect("it is written");
    let filled = server
        .namespace
        .command("curl")
        .args(["-s", "--fail-early", "--parallel", "--parallel-max", "100", "--config"])
        .arg(&file)
        .output()
        .expect("curl starts");
    assert!(filled.status.success(), "{filled:?}");
    let count = |server: &Server| server.kubectl("get configmaps -o name").ok().lines().count();
    let before = count(&server);
    assert!(before >= 5000, "{before} are there");
    server.end(Signal::SIGKILL);
    server.restart();
    assert_eq!(count(&server), before);
}

const BUSY: &str = "
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: 'busybox:1.35', command: [sleep, '3600']}]
";

/// The process that is number one in the container, as the host counts.
fn first_process(container: &str) -> Option<i32> {
    let id = container.rsplit('/').next().expect("rsplit gives one at least");
    std::fs::read_dir("/proc").expect("/proc is mounted").flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let ours = std::fs::read_to_string(entry.path().join("cgroup")).ok()?.contains(id);
        let status = ours.then(|| std::fs::read_to_string(entry.path().join("status")).ok()).flatten()?;
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        (numbers.split_whitespace().last() == Some("1")).then_some(pid)
    })
}

#[test]
fn containers_outlive_containerd_and_come_back_when_killed() {
    let server = Server::with_node(&["busybox.tar"]);
    let status = |field: &str| {
        server.kubectl(&format!("get pod first -o jsonpath={{.status.containerStatuses[0].{field}}}")).ok()
    };
    server.apply(&BUSY.replace("NAME", "first"));
    server.kubectl("wait --for=condition=Ready pod/first --timeout=30s").ok();
    let container = status("containerID");
    let process = first_process(&container).expect("the container's process is found by its cgroup");

    let pid_file = server.data_directory().join("agent/containerd/containerd.pid");
    let running = || std::fs::read_to_string(&pid_file).ok()?.trim().parse::<i32>().ok();
    let old = running().expect("containerd's pid is written down");
    kill(Pid::from_raw(old), Signal::SIGKILL).expect("it runs");
    eventually("containerd is started again", Duration::from_secs(20), || running().filter(|pid| *pid != old));
    server.apply(&BUSY.replace("NAME", "second"));
    server.kubectl("wait --for=condition=Ready pod/second --timeout=30s").ok();
    assert_eq!((status("containerID"), status("restartCount")), (container.clone(), "0".to_owned()));
    assert_eq!(first_process(&container), Some(process), "it went on all the time");
    assert_eq!(server.kubectl("exec first -- echo aboard").ok(), "aboard");

    kill(Pid::from_raw(process), Signal::SIGKILL).expect("it runs");
    server.kubectl("wait --for=jsonpath={.status.containerStatuses[0].restartCount}=1 pod/first --timeout=30s").ok();
    server.kubectl("wait --for=condition=Ready pod/first --timeout=30s").ok();
    assert_ne!(status("containerID"), container);
    assert_eq!(status("lastState.terminated.exitCode"), "137");
    assert_eq!(status("restartCount"), "1");
}

#[test]
fn a_node_that_lives_stays_ready_and_says_so_when_it_is_doubted() {
    let server = Server::with_node(&[]);
    let name = server.kubectl("get nodes -o jsonpath={.items[0].metadata.name}").ok();
    let doubt = r#"{"status":{"conditions":[{"type":"Ready","status":"Unknown","reason":"Doubted"}]}}"#;
    let doubted = ["patch", "node", name.as_str(), "--subresource=status", "-p", doubt];
    server.kubectl_args(&doubted, "").ok();
    server.kubectl("wait --for=condition=Ready node --all --timeout=10s").ok();
}
