//! What clients see while the process is away and comes back.

use std::sync::Arc;

use coracle_base::shutdown::Shutdown;
use serde_json::json;

use super::NetworkConfig;
use crate::testing::{Machines, Played, agent};

fn config(directory: &std::path::Path) -> NetworkConfig {
    let range = |text: &str| text.parse().expect("a range");
    NetworkConfig {
        instance: "r1".into(),
        node_name: "here".into(),
        zone: "".into(),
        node_ips: vec!["192.0.2.1".parse().expect("an address"), "2001:db8::1".parse().expect("an address")],
        pod_ranges: vec![range("10.42.0.0/24"), range("fd42::/64")],
        cluster_ranges: vec![range("10.42.0.0/16"), range("fd42::/48")],
        service_ranges: vec![range("10.43.0.0/16"), range("fd43::/112")],
        dns: None,
        cni_socket: Some(directory.join("cni.sock")),
        state_directory: directory.join("cni"),
        backend: crate::Backend::None,
        services: true,
    }
}

#[test]
fn services_answer_while_the_process_is_away_and_until_it_knows_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let machines = Machines::new();
    let pod = &machines.pods[0];
    let played = Arc::new(Played::default());
    let web = json!({"kind": "Service", "metadata": {"namespace": "default", "name": "web"},
        "spec": {"clusterIPs": ["10.43.0.1"], "ports": [{"port": 80}]}});
    let slice = |address: &str| {
        json!({"kind": "EndpointSlice", "metadata": {"namespace": "default", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"name": "", "protocol": "TCP", "port": 8080}],
            "endpoints": [{"addresses": [address], "nodeName": "here", "conditions": {"ready": true}}]})
    };
    played.put(&web);
    played.put(&slice("10.42.0.3"));
    agent(&machines.node, async {
        let running = super::run(config(directory.path()), played.clone(), Shutdown::new()).await.expect("it starts");
        running.ready().await;
        assert_eq!(pod.ask("10.43.0.1", 80), "two 10.42.0.2");

        // Dropped without a word, as by kill -9.
        drop(running);
        assert_eq!(pod.ask("10.43.0.1", 80), "two 10.42.0.2");

        // The API server is away: what was known goes on.
        let silent = Arc::new(Played::silent());
        let running = super::run(config(directory.path()), silent, Shutdown::new()).await.expect("it starts");
        assert!(!running.is_ready());
        assert_eq!(pod.ask("10.43.0.1", 80), "two 10.42.0.2");
        drop(running);

        played.put(&slice("10.42.0.2"));
        let running = super::run(config(directory.path()), played.clone(), Shutdown::new()).await.expect("it starts");
        running.ready().await;
        assert_eq!(machines.pods[1].ask("10.43.0.1", 80), "one 10.42.0.3");

        // Somebody flushes all rules: the table is back without any change of Services.
        machines.node.shell("nft flush ruleset");
        let back = async {
            while machines.pods[1].ask("10.43.0.1", 80) != "one 10.42.0.3" {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), back).await.expect("the table is back");
        drop(running);
        crate::cleanup("r1").expect("it is removed");
        assert_eq!(machines.node.shell("nft list ruleset; ip route show table all proto 67"), "");
    });
}
