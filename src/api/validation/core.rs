//! Single kinds of the core group. Upstream: pkg/apis/core/validation.

use base64::Engine;

use super::{PROTOCOLS, labels, one_of};
use crate::causes::Causes;
use crate::names;
use crate::node::Node;

/// Bytes of all values of a ConfigMap or Secret together.
const MAX_DATA: usize = 1024 * 1024;

pub(super) fn config_map(map: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    unchanged(map, old, &["data", "binaryData"], causes);
    let (data, binary) = (map.get("data"), map.get("binaryData"));
    let mut size = 0;
    for (key, value) in data.entries() {
        for message in names::config_key(key) {
            causes.invalid(value.path(), key, message);
        }
        if binary.key(key).is_present() {
            causes.invalid(value.path(), key, "duplicate of key present in binaryData");
        }
        size += value.str().len();
    }
    for (key, value) in binary.entries() {
        for message in names::config_key(key) {
            causes.invalid(value.path(), key, message);
        }
        size += value.str().len() / 4 * 3;
    }
    if size > MAX_DATA {
        // As Go prints a path of one empty name.
        causes.too_long("[]", MAX_DATA);
    }
}

pub(super) fn secret(secret: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    if old.is_present() {
        super::immutable(secret.get("type"), old.get("type"), causes);
    }
    unchanged(secret, old, &["data"], causes);
    let data = secret.get("data");
    let mut size = 0;
    for (key, value) in data.entries() {
        for message in names::config_key(key) {
            causes.invalid(value.path(), key, message);
        }
        size += value.str().len() / 4 * 3;
    }
    if size > MAX_DATA {
        data.too_long(causes, MAX_DATA);
    }
    let mut require = |key: &str| {
        if data.key(key).is_absent() {
            data.key(key).required(causes, "");
        }
    };
    match secret.get("type").str() {
        "kubernetes.io/service-account-token" => {
            let meta = secret.get("metadata");
            let annotations = meta.get("annotations");
            let name = annotations.key("kubernetes.io/service-account.name");
            if name.is_empty() {
                name.required(causes, "");
            }
        }
        "kubernetes.io/dockercfg" => json_key(data.key(".dockercfg"), causes),
        "kubernetes.io/dockerconfigjson" => json_key(data.key(".dockerconfigjson"), causes),
        "kubernetes.io/basic-auth" if data.key("username").is_absent() && data.key("password").is_absent() => {
            require("username");
            require("password");
        }
        "kubernetes.io/ssh-auth" => require("ssh-privatekey"),
        "kubernetes.io/tls" => {
            require("tls.crt");
            require("tls.key");
        }
        _ => {}
    }
}

fn json_key(node: Node<'_, '_>, causes: &mut Causes) {
    if node.is_absent() {
        return node.required(causes, "");
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(node.str()).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes) {
        causes.invalid(node.path(), "<secret contents redacted>", error.to_string());
    }
}

/// Once `immutable` is set it stays, and so do the fields it stands for.
fn unchanged(new: Node<'_, '_>, old: Node<'_, '_>, fields: &[&str], causes: &mut Causes) {
    if !old.get("immutable").bool() {
        return;
    }
    let why = "field is immutable when `immutable` is set";
    if !new.get("immutable").bool() {
        new.get("immutable").forbidden(causes, why);
    }
    for field in fields {
        if new.get(field).value() != old.get(field).value() {
            new.get(field).forbidden(causes, why);
        }
    }
}

pub(super) fn node(node: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (spec, before) = (node.get("spec"), old.get("spec"));
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (index, taint) in spec.get("taints").items().enumerate() {
        // Upstream names the path under metadata.
        let path = |field: &str| format!("metadata.taints[{index}].{field}");
        let (key, value, effect) = (taint.get("key").str(), taint.get("value").str(), taint.get("effect").str());
        for message in names::qualified_name(key) {
            causes.invalid(path("key"), key, message);
        }
        let messages = names::label_value(value);
        if !messages.is_empty() {
            causes.invalid(path("value"), value, messages.join(";"));
        }
        if effect.is_empty() {
            causes.required(path("effect"), "");
        } else if !labels::EFFECTS.contains(&effect) {
            causes.not_supported(path("effect"), effect, labels::EFFECTS);
        }
        if seen.contains(&(key, effect)) {
            causes.duplicate(format!("metadata.taints[{index}]"), taint.value().cloned().unwrap_or_default());
        }
        seen.push((key, effect));
    }
    let ranges = before.get("podCIDRs");
    if !ranges.is_empty() && ranges.value() != spec.get("podCIDRs").value() {
        let why = "node updates may not change podCIDR except from \"\" to valid";
        spec.get("podCIDRs").forbidden(causes, why);
    }
}

pub(super) fn endpoints(endpoints: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let subsets = endpoints.get("subsets");
    if old.is_present() && old.get("subsets").value() == subsets.value() {
        return;
    }
    for subset in subsets.items() {
        let (ready, unready, ports) = (subset.get("addresses"), subset.get("notReadyAddresses"), subset.get("ports"));
        if ready.is_empty() && unready.is_empty() {
            subset.required(causes, "must specify `addresses` or `notReadyAddresses`");
        }
        for address in ready.items().chain(unready.items()) {
            ip_address(address.get("ip"), causes);
        }
        for port in ports.items() {
            let name = port.get("name");
            if !name.is_empty() {
                name.invalid_each(causes, names::dns_1123_label(name.str()));
            } else if ports.len() > 1 {
                name.required(causes, "");
            }
            let number = port.get("port").int().unwrap_or_default();
            for message in names::port_number(number) {
                causes.invalid(port.get("port").path(), number, message);
            }
            one_of(port.get("protocol"), PROTOCOLS, causes);
        }
    }
}

/// An address that traffic may be sent to.
pub(super) fn ip_address(node: Node<'_, '_>, causes: &mut Causes) {
    let Ok(address) = node.str().parse::<std::net::IpAddr>() else {
        return causes.invalid(
            node.path(),
            node.str(),
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        );
    };
    if address.is_unspecified() {
        node.invalid(causes, format!("may not be unspecified ({})", node.str()));
    }
    if address.is_loopback() {
        node.invalid(causes, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let link_local = match address {
        std::net::IpAddr::V4(address) => address.is_link_local(),
        std::net::IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if link_local {
        node.invalid(causes, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
}
