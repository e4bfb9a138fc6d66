//! What Services and DNS remember of Services and EndpointSlices: the fields they need, read straight from the stored bytes.

use std::net::IpAddr;
use std::sync::Arc;

use coracle_api::Object;
use coracle_client::Project;
use serde::{Deserialize, Deserializer};

/// A transport protocol, by its IP protocol number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize)]
pub enum Protocol {
    #[default]
    #[serde(rename = "TCP")]
    Tcp = 6,
    #[serde(rename = "UDP")]
    Udp = 17,
    #[serde(rename = "SCTP")]
    Sctp = 132,
}

impl Protocol {
    /// As nft prints it, and (with an underscore) SRV records.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum TrafficPolicy {
    #[default]
    Cluster,
    Local,
}

#[derive(Debug, Clone, Default)]
pub struct ServiceView {
    /// Empty for headless Services and ExternalName.
    pub cluster_ips: Box<[IpAddr]>,
    pub headless: bool,
    /// Of type ExternalName.
    pub external_name: Option<Box<str>>,
    /// externalIPs and the load balancer's addresses that nodes are to take (ipMode VIP).
    pub external_ips: Box<[IpAddr]>,
    pub external_policy: TrafficPolicy,
    pub internal_policy: TrafficPolicy,
    /// Seconds for which a client stays with its endpoint.
    pub affinity: Option<u32>,
    pub ports: Box<[PortView]>,
    /// Another proxy serves it (label service.kubernetes.io/service-proxy-name).
    pub foreign: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortView {
    #[serde(default)]
    pub name: Box<str>,
    #[serde(default)]
    pub protocol: Protocol,
    pub port: u16,
    #[serde(default)]
    pub node_port: u16,
}

/// One EndpointSlice of a Service; slices of address type FQDN have no view. Found by the terms `namespace/service` and each
/// endpoint's address.
#[derive(Debug, Clone, Default)]
pub struct SliceView {
    /// `namespace/name`.
    pub service: Box<str>,
    pub endpoints: Box<[EndpointView]>,
    /// Name, protocol, port; ports without a number are left out.
    pub ports: Box<[(Box<str>, Protocol, u16)]>,
    pub ipv6: bool,
}

#[derive(Debug, Clone)]
pub struct EndpointView {
    /// kube-proxy and the DNS specification use the first address only.
    pub address: IpAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub hostname: Option<Box<str>>,
    pub node: Option<Arc<str>>,
    pub zones: Box<[Box<str>]>,
    pub nodes: Box<[Box<str>]>,
}

impl ServiceView {
    pub fn read(json: &[u8]) -> Result<ServiceView, serde_json::Error> {
        let service: Service = serde_json::from_slice(json)?;
        let spec = service.spec;
        let external = &*spec.kind == "ExternalName";
        let cluster_ips: Vec<&str> = if spec.cluster_ips.is_empty() {
            vec![&spec.cluster_ip]
        } else {
            spec.cluster_ips.iter().map(|ip| &**ip).collect()
        };
        let balancer = service.status.load_balancer.ingress.iter().filter(|ingress| &*ingress.mode != "Proxy");
        let external_ips = spec.external_ips.iter().chain(balancer.map(|ingress| &ingress.ip));
        let affinity = (&*spec.session_affinity == "ClientIP")
            .then(|| spec.session_affinity_config.client_ip.timeout_seconds.unwrap_or(10800));
        Ok(ServiceView {
            headless: !external && cluster_ips.contains(&"None"),
            cluster_ips: if external {
                Box::default()
            } else {
                cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect()
            },
            external_name: external.then_some(spec.external_name),
            external_ips: external_ips.filter_map(|ip| ip.parse().ok()).collect(),
            external_policy: spec.external_traffic_policy,
            internal_policy: spec.internal_traffic_policy,
            affinity,
            ports: spec.ports.into_boxed_slice(),
            foreign: service.metadata.labels.proxy.is_some(),
        })
    }
}

impl SliceView {
    /// `None` for slices without Service or with names for addresses.
    pub fn read(json: &[u8]) -> Result<Option<SliceView>, serde_json::Error> {
        let slice: Slice = serde_json::from_slice(json)?;
        let Some(service) = slice.metadata.labels.service else { return Ok(None) };
        if &*slice.address_type == "FQDN" {
            return Ok(None);
        }
        let endpoints = slice.endpoints.into_iter().filter_map(|endpoint| {
            let conditions = endpoint.conditions;
            let ready = conditions.ready.unwrap_or(true);
            Some(EndpointView {
                address: endpoint.addresses.first()?.parse().ok()?,
                ready,
                serving: conditions.serving.unwrap_or(ready),
                terminating: conditions.terminating.unwrap_or(false),
                hostname: endpoint.hostname,
                node: endpoint.node_name,
                zones: endpoint.hints.for_zones.into_iter().map(|hint| hint.name).collect(),
                nodes: endpoint.hints.for_nodes.into_iter().map(|hint| hint.name).collect(),
            })
        });
        Ok(Some(SliceView {
            service: format!("{}/{service}", slice.metadata.namespace).into(),
            endpoints: endpoints.collect(),
            ports: slice.ports.into_iter().filter_map(|port| Some((port.name, port.protocol, port.port?))).collect(),
            ipv6: &*slice.address_type == "IPv6",
        }))
    }
}

impl Project for ServiceView {
    fn project(object: &Object) -> Option<Self> {
        Self::read(object.json()).inspect_err(|error| unreadable(object, error)).ok()
    }

    /// Its addresses, for reverse lookup.
    fn terms(&self) -> Vec<Box<str>> {
        self.cluster_ips.iter().map(|address| address.to_string().into()).collect()
    }
}

impl Project for SliceView {
    fn project(object: &Object) -> Option<Self> {
        Self::read(object.json()).inspect_err(|error| unreadable(object, error)).ok().flatten()
    }

    fn terms(&self) -> Vec<Box<str>> {
        let addresses = self.endpoints.iter().map(|endpoint| endpoint.address.to_string().into());
        std::iter::once(self.service.clone()).chain(addresses).collect()
    }
}

fn unreadable(object: &Object, error: &serde_json::Error) {
    let meta = object.meta();
    tracing::warn!(kind = %object.resource().kind, ns = %meta.namespace, name = %meta.name, %error, "object cannot be read");
}

/// Go writes empty lists of some fields as `null`.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    namespace: Box<str>,
    #[serde(default, deserialize_with = "nullable")]
    labels: Labels,
}

#[derive(Deserialize, Default)]
struct Labels {
    #[serde(rename = "kubernetes.io/service-name")]
    service: Option<Box<str>>,
    #[serde(rename = "service.kubernetes.io/service-proxy-name")]
    proxy: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Service {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(rename = "type")]
    kind: Box<str>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Box<str>,
    #[serde(rename = "clusterIPs", deserialize_with = "nullable")]
    cluster_ips: Vec<Box<str>>,
    external_name: Box<str>,
    #[serde(rename = "externalIPs", deserialize_with = "nullable")]
    external_ips: Vec<Box<str>>,
    external_traffic_policy: TrafficPolicy,
    internal_traffic_policy: TrafficPolicy,
    session_affinity: Box<str>,
    #[serde(deserialize_with = "nullable")]
    session_affinity_config: AffinityConfig,
    #[serde(deserialize_with = "nullable")]
    ports: Vec<PortView>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AffinityConfig {
    #[serde(rename = "clientIP", deserialize_with = "nullable")]
    client_ip: ClientIp,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ClientIp {
    timeout_seconds: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    load_balancer: LoadBalancer,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LoadBalancer {
    #[serde(deserialize_with = "nullable")]
    ingress: Vec<Ingress>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Ingress {
    ip: Box<str>,
    #[serde(rename = "ipMode")]
    mode: Box<str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Slice {
    metadata: Metadata,
    address_type: Box<str>,
    #[serde(default, deserialize_with = "nullable")]
    endpoints: Vec<Endpoint>,
    #[serde(default, deserialize_with = "nullable")]
    ports: Vec<SlicePort>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    addresses: Vec<Box<str>>,
    #[serde(default)]
    conditions: Conditions,
    hostname: Option<Box<str>>,
    node_name: Option<Arc<str>>,
    #[serde(default, deserialize_with = "nullable")]
    hints: Hints,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Hints {
    #[serde(deserialize_with = "nullable")]
    for_zones: Vec<Hint>,
    #[serde(deserialize_with = "nullable")]
    for_nodes: Vec<Hint>,
}

#[derive(Deserialize)]
struct Hint {
    name: Box<str>,
}

#[derive(Deserialize)]
struct SlicePort {
    #[serde(default, deserialize_with = "nullable")]
    name: Box<str>,
    #[serde(default)]
    protocol: Protocol,
    port: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_absent_fields_read_as_their_defaults() {
        let slice = br#"{"metadata":{"namespace":"d","name":"web-1","labels":{"kubernetes.io/service-name":"web"}},
            "addressType":"IPv4","ports":null,"endpoints":[{"addresses":["10.42.0.2"],"conditions":{}},{"addresses":["10.42.0.3"],"conditions":{"ready":false}}]}"#;
        let view = SliceView::read(slice).expect("it reads").expect("it has a Service");
        assert_eq!(&*view.service, "d/web");
        assert!(view.endpoints[0].ready && view.endpoints[0].serving && !view.endpoints[1].serving);
        let service = br#"{"metadata":{"namespace":"d","name":"web"},"spec":{"clusterIP":"None","externalIPs":null}}"#;
        let view = ServiceView::read(service).expect("it reads");
        assert!(view.headless && view.cluster_ips.is_empty());
    }
}
