//! Node ports as keys of their own: one is taken when its key can be created.
//!
//! Upstream: pkg/registry/core/service/portallocator, alloc.go initNodePorts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use coracle_api::resource::Row;
use coracle_api::{Causes, Resource};
use coracle_base::crypto;
use coracle_store::{Expect, Op, Write};
use serde_json::{Value, json};

use super::{View, parent};
use crate::registry::{Registry, Stored, partition, put};

/// Not served: the keys exist only to be unique.
pub static NODE_PORTS: LazyLock<Resource> = LazyLock::new(|| {
    let empty = Cow::Borrowed(&[][..]);
    Resource::custom(Row {
        group: "".into(),
        version: "v1".into(),
        kind: "NodePort".into(),
        list_kind: "NodePortList".into(),
        plural: "nodeports".into(),
        singular: "nodeport".into(),
        short_names: empty.clone(),
        categories: empty.clone(),
        namespaced: false,
        verbs: empty,
        subresources: Cow::Borrowed(&[]),
        type_name: "".into(),
        storage: ("".into(), "v1".into()),
        selectable: Cow::Borrowed(&[]),
    })
});

/// The ports that a Service holds.
pub fn of(service: &Value) -> Vec<u16> {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().into_iter().flatten().map(|port| &port["nodePort"]);
    let all = ports.chain([&spec["healthCheckNodePort"]]).filter_map(Value::as_u64);
    let mut all: Vec<u16> = all.filter_map(|port| u16::try_from(port).ok()).filter(|&port| port != 0).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Whether the ports' node ports are the same, one by one.
pub fn same(new: &Value, old: &Value) -> bool {
    let list = |service: &Value| -> Vec<Option<u64>> {
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        ports.map(|port| port["nodePort"].as_u64()).collect()
    };
    list(new) == list(old)
}

pub fn clear(service: &mut Value) {
    let ports = service["spec"]["ports"].as_array_mut().into_iter().flatten();
    for port in ports.filter_map(Value::as_object_mut) {
        port.remove("nodePort");
    }
}

/// Gives ports of the same name their node port back, unless another port has it now.
pub fn keep(new: &mut Value, old: &Value) {
    let used = of(new);
    let old_ports = old["spec"]["ports"].as_array().into_iter().flatten();
    let by_name: BTreeMap<String, u64> = old_ports
        .map(|port| (port["name"].as_str().unwrap_or_default().to_owned(), port["nodePort"].as_u64().unwrap_or(0)))
        .collect();
    let ports = new["spec"]["ports"].as_array_mut().into_iter().flatten();
    for port in ports.filter_map(Value::as_object_mut) {
        let name = port.get("name").and_then(Value::as_str).unwrap_or_default();
        let known = by_name.get(name).copied().filter(|&known| known != 0);
        let has = port.get("nodePort").and_then(Value::as_u64).unwrap_or(0) != 0;
        if let Some(known) = known
            && !has
            && !used.iter().any(|&port| u64::from(port) == known)
        {
            port.insert("nodePort".to_owned(), json!(known));
        }
    }
}

/// Fills node ports where the Service's type wants them; those in `held` are its own already.
pub fn allocate(registry: &Registry, held: &[u16], new: &mut Value, causes: &mut Causes) {
    let view = View::of(new);
    let (wants, may, health) = (view.needs_node_ports(), view.may_have_node_ports(), view.needs_health_port());
    if !may {
        return;
    }
    let mut mine: Vec<u16> = of(new);
    // The same port in two protocols shares its node port.
    let mut by_port: BTreeMap<u64, u64> = BTreeMap::new();
    for port in new["spec"]["ports"].as_array().into_iter().flatten() {
        if let (Some(number), Some(node)) = (port["port"].as_u64(), port["nodePort"].as_u64().filter(|&node| node != 0))
        {
            by_port.entry(number).or_insert(node);
        }
    }
    let count = new["spec"]["ports"].as_array().map_or(0, Vec::len);
    for index in 0..count {
        let port = &mut new["spec"]["ports"][index];
        let wanted = port["nodePort"].as_u64().unwrap_or(0);
        let number = port["port"].as_u64().unwrap_or(0);
        if wanted != 0 {
            if let Some(why) = refuse(registry, held, wanted) {
                causes.invalid(format!("spec.ports[{index}].nodePort"), wanted, why);
            }
        } else if let Some(shared) = by_port.get(&number) {
            port["nodePort"] = json!(shared);
        } else if wants {
            match pick(registry, &mine) {
                Some(free) => {
                    mine.push(free);
                    by_port.insert(number, free.into());
                    port["nodePort"] = json!(free);
                }
                None => causes.internal("spec.ports", "failed to allocate a nodePort: range is full"),
            }
        }
    }
    if health {
        match new["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0) {
            0 => match pick(registry, &mine) {
                Some(free) => new["spec"]["healthCheckNodePort"] = json!(free),
                None => causes
                    .internal("spec.healthCheckNodePort", "failed to allocate a HealthCheck NodePort: range is full"),
            },
            wanted => {
                if let Some(why) = refuse(registry, held, wanted) {
                    causes.invalid("spec.healthCheckNodePort", wanted, why);
                }
            }
        }
    }
}

fn is_taken(registry: &Registry, port: u16) -> bool {
    registry.resident(&NODE_PORTS, "", &port.to_string()).is_some()
}

fn refuse(registry: &Registry, held: &[u16], wanted: u64) -> Option<String> {
    let range = &registry.networks().node_ports;
    let port = u16::try_from(wanted).ok().filter(|port| range.contains(port));
    let Some(port) = port else {
        let (start, end) = (range.start(), range.end());
        return Some(format!("provided port is not in the valid range. The range of valid ports is {start}-{end}"));
    };
    (!held.contains(&port) && is_taken(registry, port)).then(|| "provided port is already allocated".to_owned())
}

/// A free port, from a random place on.
fn pick(registry: &Registry, mine: &[u16]) -> Option<u16> {
    let range = &registry.networks().node_ports;
    let size = u32::from(range.end() - range.start()) + 1;
    let start = u32::from(u16::from_le_bytes(crypto::random_bytes()));
    let candidates = (0..size).map(|step| range.start() + ((start + step) % size) as u16);
    candidates.into_iter().find(|port| !mine.contains(port) && !is_taken(registry, *port))
}

pub fn changes(old: &[u16], new: &[u16], service: &Value) -> Vec<Op<Stored>> {
    let taken = new.iter().filter(|port| !old.contains(port));
    let gone = old.iter().filter(|port| !new.contains(port));
    let take = taken.map(|port| {
        let object = json!({ "metadata": { "name": port.to_string() }, "spec": { "parentRef": parent(service) } });
        put(&NODE_PORTS, &object, Expect::Absent)
    });
    let release = gone.map(|port| Op {
        key: partition::key(&NODE_PORTS, "", &port.to_string()),
        expect: Expect::Anything,
        write: Write::Delete,
    });
    take.chain(release).collect()
}
