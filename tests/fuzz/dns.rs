//! DNS messages, answered from a zone with a few Services.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use coracle_api::object::Meta;
use coracle_api::{Object, Resource, Status};
use coracle_client::{ObjectEvent, ObjectSource, Selection, Views};
use coracle_network::dns::upstream::Transport;
use coracle_network::dns::{Resolver, Upstream, Zone};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::json;
use tokio::runtime::Runtime;

/// Services, listed once.
struct Cluster;

impl ObjectSource for Cluster {
    fn list_watch(&self, resource: &Resource, _: Selection) -> BoxStream<'static, Result<ObjectEvent, Status>> {
        let service = |name: &str, spec: serde_json::Value| {
            let meta = Meta { namespace: "default".into(), name: name.into(), uid: name.into(), ..Meta::default() };
            let tree = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
            ObjectEvent::Applied(Object::new(resource.clone(), 1, tree.to_string().into(), meta))
        };
        let services = vec![
            service("web", json!({"clusterIPs": ["10.43.0.1", "fd43::1"], "ports": [{"name": "http", "port": 80}]})),
            service("near", json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"})),
            service("loop", json!({"type": "ExternalName", "externalName": "loop.default.svc.cluster.local"})),
        ];
        let events = if &*resource.plural == "services" { services } else { Vec::new() };
        let events = events.into_iter().chain([ObjectEvent::Synced(1)]).map(Ok);
        futures::stream::iter(events).chain(futures::stream::pending()).boxed()
    }
}

struct Fixture {
    runtime: Runtime,
    resolver: Resolver,
    _views: Views,
}

impl Fixture {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let views = Views::new(Arc::new(Cluster));
        let services = views.view(&Resource::find("", "v1", "services").expect("in the catalog"));
        let slices = views.view(&Resource::find("discovery.k8s.io", "v1", "endpointslices").expect("in the catalog"));
        runtime.block_on(async {
            views.start();
            services.synced().await;
            slices.synced().await;
        });
        let ranges = ["10.42.0.0/16", "10.43.0.0/16"].map(|range| range.parse().expect("a range"));
        let zone = Zone::new("cluster.local", services, slices, ranges.to_vec());
        // No file: nobody is asked.
        let upstream = Upstream::new(Path::new(""), &[IpAddr::from([10, 43, 0, 10])]);
        Self { runtime, resolver: Resolver::new(zone, upstream), _views: views }
    }
}

/// An answer has the query's id, is marked as one, and fits its transport.
pub fn packets(data: &[u8]) {
    thread_local!(static FIXTURE: Fixture = Fixture::new());
    FIXTURE.with(|fixture| {
        for (transport, limit) in [(Transport::Udp, 1232), (Transport::Tcp, 65535)] {
            let answer = fixture.runtime.block_on(fixture.resolver.answer(data, transport));
            let Some(answer) = answer else { continue };
            assert!(answer.len() >= 12 && answer.len() <= limit, "{} bytes", answer.len());
            assert_eq!(answer[..2], data[..2], "the id");
            assert_ne!(answer[2] & 0x80, 0, "an answer");
        }
    });
}

pub fn seeds() -> Vec<Vec<u8>> {
    let query = |name: &str, kind: u8, additional: &[u8]| {
        let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
        let head = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!additional.is_empty())];
        head.into_iter().chain(labels).chain([0, 0, kind, 0, 1]).chain(additional.iter().copied()).collect::<Vec<u8>>()
    };
    const EDNS: &[u8] = &[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 4, 0, 10, 0, 0];
    vec![
        query("web.default.svc.cluster.local", 1, EDNS),
        query("_http._tcp.web.default.svc.cluster.local", 33, &[]),
        query("near.default.svc.cluster.local", 28, EDNS),
        query("loop.default.svc.cluster.local", 1, &[]),
        query("1.0.43.10.in-addr.arpa", 12, &[]),
        query("example.com", 255, &[]),
        // A name that points at itself.
        vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1],
    ]
}
