//! Cluster addresses as IPAddress objects: one is taken when its object can be created.
//!
//! Upstream: pkg/registry/core/service/ipallocator.

use std::net::IpAddr;
use std::sync::LazyLock;

use coracle_api::{Causes, Resource};
use coracle_base::crypto;
use coracle_store::{Expect, Op, Write};
use serde_json::{Value, json};

use super::{View, parent, resource};
use crate::registry::{Network, Registry, Stored, metadata, partition, put};

static ADDRESSES: LazyLock<Resource> = LazyLock::new(|| resource("networking.k8s.io", "ipaddresses"));

/// Fills `clusterIPs` for every family; addresses in `held` are the Service's own already.
pub fn allocate(registry: &Registry, held: &[String], new: &mut Value, causes: &mut Causes) {
    let view = View::of(new);
    if view.is_external_name() || view.is_headless() {
        return;
    }
    let families: Vec<String> = view.families().into_iter().map(str::to_owned).collect();
    let mut addresses: Vec<String> = view.cluster_ips().into_iter().map(str::to_owned).collect();
    addresses.resize(families.len(), String::new());
    for (index, family) in families.iter().enumerate() {
        let Some(network) = registry.networks().services.iter().find(|network| network.family() == family) else {
            continue;
        };
        if addresses[index].is_empty() {
            match pick(registry, network, &addresses) {
                Some(address) => addresses[index] = address.to_string(),
                None => causes
                    .internal("spec.clusterIPs", format!("failed to allocate a serviceIP: range {network} is full")),
            }
        } else if !held.contains(&addresses[index])
            && let Some(why) = refuse(registry, network, &addresses[index])
        {
            let detail = format!("failed to allocate IP {}: {why}", addresses[index]);
            causes.invalid("spec.clusterIPs", json!(addresses), detail);
        }
    }
    new["spec"]["clusterIP"] = json!(addresses.first());
    new["spec"]["clusterIPs"] = json!(addresses);
}

fn is_taken(registry: &Registry, address: IpAddr) -> bool {
    registry.resident(&ADDRESSES, "", &address.to_string()).is_some()
}

/// Why a wanted address cannot be had.
fn refuse(registry: &Registry, network: &Network, wanted: &str) -> Option<String> {
    let Ok(address) = wanted.parse::<IpAddr>() else { return Some("it is no address".to_owned()) };
    if !network.contains(address) || address == network.address {
        return Some("the provided network does not match the current range".to_owned());
    }
    is_taken(registry, address).then(|| "provided IP is already allocated".to_owned())
}

/// A free address, from a random place on; the lower band is left to those who choose their address.
fn pick(registry: &Registry, network: &Network, mine: &[String]) -> Option<IpAddr> {
    let size = network.size();
    let band = if size < 16 { 0 } else { (size / 16).clamp(16, 256).min(size / 2) };
    let start = u64::from(u32::from_le_bytes(crypto::random_bytes()));
    let upper = size - band;
    let upper_band = (0..upper).map(|step| band + 1 + (start + step) % upper);
    let candidates = upper_band.chain(1..=band).map(|index| network.nth(index));
    candidates.into_iter().find(|address| !is_taken(registry, *address) && !mine.contains(&address.to_string()))
}

/// Creates objects for addresses that are new, deletes those of addresses that are gone.
pub fn changes(old: &[String], new: &[String], service: &Value) -> Vec<Op<Stored>> {
    let taken = new.iter().filter(|address| !old.contains(address));
    let gone = old.iter().filter(|address| !new.contains(address));
    let take = taken.map(|address| put(&ADDRESSES, &object(address, service), Expect::Absent));
    let release = gone.map(|address| Op {
        key: partition::key(&ADDRESSES, "", address),
        expect: Expect::Anything,
        write: Write::Delete,
    });
    take.chain(release).collect()
}

fn object(address: &str, service: &Value) -> Value {
    let family = if address.contains(':') { "IPv6" } else { "IPv4" };
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": address, "uid": crypto::uuid(), "creationTimestamp": metadata::now(),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": family,
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": { "parentRef": parent(service) },
    })
}
