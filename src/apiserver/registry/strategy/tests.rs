//! What strategies keep, count and set.

use serde_json::json;

use super::*;

#[test]
fn quality_of_service_follows_requests_and_limits() {
    let pod = |resources: Value| json!({"spec": {"containers": [{"resources": resources}]}});
    for (resources, class) in [
        (json!({}), "BestEffort"),
        (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
        (json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
        (json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}), "Burstable"),
        (json!({"requests": {"cpu": "1"}}), "Burstable"),
    ] {
        assert_eq!(pod::qos_class(&pod(resources.clone())), class, "{resources}");
    }
}

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
