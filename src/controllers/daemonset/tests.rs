//! DaemonSets on a few nodes: which pods are made and deleted.

use std::sync::Arc;

use coracle_client::placement::Taint;
use coracle_client::{Item, Key};
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use serde_json::{Value, json};

use super::place::Place;
use super::plan::{Moves, Situation};
use crate::node::NodeView;
use crate::pod_control::Known;
use crate::pods::{Phase, PodView};

fn set(spec: Value) -> DaemonSet {
    let mut all = json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c"}]}}});
    for (field, value) in spec.as_object().unwrap() {
        all[field] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": "d", "namespace": "a"}, "spec": all})).unwrap()
}

fn node(name: &str, labels: &[(&str, &str)], taints: &[(&str, &str)]) -> Arc<Item<NodeView>> {
    let pair = |(key, value): &(&str, &str)| ((*key).into(), (*value).into());
    let taint =
        |(key, effect): &(&str, &str)| Taint { key: (*key).into(), effect: (*effect).into(), ..Taint::default() };
    let value = NodeView {
        labels: labels.iter().map(pair).collect(),
        taints: taints.iter().map(taint).collect(),
        ..NodeView::default()
    };
    Arc::new(Item { key: Key::cluster(name), uid: name.into(), revision: 1, value })
}

/// `node/hash/state`: `r` ready, `p` pending, `f` failed, `d` on its way out.
fn pod(text: &str) -> Known {
    let [node, hash, state] = text.split('/').collect::<Vec<_>>()[..] else { panic!("{text}") };
    let value = PodView {
        labels: [("controller-revision-hash".into(), hash.into())].into(),
        node: node.into(),
        phase: if state == "f" { Phase::Failed } else { Phase::Running },
        ready: state == "r",
        ready_since: Some(10),
        deleting: state == "d",
        ..PodView::default()
    };
    Arc::new(Item { key: Key::new("a", text), uid: text.into(), revision: 1, value })
}

fn told(moves: &Moves) -> String {
    let mut all: Vec<String> = moves.create.iter().map(|node| format!("+{node}")).collect();
    all.extend(moves.delete.iter().map(|pod| format!("-{}", pod.key.name)));
    all.sort();
    all.join(" ")
}

fn with<T>(set: &DaemonSet, nodes: &[Arc<Item<NodeView>>], pods: &[&str], then: impl Fn(&Situation<'_>) -> T) -> T {
    let spec = &set.spec;
    let place = Place::of(spec).unwrap();
    let pods: Vec<Known> = pods.iter().map(|text| pod(text)).collect();
    then(&Situation::new(set, spec, &place, nodes, &pods, "new", 100))
}

#[test]
fn one_pod_on_every_node_that_will_do() {
    let nodes = [
        node("n1", &[("disk", "ssd")], &[]),
        node("n2", &[], &[]),
        node("n3", &[("disk", "ssd")], &[("x", "NoSchedule")]),
        node("n4", &[("disk", "ssd")], &[("node.kubernetes.io/unreachable", "NoExecute")]),
        node("n5", &[("disk", "ssd")], &[("x", "NoExecute")]),
    ];
    let set = set(json!({"template": {"spec": {"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "c"}]}}}));
    let manage = |pods: &[&str]| with(&set, &nodes, pods, |it| told(&it.manage(&mut |_| true)));
    assert_eq!(manage(&[]), "+n1 +n4");
    // A pod may stay where no new one would go, but not where its node does not match.
    assert_eq!(manage(&["n1/new/r", "n2/new/r", "n3/new/r", "n4/new/p", "n5/new/r"]), "-n2/new/r -n5/new/r");
    assert_eq!(manage(&["n1/new/f", "n4/old/r", "n4/new/r"]), "-n1/new/f -n4/old/r");
    assert_eq!(manage(&["n1/new/d", "n4/new/r"]), "", "the next comes when this one is gone");
    assert_eq!(with(&set, &nodes, &["n1/new/f", "n4/new/r"], |it| told(&it.manage(&mut |_| false))), "");
    let status = with(&set, &nodes, &["n1/new/r", "n2/new/r", "n4/old/p"], |it| it.status(DaemonSetStatus::default()));
    assert_eq!(
        serde_json::to_value(status).unwrap(),
        json!({"desiredNumberScheduled": 2, "currentNumberScheduled": 2, "numberReady": 1, "numberAvailable": 1,
               "numberUnavailable": 1, "updatedNumberScheduled": 1, "numberMisscheduled": 1})
    );
}

#[test]
fn old_pods_go_a_few_at_a_time() {
    let nodes = ["n1", "n2", "n3"].map(|name| node(name, &[], &[]));
    let rolling = |rolling: Value| set(json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}));
    let one = rolling(json!({"maxUnavailable": 1, "maxSurge": 0}));
    let roll = |set: &DaemonSet, pods: &[&str]| with(set, &nodes, pods, |it| told(&it.roll()));
    assert_eq!(roll(&one, &["n1/old/r", "n2/old/r", "n3/old/r"]), "-n1/old/r");
    assert_eq!(roll(&one, &["n1/new/p", "n2/old/r", "n3/old/r"]), "");
    assert_eq!(roll(&one, &["n1/new/p", "n2/old/p", "n3/old/r"]), "-n2/old/p", "it is no loss");
    assert_eq!(roll(&one, &["n1/new/r", "n2/old/r", "n3/new/r"]), "-n2/old/r");
    assert_eq!(roll(&one, &["n2/old/r", "n3/new/r"]), "", "a node without a pod counts");
    let most = rolling(json!({"maxUnavailable": "67%", "maxSurge": 0}));
    assert_eq!(roll(&most, &["n1/old/r", "n2/old/r", "n3/old/r"]), "-n1/old/r -n2/old/r -n3/old/r");
    assert_eq!(roll(&set(json!({"updateStrategy": {"type": "OnDelete"}})), &["n1/old/r"]), "");

    let surge = rolling(json!({"maxUnavailable": 0, "maxSurge": 1}));
    assert_eq!(roll(&surge, &["n1/old/r", "n2/old/r", "n3/old/r"]), "+n1");
    assert_eq!(roll(&surge, &["n1/old/r", "n1/new/p", "n2/old/r", "n3/old/r"]), "");
    assert_eq!(roll(&surge, &["n1/old/r", "n1/new/r", "n2/old/r", "n3/old/p"]), "+n2 +n3 -n1/old/r");
}
