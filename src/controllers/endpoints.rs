//! Endpoints: the older form of EndpointSlices, one object for a Service, which old clients read.
//!
//! Upstream: pkg/controller/endpoint, pkg/api/v1/endpoints (RepackSubsets).

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::Object;
use coracle_api::selector::LabelSelector;
use coracle_client::events::Severity;
use coracle_client::{Controller, Error, Key, Next, Project, View, found};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Service, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, PostParams};

use crate::endpointslice::{ServiceView, endpoint, selecting};
use crate::pod_control::{Known, Parent, report};
use crate::pods::PodView;
use crate::{Scope, resources};

pub mod mirror;

const WORKERS: usize = 5;
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in an object at most.
const CAPACITY: usize = 1000;

/// That they are there, and whose they are.
pub struct EndpointsView {
    /// Leader election of old, or made to be left alone: no mirror of these.
    pub(crate) private: bool,
    /// Made by this controller.
    own: bool,
}

impl Project for EndpointsView {
    fn project(object: &Object) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Decoded {
            metadata: Metadata,
        }
        #[derive(serde::Deserialize)]
        struct Metadata {
            #[serde(default)]
            annotations: Annotations,
        }
        #[derive(serde::Deserialize, Default)]
        struct Annotations {
            #[serde(rename = "control-plane.alpha.kubernetes.io/leader")]
            leader: Option<serde::de::IgnoredAny>,
        }
        let decoded: Decoded = object.decode().ok()?;
        let label =
            |name: &str, value: &str| object.meta().labels.iter().any(|(key, own)| &**key == name && &**own == value);
        Some(Self {
            private: decoded.metadata.annotations.leader.is_some()
                || label("endpointslice.kubernetes.io/skip-mirror", "true"),
            own: label(MANAGED_BY, CONTROLLER),
        })
    }
}

struct Controlled {
    scope: Scope,
    pods: View<PodView>,
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let services = scope.views.view::<ServiceView>(&resources::services());
    let pods = scope.views.view::<PodView>(&resources::pods());
    let endpoints = scope.views.view::<EndpointsView>(&resources::endpoints());
    let (known, there) = (services.clone(), services.clone());
    let controller = Controller::new("endpoints")
        .workers(WORKERS)
        .on(&services, |change| Some(change.item().key.clone()))
        .on(&pods, move |change| selecting(change, &known))
        .on(&endpoints, move |change| {
            let item = change.item();
            // What is left over from a Service that is gone, and what others changed.
            (item.own || there.get(&item.key).is_some_and(|service| service.selects())).then(|| item.key.clone())
        });
    let shutdown = scope.shutdown.clone();
    let this = Arc::new(Controlled { scope, pods });
    async move { controller.run(&shutdown, move |key| this.clone().reconcile(key)).await }.boxed()
}

impl Controlled {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        let client = &self.scope.client;
        let services: Api<Service> = Api::namespaced(client.clone(), &key.namespace);
        let api: Api<Endpoints> = Api::namespaced(client.clone(), &key.namespace);
        let Some(service) = found(services.get(&key.name).await)? else {
            found(api.delete(&key.name, &DeleteParams::default()).await)?;
            return Ok(Next::Done);
        };
        let spec = service.spec.clone().unwrap_or_default();
        let selector = spec.selector.clone().unwrap_or_default();
        if selector.is_empty() || spec.type_.as_deref() == Some("ExternalName") {
            return Ok(Next::Done);
        }
        let selector = LabelSelector::from_labels(selector.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        let pods = self.pods.in_namespace(&key.namespace).into_iter();
        let pods: Vec<Known> = pods.filter(|pod| selector.matches(&*pod.labels)).collect();
        let current = found(api.get(&key.name).await)?;
        let mut subsets = subsets(&service, &spec, &pods);
        let truncated = truncate(&mut subsets);
        let labels = labels(&service, &spec);
        let unchanged = current.as_ref().is_some_and(|current| {
            let annotated = current.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(OVER_CAPACITY));
            current.subsets.as_deref().unwrap_or_default() == subsets
                && current.metadata.labels.as_ref() == Some(&labels)
                && annotated == truncated
        });
        if unchanged {
            return Ok(Next::Done);
        }
        let exists = current.is_some();
        let mut wanted = current.unwrap_or_else(|| Endpoints {
            metadata: ObjectMeta {
                name: service.metadata.name.clone(),
                namespace: service.metadata.namespace.clone(),
                ..ObjectMeta::default()
            },
            subsets: None,
        });
        wanted.subsets = (!subsets.is_empty()).then_some(subsets);
        wanted.metadata.labels = Some(labels);
        let annotations = wanted.metadata.annotations.get_or_insert_default();
        let now = Timestamp::try_from(self.scope.clock.now()).unwrap_or_default();
        annotations.insert(TRIGGER.to_owned(), now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        annotations.remove(OVER_CAPACITY);
        if truncated {
            annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
        }
        let written = match exists {
            true => api.replace(&key.name, &PostParams::default(), &wanted).await,
            false => api.create(&PostParams::default(), &wanted).await,
        };
        match written.map_err(Error::from) {
            Ok(_) => Ok(Next::Done),
            Err(error) if error.is_namespace_terminating() => Ok(Next::Done),
            Err(error) => {
                let (reason, verb) = match exists {
                    true => ("FailedToUpdateEndpoint", "update"),
                    false => ("FailedToCreateEndpoint", "create"),
                };
                let parent = Parent { api_version: "v1", kind: "Endpoints", meta: &wanted.metadata };
                let text = format!("Failed to {verb} endpoint for service {key}: {}", error.chain());
                report(&self.scope.events, parent, Severity::Warning, reason, text);
                Err(error)
            }
        }
    }
}

fn labels(service: &Service, spec: &ServiceSpec) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if matches!(spec.cluster_ip.as_deref(), None | Some("" | "None")) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    labels
}

/// Ports by name, protocol and number, so that the order of a Service's ports does not matter.
type Ports = BTreeMap<(String, String, i32), Option<String>>;

/// Addresses with the same ports are one subset.
fn subsets(service: &Service, spec: &ServiceSpec, pods: &[Known]) -> Vec<EndpointSubset> {
    let mut grouped: BTreeMap<Ports, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    let publishes = spec.publish_not_ready_addresses == Some(true);
    for pod in pods.iter().filter(|pod| belongs(pod, publishes)) {
        let Some(address) = address(service, spec, pod) else { continue };
        let ports: Ports = spec
            .ports
            .iter()
            .flatten()
            .filter_map(|port| {
                let number = endpoint::target_port(port, &pod.ports)?;
                let name = port.name.clone().unwrap_or_default();
                Some(((name, endpoint::protocol(port).to_owned(), number), port.app_protocol.clone()))
            })
            .collect();
        let headless = spec.cluster_ip.as_deref() == Some("None");
        if ports.is_empty() && !(headless && spec.ports.as_ref().is_none_or(Vec::is_empty)) {
            continue;
        }
        let (ready, others) = grouped.entry(ports).or_default();
        if publishes || pod.ready { ready.push(address) } else { others.push(address) }
    }
    let some = |mut addresses: Vec<EndpointAddress>| {
        addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
        (!addresses.is_empty()).then_some(addresses)
    };
    let subset = |(ports, (ready, others)): (Ports, (Vec<_>, Vec<_>))| {
        let ports: Vec<EndpointPort> = ports
            .into_iter()
            .map(|((name, protocol, port), app_protocol)| EndpointPort {
                name: Some(name).filter(|name| !name.is_empty()),
                port,
                protocol: Some(protocol),
                app_protocol,
            })
            .collect();
        EndpointSubset {
            addresses: some(ready),
            not_ready_addresses: some(others),
            ports: (!ports.is_empty()).then_some(ports),
        }
    };
    grouped.into_iter().map(subset).collect()
}

/// Upstream: ShouldPodBeInEndpoints in k8s.io/endpointslice/util.
fn belongs(pod: &PodView, publishes: bool) -> bool {
    !pod.finished() && !pod.ips.is_empty() && (publishes || !pod.deleting)
}

/// The pod's address in the Service's first family.
fn address(service: &Service, spec: &ServiceSpec, pod: &Known) -> Option<EndpointAddress> {
    let first = spec.ip_families.as_ref().and_then(|families| families.first());
    let six = match first {
        Some(family) => family == "IPv6",
        None => spec.cluster_ip.as_deref().is_some_and(|ip| ip.contains(':')),
    };
    let ip = pod.ips.iter().find(|ip| ip.contains(':') == six)?;
    let named = !pod.hostname.is_empty() && service.metadata.name.as_deref() == Some(&*pod.subdomain);
    Some(EndpointAddress {
        ip: ip.to_string(),
        hostname: named.then(|| pod.hostname.to_string()),
        node_name: (!pod.node.is_empty()).then(|| pod.node.to_string()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.key.namespace.to_string()),
            name: Some(pod.key.name.to_string()),
            uid: Some(pod.uid.to_string()),
            ..ObjectReference::default()
        }),
    })
}

/// Leaves as many addresses as may be, ready ones first; says whether any had to go.
fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let mut left = CAPACITY;
    let mut cut = false;
    let mut keep = |addresses: &mut Option<Vec<EndpointAddress>>| {
        let Some(list) = addresses else { return };
        cut |= list.len() > left;
        list.truncate(left);
        left -= list.len();
        if list.is_empty() {
            *addresses = None;
        }
    };
    subsets.iter_mut().for_each(|subset| keep(&mut subset.addresses));
    subsets.iter_mut().for_each(|subset| keep(&mut subset.not_ready_addresses));
    cut
}

#[cfg(test)]
mod tests {
    use coracle_client::Item;
    use serde_json::json;

    use super::*;
    use crate::pods::{Phase, PortView};

    #[test]
    fn addresses_with_the_same_ports_are_one_subset() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "a"},
            "spec": {"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "ports": [
                {"name": "http", "port": 80, "targetPort": "web"}, {"name": "admin", "port": 90, "targetPort": 9000}]},
        }))
        .unwrap();
        let pod = |name: &str, ready, port| {
            let value = PodView {
                phase: Phase::Running,
                ready,
                ips: [format!("10.1.0.{}", name.len()).into()].into(),
                ports: [PortView { name: "web".into(), container_port: port, protocol: "TCP".into() }].into(),
                ..PodView::default()
            };
            Arc::new(Item { key: Key::new("a", name), uid: name.into(), revision: 1, value })
        };
        let pods = [pod("a", true, 8080), pod("bb", false, 8080), pod("ccc", true, 8081)];
        let subsets = subsets(&service, service.spec.as_ref().unwrap(), &pods);
        let told: Vec<_> = subsets
            .iter()
            .map(|subset| {
                let ports: Vec<i32> = subset.ports.iter().flatten().map(|port| port.port).collect();
                let number = |list: &Option<Vec<_>>| list.as_ref().map_or(0, Vec::len);
                (ports, number(&subset.addresses), number(&subset.not_ready_addresses))
            })
            .collect();
        assert_eq!(told, [(vec![9000, 8080], 1, 1), (vec![9000, 8081], 1, 0)]);
    }
}
