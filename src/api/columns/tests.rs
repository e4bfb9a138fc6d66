//! Rows as kubectl shows them.

use serde_json::json;

use super::*;

const NOW: &str = "2026-01-02T00:00:00Z";

/// The cells of a row joined by ` | `.
fn row(group: &str, version: &str, kind: &str, tree: Value) -> String {
    let resource = Resource::of_kind(group, version, kind).expect("a kind");
    let cells = cells(&resource, &tree, &Now::new(NOW.parse().unwrap()));
    let shown = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    let cells: Vec<String> = cells.as_array().unwrap().iter().map(shown).collect();
    assert_eq!(cells.len(), definitions(&resource).as_array().unwrap().len());
    cells.join(" | ")
}

fn pod(mut tree: Value) -> String {
    tree["metadata"]["name"] = "a".into();
    tree["metadata"]["creationTimestamp"] = "2026-01-01T23:55:00Z".into();
    let row = row("", "v1", "Pod", tree);
    row.split(" | ").take(5).collect::<Vec<_>>().join(" | ")
}

#[test]
fn pods_say_their_state_in_one_word() {
    let two = json!([{"name": "x"}, {"name": "y"}]);
    assert_eq!(pod(json!({"spec": {"containers": two}, "status": {"phase": "Pending"}})), "a | 0/2 | Pending | 0 | 5m");
    let running = json!({"name": "x", "ready": true, "state": {"running": {}}, "restartCount": 0});
    let waiting = json!({
        "name": "y", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"finishedAt": "2026-01-01T23:59:00Z"}},
    });
    assert_eq!(
        pod(
            json!({"spec": {"containers": two}, "status": {"phase": "Running", "containerStatuses": [running, waiting]}})
        ),
        "a | 1/2 | CrashLoopBackOff | 3 (60s ago) | 5m"
    );
    assert_eq!(
        pod(json!({
            "metadata": {"deletionTimestamp": NOW},
            "spec": {"containers": [{}]}, "status": {"phase": "Running", "containerStatuses": [running]},
        })),
        "a | 1/1 | Terminating | 0 | 5m"
    );
    let finished = json!({"name": "x", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
    assert_eq!(
        pod(json!({"spec": {"containers": [{}]}, "status": {"phase": "Succeeded", "containerStatuses": [finished]}})),
        "a | 0/1 | Completed | 0 | 5m"
    );
    assert_eq!(
        pod(json!({
            "spec": {"containers": [{}], "initContainers": [{"name": "i"}, {"name": "j"}]},
            "status": {"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": {"terminated": {"exitCode": 0}}},
                {"name": "j", "state": {"running": {}}},
            ]},
        })),
        "a | 0/1 | Init:1/2 | 0 | 5m"
    );
    assert_eq!(
        pod(json!({
            "spec": {"containers": [{}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]},
            "status": {"phase": "Running", "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "restartCount": 1}],
                "containerStatuses": [running]},
        })),
        "a | 2/2 | Running | 1 | 5m"
    );
}

#[test]
fn rows_of_the_main_kinds() {
    let meta = json!({"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"});
    assert_eq!(
        row(
            "apps",
            "v1",
            "Deployment",
            json!({
                "metadata": meta,
                "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "x"}},
                    "template": {"spec": {"containers": [{"name": "c", "image": "i:1"}, {"name": "d", "image": "j"}]}}},
                "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2},
            })
        ),
        "a | 2/3 | 3 | 2 | 24h | c,d | i:1,j | app=x"
    );
    assert_eq!(
        row(
            "",
            "v1",
            "Service",
            json!({
                "metadata": meta,
                "spec": {"type": "NodePort", "clusterIPs": ["10.0.0.1"], "selector": {"app": "x"},
                    "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]},
            })
        ),
        "a | NodePort | 10.0.0.1 | <none> | 80:30080/TCP,53/UDP | 24h | app=x"
    );
    assert_eq!(
        row(
            "",
            "v1",
            "Node",
            json!({
                "metadata": {"name": "n", "creationTimestamp": NOW, "labels": {"node-role.kubernetes.io/control-plane": ""}},
                "spec": {"unschedulable": true},
                "status": {"conditions": [{"type": "Ready", "status": "True"}],
                    "addresses": [{"type": "InternalIP", "address": "10.1.1.1"}],
                    "nodeInfo": {"kubeletVersion": "v1.37.2", "kernelVersion": "6.1", "architecture": "amd64", "osImage": "Debian"}},
            })
        ),
        "n | Ready,SchedulingDisabled | control-plane | 0s | v1.37.2 | 10.1.1.1 | <none> | Debian | 6.1 (amd64) | <unknown>"
    );
    assert_eq!(
        row(
            "",
            "v1",
            "Event",
            json!({
                "metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled", "message": " m ", "count": 2,
                "involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "kubelet", "host": "n"},
                "firstTimestamp": "2026-01-01T23:00:00Z", "lastTimestamp": "2026-01-01T23:59:30Z",
            })
        ),
        "30s | Normal | Pulled | pod/p |  | kubelet, n | m | 60m | 2 | e"
    );
    assert_eq!(
        row(
            "discovery.k8s.io",
            "v1",
            "EndpointSlice",
            json!({
                "metadata": meta, "addressType": "IPv4", "ports": [{"port": 80}],
                "endpoints": [{"addresses": ["1.1.1.1"]}, {"addresses": ["1.1.1.2"]}, {"addresses": ["1.1.1.3"]}, {"addresses": ["1.1.1.4"]}],
            })
        ),
        "a | IPv4 | 80 | 1.1.1.1,1.1.1.2,1.1.1.3 + 1 more... | 24h"
    );
    assert_eq!(
        row("", "v1", "Secret", json!({"metadata": meta, "type": "Opaque", "data": {"a": "", "b": ""}})),
        "a | Opaque | 2 | 24h"
    );
    assert_eq!(row(RBAC_GROUP, "v1", "ClusterRole", json!({"metadata": meta})), "a | 2026-01-01T00:00:00Z");
}

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

#[test]
fn durations_are_upstreams() {
    for (seconds, shown) in [
        (-2, "<invalid>"),
        (-1, "0s"),
        (119, "119s"),
        (120, "2m"),
        (181, "3m1s"),
        (601, "10m"),
        (10800, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (9 * 3600, "9h"),
        (50 * 3600, "2d2h"),
        (400 * 86400, "400d"),
        (3 * 365 * 86400 + 86400, "3y1d"),
        (9 * 365 * 86400, "9y"),
    ] {
        assert_eq!(human_duration(seconds), shown, "{seconds}");
    }
}

#[test]
fn every_row_is_of_a_served_kind() {
    for (group, kind, _) in kinds::COLUMNS {
        let served = |resource: Resource| {
            let mut below = resource.subresources.iter().map(|below| (&below.group, &below.kind));
            (&*resource.group, &*resource.kind) == (*group, *kind)
                || below.any(|below| (&**below.0, &**below.1) == (*group, *kind))
        };
        assert!(Resource::all().any(served), "{group} {kind}");
    }
}
