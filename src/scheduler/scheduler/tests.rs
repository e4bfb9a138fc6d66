//! Changes in, decisions out.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::plugins;
use crate::plugins::tests::{node, pod, project};

struct World {
    scheduler: Scheduler,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self { scheduler: Scheduler::new(plugins::all()), now: Instant::now() }
    }

    fn pod(&mut self, pod: Arc<Item<PodView>>) {
        let key = pod.key.clone();
        self.scheduler.pod_changed(&key, Some(pod), self.now);
    }

    fn gone(&mut self, name: &str) {
        self.scheduler.pod_changed(&Key::new("a", name), None, self.now);
    }

    fn node(&mut self, node: Arc<Item<NodeView>>) {
        let name = node.key.name.clone();
        self.scheduler.node_changed(&name, Some(node), self.now);
    }

    /// All decisions that can be made now: `p>n1` or `p!`.
    fn decide(&mut self) -> String {
        let decisions = std::iter::from_fn(|| self.scheduler.next(self.now)).map(|decision| match decision {
            Decision::Bind { pod, node } => format!("{}>{node}", pod.key.name),
            Decision::Refuse { pod, .. } => format!("{}!", pod.key.name),
        });
        decisions.collect::<Vec<_>>().join(" ")
    }

    fn bound(&mut self, name: &str, worked: bool) {
        self.scheduler.bound(&Key::new("a", name), name, worked, self.now);
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

fn cpu(amount: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]})
}

fn with(mut spec: Value, field: &str, value: Value) -> Value {
    spec[field] = value;
    spec
}

#[tokio::test]
async fn a_decision_counts_before_it_is_seen() {
    let mut world = World::new();
    world.node(node("n1", json!({})));
    for name in ["a", "b", "c"] {
        world.pod(pod(name, cpu("1")));
    }
    assert_eq!(world.decide(), "a>n1 b>n1 c!");
    // The binding of one fails: room again, and the failed one backs off.
    world.bound("a", false);
    world.pass(1);
    assert_eq!(world.decide(), "c>n1 a!");
    // Seen bound: counted once, not twice.
    world.pod(pod("b", with(cpu("1"), "nodeName", json!("n1"))));
    world.bound("b", true);
    world.gone("b");
    world.pass(10);
    assert_eq!(world.decide(), "a>n1");
}

#[tokio::test]
async fn only_what_can_help_brings_a_refused_pod_back() {
    let mut world = World::new();
    world.pod(pod("p", with(cpu("1"), "nodeSelector", json!({"new": "yes"}))));
    assert_eq!(world.decide(), "p!", "no node at all");
    world.pass(20);
    world.node(node("n1", json!({})));
    assert_eq!(world.decide(), "p!", "the selector");
    world.pass(20);
    world.node(node("n1", json!({"status": {"allocatable": {"cpu": "8"}}})));
    assert_eq!(world.decide(), "", "more cpu does not help a selector");
    world.node(node("n1", json!({"metadata": {"labels": {"new": "yes"}}, "status": {"allocatable": {"cpu": "8"}}})));
    assert_eq!(world.decide(), "p>n1");
}

#[tokio::test]
async fn a_change_of_the_pod_itself_is_tried_at_once_but_its_status_is_not() {
    let mut world = World::new();
    world.node(node("n1", json!({})));
    world.pod(pod("p", cpu("9")));
    assert_eq!(world.decide(), "p!");
    let refused = json!({
        "spec": with(cpu("9"), "schedulerName", json!("default-scheduler")),
        "status": {"conditions": [{"type": "PodScheduled", "reason": "Unschedulable", "message": "0/1"}]},
    });
    world.pod(project("pods", "p", refused));
    assert_eq!(world.decide(), "");
    world.pod(pod("p", with(cpu("9"), "schedulingGates", json!([{"name": "wait"}]))));
    assert_eq!(world.decide(), "");
    world.pod(pod("p", cpu("1")));
    assert_eq!(world.decide(), "p>n1");
}

#[tokio::test]
async fn pods_of_others_finished_ones_and_those_being_deleted_are_left_alone() {
    let mut world = World::new();
    world.node(node("n1", json!({})));
    world.pod(pod("other", with(cpu("1"), "schedulerName", json!("mine"))));
    let spec = with(cpu("1"), "schedulerName", json!("default-scheduler"));
    world.pod(project("pods", "done", json!({"spec": spec.clone(), "status": {"phase": "Failed"}})));
    world.pod(project(
        "pods",
        "going",
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec}),
    ));
    assert_eq!(world.decide(), "");
    // A pod on a node that is not known yet counts when the node comes.
    world.pod(pod("early", with(cpu("2"), "nodeName", json!("n2"))));
    world.node(node("n2", json!({})));
    world.scheduler.node_changed("n1", None, world.now);
    world.pod(pod("p", cpu("1")));
    assert_eq!(world.decide(), "p!");
    let finished = json!({"spec": with(cpu("2"), "nodeName", json!("n2")), "status": {"phase": "Succeeded"}});
    world.pod(project("pods", "early", finished));
    world.pass(1);
    assert_eq!(world.decide(), "p>n2");
}

#[tokio::test]
async fn another_pod_of_the_name_takes_nothing_over() {
    let mut world = World::new();
    world.node(node("n1", json!({})));
    world.pod(pod("p", cpu("2")));
    assert_eq!(world.decide(), "p>n1");
    let mut other = Arc::into_inner(pod("p", cpu("1"))).unwrap();
    other.uid = "other".into();
    world.pod(Arc::new(other));
    world.bound("p", true);
    world.pod(pod("q", cpu("1")));
    assert_eq!(world.decide(), "p>n1 q>n1");
}
