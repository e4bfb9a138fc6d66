//! `ipFamilyPolicy` and `ipFamilies` of a Service: what was not said is inferred from addresses and the cluster's networks.
//!
//! Upstream: alloc.go initIPFamilyFields.

use coracle_api::Causes;
use serde_json::{Value, json};

use super::{NONE, View};
use crate::registry::Networks;

const SINGLE: &str = "SingleStack";
const REQUIRE: &str = "RequireDualStack";

fn family_of(address: &str) -> &'static str {
    if address.contains(':') { "IPv6" } else { "IPv4" }
}

fn other(family: &str) -> &'static str {
    if family == "IPv4" { "IPv6" } else { "IPv4" }
}

pub fn fill(networks: &Networks, old: Option<&Value>, new: &mut Value, causes: &mut Causes) {
    let view = View::of(new);
    if view.is_external_name() {
        return;
    }
    let known = |family: &str| networks.services.iter().any(|network| network.family() == family);
    let default = networks.services.first().map_or("IPv4", |network| network.family());
    let bare_headless = view.cluster_ip() == NONE && !view.has_selector();
    let own = new["spec"]["ipFamilyPolicy"].as_str().filter(|policy| !policy.is_empty());
    let before = old.and_then(|old| old["spec"]["ipFamilyPolicy"].as_str());
    let policy = own.or(before).unwrap_or(if bare_headless { REQUIRE } else { SINGLE }).to_owned();
    let mut addresses: Vec<String> = view.cluster_ips().into_iter().map(str::to_owned).collect();
    let mut families: Vec<String> = view.families().into_iter().map(str::to_owned).collect();
    if let Some(old) = old.map(View::of) {
        let (same_addresses, same_families) = (old.cluster_ips() == addresses, old.families() == families);
        if policy == SINGLE {
            // Asking for one family is clear intent where the lists were left alone.
            if same_addresses {
                addresses.truncate(1);
            }
            if same_families {
                families.truncate(1);
            }
        } else {
            let released = |what: &str| format!("must be 'SingleStack' to release the secondary {what}");
            if old.cluster_ips().len() == 2 && addresses.len() == 1 {
                causes.invalid("spec.ipFamilyPolicy", policy.clone(), released("cluster IP"));
            }
            if old.families().len() == 2 && families.len() == 1 {
                causes.invalid("spec.ipFamilyPolicy", policy.clone(), released("IP family"));
            }
        }
    }
    if policy == SINGLE {
        let several =
            |what: &str| format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
        if addresses.len() == 2 {
            causes.invalid("spec.ipFamilyPolicy", policy.clone(), several("cluster IPs"));
        }
        if families.len() == 2 {
            causes.invalid("spec.ipFamilyPolicy", policy.clone(), several("IP families"));
        }
    }
    for (index, address) in addresses.iter().enumerate() {
        if address == NONE {
            break;
        }
        if index >= families.len() && !address.is_empty() {
            let family = family_of(address);
            if known(family) {
                families.push(family.to_owned());
            } else {
                let detail = format!("{family} is not configured on this cluster");
                causes.invalid(format!("spec.clusterIPs[{index}]"), json!(addresses), detail);
            }
        }
    }
    if causes.is_empty() && !bare_headless {
        if policy == REQUIRE && !known(other(default)) {
            let detail = "this cluster is not configured for dual-stack services";
            causes.invalid("spec.ipFamilyPolicy", policy.clone(), detail);
        }
        for (index, family) in families.iter().enumerate().filter(|(_, family)| !known(family)) {
            let detail = "not configured on this cluster";
            causes.invalid(format!("spec.ipFamilies[{index}]"), family.clone(), detail);
        }
    }
    if families.is_empty() {
        families.push(default.to_owned());
    }
    let second = other(&families[0]);
    // A headless Service without selector may name families that the cluster has not.
    if policy != SINGLE && families.len() == 1 && (bare_headless || known(second)) {
        families.push(second.to_owned());
    }
    let spec = &mut new["spec"];
    spec["ipFamilyPolicy"] = json!(policy);
    spec["ipFamilies"] = json!(families);
    if !addresses.is_empty() {
        spec["clusterIPs"] = json!(addresses);
    }
}
