//! The plugin's calls against a server in a network namespace, with the kernel's own links.

use std::path::Path;
use std::sync::Arc;

use coracle_base::shutdown::Shutdown;
use coracle_base::task;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::plugin::ask;
use super::protocol::{CniError, Request, Response};
use super::server::{Server, ServerConfig};
use crate::node;
use crate::services::{Prefix, Table, TableConfig};
use crate::testing::{Namespace, agent};

fn prefix(address: &str, length: u8) -> Prefix {
    Prefix { address: address.parse().expect("an address"), length }
}

fn config(directory: &Path) -> ServerConfig {
    ServerConfig {
        instance: "t1e2s3t4".into(),
        socket: directory.join("run/cni.sock"),
        directory: directory.join("cni"),
        ranges: vec![prefix("10.42.0.0", 24), prefix("fd42::", 64)],
        mtu: 1400,
    }
}

fn request(command: &str, container: &str, namespace: &Namespace, more: Value) -> Request {
    let mut configuration = json!({"cniVersion": "1.0.0", "name": "coracle", "type": "coracle-cni"});
    configuration.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    Request {
        command: command.into(),
        container: container.into(),
        interface: "eth0".into(),
        namespace: namespace.path().into(),
        arguments: "K8S_POD_NAME=web;K8S_POD_NAMESPACE=default".into(),
        configuration,
    }
}

fn call(directory: &Path, request: Request) -> Result<Value, CniError> {
    let socket = directory.join("run/cni.sock");
    match ask(socket.to_str().expect("text"), &request)? {
        Response::Done(value) => Ok(value),
        Response::Failed(error) => Err(error),
    }
}

#[test]
fn a_pods_life() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_owned();
    let (machine, one, two) = (Namespace::new(), Namespace::new(), Namespace::new());
    machine.shell(
        "ip link add lan0 type veth peer name lan1; ip link set lan0 up; ip link set lan1 up
         ip addr add 192.0.2.1/24 dev lan0; ip addr add 2001:db8::1/64 dev lan0 nodad",
    );
    let table = TableConfig {
        pods: vec![prefix("10.42.0.0", 24), prefix("fd42::", 64)],
        cluster: vec![prefix("10.42.0.0", 16), prefix("fd42::", 48)],
        ..TableConfig::default()
    };
    agent(&machine, async {
        node::prepare(&[], &[], &[]).expect("the node is prepared");
        let table = Arc::new(Table::open(table).expect("nf_tables"));
        table.install().expect("the table is made");
        let (_sender, installed) = watch::channel(true);
        let server = Server::start(config(&path), table.clone(), installed.clone()).expect("it starts");
        let shutdown = Shutdown::new();
        let running = task::spawn("server", server.run(shutdown.clone()));
        let ask = |request: Request| {
            let path = path.clone();
            async move { task::blocking(move || call(&path, request)).await.expect("no panic") }
        };

        let added = ask(request("ADD", "a", &one, json!({}))).await.expect("it is added");
        assert_eq!(added["ips"][0], json!({"address": "10.42.0.2/32", "gateway": "169.254.1.1", "interface": 1}));
        assert_eq!(added["interfaces"][1]["sandbox"], json!(one.path()));
        let ports = json!({"runtimeConfig": {"portMappings": [
            {"hostPort": 8000, "containerPort": 8080, "protocol": "tcp", "hostIP": ""},
            {"HostPort": 8001, "ContainerPort": 8080, "Protocol": "udp", "HostIP": "192.0.2.1"}]}});
        ask(request("ADD", "b", &two, ports.clone())).await.expect("it is added");
        one.serve("one", 8080);
        two.serve("two", 8080);

        // Rules and links are there when ADD returns.
        for (from, address, port, answer) in [
            (&machine, "10.42.0.2", 8080, "one 192.0.2.1"),
            (&machine, "fd42::2", 8080, "one 2001:db8::1"),
            (&one, "10.42.0.3", 8080, "two 10.42.0.2"),
            (&two, "fd42::2", 8080, "one fd42::3"),
            (&one, "192.0.2.1", 8000, "two 10.42.0.2"),
            (&one, "2001:db8::1", 8000, "two fd42::2"),
            (&machine, "192.0.2.1", 8000, "two 192.0.2.1"),
            (&two, "192.0.2.1", 8000, "two 192.0.2.1"),
        ] {
            assert_eq!(from.ask(address, port), answer, "{address} {port}");
        }
        assert_eq!(one.ask_udp("192.0.2.1", 8001), "two 10.42.0.2");
        assert_eq!(one.ask("127.0.0.1", 8080), "one 127.0.0.1");
        assert!(one.shell("ip link show eth0").contains("mtu 1400"));
        ask(request("CHECK", "a", &one, json!({}))).await.expect("all is there");
        ask(request("STATUS", "", &one, json!({}))).await.expect("it serves");

        // A repeated ADD, as after a crash of the caller, gives a working link.
        ask(request("ADD", "a", &one, json!({}))).await.expect("it is added again");
        assert_eq!(one.ask("10.42.0.3", 8080), "two 10.42.0.4");

        // Another process adopts what is alive, and releases what is not.
        shutdown.begin();
        running.await.expect("it ends");
        machine.shell(&format!("ip link del {}", super::link::host_name("t1e2s3t4", "a/eth0")));
        let table = Arc::new(
            Table::open(TableConfig { pods: vec![prefix("10.42.0.0", 24)], ..TableConfig::default() })
                .expect("nf_tables"),
        );
        let server = Server::start(config(&path), table.clone(), installed).expect("it starts");
        table.install().expect("the table is made");
        let _running = task::spawn("server", server.run(Shutdown::new()));
        assert_eq!(machine.ask("192.0.2.1", 8000), "two 192.0.2.1");
        assert_eq!(ask(request("CHECK", "a", &one, json!({}))).await.expect_err("it is gone").code, CniError::FAILED);

        // DEL twice; GC for what was forgotten.
        ask(request("DEL", "a", &one, json!({}))).await.expect("fine");
        let valid = json!({"cni.dev/valid-attachments": []});
        ask(request("GC", "", &one, valid)).await.expect("fine");
        assert_eq!(machine.ask("192.0.2.1", 8000), "ConnectionRefused");
        ask(request("DEL", "b", &two, json!({}))).await.expect("fine");
        assert!(!machine.shell("ip -o link").contains("ct1e2s3"));
        let error = ask(request("SING", "b", &two, json!({}))).await.expect_err("no such command");
        assert_eq!(error.code, CniError::INVALID_ENVIRONMENT);

        ask(request("ADD", "c", &two, json!({}))).await.expect("it is added");
        task::blocking(|| node::cleanup("t1e2s3t4")).await.expect("no panic").expect("it is removed");
        assert_eq!(machine.shell("nft list ruleset; ip -o link | grep ct1e2s3 || true; ip route show proto 67"), "");
    });
}

#[test]
fn configuration_and_plugins_are_written_once() {
    let directory = tempfile::tempdir().expect("a directory");
    super::write_conf(directory.path(), "id", Path::new("/run/coracle-id/cni.sock")).expect("it is written");
    let file = directory.path().join("10-coracle.conflist");
    let written: Value = serde_json::from_slice(&std::fs::read(&file).expect("it is there")).expect("JSON");
    assert_eq!(written["plugins"][0]["socket"], "/run/coracle-id/cni.sock");
    let before = std::fs::metadata(&file).expect("it is there").modified().expect("a time");
    super::write_conf(directory.path(), "id", Path::new("/run/coracle-id/cni.sock")).expect("it is written");
    assert_eq!(std::fs::metadata(&file).expect("it is there").modified().expect("a time"), before);
    super::install_plugins(directory.path(), Path::new("/bin/one")).expect("they are linked");
    super::install_plugins(directory.path(), Path::new("/bin/two")).expect("they are linked");
    assert_eq!(std::fs::read_link(directory.path().join("loopback")).expect("a link"), Path::new("/bin/two"));
}
