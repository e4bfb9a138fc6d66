//! Groups with a few rules each. Upstream: pkg/apis/{coordination,discovery,rbac}/validation.

use super::core::ip_address;
use super::{PROTOCOLS, one_of};
use crate::causes::Causes;
use crate::names;
use crate::node::Node;

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;

pub(super) fn lease(lease: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    let spec = lease.get("spec");
    let (duration, transitions) = (spec.get("leaseDurationSeconds"), spec.get("leaseTransitions"));
    if duration.int().is_some_and(|seconds| seconds <= 0) {
        duration.invalid(causes, "must be greater than 0");
    }
    if transitions.int().is_some_and(|count| count < 0) {
        transitions.invalid(causes, "must be greater than or equal to 0");
    }
    if !spec.get("preferredHolder").is_empty() && spec.get("strategy").is_empty() {
        spec.get("preferredHolder").forbidden(causes, "may only be specified if `strategy` is defined");
    }
}

pub(super) fn endpoint_slice(slice: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (kind, ports, endpoints) = (slice.get("addressType"), slice.get("ports"), slice.get("endpoints"));
    one_of(kind, &["FQDN", "IPv4", "IPv6"], causes);
    if old.is_present() {
        super::immutable(kind, old.get("addressType"), causes);
    }
    let mut seen: Vec<&str> = Vec::new();
    for port in ports.items() {
        let name = port.get("name");
        if !name.is_empty() {
            name.invalid_each(causes, names::dns_1123_label(name.str()));
        }
        if seen.contains(&name.str()) {
            causes.duplicate(name.path(), name.str());
        }
        seen.push(name.str());
        one_of(port.get("protocol"), PROTOCOLS, causes);
    }
    if old.is_present() && old.get("endpoints").value() == endpoints.value() {
        return;
    }
    if endpoints.len() > MAX_ENDPOINTS {
        return causes.too_many(endpoints.path(), endpoints.len(), MAX_ENDPOINTS);
    }
    for endpoint in endpoints.items() {
        let addresses = endpoint.get("addresses");
        match addresses.len() {
            0 => addresses.required(causes, "must contain at least 1 address"),
            count if count > MAX_ADDRESSES => causes.too_many(addresses.path(), count, MAX_ADDRESSES),
            _ => {}
        }
        for address in addresses.items().filter(|_| matches!(kind.str(), "IPv4" | "IPv6")) {
            ip_address(address, causes);
        }
        let name = endpoint.get("hostname");
        if name.is_present() {
            name.invalid_each(causes, names::dns_1123_label(name.str()));
        }
    }
}

pub(super) fn role(role: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    for rule in role.get("rules").items() {
        let (verbs, urls) = (rule.get("verbs"), rule.get("nonResourceURLs"));
        if verbs.is_empty() {
            verbs.required(causes, "verbs must contain at least one value");
        }
        if !urls.is_empty() {
            if role.get("kind").str() == "Role" {
                urls.invalid(causes, "namespaced rules cannot apply to non-resource URLs");
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !rule.get(field).is_empty()) {
                urls.invalid(causes, "rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        if rule.get("apiGroups").is_empty() {
            rule.get("apiGroups").required(causes, "resource rules must supply at least one api group");
        }
        if rule.get("resources").is_empty() {
            rule.get("resources").required(causes, "resource rules must supply at least one resource");
        }
    }
}

pub(super) fn role_binding(binding: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let role = binding.get("roleRef");
    if old.is_present() && old.get("roleRef").value() != role.value() {
        role.invalid(causes, "cannot change roleRef");
    }
    if role.get("apiGroup").str() != "rbac.authorization.k8s.io" {
        role.get("apiGroup").not_supported(causes, &["rbac.authorization.k8s.io"]);
    }
    let kinds: &[&str] =
        if binding.get("kind").str() == "RoleBinding" { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&role.get("kind").str()) {
        role.get("kind").not_supported(causes, kinds);
    }
    if role.get("name").is_empty() {
        role.get("name").required(causes, "");
    }
    for subject in binding.get("subjects").items() {
        let (name, kind, group) = (subject.get("name"), subject.get("kind"), subject.get("apiGroup"));
        if name.is_empty() {
            name.required(causes, "");
        }
        match kind.str() {
            "ServiceAccount" => {
                if !group.is_empty() {
                    group.not_supported(causes, &[""]);
                }
                if subject.get("namespace").is_empty() {
                    subject.get("namespace").required(causes, "");
                }
            }
            "User" | "Group" => {
                if group.str() != "rbac.authorization.k8s.io" {
                    group.not_supported(causes, &["rbac.authorization.k8s.io"]);
                }
            }
            _ => kind.not_supported(causes, &["ServiceAccount", "User", "Group"]),
        }
    }
}
