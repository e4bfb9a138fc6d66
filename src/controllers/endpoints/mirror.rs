//! Endpoints that somebody wrote for a Service without a selector, mirrored to EndpointSlices.
//!
//! Upstream: pkg/controller/endpointslicemirroring.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use coracle_api::Object;
use coracle_client::events::Severity;
use coracle_client::{Change, Controller, Error, Item, Key, Next, Project, View, found};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, ListParams, PostParams};

use super::{EndpointsView, TRIGGER};
use crate::endpointslice::{MANAGED_BY, SERVICE_NAME, ServiceView};
use crate::pod_control::{Parent, report};
use crate::{Scope, resources};

const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Endpoints of a subset that are mirrored at most.
const CAPACITY: usize = 1000;

/// A slice of this controller, by its Service.
struct MirrorView {
    service: Box<str>,
}

impl Project for MirrorView {
    fn project(object: &Object) -> Option<Self> {
        let labels = &object.meta().labels;
        let label = |name: &str| labels.iter().find(|(key, _)| &**key == name).map(|(_, value)| value.clone());
        label(MANAGED_BY).filter(|manager| &**manager == CONTROLLER)?;
        Some(Self { service: label(SERVICE_NAME)? })
    }
}

struct Mirrors {
    scope: Scope,
    services: View<ServiceView>,
    endpoints: View<EndpointsView>,
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let services = scope.views.view::<ServiceView>(&resources::services());
    let endpoints = scope.views.view::<EndpointsView>(&resources::endpoints());
    let slices = scope.views.view::<MirrorView>(&resources::endpoint_slices());
    let known = services.clone();
    let controller = Controller::new("endpointslice-mirroring")
        .on(&services, |change: &Change<ServiceView>| {
            let selector = |service: Option<&Arc<Item<ServiceView>>>| service.map(|it| it.has_selector);
            (selector(change.former()) != selector(change.present())).then(|| change.item().key.clone())
        })
        .on(&endpoints, move |change| {
            let selecting = known.get(&change.item().key).is_some_and(|service| service.has_selector);
            (!selecting).then(|| change.item().key.clone())
        })
        .on(&slices, |change| Some(Key::new(change.item().key.namespace.clone(), &*change.item().service)));
    let shutdown = scope.shutdown.clone();
    let this = Arc::new(Mirrors { scope, services, endpoints });
    async move { controller.run(&shutdown, move |key| this.clone().reconcile(key)).await }.boxed()
}

impl Mirrors {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        let client = &self.scope.client;
        let api: Api<EndpointSlice> = Api::namespaced(client.clone(), &key.namespace);
        let labels = format!("{SERVICE_NAME}={},{MANAGED_BY}={CONTROLLER}", key.name);
        let slices = api.list(&ListParams::default().labels(&labels)).await?.items;
        let mirrored = self.services.get(&key).is_some_and(|service| !service.has_selector)
            && self.endpoints.get(&key).is_some_and(|endpoints| !endpoints.private);
        let source: Api<Endpoints> = Api::namespaced(client.clone(), &key.namespace);
        let endpoints = if mirrored { found(source.get(&key.name).await)? } else { None };
        let (wanted, skipped) = endpoints.as_ref().map(wanted).unwrap_or_default();
        if let Some(endpoints) = endpoints.as_ref().filter(|_| skipped > 0) {
            let parent = Parent { api_version: "v1", kind: "Endpoints", meta: &endpoints.metadata };
            let text = format!("Skipped {skipped} invalid IP addresses when mirroring to EndpointSlices");
            report(&self.scope.events, parent, Severity::Warning, "InvalidIPAddress", text);
        }
        carry_out(&api, slices, wanted).await
    }
}

/// Slices that fit stay; others are rewritten where they can be, for fewer changes.
async fn carry_out(
    api: &Api<EndpointSlice>,
    mut slices: Vec<EndpointSlice>,
    wanted: Vec<EndpointSlice>,
) -> Result<Next, Error> {
    let ports = |slice: &EndpointSlice| slice.ports.clone().unwrap_or_default();
    let same = |a: &EndpointSlice, b: &EndpointSlice| a.address_type == b.address_type && ports(a) == ports(b);
    let mut left = Vec::new();
    for slice in wanted {
        match slices.iter().position(|known| same(known, &slice)) {
            Some(at) => renew(api, slices.swap_remove(at), slice).await?,
            None => left.push(slice),
        }
    }
    for slice in left {
        if let Some(at) = slices.iter().position(|known| known.address_type == slice.address_type) {
            renew(api, slices.swap_remove(at), slice).await?;
            continue;
        }
        match api.create(&PostParams::default(), &slice).await.map_err(Error::from) {
            Err(error) if error.is_namespace_terminating() => return Ok(Next::Done),
            result => result?,
        };
    }
    for slice in slices {
        found(api.delete(slice.metadata.name.as_deref().unwrap_or_default(), &DeleteParams::default()).await)?;
    }
    Ok(Next::Done)
}

async fn renew(api: &Api<EndpointSlice>, old: EndpointSlice, new: EndpointSlice) -> Result<(), Error> {
    let mut renewed = old.clone();
    renewed.metadata.labels = new.metadata.labels;
    renewed.metadata.annotations = new.metadata.annotations;
    renewed.metadata.owner_references = new.metadata.owner_references;
    (renewed.ports, renewed.endpoints) = (new.ports, new.endpoints);
    if renewed != old {
        api.replace(old.metadata.name.as_deref().unwrap_or_default(), &PostParams::default(), &renewed).await?;
    }
    Ok(())
}

/// The slices for these Endpoints, one for each family and set of ports; and how many addresses are none.
fn wanted(endpoints: &Endpoints) -> (Vec<EndpointSlice>, usize) {
    let mut invalid = 0;
    let mut slices: Vec<EndpointSlice> = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<EndpointPort> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(port.port),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let others = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(others).take(CAPACITY) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                invalid += 1;
                continue;
            };
            let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
            let is = |slice: &EndpointSlice| {
                slice.address_type == family && slice.ports.as_deref().unwrap_or_default() == ports
            };
            let at = slices.iter().position(is).unwrap_or_else(|| {
                slices.push(slice(endpoints, family, &ports));
                slices.len() - 1
            });
            slices[at].endpoints.get_or_insert_default().push(endpoint(address, ip, ready));
        }
    }
    (slices, invalid)
}

fn slice(endpoints: &Endpoints, family: &str, ports: &[EndpointPort]) -> EndpointSlice {
    let meta = &endpoints.metadata;
    let parent = Parent { api_version: "v1", kind: "Endpoints", meta };
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), parent.name().to_owned());
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    let mut annotations: BTreeMap<String, String> = meta.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| ![TRIGGER, APPLIED].contains(&name.as_str()));
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", parent.name())),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: Some(vec![parent.reference()]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        ports: (!ports.is_empty()).then(|| ports.to_vec()),
        endpoints: Some(Vec::new()),
    }
}

fn endpoint(address: &EndpointAddress, ip: IpAddr, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(ready), serving: None, terminating: None }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_slice_for_each_family_and_set_of_ports() {
        let endpoints: Endpoints = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "a", "annotations": {TRIGGER: "x", "mine": "y"}},
            "subsets": [
                {"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}],
                 "ports": [{"port": 80}]},
                {"addresses": [{"ip": "10.0.0.3"}, {"ip": "nonsense"}], "ports": [{"port": 81, "name": "x"}]},
            ],
        }))
        .unwrap();
        let (slices, invalid) = wanted(&endpoints);
        let told: Vec<_> =
            slices.iter().map(|it| (it.address_type.as_str(), it.endpoints.as_ref().map_or(0, Vec::len))).collect();
        assert_eq!((told, invalid), (vec![("IPv4", 2), ("IPv6", 1), ("IPv4", 1)], 1));
        assert_eq!(slices[0].metadata.annotations, Some(BTreeMap::from([("mine".to_owned(), "y".to_owned())])));
    }
}
