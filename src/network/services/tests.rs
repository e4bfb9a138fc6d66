//! The plan as golden text, and every scope through the real kernel.

use std::collections::BTreeSet;

use expect_test::{Expect, expect};
use serde_json::{Value as Json, json};

use super::ledger::{Ledger, Owner};
use super::plan::{self, NodeFacts};
use super::ruleset::{self, Prefix, TableConfig};
use crate::netlink::NetlinkSocket;
use crate::nftables::Batch;
use crate::testing::{Machines, Namespace};
use crate::views::{ServiceView, SliceView};

fn facts() -> NodeFacts {
    NodeFacts {
        name: "here".into(),
        zone: "east".into(),
        addresses: vec!["192.0.2.1".parse().expect("an address"), "2001:db8::1".parse().expect("an address")],
    }
}

/// (pod, node, state) as an EndpointSlice for each kind of address.
fn slice_objects(service: &str, endpoints: &[(&str, &str, &str)]) -> [Json; 2] {
    let slice = |ipv6: bool| {
        let of_family = endpoints.iter().filter(|(address, ..)| address.contains(':') == ipv6);
        let endpoints: Vec<Json> = of_family
            .map(|(address, node, state)| {
                let (ready, terminating) =
                    (!state.contains("unready") && !state.contains("terminating"), state.contains("terminating"));
                let hints = match state.strip_prefix("zone-") {
                    Some(zone) => json!({"forZones": [{"name": zone}]}),
                    None => Json::Null,
                };
                json!({"addresses": [address], "nodeName": node, "hints": hints,
                    "conditions": {"ready": ready, "serving": !state.contains("unready"), "terminating": terminating}})
            })
            .collect();
        json!({"kind": "EndpointSlice", "metadata": {"namespace": "default", "name": format!("{service}-{ipv6}"), "labels": {"kubernetes.io/service-name": service}},
            "addressType": if ipv6 { "IPv6" } else { "IPv4" }, "endpoints": endpoints,
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}, {"name": "dns", "protocol": "UDP", "port": 8080}]})
    };
    [slice(false), slice(true)]
}

fn slices(endpoints: &[(&str, &str, &str)]) -> Vec<SliceView> {
    let read =
        |slice: &Json| SliceView::read(slice.to_string().as_bytes()).expect("it reads").expect("it has a Service");
    slice_objects("web", endpoints).iter().map(read).collect()
}

fn service(name: &str, spec: Json) -> (Owner, ServiceView) {
    let mut spec = spec;
    if spec.get("ports").is_none() {
        spec["ports"] = json!([{"name": "http", "port": 80}]);
    }
    let service = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
    let view = ServiceView::read(service.to_string().as_bytes()).expect("it reads");
    (Owner::Service(coracle_client::Key::new("default", name)), view)
}

fn set(ledger: &mut Ledger, (owner, view): &(Owner, ServiceView), slices: &[SliceView]) {
    ledger.plan(owner, |groups| plan::service(view, slices.iter(), &facts(), groups));
}

fn text(ledger: &Ledger) -> String {
    ledger.elements().iter().map(|(key, content)| format!("{key}{content}\n")).collect()
}

fn check(spec: Json, endpoints: &[(&str, &str, &str)], expected: Expect) {
    let mut ledger = Ledger::default();
    set(&mut ledger, &service("web", spec), &slices(endpoints));
    expected.assert_eq(&text(&ledger));
}

const THREE: &[(&str, &str, &str)] =
    &[("10.42.0.2", "here", ""), ("10.42.0.3", "here", ""), ("10.42.1.5", "there", "")];

#[test]
fn cluster_address() {
    check(
        json!({"clusterIP": "10.43.0.1"}),
        THREE,
        expect![[r#"
        chain balance4-3
        hairpin4 10.42.0.2 . 10.42.0.2
        hairpin4 10.42.0.3 . 10.42.0.3
        endpoints4 1 . 0 : 10.42.0.2 . 8080
        endpoints4 1 . 1 : 10.42.0.3 . 8080
        endpoints4 1 . 2 : 10.42.1.5 . 8080
        services4 10.43.0.1 . tcp . 80 : goto balance4-3
        groups4 10.43.0.1 . tcp . 80 : 1
    "#]],
    );
}

#[test]
fn both_families_node_port_and_affinity() {
    check(
        json!({"clusterIPs": ["10.43.0.1", "fd43::1"], "sessionAffinity": "ClientIP", "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}}}),
        &[("10.42.0.2", "here", ""), ("fd42::2", "here", "")],
        expect![[r#"
            chain balance4-1-600s
            chain balance4-node-1-600s
            chain balance6-1-600s
            chain balance6-node-1-600s
            hairpin4 10.42.0.2 . 10.42.0.2
            hairpin6 fd42::2 . fd42::2
            endpoints4 1 . 1071451064 : 10.42.0.2 . 8080
            endpoints6 2 . 1003891263 : fd42::2 . 8080
            identities4 1 . 0 : 1071451064
            identities6 2 . 0 : 1003891263
            services4 10.43.0.1 . tcp . 80 : goto balance4-1-600s
            services6 fd43::1 . tcp . 80 : goto balance6-1-600s
            node-services4 tcp . 30080 : goto balance4-node-1-600s
            node-services6 tcp . 30080 : goto balance6-node-1-600s
            groups4 10.43.0.1 . tcp . 80 : 1
            groups6 fd43::1 . tcp . 80 : 2
            node-groups4 tcp . 30080 : 1
            node-groups6 tcp . 30080 : 2
            node-masquerade4 tcp . 30080
            node-masquerade6 tcp . 30080
        "#]],
    );
}

#[test]
fn local_policies() {
    check(
        json!({"clusterIP": "10.43.0.1", "externalIPs": ["203.0.113.1"], "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local"}),
        THREE,
        expect![[r#"
            chain balance4-2
            chain balance4-3
            chain balance4-outside-2
            hairpin4 10.42.0.2 . 10.42.0.2
            hairpin4 10.42.0.3 . 10.42.0.3
            endpoints4 1 . 0 : 10.42.0.2 . 8080
            endpoints4 1 . 1 : 10.42.0.3 . 8080
            endpoints4 2 . 0 : 10.42.0.2 . 8080
            endpoints4 2 . 1 : 10.42.0.3 . 8080
            endpoints4 2 . 2 : 10.42.1.5 . 8080
            services4 10.43.0.1 . tcp . 80 : goto balance4-2
            services4 203.0.113.1 . tcp . 80 : goto by-place
            inside4 203.0.113.1 . tcp . 80 : goto balance4-3
            outside4 203.0.113.1 . tcp . 80 : goto balance4-outside-2
            groups4 10.43.0.1 . tcp . 80 : 1
            groups4 203.0.113.1 . tcp . 80 : 2
            outside-groups4 203.0.113.1 . tcp . 80 : 1
        "#]],
    );
    check(
        json!({"clusterIP": "10.43.0.1", "externalIPs": ["203.0.113.1"], "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local"}),
        &[("10.42.1.5", "there", "")],
        expect![[r#"
            chain balance4-1
            endpoints4 1 . 0 : 10.42.1.5 . 8080
            services4 203.0.113.1 . tcp . 80 : goto by-place
            inside4 203.0.113.1 . tcp . 80 : goto balance4-1
            empty4 10.43.0.1 . tcp . 80 : drop
            groups4 203.0.113.1 . tcp . 80 : 1
        "#]],
    );
}

#[test]
fn no_endpoints_and_terminating_ones() {
    check(
        json!({"clusterIP": "10.43.0.1"}),
        &[("10.42.0.2", "here", "unready")],
        expect![[r#"
        empty4 10.43.0.1 . tcp . 80 : goto refuse
    "#]],
    );
    check(
        json!({"clusterIP": "10.43.0.1"}),
        &[("10.42.0.2", "here", "terminating"), ("10.42.0.3", "here", "terminating unready")],
        expect![[r#"
            chain balance4-1
            hairpin4 10.42.0.2 . 10.42.0.2
            endpoints4 1 . 0 : 10.42.0.2 . 8080
            services4 10.43.0.1 . tcp . 80 : goto balance4-1
            groups4 10.43.0.1 . tcp . 80 : 1
        "#]],
    );
}

#[test]
fn zone_hints() {
    check(
        json!({"clusterIP": "10.43.0.1"}),
        &[("10.42.0.2", "here", "zone-east"), ("10.42.1.5", "there", "zone-west")],
        expect![[r#"
            chain balance4-1
            hairpin4 10.42.0.2 . 10.42.0.2
            endpoints4 1 . 0 : 10.42.0.2 . 8080
            services4 10.43.0.1 . tcp . 80 : goto balance4-1
            groups4 10.43.0.1 . tcp . 80 : 1
        "#]],
    );
}

#[test]
fn a_change_touches_its_own_elements_only() {
    let mut ledger = Ledger::default();
    let web = service("web", json!({"clusterIP": "10.43.0.1"}));
    set(&mut ledger, &web, &slices(&THREE[..2]));
    set(&mut ledger, &service("zoo", json!({"clusterIP": "10.43.0.2", "externalIPs": ["10.43.0.1"]})), &slices(THREE));
    let first = ledger.changes();
    ledger.done(&first);
    set(&mut ledger, &web, &slices(&[THREE[0], THREE[2]]));
    let changes = ledger.changes();
    let list = |keys: &std::collections::BTreeMap<super::Key, super::Content>| {
        keys.iter().map(|(key, content)| format!("{key}{content}\n")).collect::<String>()
    };
    expect![[r#"
        -endpoints4 1 . 1 : 10.42.0.3 . 8080
        +endpoints4 1 . 1 : 10.42.1.5 . 8080
    "#]]
    .assert_eq(&format!("-{}+{}", list(&changes.removed), list(&changes.added)));
    ledger.done(&changes);
    // The second Service's claim on the first one's address comes to life when that goes.
    ledger.set(&web.0, Default::default());
    assert!(list(&ledger.changes().added).contains("services4 10.43.0.1 . tcp . 80 : goto balance4-3"));
}

fn prefixes(texts: &[(&str, u8)]) -> Vec<Prefix> {
    texts
        .iter()
        .map(|(address, length)| Prefix { address: address.parse().expect("an address"), length: *length })
        .collect()
}

fn table() -> TableConfig {
    TableConfig {
        pods: prefixes(&[("10.42.0.0", 24), ("fd42::", 64)]),
        cluster: prefixes(&[("10.42.0.0", 16), ("fd42::", 48)]),
        services: prefixes(&[("10.43.0.0", 16), ("fd43::", 112)]),
        dns: Some(10053),
    }
}

fn install(node: &Namespace, ledger: &mut Ledger) {
    let mut batch = Batch::new(ruleset::TABLE);
    ruleset::install(&mut batch, &table());
    ledger.reset();
    let changes = ledger.changes();
    changes.write(&mut batch);
    node.run(|| batch.commit(&mut NetlinkSocket::netfilter().expect("nf_tables")).expect("the kernel takes the table"));
    ledger.done(&changes);
}

fn update(node: &Namespace, ledger: &mut Ledger) {
    let changes = ledger.changes();
    let mut batch = Batch::new(ruleset::TABLE);
    changes.write(&mut batch);
    node.run(|| {
        batch.commit(&mut NetlinkSocket::netfilter().expect("nf_tables")).expect("the kernel takes the change")
    });
    ledger.done(&changes);
}

/// The names of those that answered over forty connections, with the client addresses they saw.
fn answers(from: &Namespace, address: &str, port: u16) -> String {
    let answers: BTreeSet<String> = (0..40).map(|_| from.ask(address, port)).collect();
    answers.into_iter().collect::<Vec<_>>().join(", ")
}

const PODS: &[(&str, &str, &str)] = &[
    ("10.42.0.2", "here", ""),
    ("10.42.0.3", "here", ""),
    ("10.42.1.5", "there", ""),
    ("fd42::2", "here", ""),
    ("fd42::3", "here", ""),
    ("fd42:0:0:1::5", "there", ""),
];

#[test]
fn every_scope_in_the_kernel() {
    let machines = Machines::new();
    let (node, pod, client) = (&machines.node, &machines.pods[0], &machines.client);
    let mut ledger = Ledger::default();
    let ports = |node_port: u16| json!([{"name": "http", "port": 80, "nodePort": node_port}]);
    let pods = slices(PODS);
    set(
        &mut ledger,
        &service(
            "all",
            json!({"clusterIPs": ["10.43.0.1", "fd43::1"], "externalIPs": ["203.0.113.1", "2001:db8:f::1"], "ports": ports(30080)}),
        ),
        &pods,
    );
    set(
        &mut ledger,
        &service(
            "near",
            json!({"clusterIPs": ["10.43.0.2", "fd43::2"], "externalIPs": ["203.0.113.2", "2001:db8:f::2"],
        "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local", "ports": ports(30082)}),
        ),
        &pods,
    );
    set(
        &mut ledger,
        &service("loyal", json!({"clusterIPs": ["10.43.0.3", "fd43::3"], "sessionAffinity": "ClientIP"})),
        &pods,
    );
    set(
        &mut ledger,
        &service(
            "none",
            json!({"clusterIPs": ["10.43.0.4", "fd43::4"], "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]}),
        ),
        &[],
    );
    set(
        &mut ledger,
        &service(
            "away",
            json!({"clusterIPs": ["10.43.0.5"], "externalIPs": ["203.0.113.5"], "externalTrafficPolicy": "Local", "ports": ports(30085)}),
        ),
        &slices(&[("10.42.1.5", "there", "")]),
    );
    set(
        &mut ledger,
        &service(
            "datagrams",
            json!({"clusterIPs": ["10.43.0.6", "fd43::6"], "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}),
        ),
        &slices(&PODS[..1]),
    );
    install(node, &mut ledger);

    // From a pod: all endpoints, the pod's own address kept, itself through the node's.
    expect!["one 192.0.2.1, other 10.42.0.2, two 10.42.0.2"].assert_eq(&answers(pod, "10.43.0.1", 80));
    expect!["one 2001:db8::1, other fd42::2, two fd42::2"].assert_eq(&answers(pod, "fd43::1", 80));
    expect!["one 192.0.2.1, other 192.0.2.1, two 192.0.2.1"].assert_eq(&answers(node, "10.43.0.1", 80));
    expect!["one 2001:db8::1, other 2001:db8::1, two 2001:db8::1"].assert_eq(&answers(node, "fd43::1", 80));
    // Internal policy Local.
    expect!["one 192.0.2.1, two 10.42.0.2"].assert_eq(&answers(pod, "10.43.0.2", 80));
    expect!["one 2001:db8::1, two fd42::2"].assert_eq(&answers(pod, "fd43::2", 80));
    // External, policy Cluster: the node's address is the client.
    expect!["one 192.0.2.1, other 192.0.2.1, two 192.0.2.1"].assert_eq(&answers(client, "203.0.113.1", 80));
    expect!["one 192.0.2.1, other 192.0.2.1, two 192.0.2.1"].assert_eq(&answers(client, "192.0.2.1", 30080));
    expect!["one 2001:db8::1, other 2001:db8::1, two 2001:db8::1"].assert_eq(&answers(client, "2001:db8::1", 30080));
    expect!["one 2001:db8::1, other 2001:db8::1, two 2001:db8::1"].assert_eq(&answers(client, "2001:db8:f::1", 80));
    // External, policy Local: the client's address is kept, and pods and the node reach all.
    expect!["one 192.0.2.2, two 192.0.2.2"].assert_eq(&answers(client, "203.0.113.2", 80));
    expect!["one 192.0.2.2, two 192.0.2.2"].assert_eq(&answers(client, "192.0.2.1", 30082));
    expect!["one 2001:db8::2, two 2001:db8::2"].assert_eq(&answers(client, "2001:db8::1", 30082));
    expect!["one 192.0.2.1, other 10.42.0.2, two 10.42.0.2"].assert_eq(&answers(pod, "203.0.113.2", 80));
    expect!["one 192.0.2.1, other 192.0.2.1, two 192.0.2.1"].assert_eq(&answers(node, "192.0.2.1", 30082));
    assert_eq!(client.ask("203.0.113.5", 80), "TimedOut");
    assert_eq!(client.ask("192.0.2.1", 30085), "TimedOut");
    assert_eq!(pod.ask("203.0.113.5", 80), "other 10.42.0.2");
    // Affinity: one endpoint per client.
    for (from, address) in [(pod, "10.43.0.3"), (pod, "fd43::3"), (node, "10.43.0.3"), (node, "fd43::3")] {
        let answers = answers(from, address, 80);
        assert!(!answers.contains(','), "{answers}");
    }
    // Nobody there.
    for from in [pod, node] {
        for address in ["10.43.0.4", "fd43::4"] {
            assert_eq!(from.ask(address, 80), "ConnectionRefused");
            assert_eq!(from.ask(address, 81), "ConnectionRefused");
        }
        assert_eq!(from.ask("10.43.0.1", 81), "ConnectionRefused");
    }
    assert_eq!(pod.ask_udp("10.43.0.4", 53), "ConnectionRefused");
    assert_eq!(pod.ask_udp("fd43::4", 53), "ConnectionRefused");
    // Datagrams.
    assert_eq!(machines.pods[1].ask_udp("10.43.0.6", 53), "one 10.42.0.3");
    // Leaving the cluster.
    assert_eq!(pod.ask("192.0.2.2", 8080), "client 192.0.2.1");
    assert_eq!(pod.ask("10.42.1.5", 8080), "other 10.42.0.2");
    assert_eq!(pod.ask("2001:db8::2", 8080), "client 2001:db8::1");

    // A change by elements.
    set(
        &mut ledger,
        &service("all", json!({"clusterIPs": ["10.43.0.1", "fd43::1"], "ports": ports(30080)})),
        &slices(&[PODS[1], PODS[4]]),
    );
    update(node, &mut ledger);
    expect!["two 10.42.0.2"].assert_eq(&answers(pod, "10.43.0.1", 80));
    expect!["two fd42::2"].assert_eq(&answers(pod, "fd43::1", 80));

    // A client stays with its endpoint until that is gone.
    let before = machines.pods[1].ask("10.43.0.3", 80);
    let gone = if before.starts_with("one") {
        0
    } else if before.starts_with("two") {
        1
    } else {
        2
    };
    let rest: Vec<_> = PODS.iter().enumerate().filter(|(index, _)| *index != gone).map(|(_, pod)| *pod).collect();
    set(
        &mut ledger,
        &service("loyal", json!({"clusterIPs": ["10.43.0.3", "fd43::3"], "sessionAffinity": "ClientIP"})),
        &slices(&rest),
    );
    let others = answers(pod, "10.43.0.3", 80);
    update(node, &mut ledger);
    let after = answers(&machines.pods[1], "10.43.0.3", 80);
    assert!(after != before && !after.contains(','), "{before} then {after}");
    if !others.starts_with(before.split(' ').next().expect("a name")) {
        assert_eq!(answers(pod, "10.43.0.3", 80), others);
    }

    // The administrator's nft reads what is there.
    let listed: Json = serde_json::from_str(&node.shell("nft -j list ruleset")).expect("JSON");
    let maps = listed["nftables"].as_array().expect("a list").iter().filter(|item| item.get("map").is_some()).count();
    assert!(maps > 10, "{maps}");
    print!("{}", node.shell("nft list ruleset"));
}

#[test]
fn the_task_follows_what_it_is_told() {
    use std::sync::Arc;

    use coracle_api::Resource;
    use coracle_base::{shutdown::Shutdown, task};
    use coracle_client::Views;
    use tokio::sync::watch;

    use super::sync::{self, Sources};
    use crate::testing::Played;

    let machines = Machines::new();
    let pod = &machines.pods[0];
    let played = Arc::new(Played::default());
    let web = json!({"kind": "Service", "metadata": {"namespace": "default", "name": "web"}, "spec": {"clusterIPs": ["10.43.0.1", "fd43::1"],
        "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]}});
    let put =
        |endpoints: &[(&str, &str, &str)]| slice_objects("web", endpoints).iter().for_each(|slice| played.put(slice));
    played.put(&web);
    put(&[PODS[1], PODS[4]]);
    crate::testing::agent(&machines.node, async {
        let table = Arc::new(super::Table::open(table()).expect("nf_tables"));
        assert!(!table.exists().expect("nf_tables answers"));
        let views = Views::new(played.clone());
        let sources = Sources {
            services: views.view(&Resource::find("", "v1", "services").expect("in the catalog")),
            slices: views.view(&Resource::find("discovery.k8s.io", "v1", "endpointslices").expect("in the catalog")),
            node: Arc::new(facts()),
            table: table.clone(),
        };
        let (sender, mut installed) = watch::channel(false);
        let _task = task::spawn("services", sync::run(sources, sender, Shutdown::new()));
        views.start();
        installed.wait_for(|installed| *installed).await.expect("the task lives");
        assert!(table.exists().expect("nf_tables answers"));
        assert_eq!(pod.ask("10.43.0.1", 80), "two 10.42.0.2");
        assert_eq!(pod.ask("fd43::1", 80), "two fd42::2");

        // One client socket: its flow moves when its endpoint goes.
        let socket = pod.run(|| std::net::UdpSocket::bind("0.0.0.0:0").expect("free"));
        socket.connect("10.43.0.1:53").expect("a route");
        socket.set_read_timeout(Some(std::time::Duration::from_millis(200))).expect("a timeout");
        let ask = || {
            let mut buffer = [0; 64];
            socket.send(b"?")?;
            let length = socket.recv(&mut buffer)?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        assert_eq!(ask().expect("it answers"), "two 10.42.0.2");
        put(&[PODS[0]]);
        let moved = async {
            while !ask().is_ok_and(|answer| answer == "one 192.0.2.1") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), moved).await.expect("the flow moves");

        // Somebody flushes the rules: the next change makes the table anew.
        machines.node.shell("nft flush ruleset");
        put(&[PODS[1]]);
        let back = async {
            while pod.ask("10.43.0.1", 80) != "two 10.42.0.2" {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), back).await.expect("the table is back");
        played.delete(&web);
        let gone = async {
            while pod.ask("10.43.0.1", 80) != "ConnectionRefused" {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.expect("the Service goes");
    });
}
