//! Services: addresses and node ports, committed with the Service so that none is handed out twice.
//!
//! Upstream: kubernetes pkg/registry/core/service/storage/{storage,alloc}.go.

use coracle_api::{Causes, Resource, Status};
use coracle_store::Op;
use serde_json::{Value, json};

use crate::registry::{Registry, Stored, metadata};

mod addresses;
mod families;
mod node_ports;

pub use node_ports::NODE_PORTS;

const NONE: &str = "None";

/// The fields that decide about addresses and ports.
struct View<'a> {
    spec: &'a Value,
}

impl View<'_> {
    fn of(service: &Value) -> View<'_> {
        View { spec: &service["spec"] }
    }

    fn kind(&self) -> &str {
        self.spec["type"].as_str().unwrap_or("ClusterIP")
    }

    fn is_external_name(&self) -> bool {
        self.kind() == "ExternalName"
    }

    fn cluster_ip(&self) -> &str {
        self.spec["clusterIP"].as_str().unwrap_or_default()
    }

    fn cluster_ips(&self) -> Vec<&str> {
        strings(&self.spec["clusterIPs"])
    }

    fn families(&self) -> Vec<&str> {
        strings(&self.spec["ipFamilies"])
    }

    fn is_headless(&self) -> bool {
        self.cluster_ip() == NONE || self.cluster_ips().first() == Some(&NONE)
    }

    fn has_selector(&self) -> bool {
        self.spec["selector"].as_object().is_some_and(|selector| !selector.is_empty())
    }

    /// Addresses that are this Service's own.
    fn addresses(&self) -> Vec<String> {
        if self.is_external_name() || self.is_headless() {
            return Vec::new();
        }
        self.cluster_ips().into_iter().filter(|address| !address.is_empty()).map(str::to_owned).collect()
    }

    fn needs_node_ports(&self) -> bool {
        match self.kind() {
            "NodePort" => true,
            "LoadBalancer" => self.spec["allocateLoadBalancerNodePorts"].as_bool().unwrap_or(true),
            _ => false,
        }
    }

    fn may_have_node_ports(&self) -> bool {
        matches!(self.kind(), "NodePort" | "LoadBalancer")
    }

    fn needs_health_port(&self) -> bool {
        self.kind() == "LoadBalancer" && self.spec["externalTrafficPolicy"] == "Local"
    }
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

pub fn prepare_create(new: &mut Value) {
    let view = View::of(new);
    if !view.cluster_ip().is_empty() && view.cluster_ips().is_empty() {
        new["spec"]["clusterIPs"] = json!([view.cluster_ip()]);
    }
}

/// Clients that send the object as they once made it keep what was allocated for it since.
pub fn prepare_update(new: &mut Value, old: &Value, subresource: &str) {
    if !subresource.is_empty() {
        return;
    }
    normalise_addresses(new, old);
    let (before, after) = (View::of(old), View::of(new));
    if !before.is_external_name() && !after.is_external_name() {
        for field in ["clusterIP", "clusterIPs"] {
            let empty = match &new["spec"][field] {
                Value::String(text) => text.is_empty(),
                Value::Array(list) => list.is_empty(),
                _ => true,
            };
            if empty && let Some(value) = old["spec"].get(field) {
                new["spec"][field] = value.clone();
            }
        }
    }
    let (before, after) = (View::of(old), View::of(new));
    let health = before.needs_health_port() && after.needs_health_port();
    if before.needs_node_ports() && after.needs_node_ports() {
        node_ports::keep(new, old);
    }
    if health
        && new["spec"]["healthCheckNodePort"].as_i64().unwrap_or(0) == 0
        && let Some(port) = old["spec"].get("healthCheckNodePort")
    {
        new["spec"]["healthCheckNodePort"] = port.clone();
    }
    drop_unused(new, old);
}

/// `clusterIP` is `clusterIPs[0]`; old clients know only the former.
fn normalise_addresses(new: &mut Value, old: &Value) {
    let (before, after) = (View::of(old), View::of(new));
    let same_list = before.cluster_ips() == after.cluster_ips();
    let (old_ip, new_ip) = (before.cluster_ip().to_owned(), after.cluster_ip().to_owned());
    if !before.cluster_ips().is_empty() && after.cluster_ips().is_empty() && old_ip == new_ip {
        new["spec"]["clusterIPs"] = old["spec"]["clusterIPs"].clone();
    } else if old_ip != new_ip && same_list {
        new["spec"]["clusterIPs"] = if new_ip.is_empty() { json!([]) } else { json!([new_ip]) };
    }
}

/// What a change of type makes meaningless goes, where the client did not change it itself.
/// Upstream: pkg/registry/core/service/strategy.go dropTypeDependentFields.
fn drop_unused(new: &mut Value, old: &Value) {
    let after = View::of(new);
    let same = |field: &str| new["spec"].get(field) == old["spec"].get(field);
    let mut gone = Vec::new();
    if !View::of(old).is_external_name() && after.is_external_name() {
        gone.extend(
            ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"].into_iter().filter(|field| same(field)),
        );
    }
    if View::of(old).needs_health_port() && !after.needs_health_port() && same("healthCheckNodePort") {
        gone.push("healthCheckNodePort");
    }
    if View::of(old).may_have_node_ports() && !after.may_have_node_ports() && same("externalTrafficPolicy") {
        gone.push("externalTrafficPolicy");
    }
    if View::of(old).kind() == "LoadBalancer" && after.kind() != "LoadBalancer" {
        let fields = ["allocateLoadBalancerNodePorts", "loadBalancerClass"];
        gone.extend(fields.into_iter().filter(|field| same(field)));
    }
    if after.is_external_name() && same("internalTrafficPolicy") {
        gone.push("internalTrafficPolicy");
    }
    let ports_go = View::of(old).may_have_node_ports() && !after.may_have_node_ports() && node_ports::same(new, old);
    if let Some(spec) = new["spec"].as_object_mut() {
        for field in gone {
            spec.remove(field);
        }
    }
    if ports_go {
        node_ports::clear(new);
    }
}

/// Allocates what the new Service needs and releases what it no longer has.
pub fn beside(registry: &Registry, old: Option<&Value>, new: Option<&mut Value>) -> Result<Vec<Op<Stored>>, Status> {
    let Some(new) = new else {
        let Some(old) = old else { return Ok(Vec::new()) };
        let mut ops = addresses::changes(&View::of(old).addresses(), &[], old);
        ops.extend(node_ports::changes(&node_ports::of(old), &[], old));
        return Ok(ops);
    };
    let mut causes = Causes::new();
    if let Some(old) = old {
        keeps_address(old, new, &mut causes);
    }
    families::fill(registry.networks(), old, new, &mut causes);
    check(&mut causes, new)?;
    let held = old.map(|old| View::of(old).addresses()).unwrap_or_default();
    addresses::allocate(registry, &held, new, &mut causes);
    let held_ports = old.map(node_ports::of).unwrap_or_default();
    node_ports::allocate(registry, &held_ports, new, &mut causes);
    check(&mut causes, new)?;
    let mut ops = addresses::changes(&held, &View::of(new).addresses(), new);
    ops.extend(node_ports::changes(&held_ports, &node_ports::of(new), new));
    Ok(ops)
}

/// The first address stays as long as the Service has one.
fn keeps_address(old: &Value, new: &Value, causes: &mut Causes) {
    let (before, after) = (View::of(old), View::of(new));
    if before.is_external_name() || after.is_external_name() {
        return;
    }
    let (held, wanted) = (before.cluster_ips(), after.cluster_ips());
    if held.first().is_some_and(|first| !first.is_empty() && wanted.first() != Some(first)) {
        causes.invalid("spec.clusterIPs[0]", json!(wanted), "may not change once set");
    }
}

fn check(causes: &mut Causes, service: &Value) -> Result<(), Status> {
    let found = std::mem::take(causes);
    found.into_result(("", "Service"), metadata::text(service, "name"))
}

/// Who holds an address or a port.
fn parent(service: &Value) -> Value {
    json!({
        "group": "", "resource": "services",
        "namespace": metadata::text(service, "namespace"), "name": metadata::text(service, "name"),
    })
}

fn resource(group: &str, plural: &str) -> Resource {
    Resource::find(group, "v1", plural).expect("the catalog holds it")
}
