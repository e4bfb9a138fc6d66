//! Cells of Services, endpoints and ingresses.

use serde_json::Value;

use super::{Now, label_selector, labels, some_of};
use crate::node::Node;

pub(super) fn cluster_ip(service: Node<'_, '_>, _: &Now) -> Value {
    let spec = service.get("spec");
    let addresses = spec.get("clusterIPs");
    let first = addresses.items().next().map_or(spec.get("clusterIP").str(), |address| address.str());
    if first.is_empty() { "<none>".into() } else { first.into() }
}

pub(super) fn external_ip(service: Node<'_, '_>, _: &Now) -> Value {
    let (spec, status) = (service.get("spec"), service.get("status"));
    let own = spec.get("externalIPs");
    let own: Vec<&str> = own.items().map(|address| address.str()).collect();
    match spec.get("type").str() {
        "ExternalName" => spec.get("externalName").str().into(),
        "LoadBalancer" => {
            let mut all = ingress_addresses(status.get("loadBalancer"));
            all.extend(own);
            if all.is_empty() { "<pending>".into() } else { all.join(",").into() }
        }
        "ClusterIP" | "NodePort" if own.is_empty() => "<none>".into(),
        "ClusterIP" | "NodePort" => own.join(",").into(),
        _ => "<unknown>".into(),
    }
}

fn ingress_addresses<'v>(balancer: Node<'v, '_>) -> Vec<&'v str> {
    let ingress = balancer.get("ingress");
    let mut addresses: Vec<&str> = ingress
        .items()
        .map(|point| match point.get("ip").str() {
            "" => point.get("hostname").str(),
            address => address,
        })
        .filter(|address| !address.is_empty())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

pub(super) fn ports(service: Node<'_, '_>, _: &Now) -> Value {
    let spec = service.get("spec");
    let ports = spec.get("ports");
    let shown: Vec<String> = ports
        .items()
        .map(|port| {
            let (number, protocol) = (port.get("port").int().unwrap_or_default(), port.get("protocol").str());
            match port.get("nodePort").int().filter(|node_port| *node_port > 0) {
                Some(node_port) => format!("{number}:{node_port}/{protocol}"),
                None => format!("{number}/{protocol}"),
            }
        })
        .collect();
    if shown.is_empty() { "<none>".into() } else { shown.join(",").into() }
}

pub(super) fn selector(object: Node<'_, '_>, _: &Now) -> Value {
    labels(object.get("spec").get("selector")).into()
}

pub(super) fn pod_selector(policy: Node<'_, '_>, _: &Now) -> Value {
    label_selector(policy.get("spec").get("podSelector")).into()
}

pub(super) fn endpoints(object: Node<'_, '_>, _: &Now) -> Value {
    let mut shown = Vec::new();
    for subset in object.get("subsets").items() {
        let (addresses, ports) = (subset.get("addresses"), subset.get("ports"));
        if ports.is_empty() {
            shown.extend(addresses.items().map(|address| address.get("ip").str().to_owned()));
        }
        for port in ports.items() {
            let number = port.get("port").int().unwrap_or_default();
            shown.extend(addresses.items().map(|address| match address.get("ip").str() {
                address if address.contains(':') => format!("[{address}]:{number}"),
                address => format!("{address}:{number}"),
            }));
        }
    }
    if object.get("subsets").is_empty() { "<none>".into() } else { some_of(&shown, shown.len()).into() }
}

pub(super) fn slice_ports(slice: Node<'_, '_>, _: &Now) -> Value {
    let ports = slice.get("ports");
    let shown: Vec<String> = ports
        .items()
        .map(|port| match (port.get("port").int(), port.get("name").value()) {
            (Some(number), _) => number.to_string(),
            (None, Some(_)) => port.get("name").str().to_owned(),
            (None, None) => "*".to_owned(),
        })
        .collect();
    or_unset(some_of(&shown, shown.len()))
}

pub(super) fn slice_endpoints(slice: Node<'_, '_>, _: &Now) -> Value {
    let mut shown = Vec::new();
    for endpoint in slice.get("endpoints").items() {
        shown.extend(endpoint.get("addresses").items().map(|address| address.str().to_owned()));
    }
    or_unset(some_of(&shown, shown.len()))
}

fn or_unset(text: String) -> Value {
    if text.is_empty() { "<unset>".into() } else { text.into() }
}

pub(super) fn ingress_hosts(ingress: Node<'_, '_>, _: &Now) -> Value {
    let spec = ingress.get("spec");
    let rules = spec.get("rules");
    let hosts: Vec<String> =
        rules.items().map(|rule| rule.get("host").str().to_owned()).filter(|host| !host.is_empty()).collect();
    if hosts.is_empty() {
        return "*".into();
    }
    let total = if hosts.len() >= 3 { rules.len() } else { hosts.len() };
    some_of(&hosts, total).into()
}

pub(super) fn ingress_address(ingress: Node<'_, '_>, _: &Now) -> Value {
    let status = ingress.get("status");
    ingress_addresses(status.get("loadBalancer")).join(",").into()
}

pub(super) fn ingress_ports(ingress: Node<'_, '_>, _: &Now) -> Value {
    if ingress.get("spec").get("tls").is_empty() { "80".into() } else { "80, 443".into() }
}

pub(super) fn class_name(class: Node<'_, '_>, _: &Now) -> Value {
    let metadata = class.get("metadata");
    let annotations = metadata.get("annotations");
    let default = annotations.key("ingressclass.kubernetes.io/is-default-class").str() == "true";
    format!("{}{}", metadata.get("name").str(), if default { " (default)" } else { "" }).into()
}

pub(super) fn class_parameters(class: Node<'_, '_>, _: &Now) -> Value {
    let spec = class.get("spec");
    let parameters = spec.get("parameters");
    if parameters.is_absent() {
        return "<none>".into();
    }
    let group = match parameters.get("apiGroup").value() {
        Some(_) => format!(".{}", parameters.get("apiGroup").str()),
        None => String::new(),
    };
    format!("{}{group}/{}", parameters.get("kind").str(), parameters.get("name").str()).into()
}

pub(super) fn address_parent(address: Node<'_, '_>, _: &Now) -> Value {
    let spec = address.get("spec");
    let parent = spec.get("parentRef");
    if parent.is_absent() {
        return "<none>".into();
    }
    let dotted = |text: &str| if text.is_empty() { String::new() } else { format!(".{text}") };
    let slashed = |text: &str| if text.is_empty() { String::new() } else { format!("/{text}") };
    let resource = format!("{}{}", parent.get("resource").str(), dotted(parent.get("group").str())).to_lowercase();
    format!("{resource}{}/{}", slashed(parent.get("namespace").str()), parent.get("name").str()).into()
}

pub(super) fn ranges(object: Node<'_, '_>, _: &Now) -> Value {
    let spec = object.get("spec");
    let ranges = spec.get("cidrs");
    ranges.items().map(|range| range.str()).collect::<Vec<_>>().join(",").into()
}
