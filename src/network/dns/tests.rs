//! The zone as golden text, and the whole path from a pod through the table to the answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use coracle_api::Resource;
use coracle_base::shutdown::Shutdown;
use coracle_client::Views;
use expect_test::{Expect, expect};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use serde_json::{Value, json};

use super::zone::{Answer, Zone};
use crate::run::{DnsConfig, NetworkConfig};
use crate::testing::{Machines, Namespace, Played, agent};

fn played() -> Arc<Played> {
    let played = Played::default();
    let service = |name: &str, spec: Value| {
        played.put(&json!({"kind": "Service", "metadata": {"namespace": "default", "name": name}, "spec": spec}));
    };
    let ports = json!([{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    service("web", json!({"clusterIPs": ["10.43.0.1", "fd43::1"], "ports": ports}));
    service("db", json!({"clusterIPs": ["None"], "clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}));
    service("idle", json!({"clusterIPs": ["None"], "clusterIP": "None"}));
    service("far", json!({"type": "ExternalName", "externalName": "www.example.com"}));
    service("near", json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}));
    played.put(&json!({"kind": "EndpointSlice", "metadata": {"namespace": "default", "name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4", "ports": [{"name": "sql", "protocol": "TCP", "port": 5432}], "endpoints": [
            {"addresses": ["10.42.0.2"], "hostname": "db-0", "conditions": {"ready": true}},
            {"addresses": ["10.42.0.3"], "conditions": {"ready": true}},
            {"addresses": ["10.42.0.4"], "hostname": "db-2", "conditions": {"ready": false}}]}));
    Arc::new(played)
}

async fn zone(views: &Views) -> Zone {
    let services = views.view(&Resource::find("", "v1", "services").expect("in the catalog"));
    let slices = views.view(&Resource::find("discovery.k8s.io", "v1", "endpointslices").expect("in the catalog"));
    views.start();
    services.synced().await;
    slices.synced().await;
    let ranges = ["10.42.0.0/16", "10.43.0.0/16"].map(|range| range.parse().expect("a range"));
    Zone::new("cluster.local", services, slices, ranges.to_vec())
}

fn text(records: &[Record]) -> String {
    records.iter().map(|record| format!("{} {} {}\n", record.name, record.record_type(), record.data)).collect()
}

#[tokio::test]
async fn names_of_the_specification() {
    let views = Views::new(played());
    let zone = zone(&views).await;
    let mut all = String::new();
    for (name, kind) in [
        ("dns-version.cluster.local.", RecordType::TXT),
        ("web.default.svc.cluster.local.", RecordType::A),
        ("WEB.default.SVC.cluster.local.", RecordType::AAAA),
        ("web.default.svc.cluster.local.", RecordType::MX),
        ("web.default.svc.cluster.local.", RecordType::SRV),
        ("_http._tcp.web.default.svc.cluster.local.", RecordType::SRV),
        ("_http._udp.web.default.svc.cluster.local.", RecordType::SRV),
        ("db.default.svc.cluster.local.", RecordType::A),
        ("db.default.svc.cluster.local.", RecordType::AAAA),
        ("db-0.db.default.svc.cluster.local.", RecordType::A),
        ("10-42-0-3.db.default.svc.cluster.local.", RecordType::A),
        ("db-2.db.default.svc.cluster.local.", RecordType::A),
        ("_sql._tcp.db.default.svc.cluster.local.", RecordType::SRV),
        ("idle.default.svc.cluster.local.", RecordType::A),
        ("far.default.svc.cluster.local.", RecordType::A),
        ("absent.default.svc.cluster.local.", RecordType::A),
        ("default.svc.cluster.local.", RecordType::A),
        ("absent.svc.cluster.local.", RecordType::A),
        ("10-42-0-9.default.pod.cluster.local.", RecordType::A),
        ("fd42--9.default.pod.cluster.local.", RecordType::AAAA),
        ("x.default.pod.cluster.local.", RecordType::A),
        ("cluster.local.", RecordType::SOA),
        ("1.0.43.10.in-addr.arpa.", RecordType::PTR),
        ("2.0.42.10.in-addr.arpa.", RecordType::PTR),
        ("99.0.43.10.in-addr.arpa.", RecordType::PTR),
        ("1.2.0.192.in-addr.arpa.", RecordType::PTR),
        ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.4.d.f.ip6.arpa.", RecordType::PTR),
        ("example.com.", RecordType::A),
    ] {
        all += &format!("{name} {kind}: ");
        all += &match zone.lookup(&Name::from_ascii(name).expect("a name"), kind) {
            Answer::Foreign => "foreign\n".to_owned(),
            Answer::Known(reply) => {
                let alias = reply.alias.map(|alias| format!("alias {alias}\n")).unwrap_or_default();
                format!("{:?}\n{}{}{alias}", reply.code, text(&reply.answers), text(&reply.additionals))
            }
        };
    }
    expect![[r#"
        dns-version.cluster.local. TXT: NoError
        dns-version.cluster.local. TXT 1.1.0
        web.default.svc.cluster.local. A: NoError
        web.default.svc.cluster.local. A 10.43.0.1
        WEB.default.SVC.cluster.local. AAAA: NoError
        WEB.default.SVC.cluster.local. AAAA fd43::1
        web.default.svc.cluster.local. MX: NoError
        web.default.svc.cluster.local. SRV: NoError
        web.default.svc.cluster.local. SRV 0 50 53 web.default.svc.cluster.local.
        web.default.svc.cluster.local. SRV 0 50 80 web.default.svc.cluster.local.
        web.default.svc.cluster.local. A 10.43.0.1
        web.default.svc.cluster.local. AAAA fd43::1
        _http._tcp.web.default.svc.cluster.local. SRV: NoError
        _http._tcp.web.default.svc.cluster.local. SRV 0 100 80 web.default.svc.cluster.local.
        web.default.svc.cluster.local. A 10.43.0.1
        web.default.svc.cluster.local. AAAA fd43::1
        _http._udp.web.default.svc.cluster.local. SRV: NXDomain
        db.default.svc.cluster.local. A: NoError
        db.default.svc.cluster.local. A 10.42.0.2
        db.default.svc.cluster.local. A 10.42.0.3
        db.default.svc.cluster.local. AAAA: NoError
        db-0.db.default.svc.cluster.local. A: NoError
        db-0.db.default.svc.cluster.local. A 10.42.0.2
        10-42-0-3.db.default.svc.cluster.local. A: NoError
        10-42-0-3.db.default.svc.cluster.local. A 10.42.0.3
        db-2.db.default.svc.cluster.local. A: NXDomain
        _sql._tcp.db.default.svc.cluster.local. SRV: NoError
        _sql._tcp.db.default.svc.cluster.local. SRV 0 50 5432 10-42-0-3.db.default.svc.cluster.local.
        _sql._tcp.db.default.svc.cluster.local. SRV 0 50 5432 db-0.db.default.svc.cluster.local.
        10-42-0-3.db.default.svc.cluster.local. A 10.42.0.3
        db-0.db.default.svc.cluster.local. A 10.42.0.2
        idle.default.svc.cluster.local. A: NXDomain
        far.default.svc.cluster.local. A: NoError
        far.default.svc.cluster.local. CNAME www.example.com.
        alias www.example.com.
        absent.default.svc.cluster.local. A: NXDomain
        default.svc.cluster.local. A: NoError
        absent.svc.cluster.local. A: NXDomain
        10-42-0-9.default.pod.cluster.local. A: NoError
        10-42-0-9.default.pod.cluster.local. A 10.42.0.9
        fd42--9.default.pod.cluster.local. AAAA: NoError
        fd42--9.default.pod.cluster.local. AAAA fd42::9
        x.default.pod.cluster.local. A: NXDomain
        cluster.local. SOA: NoError
        cluster.local. SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
        1.0.43.10.in-addr.arpa. PTR: NoError
        1.0.43.10.in-addr.arpa. PTR web.default.svc.cluster.local.
        2.0.42.10.in-addr.arpa. PTR: NoError
        2.0.42.10.in-addr.arpa. PTR db-0.db.default.svc.cluster.local.
        99.0.43.10.in-addr.arpa. PTR: NXDomain
        1.2.0.192.in-addr.arpa. PTR: foreign
        1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.4.d.f.ip6.arpa. PTR: NoError
        1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.4.d.f.ip6.arpa. PTR web.default.svc.cluster.local.
        example.com. A: foreign
    "#]]
    .assert_eq(&all);
}

#[test]
fn no_packet_breaks_the_reader() {
    use proptest::prelude::*;

    use super::server::{Resolver, Step};
    use super::upstream::{Transport, Upstream};

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let views = Views::new(played());
    let zone = runtime.block_on(zone(&views));
    let resolver = Resolver::new(zone, Upstream::new(std::path::Path::new("/absent"), &[]));
    let mut query = Message::new(77, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(
        Name::from_ascii("_http._tcp.web.default.svc.cluster.local.").expect("a name"),
        RecordType::SRV,
    ));
    query.set_edns(hickory_proto::op::Edns::new());
    let valid = query.to_vec().expect("it fits");
    assert!(matches!(resolver.read(&valid, Transport::Udp), Step::Reply(_)));
    let garbage = proptest::collection::vec(any::<u8>(), 0..600);
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    proptest!(ProptestConfig::with_cases(4000), |(garbage in garbage, changes in changes, cut in 0..valid.len())| {
        let mut changed = valid.clone();
        for (index, byte) in &changes {
            *index.get_mut(&mut changed) = *byte;
        }
        for packet in [garbage.as_slice(), &changed, &changed[..cut]] {
            for (transport, limit) in [(Transport::Udp, 1232), (Transport::Tcp, 65535)] {
                if let Step::Reply(answer) = resolver.read(packet, transport) {
                    prop_assert!(answer.len() <= limit);
                    prop_assert_eq!(&answer[..2], &packet[..2]);
                }
            }
        }
    });
}

/// Answers every A query with 198.51.100.7, over UDP and TCP.
fn upstream(machine: &Namespace) {
    let answer = |packet: &[u8]| {
        let query = Message::from_vec(packet).expect("a query");
        let mut answer = Message::response(query.metadata.id, OpCode::Query);
        answer.metadata.response_code = ResponseCode::NoError;
        answer.add_queries(query.queries.iter().cloned());
        answer.add_answer(Record::from_rdata(
            query.queries[0].name().clone(),
            60,
            RData::A(A([198, 51, 100, 7].into())),
        ));
        answer.to_vec().expect("it fits")
    };
    let (udp, tcp) = machine.run(|| {
        (UdpSocket::bind("192.0.2.2:53").expect("free"), std::net::TcpListener::bind("192.0.2.2:53").expect("free"))
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&answer(&buffer[..length]), peer);
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length");
            let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut packet).expect("a query");
            let answer = answer(&packet);
            let length = u16::try_from(answer.len()).expect("it is short");
            let _ = stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat());
        }
    });
}

/// Code and answers; over UDP and TCP alike.
fn ask(from: &Namespace, server: &str, name: &str, kind: RecordType) -> String {
    let server = SocketAddr::new(server.parse().expect("an address"), 53);
    let mut query = Message::new(77, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    let query = query.to_vec().expect("it fits");
    let udp = from.run(|| {
        let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).expect("free");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        socket.connect(server).expect("a route");
        socket.send(&query).expect("it is sent");
        let mut buffer = [0; 2048];
        let length = socket.recv(&mut buffer).expect("an answer");
        buffer[..length].to_vec()
    });
    let tcp = from.run(|| {
        let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(5)).expect("it connects");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let length = u16::try_from(query.len()).expect("it is short");
        stream.write_all(&[&length.to_be_bytes(), query.as_slice()].concat()).expect("it is sent");
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("a length");
        let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut packet).expect("an answer");
        packet
    });
    let [udp, tcp] = [udp, tcp].map(|packet| {
        let answer = Message::from_vec(&packet).expect("it reads");
        assert_eq!(answer.metadata.id, 77);
        format!("{:?} {}", answer.metadata.response_code, text(&answer.answers))
    });
    assert_eq!(udp, tcp);
    udp
}

fn check(answer: &str, expected: Expect) {
    expected.assert_eq(answer);
}

#[test]
fn pods_and_host_are_answered() {
    let directory = tempfile::tempdir().expect("a directory");
    let resolv_conf = directory.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 10.43.0.10\nnameserver 192.0.2.2\n").expect("it is written");
    let machines = Machines::new();
    let (node, pod) = (&machines.node, &machines.pods[0]);
    upstream(&machines.client);
    let range = |text: &str| text.parse().expect("a range");
    let config = NetworkConfig {
        instance: "d1n2s3".into(),
        node_name: "here".into(),
        zone: "".into(),
        node_ips: vec!["192.0.2.1".parse().expect("an address"), "2001:db8::1".parse().expect("an address")],
        pod_ranges: vec![range("10.42.0.0/24"), range("fd42::/64")],
        cluster_ranges: vec![range("10.42.0.0/16"), range("fd42::/48")],
        service_ranges: vec![range("10.43.0.0/16"), range("fd43::/112")],
        dns: Some(DnsConfig {
            addresses: vec!["10.43.0.10".parse().expect("an address"), "fd43::a".parse().expect("an address")],
            domain: "cluster.local".into(),
            resolv_conf,
        }),
        cni_socket: Some(directory.path().join("cni.sock")),
        state_directory: directory.path().join("cni"),
        backend: crate::Backend::None,
        services: true,
    };
    agent(node, async {
        // The host's own resolver may have taken port 53 of all addresses.
        let _taken = node.run(|| UdpSocket::bind("0.0.0.0:53").expect("free"));
        let shutdown = Shutdown::new();
        let running = crate::run(config, played(), shutdown.clone()).await.expect("the network starts");
        running.ready().await;
        for from in [pod, node] {
            for server in ["10.43.0.10", "fd43::a"] {
                check(
                    &ask(from, server, "web.default.svc.cluster.local.", RecordType::A),
                    expect![[r#"
                        NoError web.default.svc.cluster.local. A 10.43.0.1
                    "#]],
                );
                check(
                    &ask(from, server, "example.com.", RecordType::A),
                    expect![[r#"
                        NoError example.com. A 198.51.100.7
                    "#]],
                );
                check(
                    &ask(from, server, "far.default.svc.cluster.local.", RecordType::A),
                    expect![[r#"
                        NoError far.default.svc.cluster.local. CNAME www.example.com.
                        www.example.com. A 198.51.100.7
                    "#]],
                );
                check(
                    &ask(from, server, "near.default.svc.cluster.local.", RecordType::A),
                    expect![[r#"
                        NoError near.default.svc.cluster.local. CNAME web.default.svc.cluster.local.
                        web.default.svc.cluster.local. A 10.43.0.1
                    "#]],
                );
                check(&ask(from, server, "absent.default.svc.cluster.local.", RecordType::A), expect!["NXDomain "]);
            }
        }
        // Nobody else is served: the port is open on the DNS addresses only.
        assert_eq!(machines.client.ask_udp("192.0.2.1", 10053), "ConnectionRefused");
        shutdown.begin();
        running.ended().await;
        crate::cleanup("d1n2s3").expect("it is removed");
    });
}
