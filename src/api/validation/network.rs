//! Addresses, and the kinds of networking.k8s.io. Upstream: k8s.io/apimachinery pkg/util/validation/ip.go,
//! pkg/apis/networking/validation.

use std::net::IpAddr;

use super::checks::IMMUTABLE;
use super::{PROTOCOLS, labels};
use crate::causes::Causes;
use crate::int_or_string::IntOrString;
use crate::names;
use crate::node::Node;

const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// As Go reads addresses that old objects may hold: with leading zeros, which are no octal numbers.
pub(super) fn parse_sloppy(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    let octets: Vec<u8> = text
        .split('.')
        .map(|part| part.trim_start_matches('0'))
        .map(|part| if part.is_empty() { Some(0) } else { part.parse().ok() })
        .collect::<Option<_>>()?;
    let four: [u8; 4] = octets.try_into().ok()?;
    text.split('.').all(|part| !part.is_empty()).then(|| IpAddr::from(four))
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

/// What Go prints of an address.
fn canonical(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

pub(super) fn legacy_ip_messages(text: &str) -> Vec<&'static str> {
    let Some(address) = parse_sloppy(text) else { return vec![NO_ADDRESS] };
    if text.parse::<IpAddr>().is_err() {
        return vec!["must not have leading 0s"];
    }
    if is_mapped(address) { vec!["must not be an IPv4-mapped IPv6 address"] } else { Vec::new() }
}

/// An address in a field that once took more.
pub(super) fn legacy_ip(node: Node<'_, '_>, causes: &mut Causes) {
    super::checks::each(node, legacy_ip_messages(node.str()), causes);
}

/// An address as the name of an object, or in a field that never took more.
pub(super) fn ip_name(text: &str) -> Vec<String> {
    let messages = legacy_ip_messages(text);
    if !messages.is_empty() {
        return messages.into_iter().map(str::to_owned).collect();
    }
    let shown = parse_sloppy(text).map(canonical).unwrap_or_default();
    if shown == text {
        Vec::new()
    } else {
        vec![format!("must be in canonical form ({})", crate::quoting::quote(&shown))]
    }
}

/// An address and a prefix length.
#[derive(Clone, Copy)]
pub(super) struct Range {
    address: IpAddr,
    length: u32,
}

impl Range {
    pub(super) fn parse_sloppy(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let address = parse_sloppy(address)?;
        let digits = length.bytes().all(|byte| byte.is_ascii_digit()) && !length.is_empty();
        let length =
            length.parse().ok().filter(|length| digits && *length <= if address.is_ipv4() { 32 } else { 128 })?;
        Some(Self { address, length })
    }

    pub(super) fn is_ipv4(self) -> bool {
        self.address.is_ipv4()
    }

    fn masked(self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - self.length).unwrap_or(0);
                IpAddr::from((u32::from(address) & mask).to_be_bytes())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - self.length).unwrap_or(0);
                IpAddr::from((u128::from(address) & mask).to_be_bytes())
            }
        }
    }

    fn contains(self, other: IpAddr) -> bool {
        self.address.is_ipv4() == other.is_ipv4() && self.masked(other) == self.masked(self.address)
    }

    fn network(self) -> String {
        format!("{}/{}", canonical(self.masked(self.address)), self.length)
    }
}

pub(super) fn legacy_range_messages(text: &str) -> Vec<&'static str> {
    let Some(range) = Range::parse_sloppy(text) else {
        return vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"];
    };
    let (address, length) = text.split_once('/').unwrap_or_default();
    if address.parse::<IpAddr>().is_err() || length.len() > 1 && length.starts_with('0') {
        return vec!["must not have leading 0s in IP or prefix length"];
    }
    if is_mapped(range.address) {
        return vec!["must not have an IPv4-mapped IPv6 address"];
    }
    if range.masked(range.address) != range.address {
        return vec!["must not have bits set beyond the prefix length"];
    }
    Vec::new()
}

/// A range in a field that once took more.
pub(super) fn legacy_range(node: Node<'_, '_>, causes: &mut Causes) {
    super::checks::each(node, legacy_range_messages(node.str()), causes);
}

/// An address that traffic may be sent to.
pub(super) fn endpoint_ip(node: Node<'_, '_>, causes: &mut Causes) {
    let Some(address) = parse_sloppy(node.str()) else {
        return node.invalid_text(causes, "must be a valid IP address");
    };
    if address.is_unspecified() {
        node.invalid_text(causes, format!("may not be unspecified ({})", node.str()));
    }
    if address.is_loopback() {
        node.invalid_text(causes, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (unicast, multicast) = match address {
        IpAddr::V4(address) => (address.is_link_local(), address.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(address) => (address.is_unicast_link_local(), address.segments()[0] & 0xff0f == 0xff02),
    };
    if unicast {
        node.invalid_text(causes, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        node.invalid_text(causes, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

/// A host in the status of a load balancer.
pub(super) fn balancer_host(host: Node<'_, '_>, causes: &mut Causes) {
    if host.is_empty() {
        return;
    }
    host.keep(names::dns_1123_subdomain, causes);
    if parse_sloppy(host.str()).is_some() {
        host.invalid(causes, "must be a DNS name, not an IP address");
    }
}

/// `example.com/name`. Upstream: IsDomainPrefixedPath.
pub(super) fn domain_prefixed_path(node: Node<'_, '_>, causes: &mut Causes) {
    if !node.need(causes) {
        return;
    }
    let (host, path) = node.str().split_once('/').unwrap_or_default();
    if host.is_empty() || path.is_empty() {
        return node.invalid(causes, "must be a domain-prefixed path (such as \"acme.io/foo\")");
    }
    for message in names::dns_1123_subdomain(host) {
        causes.invalid(node.path(), host, message);
    }
    if !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte)) {
        let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        causes.invalid(node.path(), path, why);
    }
}

pub(super) fn network_policy(policy: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let spec = policy.get("spec");
    let known = ranges_of(old.get("spec"));
    labels::label_selector(spec.get("podSelector"), causes);
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(rules).items() {
            rule.get("ports").items().for_each(|port| policy_port(port, causes));
            rule.get(peers).items().for_each(|peer| policy_peer(peer, &known, causes));
        }
    }
    let types = spec.get("policyTypes");
    if types.len() > 2 {
        return types.invalid(causes, "may not specify more than two policyTypes");
    }
    types.items().for_each(|kind| kind.one_of(&["Ingress", "Egress"], causes));
}

/// Ranges that an old policy holds stay allowed.
fn ranges_of<'v>(spec: Node<'v, '_>) -> Vec<&'v str> {
    let mut found = Vec::new();
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(rules).items() {
            for peer in rule.get(peers).items() {
                let block = peer.get("ipBlock");
                found.push(block.get("cidr").str());
                found.extend(block.get("except").items().map(|range| range.str()));
            }
        }
    }
    found
}

fn policy_port(port: Node<'_, '_>, causes: &mut Causes) {
    port.get("protocol").one_of_if_present(&["TCP", "UDP", "SCTP"], causes);
    let (first, last) = (port.get("port"), port.get("endPort"));
    match first.int_or_string() {
        None if last.is_present() => last.invalid(causes, "may not be specified when `port` is not specified"),
        None => {}
        Some(IntOrString::Int(number)) => {
            first.invalid_each(causes, names::port_number(number));
            if let Some(end) = last.int() {
                if end < number {
                    last.invalid(causes, "must be greater than or equal to `port`");
                }
                last.invalid_each(causes, names::port_number(end));
            }
        }
        Some(IntOrString::Text(name)) => {
            if last.is_present() {
                last.invalid(causes, "may not be specified when `port` is non-numeric");
            }
            first.invalid_each(causes, names::port_name(name));
        }
    }
}

fn policy_peer(peer: Node<'_, '_>, known: &[&str], causes: &mut Causes) {
    let (pods, namespaces, block) = (peer.get("podSelector"), peer.get("namespaceSelector"), peer.get("ipBlock"));
    labels::label_selector(pods, causes);
    labels::label_selector(namespaces, causes);
    let ranges = [block.get("cidr")];
    if block.is_present() && !ranges[0].is_empty() {
        let check = |node: Node<'_, '_>, causes: &mut Causes| {
            if !known.contains(&node.str()) {
                legacy_range(node, causes);
            }
        };
        check(ranges[0], causes);
        let whole = Range::parse_sloppy(ranges[0].str());
        for except in block.get("except").items().filter(|_| whole.is_some()) {
            check(except, causes);
            let inner = Range::parse_sloppy(except.str());
            let subset = |(whole, inner): (Range, Range)| whole.contains(inner.address) && whole.length < inner.length;
            if inner.is_some() && !whole.zip(inner).is_some_and(subset) {
                except.invalid(causes, "must be a strict subset of `cidr`");
            }
        }
    }
    let count = [pods, namespaces, block].iter().filter(|part| part.is_present()).count();
    match count {
        0 => peer.required(causes, "must specify a peer"),
        2.. if block.is_present() => peer.forbidden(causes, "may not specify both ipBlock and another peer"),
        _ => {}
    }
}

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(super) fn ingress(ingress: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (meta, spec) = (ingress.get("metadata"), ingress.get("spec"));
    let (default, rules, class) = (spec.get("defaultBackend"), spec.get("rules"), spec.get("ingressClassName"));
    if rules.is_empty() && default.is_absent() {
        let shown = rules.value().cloned().unwrap_or_default();
        causes.invalid(spec.path(), shown, "either `defaultBackend` or `rules` must be specified");
    }
    if default.is_present() {
        backend(default, causes);
    }
    rules.items().for_each(|rule| ingress_rule(rule, causes));
    for tls in spec.get("tls").items() {
        tls.get("hosts").items().for_each(|host| host.keep(host_grammar(host.str()), causes));
        tls.get("secretName").keep_if_set(names::dns_1123_subdomain, causes);
    }
    if class.is_present() {
        class.keep(names::dns_1123_subdomain, causes);
    }
    let annotation = meta.get("annotations");
    let annotation = annotation.key(CLASS_ANNOTATION);
    if old.is_absent() && annotation.is_present() && class.is_present() && annotation.str() != class.str() {
        let why = "must match `ingressClassName` when both are specified";
        causes.invalid(format!("annotations.{CLASS_ANNOTATION}"), annotation.str(), why);
    }
}

fn host_grammar(host: &str) -> super::NameRule {
    if host.contains('*') { names::wildcard_dns_1123_subdomain } else { names::dns_1123_subdomain }
}

fn ingress_rule(rule: Node<'_, '_>, causes: &mut Causes) {
    let (host, http) = (rule.get("host"), rule.get("http"));
    if !host.is_empty() {
        if parse_sloppy(host.str()).is_some() {
            host.invalid(causes, "must be a DNS name, not an IP address");
        }
        host.keep(host_grammar(host.str()), causes);
    }
    if http.is_absent() {
        return;
    }
    http.get("paths").need(causes);
    for path in http.get("paths").items() {
        let (kind, text) = (path.get("pathType"), path.get("path"));
        if kind.is_absent() {
            kind.required(causes, "pathType must be specified");
            continue;
        }
        let absolute = text.str().starts_with('/');
        match kind.str() {
            "Exact" | "Prefix" => {
                if !absolute {
                    text.invalid_text(causes, "must be an absolute path");
                }
                for part in ["//", "/./", "/../", "%2f", "%2F"].iter().filter(|part| text.str().contains(**part)) {
                    text.invalid(causes, format!("must not contain '{part}'"));
                }
                for end in ["/..", "/."].iter().filter(|end| text.str().ends_with(**end)) {
                    text.invalid(causes, format!("cannot end with '{end}'"));
                }
            }
            "ImplementationSpecific" if !text.is_empty() && !absolute => {
                text.invalid(causes, "must be an absolute path");
            }
            "ImplementationSpecific" => {}
            _ => kind.one_of(&["Exact", "ImplementationSpecific", "Prefix"], causes),
        }
        backend(path.get("backend"), causes);
    }
}

fn backend(backend: Node<'_, '_>, causes: &mut Causes) {
    let (resource, service) = (backend.get("resource"), backend.get("service"));
    let mut wrong = |why: &str| causes.invalid(backend.path(), "", why);
    match (resource.is_present(), service.is_present()) {
        (true, true) => wrong("cannot set both resource and service backends"),
        (false, false) => wrong("resource or service backend is required"),
        (true, false) => reference(resource, causes),
        (false, true) => {
            service.get("name").need_name(names::dns_1123_label, causes);
            let port = service.get("port");
            let (name, number) = (port.get("name"), port.get("number"));
            match (name.is_empty(), number.is_empty()) {
                (false, false) => causes.invalid(backend.path(), "", "cannot set both port name & port number"),
                (false, true) => name.keep(names::port_name, causes),
                (true, false) => number.in_range(1, 65535, causes),
                (true, true) => backend.required(causes, "port name or number is required"),
            }
        }
    }
}

/// A group, kind and name.
fn reference(reference: Node<'_, '_>, causes: &mut Causes) {
    let group = reference.get("apiGroup");
    if group.is_present() {
        group.keep(names::dns_1123_subdomain, causes);
    }
    reference.get("kind").need_name(names::path_segment, causes);
    reference.get("name").need_name(names::path_segment, causes);
}

const MAX_CONTROLLER: usize = 250;

pub(super) fn ingress_class(class: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let spec = class.get("spec");
    let (controller, parameters) = (spec.get("controller"), spec.get("parameters"));
    if old.is_present() && old.get("spec").get("controller").str() != controller.str() {
        controller.invalid_text(causes, IMMUTABLE);
    }
    if controller.str().len() > MAX_CONTROLLER {
        controller.too_long(causes, MAX_CONTROLLER);
    }
    domain_prefixed_path(controller, causes);
    if parameters.is_absent() {
        return;
    }
    let group = parameters.get("apiGroup");
    if group.is_present() {
        group.keep(names::dns_1123_subdomain, causes);
    }
    // That kind and name are there is a declarative rule.
    parameters.get("kind").keep_if_set(names::path_segment, causes);
    parameters.get("name").keep_if_set(names::path_segment, causes);
    let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
    match scope.str() {
        _ if scope.is_absent() => scope.required(causes, ""),
        "Namespace" if namespace.is_absent() => {
            namespace.required(causes, "`parameters.scope` is set to 'Namespace'");
        }
        "Namespace" => namespace.keep(names::dns_1123_label, causes),
        "Cluster" if namespace.is_present() => {
            namespace.forbidden(causes, "`parameters.scope` is set to 'Cluster'");
        }
        _ => scope.one_of(&["Cluster", "Namespace"], causes),
    }
}

pub(super) fn ip_address(address: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    let parent = address.get("spec");
    let parent = parent.get("parentRef");
    parent.get("group").keep_if_set(names::dns_1123_subdomain, causes);
    for field in ["resource", "name", "namespace"] {
        parent.get(field).keep_if_set(names::path_segment, causes);
    }
}

pub(super) fn service_cidr(cidr: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (spec, before) = (cidr.get("spec"), old.get("spec"));
    let (ranges, before) = (spec.get("cidrs"), before.get("cidrs"));
    if old.is_present() {
        if ranges.len() != before.len() && (before.len(), ranges.len()) != (1, 2) {
            return ranges.invalid(causes, IMMUTABLE);
        }
        for (range, before) in ranges.items().zip(before.items()) {
            if range.str() != before.str() {
                range.invalid(causes, IMMUTABLE);
            }
        }
        if ranges.len() == before.len() {
            return;
        }
    }
    match ranges.len() {
        0 => return ranges.required(causes, "at least one CIDR required"),
        1 | 2 => {}
        _ => {
            let shown = spec.value().cloned().unwrap_or_default();
            return causes.invalid(ranges.path(), shown, "may only hold up to 2 values");
        }
    }
    let mut families = Vec::new();
    for range in ranges.items() {
        legacy_range(range, causes);
        let parsed = Range::parse_sloppy(range.str());
        families.push(parsed.map(Range::is_ipv4));
        if let Some(parsed) = parsed.filter(|parsed| parsed.network() != range.str())
            && legacy_range_messages(range.str()).is_empty()
        {
            range.invalid(causes, format!("must be in canonical form ({})", crate::quoting::quote(&parsed.network())));
        }
    }
    if families.len() == 2 && families[0].is_some() && families[0] == families[1] {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        ranges.invalid(causes, why);
    }
}

pub(super) fn endpoint_slice(slice: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (kind, ports, endpoints) = (slice.get("addressType"), slice.get("ports"), slice.get("endpoints"));
    if ports.len() > MAX_PORTS {
        causes.too_many(ports.path(), ports.len(), MAX_PORTS);
    } else {
        slice_ports(ports, causes);
    }
    if old.is_present() && old.get("endpoints").value() == endpoints.value() {
        return;
    }
    if endpoints.len() > MAX_ENDPOINTS {
        return causes.too_many(endpoints.path(), endpoints.len(), MAX_ENDPOINTS);
    }
    endpoints.items().for_each(|endpoint| slice_endpoint(kind.str(), endpoint, causes));
}

const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
const MAX_TOPOLOGY: usize = 16;
const MAX_HINTS: usize = 8;

/// Where a balancer may be reached.
pub(super) fn ingress_status(ingress: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (status, before) = (ingress.get("status"), old.get("status"));
    let (balancer, before) = (status.get("loadBalancer"), before.get("loadBalancer"));
    let known = before.get("ingress");
    for point in balancer.get("ingress").items() {
        let ip = point.get("ip");
        if !ip.is_empty() && known.find("ip", ip.str()).is_none() {
            legacy_ip(ip, causes);
        }
        balancer_host(point.get("hostname"), causes);
    }
}

fn slice_ports(ports: Node<'_, '_>, causes: &mut Causes) {
    let mut seen = super::checks::Seen::new();
    for port in ports.items() {
        let name = port.get("name");
        name.keep_if_set(names::dns_1123_label, causes);
        if !seen.insert(name.str()) {
            causes.duplicate(name.path(), name.str());
        }
        port.get("protocol").one_of(PROTOCOLS, causes);
        let protocol = port.get("appProtocol");
        if protocol.is_present() {
            protocol.keep(names::qualified_name, causes);
        }
    }
}

fn slice_endpoint(kind: &str, endpoint: Node<'_, '_>, causes: &mut Causes) {
    let addresses = endpoint.get("addresses");
    for address in addresses.items() {
        let messages = match kind {
            "IPv4" => legacy_ip_messages(address.str()).into_iter().map(str::to_owned).collect(),
            "IPv6" => ip_name(address.str()),
            "FQDN" => {
                fully_qualified(address, causes);
                continue;
            }
            _ => continue,
        };
        if !messages.is_empty() {
            address.invalid_each(causes, messages);
            continue;
        }
        if parse_sloppy(address.str()).is_some_and(|ip| ip.is_ipv4() != (kind == "IPv4")) {
            causes.invalid(addresses.path(), address.str(), format!("must be an {kind} address"));
        }
        endpoint_ip(address, causes);
    }
    let (node, topology, host, hints) =
        (endpoint.get("nodeName"), endpoint.get("deprecatedTopology"), endpoint.get("hostname"), endpoint.get("hints"));
    if node.is_present() {
        node.keep(names::dns_1123_subdomain, causes);
    }
    labels::labels(topology, causes);
    if topology.len() > MAX_TOPOLOGY {
        causes.too_many(topology.path(), topology.len(), MAX_TOPOLOGY);
    }
    if host.is_present() {
        host.keep(names::dns_1123_label, causes);
    }
    for (field, grammar) in
        [("forZones", names::label_value as super::NameRule), ("forNodes", names::dns_1123_subdomain)]
    {
        let list = hints.get(field);
        if list.len() > MAX_HINTS {
            causes.too_many(list.path(), list.len(), MAX_HINTS);
            continue;
        }
        let mut seen = super::checks::Seen::new();
        for hint in list.items() {
            let name = hint.get("name");
            if !seen.insert(name.str()) {
                causes.duplicate(name.path(), name.str());
            }
            name.keep(grammar, causes);
        }
    }
}

/// Upstream: IsFullyQualifiedDomainName.
fn fully_qualified(node: Node<'_, '_>, causes: &mut Causes) {
    let name = node.str().strip_suffix('.').unwrap_or(node.str());
    if node.str().is_empty() {
        return node.required(causes, "");
    }
    let messages = names::dns_1123_subdomain(name);
    if !messages.is_empty() {
        return causes.invalid(node.path(), name, messages.join(","));
    }
    if !name.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        return causes.invalid(node.path(), name, why);
    }
    for label in name.split('.') {
        let messages = names::dns_1123_label(label);
        if !messages.is_empty() {
            return causes.invalid(node.path(), label, messages.join(","));
        }
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
            legacy_ip(address.get("ip"), causes);
            address.get("hostname").keep_if_set(names::dns_1123_label, causes);
            if address.get("nodeName").is_present() {
                address.get("nodeName").keep(names::dns_1123_subdomain, causes);
            }
            endpoint_ip(address.get("ip"), causes);
        }
        for port in ports.items() {
            let (name, number, protocol) = (port.get("name"), port.get("port"), port.get("appProtocol"));
            if name.is_empty() && ports.len() > 1 {
                name.required(causes, "");
            }
            name.keep_if_set(names::dns_1123_label, causes);
            for message in names::port_number(number.number()) {
                number.invalid_number(causes, message);
            }
            port.get("protocol").need_one_of(PROTOCOLS, causes);
            if protocol.is_present() {
                protocol.keep(names::qualified_name, causes);
            }
        }
    }
}
