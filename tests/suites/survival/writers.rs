//! Clients that write without a pause while the server is killed, and one that watches, as programs do it: over and over again.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::Server;
use crate::harness::namespace::NODE_IP;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// What the clients share, and what they were told.
pub struct Clients<'a> {
    namespace: String,
    token: &'a str,
    /// Writers end.
    pub enough: AtomicBool,
    /// The watcher ends, too.
    pub stop: AtomicBool,
    /// Acknowledged ConfigMaps.
    pub created: AtomicUsize,
    /// What the watcher saw.
    pub seen: Mutex<BTreeSet<String>>,
    /// How often it had to list again.
    pub relists: AtomicUsize,
}

/// A name and the revision of its acknowledged write.
pub type Acknowledged = Vec<(String, u64)>;

impl<'a> Clients<'a> {
    pub fn new(server: &Server, token: &'a str) -> Self {
        Self {
            namespace: server.namespace.name.clone(),
            token,
            enough: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            created: AtomicUsize::new(0),
            seen: Mutex::default(),
            relists: AtomicUsize::new(0),
        }
    }

    fn curl(&self, path: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).args(["curl", "-skN", "--max-time", "20", "-H"]);
        command.arg(format!("Authorization: Bearer {}", self.token)).arg(format!("https://{NODE_IP}:6443{path}"));
        command
    }

    /// The object that the server acknowledged with; `None` for a refusal and for a connection that broke.
    fn send(&self, method: &str, path: &str, media_type: &str, body: &Value) -> Option<Value> {
        let mut command = self.curl(path);
        command.args(["-X", method, "-H", &format!("Content-Type: {media_type}"), "-d", &body.to_string()]);
        let answer = command.output().expect("curl starts");
        let object: Value = serde_json::from_slice(&answer.stdout).ok()?;
        (answer.status.success() && object["kind"] != "Status").then_some(object)
    }

    fn repeat(&self, mut write: impl FnMut(usize) -> Option<Value>) -> Acknowledged {
        let written = (0..).take_while(|_| !self.enough.load(Ordering::Relaxed)).filter_map(|number| {
            let object = write(number)?;
            Some((object["metadata"]["name"].as_str()?.to_owned(), revision(&object)?))
        });
        written.collect()
    }

    pub fn config_maps(&self) -> Acknowledged {
        self.repeat(|number| {
            let map = json!({ "metadata": { "name": format!("map-{number}") }, "data": { "a": "b" } });
            let created = self.send("POST", MAPS, "application/json", &map)?;
            self.created.fetch_add(1, Ordering::Relaxed);
            Some(created)
        })
    }

    pub fn events(&self) -> Acknowledged {
        self.repeat(|number| {
            let event = json!({
                "metadata": { "name": format!("event-{number}") }, "reason": "Test", "type": "Normal",
                "involvedObject": { "kind": "ConfigMap", "name": "a", "namespace": "default" },
            });
            self.send("POST", "/api/v1/namespaces/default/events", "application/json", &event)
        })
    }

    /// Renews one Lease over and over again.
    pub fn lease(&self) -> Acknowledged {
        let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
        let lease = json!({ "metadata": { "name": "held" }, "spec": { "holderIdentity": "one" } });
        self.send("POST", leases, "application/json", &lease).expect("it is created");
        self.repeat(|number| {
            let renewal = json!({ "spec": { "renewTime": format!("2026-01-01T00:00:00.{number:06}Z") } });
            self.send("PATCH", &format!("{leases}/held"), "application/merge-patch+json", &renewal)
        })
    }

    /// Lists, then watches from there; a watch that ends is taken up at the last revision seen, and 410 lists again.
    pub fn watch(&self) {
        let mut last = None;
        while !self.stop.load(Ordering::Relaxed) {
            let Some(from) = last.or_else(|| self.list()) else {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            last = self.follow(from);
        }
    }

    fn list(&self) -> Option<u64> {
        let answer = self.curl(MAPS).output().expect("curl starts");
        let list: Value = serde_json::from_slice(&answer.stdout).ok()?;
        for item in list["items"].as_array()? {
            self.saw(item);
        }
        self.relists.fetch_add(1, Ordering::Relaxed);
        revision(&list)
    }

    /// The revision to go on from; `None` when it is gone.
    fn follow(&self, from: u64) -> Option<u64> {
        let path = format!("{MAPS}?watch=true&resourceVersion={from}&timeoutSeconds=2");
        let mut child = self.curl(&path).stdout(Stdio::piped()).spawn().expect("curl starts");
        let mut last = Some(from);
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        for line in lines.map_while(Result::ok) {
            // A line that a kill cut off was not seen.
            let Ok(event) = serde_json::from_str::<Value>(&line) else { break };
            if event["type"] == "ERROR" || event["kind"] == "Status" {
                let gone = event["object"]["code"] == 410 || event["code"] == 410;
                last = last.filter(|_| !gone);
                break;
            }
            self.saw(&event["object"]);
            let next = revision(&event["object"]);
            assert!(next > last, "events come in the order of their revisions: {next:?} after {last:?}");
            last = next;
        }
        let _ = child.kill();
        let _ = child.wait();
        last
    }

    fn saw(&self, object: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.seen.lock().expect("no panic while it is held").insert(name);
    }
}

fn revision(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}
