//! What strategies keep, count and set.

use serde_json::json;

use super::*;

#[test]
fn grace_is_the_clients_wish_or_the_pods_own() {
    let pod = |node: &str, phase: &str| json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}});
    for (node, phase, asked, seconds) in [
        ("a", "Running", None, 30),
        ("a", "Running", Some(5), 5),
        ("a", "Running", Some(-1), 1),
        ("", "Pending", Some(5), 0),
        ("a", "Failed", None, 0),
    ] {
        assert_eq!(pod::grace(&pod(node, phase), asked), seconds, "{node} {phase} {asked:?}");
    }
}

#[test]
fn keys_of_labels_become_part_of_selectors() {
    let term = json!({"labelSelector": {}, "matchLabelKeys": ["a"], "mismatchLabelKeys": ["b", "absent"]});
    let mut tree = json!({
        "metadata": {"labels": {"a": "1", "b": "2"}},
        "spec": {
            "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}},
            "topologySpreadConstraints": [{"matchLabelKeys": ["a"]}],
        },
    });
    pod::prepare_create(&mut tree);
    assert_eq!(
        tree["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]["labelSelector"],
        json!({"matchExpressions": [
            {"key": "a", "operator": "In", "values": ["1"]},
            {"key": "b", "operator": "NotIn", "values": ["2"]},
        ]})
    );
    assert_eq!(tree["spec"]["topologySpreadConstraints"][0].get("labelSelector"), None);
}
