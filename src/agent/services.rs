//! Environment variables of Services (upstream: pkg/kubelet/envvars).

use std::collections::BTreeMap;

use coracle_api::Object;
use coracle_client::{Key, Project, View};
use serde::Deserialize;

/// What pods are told of a Service.
pub struct ServiceView {
    address: Box<str>,
    ports: Box<[Port]>,
}

struct Port {
    name: Box<str>,
    protocol: Box<str>,
    port: u16,
}

impl Project for ServiceView {
    fn project(object: &Object) -> Option<Self> {
        #[derive(Deserialize)]
        struct Service {
            spec: Spec,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        #[derive(Default)]
        struct Spec {
            #[serde(rename = "clusterIP")]
            cluster_ip: Box<str>,
            ports: Vec<WirePort>,
        }
        #[derive(Deserialize)]
        struct WirePort {
            #[serde(default)]
            name: Box<str>,
            #[serde(default)]
            protocol: Box<str>,
            port: u16,
        }
        let spec = object.decode::<Service>().ok()?.spec;
        if spec.cluster_ip.is_empty() || &*spec.cluster_ip == "None" || spec.ports.is_empty() {
            return None;
        }
        let ports =
            spec.ports.into_iter().map(|port| Port { name: port.name, protocol: port.protocol, port: port.port });
        Some(Self { address: spec.cluster_ip, ports: ports.collect() })
    }
}

/// The Services whose variables pods get. Cloning is a reference count.
#[derive(Clone)]
pub struct Services {
    pub view: View<ServiceView>,
}

impl Services {
    /// Of the namespace's Services where links are wanted, and of `default/kubernetes` always.
    pub fn variables(&self, namespace: &str, links: bool) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        if let Some(master) = self.view.get(&Key::new("default", "kubernetes")) {
            add(&mut variables, "kubernetes", &master);
        }
        if links {
            for service in self.view.in_namespace(namespace) {
                add(&mut variables, &service.key.name, &service);
            }
        }
        variables
    }
}

fn add(variables: &mut BTreeMap<String, String>, name: &str, service: &ServiceView) {
    let word = |text: &str| text.to_uppercase().replace('-', "_");
    let prefix = word(name);
    let address = &service.address;
    let Some(first) = service.ports.first() else { return };
    variables.insert(format!("{prefix}_SERVICE_HOST"), address.to_string());
    variables.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in service.ports.iter().filter(|port| !port.name.is_empty()) {
        variables.insert(format!("{prefix}_SERVICE_PORT_{}", word(&port.name)), port.port.to_string());
    }
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_string() };
    for (index, port) in service.ports.iter().enumerate() {
        let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            variables.insert(format!("{prefix}_PORT"), url.clone());
        }
        let own = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        variables.insert(format!("{own}_PROTO"), protocol.to_lowercase());
        variables.insert(format!("{own}_PORT"), port.port.to_string());
        variables.insert(format!("{own}_ADDR"), address.to_string());
        variables.insert(own, url);
    }
}
