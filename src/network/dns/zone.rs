//! The cluster's names: a pure lookup over the views of Services and EndpointSlices (Kubernetes DNS specification 1.1.0).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use coracle_client::{Key, View};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::services::Prefix;
use crate::views::{EndpointView, Protocol, ServiceView, SliceView};

/// Seconds for which a cluster's answer, also a negative one, may be kept.
const TTL: u32 = 5;

/// What the names are made of.
pub struct Zone {
    /// Lower-case labels of the cluster's domain.
    domain: Vec<String>,
    services: View<ServiceView>,
    slices: View<SliceView>,
    /// Reverse names of these addresses are ours alone.
    ranges: Vec<Prefix>,
}

#[derive(Debug, PartialEq)]
pub enum Answer {
    /// The name is not the cluster's.
    Foreign,
    Known(Reply),
}

#[derive(Debug, PartialEq)]
pub struct Reply {
    pub code: ResponseCode,
    pub answers: Vec<Record>,
    pub additionals: Vec<Record>,
    /// The last answer is an alias of this name, which is to be resolved too.
    pub alias: Option<Name>,
}

impl Reply {
    fn absent() -> Self {
        Self { code: ResponseCode::NXDomain, answers: Vec::new(), additionals: Vec::new(), alias: None }
    }

    fn of(answers: Vec<Record>) -> Self {
        Self { code: ResponseCode::NoError, answers, additionals: Vec::new(), alias: None }
    }

    /// The name is there, records of this type are not.
    fn empty() -> Self {
        Self::of(Vec::new())
    }
}

impl Zone {
    pub fn new(domain: &str, services: View<ServiceView>, slices: View<SliceView>, ranges: Vec<Prefix>) -> Self {
        let domain = domain.to_lowercase().split('.').filter(|label| !label.is_empty()).map(str::to_owned).collect();
        Self { domain, services, slices, ranges }
    }

    /// Whether what is known is complete; before, a name that is not known may well exist.
    pub fn is_ready(&self) -> bool {
        self.services.has_synced() && self.slices.has_synced()
    }

    /// Answers have the name as it was asked, so that clients which mix cases recognise it.
    pub fn lookup(&self, name: &Name, kind: RecordType) -> Answer {
        let labels: Vec<String> = name.iter().map(|label| String::from_utf8_lossy(label).to_lowercase()).collect();
        if let Some(address) = reverse(&labels) {
            return self.pointer(name, address, kind);
        }
        let Some(own) = labels.strip_suffix(self.domain.as_slice()) else { return Answer::Foreign };
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let reply = match own.as_slice() {
            [] if kind == RecordType::SOA => Reply::of(vec![self.authority()]),
            [] => Reply::empty(),
            ["dns-version"] => match kind {
                RecordType::TXT => Reply::of(vec![record(name, RData::TXT(TXT::new(vec!["1.1.0".to_owned()])))]),
                _ => Reply::empty(),
            },
            [rest @ .., "svc"] => self.service_name(name, rest, kind),
            [rest @ .., "pod"] => self.pod_name(name, rest, kind),
            _ => Reply::absent(),
        };
        Answer::Known(reply)
    }

    /// Goes with negative answers.
    pub fn authority(&self) -> Record {
        let (primary, mailbox) = (self.name(&["ns", "dns"]), self.name(&["hostmaster"]));
        record(&self.name(&[]), RData::SOA(SOA::new(primary, mailbox, 1, 7200, 1800, 86400, TTL)))
    }

    /// The name below the cluster's domain.
    fn name(&self, labels: &[&str]) -> Name {
        let labels = labels.iter().copied().chain(self.domain.iter().map(String::as_str));
        // Kubernetes' names are labels; one that is not (too long in all) has no name.
        Name::from_labels(labels.map(str::as_bytes)).unwrap_or_else(|_| Name::root())
    }

    fn has_namespace(&self, namespace: &str) -> bool {
        !self.services.in_namespace(namespace).is_empty()
    }

    fn service_name(&self, name: &Name, labels: &[&str], kind: RecordType) -> Reply {
        match labels {
            [] => Reply::empty(),
            [namespace] if self.has_namespace(namespace) => Reply::empty(),
            [service, namespace] => self.service(name, service, namespace, kind),
            [port, transport, service, namespace] if port.starts_with('_') && transport.starts_with('_') => {
                self.ports(name, (service, namespace), Some((&port[1..], &transport[1..])), kind)
            }
            [transport, service, namespace] if transport.starts_with('_') => {
                match self.services.get(&Key::new(*namespace, *service)) {
                    Some(_) => Reply::empty(),
                    None => Reply::absent(),
                }
            }
            [endpoint, service, namespace] => {
                let found = self.endpoints(service, namespace);
                let addresses = found.iter().filter(|found| found.label == *endpoint).map(|found| found.address);
                addresses_reply(name, addresses, kind)
            }
            _ => Reply::absent(),
        }
    }

    fn service(&self, name: &Name, service: &str, namespace: &str, kind: RecordType) -> Reply {
        let Some(view) = self.services.get(&Key::new(namespace, service)) else { return Reply::absent() };
        if let Some(external) = &view.external_name {
            let Ok(mut target) = Name::from_ascii(external) else { return Reply::empty() };
            target.set_fqdn(true);
            let mut reply = Reply::of(vec![record(name, RData::CNAME(CNAME(target.clone())))]);
            reply.alias = (kind != RecordType::CNAME).then_some(target);
            return reply;
        }
        if kind == RecordType::SRV {
            return self.ports(name, (service, namespace), None, kind);
        }
        if view.headless {
            return addresses_reply(name, self.endpoints(service, namespace).iter().map(|found| found.address), kind);
        }
        addresses_reply(name, view.cluster_ips.iter().copied(), kind)
    }

    /// SRV records of one port or of all.
    fn ports(
        &self,
        name: &Name,
        (service, namespace): (&str, &str),
        wanted: Option<(&str, &str)>,
        kind: RecordType,
    ) -> Reply {
        let Some(view) = self.services.get(&Key::new(namespace, service)) else { return Reply::absent() };
        let is_wanted = |port: &str, protocol: Protocol| {
            wanted.is_none_or(|(name, transport)| name == port && transport == protocol.name())
        };
        // Target label (none for the Service itself), port, addresses.
        let mut targets: BTreeSet<(Option<String>, u16)> = BTreeSet::new();
        let mut addresses: BTreeSet<(Option<String>, IpAddr)> = BTreeSet::new();
        if view.headless {
            for found in self.endpoints(service, namespace) {
                for (port, protocol, number) in &found.ports {
                    if is_wanted(port, *protocol) && (wanted.is_none() || !port.is_empty()) {
                        targets.insert((Some(found.label.clone()), *number));
                        addresses.insert((Some(found.label.clone()), found.address));
                    }
                }
            }
        } else {
            let ports = view.ports.iter().filter(|port| is_wanted(&port.name, port.protocol) && !port.name.is_empty());
            targets.extend(ports.map(|port| (None, port.port)));
            addresses.extend(view.cluster_ips.iter().map(|address| (None, *address)));
        }
        if targets.is_empty() {
            return if wanted.is_some() { Reply::absent() } else { Reply::empty() };
        }
        if kind != RecordType::SRV {
            return Reply::empty();
        }
        let host = |label: &Option<String>| match label {
            Some(label) => self.name(&[label, service, namespace, "svc"]),
            None => self.name(&[service, namespace, "svc"]),
        };
        let weight = u16::try_from(100 / targets.len()).unwrap_or(1).max(1);
        let answers =
            targets.iter().map(|(label, port)| record(name, RData::SRV(SRV::new(0, weight, *port, host(label)))));
        let mut reply = Reply::of(answers.collect());
        reply.additionals = addresses.iter().map(|(label, address)| record(&host(label), data(*address))).collect();
        reply
    }

    /// The ready endpoints of a headless Service, or of any other, by address.
    fn endpoints(&self, service: &str, namespace: &str) -> Vec<Found> {
        let slices = self.slices.find(&format!("{namespace}/{service}"));
        let mut found: Vec<Found> = Vec::new();
        for slice in &slices {
            for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready) {
                let ports = slice.ports.to_vec();
                found.push(Found { label: label(endpoint), address: endpoint.address, ports });
            }
        }
        found
    }

    /// `10-42-0-2.default.pod`: the address that the name says; there need be no such pod.
    fn pod_name(&self, name: &Name, labels: &[&str], kind: RecordType) -> Reply {
        match labels {
            [] => Reply::empty(),
            [namespace] if self.has_namespace(namespace) => Reply::empty(),
            [address, namespace] if self.has_namespace(namespace) => {
                let v4 = address.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
                let address = v4.or_else(|_| address.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6));
                address.map_or_else(|_| Reply::absent(), |address| addresses_reply(name, [address].into_iter(), kind))
            }
            _ => Reply::absent(),
        }
    }

    fn pointer(&self, name: &Name, address: IpAddr, kind: RecordType) -> Answer {
        let term = address.to_string();
        let mut names = BTreeSet::new();
        for service in self.services.find(&term) {
            names.insert(self.name(&[&service.key.name, &service.key.namespace, "svc"]));
        }
        for slice in self.slices.find(&term) {
            let Some((namespace, service)) = slice.service.split_once('/') else { continue };
            let endpoints = slice.endpoints.iter().filter(|endpoint| endpoint.ready && endpoint.address == address);
            names.extend(endpoints.map(|endpoint| self.name(&[&label(endpoint), service, namespace, "svc"])));
        }
        if names.is_empty() && !self.ranges.iter().any(|range| range.contains(address)) {
            return Answer::Foreign;
        }
        if names.is_empty() {
            return Answer::Known(Reply::absent());
        }
        if kind != RecordType::PTR {
            return Answer::Known(Reply::empty());
        }
        Answer::Known(Reply::of(names.into_iter().map(|target| record(name, RData::PTR(PTR(target)))).collect()))
    }
}

struct Found {
    label: String,
    address: IpAddr,
    ports: Vec<(Box<str>, Protocol, u16)>,
}

/// An endpoint's own name: its hostname, or its address with dashes.
fn label(endpoint: &EndpointView) -> String {
    match &endpoint.hostname {
        Some(hostname) => hostname.to_lowercase(),
        None => endpoint.address.to_string().replace(['.', ':'], "-"),
    }
}

fn addresses_reply(name: &Name, addresses: impl Iterator<Item = IpAddr>, kind: RecordType) -> Reply {
    let addresses: BTreeSet<IpAddr> = addresses.collect();
    if addresses.is_empty() {
        return Reply::absent();
    }
    let wanted = addresses.into_iter().filter(|address| match kind {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        kind => kind == RecordType::ANY,
    });
    Reply::of(wanted.map(|address| record(name, data(address))).collect())
}

fn data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

/// The address of a name under in-addr.arpa or ip6.arpa.
fn reverse(labels: &[String]) -> Option<IpAddr> {
    let (last, rest) = labels.split_last().filter(|(last, _)| *last == "arpa")?;
    debug_assert_eq!(last, "arpa");
    let (kind, digits) = rest.split_last()?;
    match (kind.as_str(), digits.len()) {
        ("in-addr", 4) => {
            let text: Vec<&str> = digits.iter().rev().map(String::as_str).collect();
            text.join(".").parse().ok().map(IpAddr::V4)
        }
        ("ip6", 32) => {
            let digit = |label: &String| u128::from_str_radix(label, 16).ok().filter(|_| label.len() == 1);
            let number = digits.iter().rev().try_fold(0u128, |number, label| Some((number << 4) | digit(label)?))?;
            Some(IpAddr::V6(number.into()))
        }
        _ => None,
    }
}
