//! `kill -9` of server, container runtime and shims at random moments, while pods come and go.
//!
//! A few kills here; `tests/survival/loop` asks for as many as one likes.

use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Server, eventually};

const CREW: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: crew}
spec:
  replicas: 3
  selector: {matchLabels: {app: crew}}
  template:
    metadata: {labels: {app: crew}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: 'busybox:1.35', command: [sleep, '3600']}]
";

/// Everything is well again within this time: the back-off after crashes in a row is the longest wait in it.
const MENDED: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy)]
enum Victim {
    Server,
    Runtime,
    Shim,
}

/// SplitMix64: what a seed printed once gives, it gives again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().filter(|text| !text.is_empty()).map(|text| text.parse().expect("it is a number"))
}

#[test]
fn pods_survive_kills_of_everything_beneath_them() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later");
    let seed = number("CORACLE_SEED").unwrap_or(now.as_secs());
    let rounds = number("CORACLE_KILLS").unwrap_or(3);
    eprintln!("seed {seed}, {rounds} kills");
    let mut chance = Chance(seed);
    let mut server = Server::with_node(&["busybox.tar"]);
    server.apply(CREW);
    server.kubectl("wait --for=condition=Available deployment/crew --timeout=60s").ok();
    for round in 0..rounds {
        // Each is killed once before chance alone decides.
        let victim =
            [Victim::Server, Victim::Runtime, Victim::Shim][(if round < 3 { round } else { chance.below(3) }) as usize];
        let marker = server.kubectl(&format!("create configmap round-{round} -o name")).ok();
        let pods = pods(&server);
        let leaver = pods[chance.below(pods.len() as u64) as usize].clone();
        server.kubectl(&format!("delete pod {leaver} --wait=false")).ok();
        let moment = Duration::from_millis(chance.below(1500));
        eprintln!("round {round}: {leaver} leaves, {victim:?} is killed after {moment:?}");
        // The moment is what the test is about.
        std::thread::sleep(moment);
        strike(&mut server, victim, &mut chance);
        eventually("the crew is complete again", MENDED, || complete(&server).then_some(()));
        server.kubectl(&format!("get {marker}")).ok();
    }
    for pod in pods(&server) {
        assert_eq!(server.kubectl(&format!("exec {pod} -- echo aboard")).ok(), "aboard");
    }
}

fn pods(server: &Server) -> Vec<String> {
    let names = server.kubectl("get pods -l app=crew -o jsonpath={.items[*].metadata.name}").ok();
    names.split_whitespace().map(str::to_owned).collect()
}

/// Three pods, none of them leaving, all of them ready.
fn complete(server: &Server) -> bool {
    let columns =
        "-o=custom-columns=D:.metadata.deletionTimestamp,R:.status.containerStatuses[0].ready,N:.metadata.name";
    let shown = server.kubectl(&format!("get pods -l app=crew --no-headers {columns}"));
    let states: Vec<Vec<&str>> = shown.stdout.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    shown.code == 0 && states.len() == 3 && states.iter().all(|state| state == &["<none>", "true"])
        // What the API says is also so.
        && pods(server).iter().all(|pod| server.kubectl(&format!("exec {pod} -- true")).code == 0)
}

fn strike(server: &mut Server, victim: Victim, chance: &mut Chance) {
    match victim {
        Victim::Server => {
            server.end(Signal::SIGKILL);
            server.restart();
        }
        Victim::Runtime => {
            let file = server.data_directory().join("agent/containerd/containerd.pid");
            let pid = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
            let _ = kill(Pid::from_raw(pid.expect("containerd's pid is written down")), Signal::SIGKILL);
        }
        Victim::Shim => {
            let shims = shims(server);
            let shim = shims[chance.below(shims.len() as u64) as usize];
            let _ = kill(Pid::from_raw(shim), Signal::SIGKILL);
        }
    }
}

/// The shims that this server's runtime started: its socket is on their command line.
fn shims(server: &Server) -> Vec<i32> {
    let instance = std::fs::read_to_string(server.data_directory().join("agent/instance")).expect("a node runs");
    let mark = format!("/run/coracle-{}/", instance.trim());
    let processes = std::fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let shims = processes.filter_map(|entry| {
        let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        (line.contains("containerd-shim") && line.contains(&mark)).then(|| entry.file_name().to_str()?.parse().ok())?
    });
    shims.collect()
}
