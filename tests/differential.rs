//! One corpus of requests to upstream's API server and to coracle; every difference in code, reason, causes and object is named.
//!
//! `corpus/*.http` holds requests in order; `differences.txt` lists those that are known to differ. The test fails when one differs that
//! is not listed, and when a listed one no longer does: the list only shrinks.

mod batch;
mod cases;
mod corpus;
mod mask;
mod rules;
mod upstream;

use std::collections::BTreeSet;
use std::path::Path;

use corpus::{Answer, Request};
use upstream::Upstream;

use crate::harness::Server;
use crate::harness::namespace::NetworkNamespace;

/// Where and as whom to send.
struct Target<'a> {
    namespace: &'a NetworkNamespace,
    base: String,
    /// Arguments of curl that authenticate as an administrator.
    identity: Vec<String>,
    scratch: &'a Path,
}

#[test]
fn coracle_answers_as_upstream() {
    let servers = servers();
    let (ours, theirs) = (servers.ours(), servers.theirs());
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential");
    let mut differing = BTreeSet::new();
    let mut report = String::new();
    let mut sent = 0;
    for file in corpus::files(&directory.join("corpus"), "http") {
        let (mut last_ours, mut last_theirs) = (Answer::default(), Answer::default());
        for request in corpus::read(&file) {
            (last_theirs, last_ours) = std::thread::scope(|scope| {
                let upstream = scope.spawn(|| theirs.send(&request, &last_theirs));
                let own = ours.send(&request, &last_ours);
                (upstream.join().expect("curl was run"), own)
            });
            sent += 1;
            let lines = mask::compare(&last_theirs, &last_ours);
            if !lines.is_empty() {
                report += &format!("{}\n  {}\n", request.name, lines.join("\n  "));
                differing.insert(request.name.clone());
            }
        }
    }
    let known: BTreeSet<String> = std::fs::read_to_string(directory.join("differences.txt"))
        .expect("differences.txt is there")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    eprintln!("differential: {sent} requests, {} differ ({} known)", differing.len(), known.len());
    if let Ok(path) = std::env::var("CORACLE_DIFFERENTIAL_REPORT") {
        std::fs::write(path, &report).expect("the report is written");
    }
    let new: Vec<_> = differing.difference(&known).collect();
    let mended: Vec<_> = known.difference(&differing).collect();
    assert!(new.is_empty(), "these differ from upstream (upstream | coracle): {new:#?}\n{report}");
    assert!(mended.is_empty(), "these no longer differ, remove them from differences.txt: {mended:#?}");
}

/// A coracle in which no controller acts, and upstream's API server.
struct Servers {
    coracle: Server,
    identity: Vec<String>,
    upstream: Upstream,
}

fn servers() -> Servers {
    let coracle = Server::control_plane();
    silence(&coracle);
    let identity = upstream::coracle_identity(&coracle);
    Servers { coracle, identity, upstream: Upstream::start() }
}

impl Servers {
    fn ours(&self) -> Target<'_> {
        Target {
            namespace: &self.coracle.namespace,
            base: format!("https://{}:6443", crate::harness::namespace::NODE_IP),
            identity: self.identity.clone(),
            scratch: self.coracle.directory.path(),
        }
    }

    fn theirs(&self) -> Target<'_> {
        self.upstream.target()
    }
}

/// Takes from coracle's controllers and scheduler what they may do: upstream is a kube-apiserver alone, where nobody
/// changes objects between two requests.
fn silence(server: &Server) {
    let names = server.kubectl("get clusterrolebindings -o name").stdout;
    let of_components: Vec<&str> =
        names.lines().filter(|name| name.contains("/system:controller:") || name.contains("/system:kube-")).collect();
    assert!(of_components.len() > 20, "the bindings of controllers are there: {names}");
    server.kubectl(&format!("delete {}", of_components.join(" "))).ok();
}

impl Target<'_> {
    fn send(&self, request: &Request, last: &Answer) -> Answer {
        let body = self.scratch.join("request-body");
        std::fs::write(&body, last.fill(&request.body)).expect("the body is written");
        let mut command = self.namespace.command("curl");
        command.args(["-sk", "--path-as-is", "--max-time", "20", "-X", &request.method]).args(["-w", corpus::PRINTED]);
        if request.method == "HEAD" {
            // Without it curl waits for the body that the length promises.
            command.args(["--head", "-o", "/dev/null"]);
        }
        command.args(&self.identity).args(["-H", "User-Agent: differential/1"]);
        for header in &request.headers {
            command.args(["-H", header]);
        }
        if !request.body.is_empty() {
            command.args(["--data-binary", &format!("@{}", body.display())]);
        }
        command.arg(format!("{}{}", self.base, last.fill(&request.path)));
        let output = command.output().expect("curl starts");
        Answer::parse(&String::from_utf8_lossy(&output.stdout), last)
    }
}
