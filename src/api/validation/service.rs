//! Services. Upstream: pkg/apis/core/validation validateService, ValidateServiceUpdate.

use super::checks::{IMMUTABLE, Seen};
use super::network::{self, legacy_ip_messages, legacy_range_messages};
use super::{PROTOCOLS, labels, pod};
use crate::causes::{Broken, Causes, FieldError};
use crate::names;
use crate::node::Node;

const MAX_AFFINITY_SECONDS: i64 = 86400;
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

pub(super) fn service(service: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (spec, before, meta) = (service.get("spec"), old.get("spec"), service.get("metadata"));
    if old.is_present() {
        addresses_kept(spec, before, causes);
        families_kept(spec, before, causes);
        balancer_kept(spec, before, causes);
    }
    let annotations = meta.get("annotations");
    let (mode, hints) = (annotations.key(TOPOLOGY_MODE), annotations.key(TOPOLOGY_HINTS));
    if mode.is_present() && hints.is_present() && mode.str() != hints.str() {
        mode.invalid(causes, format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified"));
    }
    let (ports, kind) = (spec.get("ports"), spec.get("type").str());
    if ports.is_empty() && !is_headless(spec) && kind != "ExternalName" {
        ports.required(causes, "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            causes.invalid("spec.clusterIPs[0]", "None", format!("may not be set to 'None' for {kind} services"));
        }
        "ExternalName" => external_name(spec, causes),
        _ => {}
    }
    each_port(ports, causes);
    labels::labels(spec.get("selector"), causes);
    affinity(spec, causes);
    cluster_addresses(spec, before, causes);
    let known = before.get("externalIPs");
    for address in spec.get("externalIPs").items() {
        let messages = legacy_ip_messages(address.str());
        if messages.is_empty() || known.items().any(|known| known.str() == address.str()) {
            network::endpoint_ip(address, causes);
        } else {
            super::checks::each(address, messages, causes);
        }
    }
    spec.get("type").need_one_of(&["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], causes);
    for port in ports.items().filter(|_| kind == "ClusterIP") {
        if !port.get("nodePort").is_empty() {
            port.get("nodePort").forbidden(causes, "may not be used when `type` is 'ClusterIP'");
        }
    }
    duplicates(ports, causes);
    balancer(spec, before, annotations, causes);
    traffic(spec, causes);
}

fn is_headless(spec: Node<'_, '_>) -> bool {
    let addresses = spec.get("clusterIPs");
    addresses.len() == 1 && addresses.items().all(|address| address.str() == "None")
}

fn external_name(spec: Node<'_, '_>, causes: &mut Causes) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !spec.get(field).is_empty() {
            spec.get(field).forbidden(causes, "may not be set for ExternalName services");
        }
    }
    let name = spec.get("externalName");
    match name.str().strip_suffix('.').unwrap_or(name.str()) {
        "" => name.required(causes, ""),
        host => {
            for message in names::dns_1123_subdomain(host) {
                causes.invalid(name.path(), host, message);
            }
        }
    }
}

fn each_port(ports: Node<'_, '_>, causes: &mut Causes) {
    let mut seen = Seen::new();
    for port in ports.items() {
        let (name, number, protocol) = (port.get("name"), port.get("port"), port.get("appProtocol"));
        if !name.is_empty() {
            name.keep(names::dns_1123_label, causes);
            if !seen.insert(name.str()) {
                name.duplicate(causes);
            }
        } else if ports.len() > 1 {
            name.required(causes, "");
        }
        for message in names::port_number(number.number()) {
            number.invalid_number(causes, message);
        }
        port.get("protocol").need_one_of(PROTOCOLS, causes);
        pod::handlers::port_or_name(port.get("targetPort"), causes);
        if protocol.is_present() {
            protocol.keep(names::qualified_name, causes);
        }
    }
}

fn duplicates(ports: Node<'_, '_>, causes: &mut Causes) {
    let key = |port: Node<'_, '_>, field: &str| (port.get("protocol").str().to_owned(), port.get(field).number());
    let earlier = |index: usize, field: &str, wanted: &(String, i64)| {
        ports.items().take(index).any(|port| key(port, field) == *wanted)
    };
    for (index, port) in ports.items().enumerate() {
        let wanted = key(port, "nodePort");
        if wanted.1 != 0 && earlier(index, "nodePort", &wanted) {
            port.get("nodePort").duplicate(causes);
        }
    }
    for (index, port) in ports.items().enumerate() {
        let wanted = key(port, "port");
        if earlier(index, "port", &wanted) {
            // Upstream prints its internal struct, with Go's names and order.
            let (protocol, number) = (crate::quoting::quote(&wanted.0), wanted.1);
            let shown = format!(
                "{{\"Name\":\"\",\"Protocol\":{protocol},\"AppProtocol\":null,\"Port\":{number},\"TargetPort\":0,\"NodePort\":0}}"
            );
            causes.push(FieldError { broken: Broken::Duplicate, field: port.path(), value: None, detail: shown });
        }
    }
}

fn affinity(spec: Node<'_, '_>, causes: &mut Causes) {
    let (affinity, config) = (spec.get("sessionAffinity"), spec.get("sessionAffinityConfig"));
    affinity.need_one_of(&["ClientIP", "None"], causes);
    match affinity.str() {
        "ClientIP" => {
            let client = config.get("clientIP");
            let timeout = client.get("timeoutSeconds");
            let why = "when session affinity type is ClientIP";
            if let Some(missing) = [config, client, timeout].iter().find(|node| node.is_absent()) {
                missing.required(causes, why);
            } else if !(1..=MAX_AFFINITY_SECONDS).contains(&timeout.number()) {
                timeout.invalid(causes, format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}"));
            }
        }
        "None" if config.is_present() => config.forbidden(causes, "must not be set when session affinity is None"),
        _ => {}
    }
}

/// Upstream: ValidateServiceClusterIPsRelatedFields.
fn cluster_addresses(spec: Node<'_, '_>, before: Node<'_, '_>, causes: &mut Causes) {
    if spec.get("type").str() == "ExternalName" {
        return;
    }
    let (first, list, families) = (spec.get("clusterIP"), spec.get("clusterIPs"), spec.get("ipFamilies"));
    let head = list.items().next().map_or("", |address| address.str());
    match (first.is_empty(), list.is_empty()) {
        (false, true) => list.required(causes, ""),
        (false, false) if head != first.str() => list.invalid(causes, "first value must match `clusterIP`"),
        (true, false) => list.invalid(causes, "must be empty when `clusterIP` is not specified"),
        _ => {}
    }
    let mut seen = Seen::new();
    for family in families.items() {
        family.one_of(&["IPv4", "IPv6"], causes);
        if !seen.insert(family.str()) {
            family.duplicate(causes);
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    spec.get("ipFamilyPolicy").one_of_if_present(&policies, causes);
    let known = before.get("clusterIPs");
    let mut broken = false;
    for (index, address) in list.items().enumerate() {
        if index == 0 && address.str() == "None" {
            if list.len() > 1 {
                broken = true;
                list.invalid(causes, "'None' must be the first and only value");
            }
            continue;
        }
        let messages = legacy_ip_messages(address.str());
        if !known.items().any(|known| known.str() == address.str()) {
            broken |= !messages.is_empty();
            super::checks::each(address, messages, causes);
        }
    }
    if list.len() > 2 {
        list.invalid(causes, "may only hold up to 2 values");
    }
    if broken {
        return;
    }
    let is_v4 = |address: Node<'_, '_>| network::parse_sloppy(address.str()).is_some_and(|ip| ip.is_ipv4());
    let count = list.items().filter(|address| is_v4(*address)).count();
    if list.len() > 1 && (count == 0 || count == list.len()) {
        list.invalid(causes, "may specify no more than one IP for each IP family");
    }
    if is_headless(spec) {
        return;
    }
    for (index, (address, family)) in list.items().zip(families.items()).enumerate() {
        let wanted = family.str();
        if matches!(wanted, "IPv4" | "IPv6") && is_v4(address) != (wanted == "IPv4") {
            let why = format!("expected an {wanted} value as indicated by `ipFamilies[{index}]`");
            address.invalid(causes, why);
        }
    }
}

fn balancer(spec: Node<'_, '_>, before: Node<'_, '_>, annotations: Node<'_, '_>, causes: &mut Causes) {
    let balances = spec.get("type").str() == "LoadBalancer";
    let only = "may only be used when `type` is 'LoadBalancer'";
    let (ranges, known) =
        (spec.get_as("loadBalancerSourceRanges", "LoadBalancerSourceRanges"), before.get("loadBalancerSourceRanges"));
    let annotation = annotations.key(SOURCE_RANGES);
    if !ranges.is_empty() {
        if !balances {
            ranges.forbidden(causes, only);
        }
        for range in ranges.items() {
            let text = range.str().trim();
            if known.items().any(|known| known.str().trim() == text) {
                continue;
            }
            for message in legacy_range_messages(text) {
                causes.invalid(range.path(), text, message);
            }
        }
    } else if annotation.is_present() {
        if !balances {
            annotation.forbidden(causes, only);
        }
        for range in annotation.str().split(',').map(str::trim).filter(|_| !annotation.str().trim().is_empty()) {
            for message in legacy_range_messages(range) {
                causes.invalid(annotation.path(), range, message);
            }
        }
    }
    let (allocate, class) = (spec.get("allocateLoadBalancerNodePorts"), spec.get("loadBalancerClass"));
    if allocate.is_present() && !balances {
        allocate.forbidden(causes, only);
    }
    if allocate.is_absent() && balances {
        causes.required("allocateLoadBalancerNodePorts", "");
    }
    if class.is_present() {
        if balances {
            class.keep(names::qualified_name, causes);
        } else {
            class.forbidden(causes, only);
        }
    }
}

fn is_reachable(spec: Node<'_, '_>) -> bool {
    match spec.get("type").str() {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !spec.get("externalIPs").is_empty(),
        _ => false,
    }
}

fn needs_health_check(spec: Node<'_, '_>) -> bool {
    spec.get("type").str() == "LoadBalancer" && spec.get("externalTrafficPolicy").str() == "Local"
}

fn traffic(spec: Node<'_, '_>, causes: &mut Causes) {
    let (external, internal) = (spec.get("externalTrafficPolicy"), spec.get("internalTrafficPolicy"));
    if is_reachable(spec) {
        external.need_one_of(&["Cluster", "Local"], causes);
    } else if !external.is_empty() {
        external.invalid(causes, "may only be set for externally-accessible services");
    }
    let check = spec.get("healthCheckNodePort");
    if needs_health_check(spec) {
        // A port that was not asked for is allocated when the Service is stored.
        if !check.is_empty() {
            check.in_range(1, 65535, causes);
        }
    } else if !check.is_empty() {
        check.invalid(causes, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
    }
    if internal.is_present() {
        internal.one_of(&["Cluster", "Local"], causes);
    } else if matches!(spec.get("type").str(), "ClusterIP" | "LoadBalancer" | "NodePort") {
        internal.required(causes, "");
    }
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    spec.get("trafficDistribution").one_of_if_present(&distributions, causes);
}

fn either_is_external_name(spec: Node<'_, '_>, before: Node<'_, '_>) -> bool {
    [spec, before].iter().any(|spec| spec.get("type").str() == "ExternalName")
}

/// Upstream: validateUpgradeDowngradeClusterIPs.
fn addresses_kept(spec: Node<'_, '_>, before: Node<'_, '_>, causes: &mut Causes) {
    let (list, old) = (spec.get("clusterIPs"), before.get("clusterIPs"));
    if either_is_external_name(spec, before) || is_headless(spec) && is_headless(before) {
        return;
    }
    let shown = list.value().cloned().unwrap_or_default();
    let same_length = list.len() == old.len();
    for (index, (new, old)) in list.items().zip(old.items()).enumerate() {
        if new.str() != old.str() && (same_length || index == 0) {
            causes.invalid(format!("spec.clusterIPs[{index}]"), shown.clone(), "may not change once set");
        }
    }
    if old.len() > list.len() {
        if list.is_empty() {
            causes.invalid("spec.clusterIPs[0]", shown, "primary clusterIP can not be unset");
        }
        released(spec, list.len(), "clusterIP", causes);
    }
}

/// Upstream: validateUpgradeDowngradeIPFamilies.
fn families_kept(spec: Node<'_, '_>, before: Node<'_, '_>, causes: &mut Causes) {
    let (list, old) = (spec.get("ipFamilies"), before.get("ipFamilies"));
    if either_is_external_name(spec, before) || is_headless(spec) || is_headless(before) {
        return;
    }
    let shown = |node: Node<'_, '_>| node.value().cloned().unwrap_or_default();
    let same_length = list.len() == old.len();
    for (index, (new, old)) in list.items().zip(old.items()).enumerate() {
        if new.str() != old.str() && (same_length || index == 0) {
            let value = if same_length { shown(list) } else { shown(spec.get("clusterIPs")) };
            causes.invalid("spec.ipFamilies[0]", value, "may not change once set");
        }
    }
    if old.len() > list.len() {
        if spec.get("clusterIPs").is_empty() {
            causes.invalid("spec.ipFamilies[0]", shown(list), "primary ipFamily can not be unset");
        }
        released(spec, list.len(), "ipFamily", causes);
    }
}

fn released(spec: Node<'_, '_>, left: usize, what: &str, causes: &mut Causes) {
    let policy = spec.get("ipFamilyPolicy");
    if left == 1 && policy.str() != "SingleStack" {
        policy.invalid(causes, format!("must be set to 'SingleStack' when releasing the secondary {what}"));
    }
}

fn balancer_kept(spec: Node<'_, '_>, before: Node<'_, '_>, causes: &mut Causes) {
    let balances = |spec: Node<'_, '_>| spec.get("type").str() == "LoadBalancer";
    let class = spec.get("loadBalancerClass");
    if balances(spec) && balances(before) && class.value() != before.get("loadBalancerClass").value() {
        class.invalid(causes, "may not change once set");
    }
    let check = spec.get("healthCheckNodePort");
    if needs_health_check(spec)
        && needs_health_check(before)
        && check.value() != before.get("healthCheckNodePort").value()
    {
        check.forbidden(causes, IMMUTABLE);
    }
}

/// Writes to `status`.
pub(super) fn status(service: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (status, before, spec) = (service.get("status"), old.get("status"), service.get("spec"));
    let (balancer, before) = (status.get("loadBalancer"), before.get("loadBalancer"));
    let (ingress, known) = (balancer.get("ingress"), before.get("ingress"));
    if spec.get("type").str() != "LoadBalancer" && !ingress.is_empty() {
        return ingress.forbidden(causes, "may only be used when `spec.type` is 'LoadBalancer'");
    }
    for point in ingress.items() {
        let (ip, mode) = (point.get("ip"), point.get("ipMode"));
        if !ip.is_empty() && known.find("ip", ip.str()).is_none() {
            network::legacy_ip(ip, causes);
        }
        match (ip.is_empty(), mode.is_absent()) {
            (false, true) => mode.required(causes, "must be specified when `ip` is set"),
            (true, false) => mode.forbidden(causes, "may not be specified when `ip` is not set"),
            (false, false) => mode.one_of(&["Proxy", "VIP"], causes),
            (true, true) => {}
        }
        network::balancer_host(point.get("hostname"), causes);
    }
}
