//! EndpointSlices: the addresses behind every Service that selects pods.
//!
//! Upstream: pkg/controller/endpointslice and k8s.io/endpointslice.

use std::sync::Arc;

use coracle_api::Object;
use coracle_api::selector::LabelSelector;
use coracle_client::{Change, Controller, Error, Key, Next, Project, View, found};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, ListParams, PostParams};

use crate::pods::PodView;
use crate::{Scope, resources};

pub(crate) mod endpoint;
mod plan;

const WORKERS: usize = 5;

pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";

/// What triggers need to know of a Service: which pods it selects.
pub struct ServiceView {
    selector: LabelSelector,
    /// An empty one as well, which selects nothing.
    pub(crate) has_selector: bool,
    selects: bool,
}

impl ServiceView {
    pub(crate) fn selects(&self) -> bool {
        self.selects
    }
}

impl Project for ServiceView {
    fn project(object: &Object) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Decoded {
            spec: Spec,
        }
        #[derive(serde::Deserialize)]
        struct Spec {
            #[serde(default)]
            selector: Option<std::collections::BTreeMap<String, String>>,
        }
        let decoded: Decoded = object.decode().ok()?;
        let has_selector = decoded.spec.selector.is_some();
        let wanted = decoded.spec.selector.unwrap_or_default();
        let labels = wanted.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let selector = if wanted.is_empty() { LabelSelector::nothing() } else { LabelSelector::from_labels(labels) };
        Some(Self { selector, has_selector, selects: !wanted.is_empty() })
    }
}

/// A slice of this controller, known so that changes by others are undone.
struct SliceView {
    service: Box<str>,
}

impl Project for SliceView {
    fn project(object: &Object) -> Option<Self> {
        let label =
            |name: &str| object.meta().labels.iter().find(|(key, _)| &**key == name).map(|(_, value)| value.clone());
        label(MANAGED_BY).filter(|manager| &**manager == CONTROLLER)?;
        Some(Self { service: label(SERVICE_NAME)? })
    }
}

/// The zone of a node.
struct ZoneView {
    zone: Option<Box<str>>,
}

impl Project for ZoneView {
    fn project(object: &Object) -> Option<Self> {
        let labels = &object.meta().labels;
        let zone =
            labels.iter().find(|(key, _)| &**key == "topology.kubernetes.io/zone").map(|(_, value)| value.clone());
        Some(Self { zone: zone.filter(|zone| !zone.is_empty()) })
    }
}

struct Slices {
    scope: Scope,
    pods: View<PodView>,
    nodes: View<ZoneView>,
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let services = scope.views.view::<ServiceView>(&resources::services());
    let pods = scope.views.view::<PodView>(&resources::pods());
    let slices = scope.views.view::<SliceView>(&resources::endpoint_slices());
    let nodes = scope.views.view::<ZoneView>(&resources::nodes());
    let (known, all) = (services.clone(), services.clone());
    let controller = Controller::new("endpointslice")
        .workers(WORKERS)
        .on(&services, |change| Some(change.item().key.clone()))
        .on(&pods, move |change| selecting(change, &known))
        .on(&slices, |change| Some(Key::new(change.item().key.namespace.clone(), &*change.item().service)))
        .on(&nodes, move |change| moved(change, &all));
    let shutdown = scope.shutdown.clone();
    let this = Arc::new(Slices { scope, pods, nodes });
    async move { controller.run(&shutdown, move |key| this.clone().reconcile(key)).await }.boxed()
}

/// The Services that selected or select the pod, when what their slices say of it changed.
pub(crate) fn selecting(change: &Change<PodView>, services: &View<ServiceView>) -> Vec<Key> {
    let (old, new) = (change.former(), change.present());
    if let (Some(old), Some(new)) = (old, new)
        && old.labels == new.labels
        && endpoint::facts(old) == endpoint::facts(new)
    {
        return Vec::new();
    }
    let selects =
        |service: &ServiceView| [old, new].into_iter().flatten().any(|pod| service.selector.matches(&*pod.labels));
    let all = services.in_namespace(&change.item().key.namespace).into_iter();
    all.filter(|service| selects(service)).map(|service| service.key.clone()).collect()
}

/// A node that changes its zone concerns every Service.
fn moved(change: &Change<ZoneView>, services: &View<ServiceView>) -> Vec<Key> {
    let zone = |item: Option<&Arc<coracle_client::Item<ZoneView>>>| item.and_then(|item| item.zone.clone());
    if zone(change.former()) == zone(change.present()) {
        return Vec::new();
    }
    services.list().into_iter().map(|service| service.key.clone()).collect()
}

impl Slices {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        let client = &self.scope.client;
        let services: Api<Service> = Api::namespaced(client.clone(), &key.namespace);
        // Slices of a Service that is gone are the garbage collector's.
        let Some(service) = found(services.get(&key.name).await)? else { return Ok(Next::Done) };
        let Some(spec) = service.spec.as_ref().filter(|_| service.metadata.deletion_timestamp.is_none()) else {
            return Ok(Next::Done);
        };
        let selector = spec.selector.clone().unwrap_or_default();
        if selector.is_empty() || spec.type_.as_deref() == Some("ExternalName") {
            return Ok(Next::Done);
        }
        let selector = LabelSelector::from_labels(selector.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        let pods: Vec<_> =
            self.pods.in_namespace(&key.namespace).into_iter().filter(|pod| selector.matches(&*pod.labels)).collect();
        let api: Api<EndpointSlice> = Api::namespaced(client.clone(), &key.namespace);
        let labels = format!("{SERVICE_NAME}={},{MANAGED_BY}={CONTROLLER}", key.name);
        let slices = api.list(&ListParams::default().labels(&labels)).await?.items;

        let zone = |node: &str| self.nodes.get(&Key::cluster(node)).and_then(|node| node.zone.clone());
        let desired = endpoint::desired(&service, &pods, &zone);
        let plan = plan::plan(&service, slices, desired);
        for slice in &plan.create {
            match api.create(&PostParams::default(), slice).await.map_err(Error::from) {
                Err(error) if error.is_namespace_terminating() => return Ok(Next::Done),
                result => result?,
            };
        }
        for slice in &plan.update {
            api.replace(slice.metadata.name.as_deref().unwrap_or_default(), &PostParams::default(), slice).await?;
        }
        for name in &plan.delete {
            found(api.delete(name, &DeleteParams::default()).await)?;
        }
        Ok(Next::Done)
    }
}
