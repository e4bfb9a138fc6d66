//! Services. Upstream: pkg/apis/core/validation validateService.

use super::{PROTOCOLS, container, labels, one_of};
use crate::causes::{Broken, Causes, FieldError};
use crate::names;
use crate::node::Node;

const MAX_AFFINITY_SECONDS: i64 = 86400;

pub(super) fn service(service: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    let spec = service.get("spec");
    let (ports, kind) = (spec.get("ports"), spec.get("type").str());
    let headless = spec.get("clusterIP").str() == "None";
    if ports.is_empty() && !headless && kind != "ExternalName" {
        ports.required(causes, "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            causes.invalid("spec.clusterIPs[0]", "None", format!("may not be set to 'None' for {kind} services"));
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let node = spec.get(field);
                if !node.is_empty() {
                    node.forbidden(causes, "may not be set for ExternalName services");
                }
            }
            let name = spec.get("externalName");
            match name.str().trim_end_matches('.') {
                "" => name.required(causes, ""),
                host => name.invalid_each(causes, names::dns_1123_subdomain(host)),
            }
        }
        _ => {}
    }
    each_port(ports, causes);
    labels::labels(spec.get("selector"), causes);
    affinity(spec, causes);
    one_of(spec.get("type"), &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], causes);
    for port in ports.items().filter(|_| kind == "ClusterIP") {
        let node_port = port.get("nodePort");
        if !node_port.is_empty() {
            node_port.forbidden(causes, "may not be used when `type` is 'ClusterIP'");
        }
    }
    duplicates(ports, causes);
    if spec.get("allocateLoadBalancerNodePorts").is_present() && kind != "LoadBalancer" {
        let node = spec.get("allocateLoadBalancerNodePorts");
        node.forbidden(causes, "may only be used when `type` is 'LoadBalancer'");
    }
    if !spec.get("loadBalancerSourceRanges").is_empty() && kind != "LoadBalancer" {
        causes.forbidden("spec.LoadBalancerSourceRanges", "may only be used when `type` is 'LoadBalancer'");
    }
    traffic(spec, causes);
}

fn each_port(ports: Node<'_, '_>, causes: &mut Causes) {
    let mut seen: Vec<&str> = Vec::new();
    for port in ports.items() {
        let (name, number) = (port.get("name"), port.get("port"));
        if !name.is_empty() {
            name.invalid_each(causes, names::dns_1123_label(name.str()));
            if seen.contains(&name.str()) {
                name.duplicate(causes);
            }
            seen.push(name.str());
        } else if ports.len() > 1 {
            name.required(causes, "");
        }
        let value = number.int().unwrap_or_default();
        for message in names::port_number(value) {
            causes.invalid(number.path(), value, message);
        }
        one_of(port.get("protocol"), PROTOCOLS, causes);
        container::port_or_name(port.get("targetPort"), causes);
        let protocol = port.get("appProtocol");
        if protocol.is_present() {
            protocol.invalid_each(causes, names::qualified_name(protocol.str()));
        }
    }
}

fn duplicates(ports: Node<'_, '_>, causes: &mut Causes) {
    let key = |port: Node<'_, '_>, field: &str| {
        port.get(field)
            .int()
            .filter(|number| *number != 0)
            .map(|number| (port.get("protocol").str().to_owned(), number))
    };
    let earlier = |index: usize, field: &str, wanted: &(String, i64)| {
        ports.items().take(index).any(|port| key(port, field).as_ref() == Some(wanted))
    };
    for (index, port) in ports.items().enumerate() {
        if key(port, "nodePort").is_some_and(|wanted| earlier(index, "nodePort", &wanted)) {
            port.get("nodePort").duplicate(causes);
        }
    }
    for (index, port) in ports.items().enumerate() {
        let Some(wanted) = key(port, "port") else { continue };
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
    one_of(affinity, &["ClientIP", "None"], causes);
    match affinity.str() {
        "ClientIP" => {
            let client = config.get("clientIP");
            let timeout = client.get("timeoutSeconds");
            let seconds = timeout.int();
            if seconds.is_none() {
                config.required(causes, "when session affinity type is ClientIP");
            } else if !seconds.is_some_and(|seconds| (1..=MAX_AFFINITY_SECONDS).contains(&seconds)) {
                timeout.invalid(causes, format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}"));
            }
        }
        "None" if config.is_present() => config.forbidden(causes, "must not be set when session affinity is None"),
        _ => {}
    }
}

fn traffic(spec: Node<'_, '_>, causes: &mut Causes) {
    let kind = spec.get("type").str();
    let (external, internal) = (spec.get("externalTrafficPolicy"), spec.get("internalTrafficPolicy"));
    let reachable =
        matches!(kind, "LoadBalancer" | "NodePort") || (kind == "ClusterIP" && !spec.get("externalIPs").is_empty());
    if reachable {
        one_of(external, &["Cluster", "Local"], causes);
    } else if !external.is_empty() {
        external.invalid(causes, "may only be set for externally-accessible services");
    }
    let check = spec.get("healthCheckNodePort");
    let checked = kind == "LoadBalancer" && external.str() == "Local";
    if !check.is_empty() && !checked {
        check.invalid(causes, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
    }
    if internal.is_present() || matches!(kind, "ClusterIP" | "LoadBalancer" | "NodePort") {
        one_of(internal, &["Cluster", "Local"], causes);
    }
}
