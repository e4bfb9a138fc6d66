//! How endpoints are put into slices so that few slices change: a pure function of what is and what is to be.
//!
//! Upstream: reconcileByPortMapping in k8s.io/endpointslice/reconciler.go.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::endpoint::Group;
use super::{CONTROLLER, MANAGED_BY, SERVICE_NAME};
use crate::owners;

/// Endpoints a slice at most.
const CAPACITY: usize = 100;
const HEADLESS: &str = "service.kubernetes.io/headless";

#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<EndpointSlice>,
    /// Names.
    pub(super) delete: Vec<String>,
}

struct Slot {
    slice: EndpointSlice,
    changed: bool,
}

pub(super) fn plan(service: &Service, mut existing: Vec<EndpointSlice>, desired: Vec<Group>) -> Plan {
    let mut plan = Plan::default();
    let uid = service.metadata.uid.as_deref().unwrap_or_default();
    for group in desired {
        let matches = |slice: &mut EndpointSlice| {
            let ports = slice.ports.as_deref().unwrap_or_default();
            // A Service that was deleted and made again does not take over the old one's slices.
            slice.address_type == group.family && ports == group.ports && owners::controller_uid(&slice.metadata) == uid
        };
        let mine: Vec<EndpointSlice> = existing.extract_if(.., matches).collect();
        pack(service, mine, group, &mut plan);
    }
    // Another family, or ports that no pod has any more.
    plan.delete.extend(existing.into_iter().filter_map(|slice| slice.metadata.name));
    plan
}

fn pack(service: &Service, existing: Vec<EndpointSlice>, group: Group, plan: &mut Plan) {
    let empty_group = group.endpoints.is_empty();
    let mut left = group.endpoints;
    let mut slots: Vec<Slot> = Vec::new();
    for mut slice in existing {
        let changed = keep_desired(&mut slice, &mut left) | relabel(service, &mut slice);
        let empty = slice.endpoints.as_ref().is_none_or(Vec::is_empty);
        // One slice without endpoints stays as the sign that the Service is known and has none.
        if empty && !(empty_group && slots.is_empty()) {
            plan.delete.extend(slice.metadata.name);
        } else {
            slots.push(Slot { slice, changed });
        }
    }
    // Slices that are written anyway are filled first, the fullest before others.
    slots.sort_by_key(|slot| (!slot.changed, Reverse(size(slot))));
    for slot in slots.iter_mut().filter(|slot| slot.changed) {
        fill(slot, &mut left);
    }
    // What is left goes into one slice that can take all of it, the fullest such, else into new ones.
    if !left.is_empty()
        && let Some(slot) = slots.iter_mut().find(|slot| !slot.changed && size(slot) + left.len() <= CAPACITY)
    {
        fill(slot, &mut left);
        slot.changed = true;
    }
    let placeholder = empty_group && slots.is_empty();
    while !left.is_empty() || (placeholder && plan_lacks(plan, group.family)) {
        let ports = if group.ports.is_empty() { None } else { Some(group.ports.clone()) };
        let slice = EndpointSlice { address_type: group.family.to_owned(), ports, ..make(service) };
        let mut slot = Slot { slice, changed: true };
        fill(&mut slot, &mut left);
        plan.create.push(slot.slice);
    }
    plan.update.extend(slots.into_iter().filter(|slot| slot.changed).map(|slot| slot.slice));
}

fn plan_lacks(plan: &Plan, family: &str) -> bool {
    !plan.create.iter().any(|slice| slice.address_type == family)
}

fn size(slot: &Slot) -> usize {
    slot.slice.endpoints.as_ref().map_or(0, Vec::len)
}

/// Takes out what is no longer desired and brings the rest up to date. Says whether anything changed.
fn keep_desired(slice: &mut EndpointSlice, left: &mut BTreeMap<String, Endpoint>) -> bool {
    let before = slice.endpoints.take().unwrap_or_default();
    let of_pod = |endpoint: &Endpoint| endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    let kept: Vec<Endpoint> = before.iter().filter_map(|endpoint| left.remove(&of_pod(endpoint)?)).collect();
    let changed = kept != before;
    slice.endpoints = Some(kept);
    changed
}

fn fill(slot: &mut Slot, left: &mut BTreeMap<String, Endpoint>) {
    let endpoints = slot.slice.endpoints.get_or_insert_default();
    while endpoints.len() < CAPACITY
        && let Some((_, endpoint)) = left.pop_first()
    {
        endpoints.push(endpoint);
    }
}

/// Gives the slice the Service's labels. Says whether that changed any.
fn relabel(service: &Service, slice: &mut EndpointSlice) -> bool {
    let wanted = Some(labels(service));
    let changed = slice.metadata.labels != wanted;
    slice.metadata.labels = wanted;
    changed
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    let name = service.metadata.name.clone().unwrap_or_default();
    let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    labels.remove(HEADLESS);
    if ip == "None" || ip.is_empty() {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), name);
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    labels
}

fn make(service: &Service) -> EndpointSlice {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![owners::reference("v1", "Service", &service.metadata)]),
            ..ObjectMeta::default()
        },
        endpoints: Some(Vec::new()),
        ..EndpointSlice::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use coracle_client::{Item, Key};
    use serde_json::json;

    use super::super::endpoint;
    use super::*;
    use crate::pods::{Phase, PodView, PortView};

    fn service(change: serde_json::Value) -> Service {
        let mut service = json!({
            "metadata": {"name": "web", "namespace": "a", "uid": "s", "labels": {"app": "web"}},
            "spec": {"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
                     "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]},
        });
        for (field, value) in change.as_object().unwrap() {
            service["spec"][field] = value.clone();
        }
        serde_json::from_value(service).unwrap()
    }

    fn pod(number: usize, change: impl Fn(&mut PodView)) -> Arc<Item<PodView>> {
        let ip = format!("10.1.{}.{}", number / 256, number % 256);
        let mut value = PodView {
            node: "n1".into(),
            phase: Phase::Running,
            ready: true,
            ips: [ip.into(), format!("fd00::{number:x}").into()].into(),
            ..PodView::default()
        };
        change(&mut value);
        let name = format!("p{number:03}");
        Arc::new(Item { key: Key::new("a", name.as_str()), uid: name.into(), revision: 1, value })
    }

    fn step(service: &Service, slices: &[EndpointSlice], pods: &[Arc<Item<PodView>>]) -> Plan {
        plan(service, slices.to_vec(), endpoint::desired(service, pods, &|_| Some("z1".into())))
    }

    /// The slices after a plan, as a server would name and order them.
    fn apply(slices: &[EndpointSlice], plan: Plan) -> Vec<EndpointSlice> {
        let mut slices: BTreeMap<String, EndpointSlice> =
            slices.iter().map(|slice| (slice.metadata.name.clone().unwrap(), slice.clone())).collect();
        for name in plan.delete {
            slices.remove(&name).unwrap();
        }
        for slice in plan.update {
            slices.insert(slice.metadata.name.clone().unwrap(), slice);
        }
        for mut slice in plan.create {
            let name = format!("web-{}", slices.len());
            slice.metadata.name = Some(name.clone());
            assert!(slices.insert(name, slice).is_none());
        }
        slices.into_values().collect()
    }

    fn sizes(slices: &[EndpointSlice]) -> Vec<usize> {
        slices.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect()
    }

    #[test]
    fn an_endpoint_says_what_its_pod_is() {
        let service = service(json!({}));
        let pods = [
            pod(1, |_| ()),
            pod(2, |pod| pod.ready = false),
            pod(3, |pod| pod.deleting = true),
            pod(4, |pod| pod.phase = Phase::Failed),
            pod(5, |pod| pod.ips = [].into()),
        ];
        let plan = step(&service, &[], &pods);
        let slice = serde_json::to_value(&plan.create[0]).unwrap();
        assert_eq!(slice["metadata"]["labels"], json!({"app": "web", SERVICE_NAME: "web", MANAGED_BY: CONTROLLER}));
        assert_eq!(slice["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
        assert_eq!(
            slice["endpoints"][0],
            json!({"addresses": ["10.1.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false},
                   "nodeName": "n1", "zone": "z1",
                   "targetRef": {"kind": "Pod", "namespace": "a", "name": "p001", "uid": "p001"}})
        );
        let conditions = |index: usize| slice["endpoints"][index]["conditions"].clone();
        assert_eq!(conditions(1), json!({"ready": false, "serving": false, "terminating": false}));
        assert_eq!(conditions(2), json!({"ready": false, "serving": true, "terminating": true}));
        assert_eq!(slice["endpoints"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn slices_are_filled_and_few_of_them_change() {
        let service = service(json!({}));
        let mut pods: Vec<_> = (0..250).map(|number| pod(number, |_| ())).collect();
        let slices = apply(&[], step(&service, &[], &pods));
        assert_eq!(sizes(&slices), [100, 100, 50]);
        assert_eq!(step(&service, &slices, &pods), Plan::default(), "nothing to do twice");

        // One more goes where there is room.
        pods.push(pod(300, |_| ()));
        let grown = step(&service, &slices, &pods);
        assert_eq!((grown.update.len(), grown.create.len()), (1, 0));
        let slices = apply(&slices, grown);
        assert_eq!(sizes(&slices), [100, 100, 51]);

        // A pod that changes changes its slice only.
        pods[5] = pod(5, |pod| pod.ready = false);
        let changed = step(&service, &slices, &pods);
        assert_eq!((changed.update.len(), changed.create.len(), changed.delete.len()), (1, 0, 0));

        // All gone: one slice says so.
        let emptied = apply(&slices, step(&service, &slices, &[]));
        assert_eq!(sizes(&emptied), [0]);
        assert_eq!(step(&service, &emptied, &[]), Plan::default());
    }

    #[test]
    fn families_and_named_ports_have_slices_of_their_own() {
        let service = service(json!({"ipFamilies": ["IPv6", "IPv4"], "clusterIP": "None",
            "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]}));
        let named = |port: i32| {
            move |pod: &mut PodView| {
                pod.ports = [PortView { name: "web".into(), container_port: port, protocol: "".into() }].into()
            }
        };
        let pods = [pod(1, named(8080)), pod(2, named(9090)), pod(3, |_| ())];
        let plan = step(&service, &[], &pods);
        let mut told: Vec<_> = plan
            .create
            .iter()
            .map(|slice| {
                let ports = slice.ports.iter().flatten().filter_map(|port| port.port).collect::<Vec<_>>();
                (slice.address_type.as_str(), ports, slice.metadata.labels.as_ref().unwrap().contains_key(HEADLESS))
            })
            .collect();
        told.sort();
        assert_eq!(
            told,
            [
                ("IPv4", vec![], true),
                ("IPv4", vec![8080], true),
                ("IPv4", vec![9090], true),
                ("IPv6", vec![], true),
                ("IPv6", vec![8080], true),
                ("IPv6", vec![9090], true),
            ]
        );
    }
}
