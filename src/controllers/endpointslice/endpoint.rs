//! Which endpoints a Service is to have, sorted by address family and ports.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use coracle_client::Item;
use k8s_openapi::api::core::v1::{ObjectReference, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pods::{PodView, PortView};

/// Endpoints that can share slices: of one address family, with the same ports.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    pub(super) family: &'static str,
    pub(super) ports: Vec<EndpointPort>,
    /// By the pod's UID.
    pub(super) endpoints: BTreeMap<String, Endpoint>,
}

/// What of a pod makes its endpoints; when this stays, slices stay.
pub(super) fn facts(pod: &PodView) -> impl PartialEq + use<'_> {
    let names = (&pod.node, &pod.hostname, &pod.subdomain);
    (&pod.ips, pod.finished(), pod.deleting, pod.ready, names, &pod.ports)
}

/// Every address family of the Service, also those without endpoints.
pub(super) fn desired(
    service: &Service,
    pods: &[Arc<Item<PodView>>],
    zone: &dyn Fn(&str) -> Option<Box<str>>,
) -> Vec<Group> {
    let spec = service.spec.clone().unwrap_or_default();
    let mut groups: Vec<Group> = Vec::new();
    for family in families(&spec) {
        let before = groups.len();
        for pod in pods.iter().filter(|pod| !pod.finished() && !pod.ips.is_empty()) {
            let addresses = addresses(pod, family);
            if addresses.is_empty() {
                continue;
            }
            let ports = ports(&spec, pod);
            let place = groups[before..].iter().position(|group| group.ports == ports).map(|place| place + before);
            let place = place.unwrap_or_else(|| {
                groups.push(Group { family, ports, endpoints: BTreeMap::new() });
                groups.len() - 1
            });
            groups[place].endpoints.insert(pod.uid.to_string(), endpoint(service, &spec, pod, addresses, zone));
        }
        if groups.len() == before {
            groups.push(Group { family, ports: Vec::new(), endpoints: BTreeMap::new() });
        }
    }
    groups
}

fn families(spec: &ServiceSpec) -> Vec<&'static str> {
    let named =
        spec.ip_families.iter().flatten().filter_map(|family| ["IPv4", "IPv6"].into_iter().find(|it| it == family));
    let named: Vec<_> = named.collect();
    if !named.is_empty() {
        return named;
    }
    match spec.cluster_ip.as_deref().map(str::parse::<IpAddr>) {
        Some(Ok(IpAddr::V4(_))) => vec!["IPv4"],
        Some(Ok(IpAddr::V6(_))) => vec!["IPv6"],
        _ => vec!["IPv4", "IPv6"],
    }
}

fn addresses(pod: &PodView, family: &str) -> Vec<String> {
    let parsed = pod.ips.iter().filter_map(|ip| ip.parse::<IpAddr>().ok());
    parsed.filter(|ip| ip.is_ipv4() == (family == "IPv4")).map(|ip| ip.to_string()).collect()
}

/// The Service's ports as this pod has them; a named target port that the pod lacks is left out.
fn ports(spec: &ServiceSpec, pod: &PodView) -> Vec<EndpointPort> {
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(target_port(port, &pod.ports)?),
            protocol: Some(protocol(port).to_owned()),
            app_protocol: port.app_protocol.clone(),
        })
    });
    let mut ports: Vec<_> = ports.collect();
    // Order is not said to mean anything, and a Service whose ports are reordered needs no new slices.
    ports.sort_by(|a, b| (&a.name, a.port, &a.protocol).cmp(&(&b.name, b.port, &b.protocol)));
    ports
}

pub(crate) fn target_port(port: &ServicePort, named: &[PortView]) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let same = |it: &&PortView| {
                let of_pod = if it.protocol.is_empty() { "TCP" } else { &it.protocol };
                *it.name == **name && of_pod == protocol(port)
            };
            named.iter().find(same).map(|it| it.container_port)
        }
    }
}

pub(crate) fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn endpoint(
    service: &Service,
    spec: &ServiceSpec,
    pod: &Item<PodView>,
    addresses: Vec<String>,
    zone: &dyn Fn(&str) -> Option<Box<str>>,
) -> Endpoint {
    let serving = pod.ready;
    let ready = spec.publish_not_ready_addresses == Some(true) || (serving && !pod.deleting);
    let named = !pod.hostname.is_empty() && service.metadata.name.as_deref() == Some(&pod.subdomain);
    let node = (!pod.node.is_empty()).then(|| pod.node.to_string());
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(pod.deleting),
        }),
        hostname: named.then(|| pod.hostname.to_string()),
        zone: node.as_deref().and_then(zone).map(String::from),
        node_name: node,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.key.namespace.to_string()),
            name: Some(pod.key.name.to_string()),
            uid: Some(pod.uid.to_string()),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}
