//! StatefulSets step by step: which pods are made and deleted, in which order.

use std::sync::Arc;

use coracle_client::{Item, Key};
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use serde_json::{Value, json};

use super::plan::{Situation, Step};
use super::{claim, status};
use crate::owners::Owner;
use crate::pod_control::{Known, Parent};
use crate::pods::{Phase, PodView};

fn set(spec: Value) -> StatefulSet {
    let mut all = json!({"replicas": 3, "serviceName": "s", "selector": {"matchLabels": {"a": "b"}},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}});
    for (field, value) in spec.as_object().unwrap() {
        all[field] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "a", "uid": "s"}, "spec": all})).unwrap()
}

/// `ordinal revision state`: `r` ready, `s` starting, `p` pending, `f` failed; `d` after it: on its way out.
fn pod(text: &str) -> Known {
    let [ordinal, revision, state] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
    let name = format!("web-{ordinal}");
    let value = PodView {
        labels: [
            ("controller-revision-hash".into(), revision.into()),
            ("statefulset.kubernetes.io/pod-name".into(), name.as_str().into()),
        ]
        .into(),
        phase: match &state[..1] {
            "p" => Phase::Pending,
            "f" => Phase::Failed,
            _ => Phase::Running,
        },
        ready: state.starts_with('r'),
        ready_since: Some(10),
        deleting: state.ends_with('d'),
        ..PodView::default()
    };
    Arc::new(Item { key: Key::new("a", name.as_str()), uid: name.into(), revision: 1, value })
}

fn with<T>(set: &StatefulSet, pods: &[&str], then: impl Fn(&Situation<'_>) -> T) -> T {
    let pods: Vec<Known> = pods.iter().map(|text| pod(text)).collect();
    then(&Situation::new(set, &pods, ("old", "new"), 100))
}

/// What is made (`+`) and deleted (`-`).
fn told(set: &StatefulSet, pods: &[&str]) -> String {
    with(set, pods, |situation| {
        let told = situation.steps().into_iter().filter_map(|step| match step {
            Step::Create { ordinal, updated } => Some(format!("+{ordinal}{}", if updated { "" } else { " old" })),
            Step::Delete(pod) => Some(format!("-{}", &pod.key.name[4..])),
            Step::Claims(_) | Step::Own(_) | Step::Name(_) => None,
        });
        told.collect::<Vec<_>>().join(", ")
    })
}

#[test]
fn ordered_sets_go_one_by_one() {
    let set = set(json!({}));
    assert_eq!(told(&set, &[]), "+0");
    assert_eq!(told(&set, &["0 new s"]), "");
    assert_eq!(told(&set, &["0 new r"]), "+1");
    assert_eq!(told(&set, &["0 new r", "1 new f"]), "-1");
    assert_eq!(told(&set, &["0 new r", "1 new fd"]), "");
    assert_eq!(told(&set, &["0 new r", "1 new r", "2 new r"]), "");
    // Down from the top, each when the others are well.
    assert_eq!(told(&set, &["0 new r", "1 new r", "2 new r", "3 new r", "4 new r"]), "-4");
    assert_eq!(told(&set, &["0 new r", "1 new r", "2 new r", "3 new r", "4 new rd"]), "");
    assert_eq!(told(&set, &["0 new r", "1 new r", "2 new r", "3 new s", "4 new r"]), "-4");
    assert_eq!(told(&set, &["0 new r", "1 new r", "2 new r", "3 new s", "4 new s"]), "");
    assert_eq!(told(&set, &["0 new r", "1 new s", "2 new r", "3 new r"]), "", "a sick replica stops it");
}

#[test]
fn parallel_sets_take_all_at_once() {
    let set = set(json!({"podManagementPolicy": "Parallel"}));
    assert_eq!(told(&set, &["1 new s"]), "+0, +2");
    assert_eq!(told(&set, &["0 new s", "1 new s", "2 new s", "3 new s", "4 new r"]), "-4, -3");
    assert_eq!(told(&set, &["0 old s", "1 old s", "2 old r"]), "-1, -0", "what does not serve is no loss");
    assert_eq!(told(&set, &["0 old r", "1 old r", "2 old r"]), "-2");
}

#[test]
fn old_revisions_go_from_the_top() {
    let rolling = |rolling: Value| set(json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}));
    let plain = rolling(json!({"partition": 0}));
    assert_eq!(told(&plain, &["0 old r", "1 old r", "2 old r"]), "-2");
    assert_eq!(told(&plain, &["0 old r", "1 old r"]), "+2");
    assert_eq!(told(&plain, &["0 old r", "1 old r", "2 new r"]), "-1");
    let partition = rolling(json!({"partition": 2}));
    assert_eq!(told(&partition, &["0 old r", "1 old r", "2 old r"]), "-2");
    assert_eq!(told(&partition, &["0 old r", "1 old r", "2 new r"]), "");
    assert_eq!(told(&partition, &["0 old r"]), "+1 old");
    let two = rolling(json!({"partition": 0, "maxUnavailable": 2}));
    assert_eq!(told(&two, &["0 old r", "1 old r", "2 old r"]), "-2, -1");
    let on_delete = set(json!({"updateStrategy": {"type": "OnDelete"}}));
    assert_eq!(told(&on_delete, &["0 old r", "1 old r", "2 old r"]), "");
    assert_eq!(told(&on_delete, &["0 old r", "2 old r"]), "+1");
    let later = set(json!({"ordinals": {"start": 5}, "replicas": 2}));
    assert_eq!(told(&later, &["5 new r", "6 new r", "0 new r"]), "-0");
    assert_eq!(told(&later, &["5 new r"]), "+6");
}

#[test]
fn the_status_counts_revisions() {
    let set = set(json!({}));
    let of = |pods: &[&str]| {
        let status = with(&set, pods, |it| status::calculate(it, StatefulSetStatus::default()));
        let number = |number: Option<i32>| number.unwrap_or(0);
        (status.replicas, number(status.current_replicas), number(status.updated_replicas), status.current_revision)
    };
    assert_eq!(of(&["0 old r", "1 old r", "2 new s"]), (3, 2, 1, Some("old".to_owned())));
    assert_eq!(of(&["0 new r", "1 new r", "2 new s"]), (3, 0, 3, Some("old".to_owned())));
    assert_eq!(of(&["0 new r", "1 new r", "2 new r"]), (3, 3, 3, Some("new".to_owned())));
}

#[test]
fn claims_belong_to_whom_the_policy_says() {
    let policy = |deleted: &str, scaled: &str| {
        set(json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}))
    };
    let pod = pod("3 new r");
    let owner = |kind: &str, name: &str, uid: &str| Owner {
        kind: kind.into(),
        name: name.into(),
        uid: uid.into(),
        controller: true,
        ..Owner::default()
    };
    let (of_set, of_pod) = (owner("StatefulSet", "web", "s"), owner("Pod", "web-3", "web-3"));
    let (gone, other) = (owner("Pod", "web-3", "earlier"), owner("Other", "x", "x"));
    type Case<'a> = (&'a str, &'a str, bool, &'a [&'a Owner], bool);
    let cases: [Case<'_>; 10] = [
        ("Retain", "Retain", true, &[], true),
        ("Retain", "Retain", true, &[&of_set], false),
        ("Delete", "Retain", true, &[&of_set], true),
        ("Delete", "Retain", true, &[], false),
        ("Retain", "Delete", true, &[&of_pod], true),
        ("Retain", "Delete", false, &[&of_pod], false),
        ("Delete", "Delete", true, &[&of_set], false),
        ("Delete", "Delete", false, &[&of_set], true),
        ("Delete", "Delete", true, &[&gone], true),
        ("Delete", "Delete", true, &[&other], true),
    ];
    for (deleted, scaled, down, owners, expected) in cases {
        let set = policy(deleted, scaled);
        let parent = Parent { api_version: "apps/v1", kind: "StatefulSet", meta: &set.metadata };
        let owners: Vec<Owner> = owners.iter().map(|owner| (*owner).clone()).collect();
        let up_to_date = claim::up_to_date(&owners, parent, &pod, claim::wanted(&set, down));
        assert_eq!(up_to_date, expected, "{deleted} {scaled} {down} {owners:?}");
    }
}
