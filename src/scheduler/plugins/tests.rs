//! Every plugin's judgement, by what it says.

use std::sync::Arc;

use bytes::Bytes;
use coracle_api::object::Meta;
use coracle_api::{Object, Resource};
use coracle_client::{Item, Key, Project};
use serde_json::{Value, json};

use crate::cycle::schedule;
use crate::node::NodeView;
use crate::pod::PodView;
use crate::snapshot::Snapshot;

pub(crate) fn project<T: Project>(plural: &str, name: &str, mut value: Value) -> Arc<Item<T>> {
    let resource = Resource::find("", "v1", plural).unwrap();
    value["metadata"]["name"] = name.into();
    let labels: std::collections::BTreeMap<Box<str>, Box<str>> =
        serde_json::from_value(value["metadata"].get("labels").cloned().unwrap_or(json!({}))).unwrap();
    let meta = Meta { name: name.into(), uid: name.into(), labels: labels.into_iter().collect(), ..Meta::default() };
    let object = Object::new(resource, 1, Bytes::from(value.to_string()), meta);
    let value = T::project(&object).unwrap();
    Arc::new(Item {
        key: Key::new(if plural == "pods" { "a" } else { "" }, name),
        uid: name.into(),
        revision: 1,
        value,
    })
}

pub(crate) fn node(name: &str, change: Value) -> Arc<Item<NodeView>> {
    let mut node = json!({
        "metadata": {"labels": {"disk": "ssd", "rank": "5", "zone": name}},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10", "example.com/gpu": "1"}},
    });
    json_patch(&mut node, change);
    project("nodes", name, node)
}

pub(crate) fn pod(name: &str, spec: Value) -> Arc<Item<PodView>> {
    let mut pod = json!({"spec": {"schedulerName": "default-scheduler", "containers": [{"name": "c"}]}});
    json_patch(&mut pod["spec"], spec);
    project("pods", name, pod)
}

fn json_patch(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                json_patch(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch,
    }
}

fn asking(requests: Value) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": requests}}]})
}

fn told(snapshot: &Snapshot, spec: Value) -> String {
    match schedule(&super::all(), &pod("p", spec), snapshot, &Vec::new, 0) {
        Ok(node) => node.to_string(),
        Err(refusal) => {
            let (message, _) = refusal.message.split_once(" preemption: ").unwrap_or((&refusal.message, ""));
            format!("{message} [{}]", refusal.plugins.join(","))
        }
    }
}

#[test]
fn filters_say_why() {
    let mut snapshot = Snapshot::default();
    assert_eq!(told(&snapshot, json!({})), "no nodes available to schedule pods []");
    snapshot.set_node(node("n1", json!({})));
    snapshot.place(
        pod(
            "there",
            json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1500m"}},
        "ports": [{"hostPort": 80, "hostIP": "127.0.0.1"}]}]}),
        ),
        "n1".into(),
        false,
    );
    let port = |port: u16, ip: &str, protocol: &str| json!({"containers": [{"name": "c", "ports": [{"hostPort": port, "hostIP": ip, "protocol": protocol}]}]});
    let select = |key: &str, operator: &str, values: Value| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]}}}})
    };
    let field = |name: &str| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]}}}})
    };
    let affinity = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. [NodeAffinity]";
    let ports = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. [NodePorts]";
    let cpu = "0/1 nodes are available: 1 Insufficient cpu. [NodeResourcesFit]";
    let cases = [
        (json!({}), "n1"),
        (asking(json!({"cpu": "500m"})), "n1"),
        (asking(json!({"cpu": "501m"})), cpu),
        (
            asking(json!({"cpu": "1", "memory": "5Gi", "example.com/gpu": "2"})),
            "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient example.com/gpu, 1 Insufficient memory. [NodeResourcesFit]",
        ),
        (json!({"overhead": {"cpu": "600m"}}), cpu),
        // The highest need counts: an init container beside the sidecar that started before it.
        (
            json!({"initContainers": [
            {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "200m"}}},
            {"name": "i", "resources": {"requests": {"cpu": "400m"}}}]}),
            cpu,
        ),
        (json!({"initContainers": [{"name": "i", "resources": {"requests": {"cpu": "400m"}}}]}), "n1"),
        (port(80, "", "TCP"), ports),
        (port(80, "127.0.0.1", "TCP"), ports),
        (port(80, "127.0.0.2", "TCP"), "n1"),
        (port(80, "", "UDP"), "n1"),
        (json!({"nodeSelector": {"disk": "ssd"}}), "n1"),
        (json!({"nodeSelector": {"disk": "hdd"}}), affinity),
        (select("disk", "In", json!(["hdd", "ssd"])), "n1"),
        (select("disk", "NotIn", json!(["ssd"])), affinity),
        (select("none", "NotIn", json!(["ssd"])), "n1"),
        (select("none", "Exists", json!([])), affinity),
        (select("none", "DoesNotExist", json!([])), "n1"),
        (select("rank", "Gt", json!(["4"])), "n1"),
        (select("rank", "Lt", json!(["4"])), affinity),
        (field("n1"), "n1"),
        (field("n2"), affinity),
    ];
    for (spec, expected) in cases {
        assert_eq!(told(&snapshot, spec.clone()), expected, "{spec}");
    }
}

#[test]
fn taints_and_cordons_keep_pods_away() {
    let mut snapshot = Snapshot::default();
    let taint = |effect: &str| json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": effect}]}});
    snapshot.set_node(node("n1", taint("NoSchedule")));
    snapshot.set_node(node("n2", json!({"spec": {"unschedulable": true}})));
    let tolerate = |toleration: Value| json!({"tolerations": [toleration]});
    let both = "0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. \
                [TaintToleration,NodeUnschedulable]";
    let cases = [
        (json!({}), both),
        (tolerate(json!({"key": "k", "operator": "Equal", "value": "other"})), both),
        (tolerate(json!({"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute"})), both),
        (tolerate(json!({"key": "k", "operator": "Equal", "value": "v"})), "n1"),
        (tolerate(json!({"key": "k", "operator": "Exists"})), "n1"),
        (tolerate(json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists"})), "n2"),
    ];
    for (spec, expected) in cases {
        assert_eq!(told(&snapshot, spec.clone()), expected, "{spec}");
    }
    // A taint that only advises.
    snapshot.set_node(node("n1", taint("PreferNoSchedule")));
    snapshot.set_node(node("n2", json!({})));
    assert_eq!(told(&snapshot, json!({})), "n2");
}

#[test]
fn emptier_and_preferred_nodes_win() {
    let mut snapshot = Snapshot::default();
    ["n1", "n2", "n3"].into_iter().for_each(|name| snapshot.set_node(node(name, json!({}))));
    for (name, on) in [("a", "n1"), ("b", "n1"), ("c", "n3")] {
        snapshot.place(pod(name, asking(json!({"cpu": "500m", "memory": "1Gi"}))), on.into(), false);
    }
    assert_eq!(told(&snapshot, asking(json!({"cpu": "100m", "memory": "200Mi"}))), "n2");
    let preferred = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 50, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["n3"]}]}}]}}});
    assert_eq!(told(&snapshot, preferred), "n3");
    let mut full = Snapshot::default();
    full.set_node(node("n1", json!({"status": {"allocatable": {"pods": "0"}}})));
    assert_eq!(told(&full, json!({})), "0/1 nodes are available: 1 Too many pods. [NodeResourcesFit]");
}

#[test]
fn pods_choose_their_company() {
    let mut snapshot = Snapshot::default();
    for (name, zone) in [("n1", "a"), ("n2", "a"), ("n3", "b")] {
        snapshot.set_node(node(name, json!({"metadata": {"labels": {"zone": zone, "host": name}}})));
    }
    let labelled = |name: &str, app: &str, mut spec: Value, node: &str| {
        spec["nodeName"] = node.into();
        project::<PodView>("pods", name, json!({"metadata": {"labels": {"app": app}}, "spec": spec}))
    };
    let term = |app: &str, key: &str| json!([{"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key}]);
    let wish = |kind: &str, app: &str, key: &str| json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": term(app, key)}}});
    snapshot.place(labelled("web", "web", json!({}), "n1"), "n1".into(), false);
    snapshot.place(labelled("db", "db", wish("podAntiAffinity", "loud", "zone"), "n3"), "n3".into(), false);
    assert_eq!(told(&snapshot, wish("podAffinity", "web", "host")), "n1");
    assert_eq!(told(&snapshot, wish("podAntiAffinity", "web", "zone")), "n3");
    let nowhere = "0/3 nodes are available: 3 node(s) didn't match pod affinity rules. [InterPodAffinity]";
    assert_eq!(told(&snapshot, wish("podAffinity", "none", "zone")), nowhere);
    assert_eq!(told(&snapshot, wish("podAffinity", "web", "rack")), nowhere);

    let decide = |snapshot: &Snapshot, app: &str, spec: Value| {
        let mut spec = spec;
        spec["schedulerName"] = "default-scheduler".into();
        let pod = project::<PodView>("pods", "p", json!({"metadata": {"labels": {"app": app}}, "spec": spec}));
        match schedule(&super::all(), &pod, snapshot, &Vec::new, 1) {
            Ok(node) => node.to_string(),
            Err(refusal) => refusal.plugins.join(","),
        }
    };
    // The first of a group is welcome anywhere; who is unwelcome in a zone is not.
    assert_ne!(decide(&snapshot, "new", wish("podAffinity", "new", "zone")), "InterPodAffinity");
    let mut busy = json!({"nodeSelector": {"zone": "b"}});
    assert_eq!(decide(&snapshot, "loud", busy.clone()), "NodeAffinity,InterPodAffinity");
    busy["affinity"] = json!({});
    assert_eq!(decide(&snapshot, "quiet", busy), "n3");

    let spread = |key: &str, when: &str| {
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": when,
            "labelSelector": {"matchLabels": {"app": "web"}}}]})
    };
    assert_eq!(decide(&snapshot, "web", spread("zone", "DoNotSchedule")), "n3");
    assert_eq!(decide(&snapshot, "web", spread("zone", "ScheduleAnyway")), "n3");
    assert_eq!(decide(&snapshot, "web", spread("rack", "DoNotSchedule")), "PodTopologySpread");
    // Three domains wanted and two there: the third counts as empty.
    let mut domains = spread("zone", "DoNotSchedule");
    domains["topologySpreadConstraints"][0]["minDomains"] = json!(3);
    snapshot.place(labelled("web2", "web", json!({}), "n3"), "n3".into(), false);
    assert_eq!(decide(&snapshot, "web", domains), "PodTopologySpread");
}
