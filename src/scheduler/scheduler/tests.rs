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
        Self { scheduler: Scheduler::new(plugins::all(), Box::new(Vec::new)), now: Instant::now() }
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
            Decision::Refuse { pod, refusal } => {
                let victims = refusal.preemption.map(|it| (it.node, it.victims));
                let told = |(node, victims): (Arc<str>, Vec<Arc<Item<PodView>>>)| {
                    let names: Vec<String> = victims.iter().map(|victim| victim.key.name.to_string()).collect();
                    format!("{}!{node}-{}", pod.key.name, names.join("-"))
                };
                victims.map_or_else(|| format!("{}!", pod.key.name), told)
            }
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

fn important(amount: &str, priority: i32) -> Value {
    with(cpu(amount), "priority", json!(priority))
}

#[tokio::test]
async fn important_pods_take_the_place_of_the_least_important() {
    let mut world = World::new();
    world.node(node("n1", json!({})));
    world.node(node("n2", json!({})));
    let placed = |name: &str, spec: Value, node: &str| pod(name, with(spec, "nodeName", json!(node)));
    world.pod(placed("a", important("1", 5), "n1"));
    world.pod(placed("b", important("1", 1), "n1"));
    world.pod(placed("c", important("2", 5), "n2"));
    // Only the pods that are in the way go, and where they matter least.
    world.pod(pod("p", important("1", 10)));
    assert_eq!(world.decide(), "p!n1-b");
    // What is being made free is kept from less important ones as long as it is wanted.
    world.pod(pod("middle", important("1", 7)));
    world.gone("b");
    assert_eq!(world.decide(), "middle!n1-a");
    world.pass(1);
    assert_eq!(world.decide(), "p>n1");
    // One that takes nobody's place, and one for which nothing helps.
    world.pod(pod("never", with(important("1", 10), "preemptionPolicy", json!("Never"))));
    world.pod(pod("large", important("3", 10)));
    world.pod(pod("small", important("1", 1)));
    assert_eq!(world.decide(), "never! large! small!");
}

#[tokio::test]
async fn place_that_was_made_is_not_given_away() {
    let mut world = World::new();
    world.node(node("n1", json!({})));
    world.pod(pod("low", with(important("2", 1), "nodeName", json!("n1"))));
    world.pod(pod("p", important("2", 10)));
    assert_eq!(world.decide(), "p!n1-low");
    // The victim takes its time; meanwhile nothing else is disrupted for the pod.
    let nominated = |phase: &str| {
        project(
            "pods",
            "p",
            json!({"spec": with(important("2", 10), "schedulerName", json!("default-scheduler")),
            "status": {"phase": phase, "nominatedNodeName": "n1"}}),
        )
    };
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": with(important("2", 1), "nodeName", json!("n1")),
        "status": {"conditions": [{"type": "DisruptionTarget", "reason": "PreemptionByScheduler"}]}});
    world.pod(project("pods", "low", leaving));
    world.pod(nominated("Pending"));
    world.pod(pod("q", important("1", 5)));
    world.pass(400);
    assert_eq!(world.decide(), "p! q!");
    world.gone("low");
    world.pass(20);
    assert_eq!(world.decide(), "p>n1 q!");
}
