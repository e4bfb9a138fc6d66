//! The table's fixed part: sets, base chains and the rules that lead into the maps.
//!
//! As nft would write it (IPv4; IPv6 has the same with 6 in the names). Each scope was tried by hand in network namespaces first.
//!
//! ```text
//! chain prerouting  { type nat hook prerouting priority -100;  meta nfproto ipv4 goto services4 }
//! chain output      { type nat hook output priority -100;      meta nfproto ipv4 goto services4 }
//! chain services4 {
//!     ip daddr . meta l4proto . th dport vmap @services4                       # -> balance4-3, by-place4, dns
//!     fib daddr type local meta l4proto . th dport vmap @node-services4        # node ports and host ports: any own address
//! }
//! chain balance4-3 {                                                           # one per count, affinity, kind of frontend
//!     dnat ip to (ip daddr . meta l4proto . th dport map @groups4) . numgen random mod 3 map @endpoints4
//! }
//! chain balance4-3-600s {                                                      # rule 1: known and still there; rule 2: choose
//!     ID = ip saddr . GROUP map @affinity4; update @affinity4 { ip saddr . GROUP timeout 600s : ID }; dnat ip to GROUP . ID map @endpoints4
//!     delete @affinity4 { ip saddr . GROUP }; ID = GROUP . numgen random mod 3 map @identities4; update ...; dnat ip to GROUP . ID map @endpoints4
//! }
//! chain by-place4 {                                                            # external traffic policy Local
//!     ip saddr @cluster4 FRONTEND vmap @inside4;  fib saddr type local FRONTEND vmap @inside4
//!     FRONTEND vmap @outside4;  drop
//! }
//! chain postrouting { type nat hook postrouting priority 100;
//!     ip saddr . ip daddr @hairpin4 masquerade                                 # a pod to itself
//!     ct status dnat ct original ip daddr . meta l4proto . ct original proto-dst @masquerade4 ip saddr != @pods4 fib saddr type != local masquerade
//!     ct status dnat meta l4proto . ct original proto-dst @node-masquerade4 ip saddr != @pods4 fib saddr type != local masquerade
//!     ip saddr @pods4 ip daddr != @cluster4 ip daddr != 224.0.0.0/4 masquerade # pods to the world
//! }
//! chain filter-prerouting { type filter hook prerouting priority -90; ct state new goto empty4 }      # and filter-output
//! chain empty4 {                                                               # before routing: refused also where no route leads there
//!     FRONTEND vmap @empty4;  fib daddr type local meta l4proto . th dport vmap @node-empty4
//!     ct status ! dnat ip daddr @service-range4 goto refuse
//! }
//! ```
//!
//! No packet mark is kept: what must leave with the node's address is found by the connection's original destination. The host reaches
//! Service addresses also without a default route through a route of the service range to `lo` (`node::prepare`).

use std::net::IpAddr;

use super::element::{Balancer, Family, Role, octets};
use crate::nftables::expression::{Connection, Meta, STATE_NEW, STATUS_DNAT};
use crate::nftables::{Batch, Data, Hook, Rule, Set, Type, Value, Verdict};

pub const TABLE: &str = "coracle";

/// An address range in prefix form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Prefix {
    pub address: IpAddr,
    pub length: u8,
}

/// A text that is no `address/length`.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no address range")]
pub struct PrefixError(String);

impl std::str::FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let error = || PrefixError(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(error)?;
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let length: u8 = length.parse().map_err(|_| error())?;
        let limit = if address.is_ipv4() { 32 } else { 128 };
        if length > limit {
            return Err(error());
        }
        Ok(Self { address, length })
    }
}

impl Prefix {
    pub fn contains(&self, address: IpAddr) -> bool {
        if address.is_ipv4() != self.address.is_ipv4() {
            return false;
        }
        let (first, last, _) = span(self);
        (first..=last).contains(&number(address))
    }
}

/// What the fixed part depends on.
#[derive(Debug, Clone, Default)]
pub struct TableConfig {
    /// This node's pods; leaving the cluster they take the node's address.
    pub pods: Vec<Prefix>,
    /// All pods of the cluster.
    pub cluster: Vec<Prefix>,
    /// Where Services have their addresses; what is not a Service there is refused.
    pub services: Vec<Prefix>,
    /// UDP and TCP port of this node's DNS.
    pub dns: Option<u16>,
}

// Registers. An IPv6 address takes four; all keys and values of one rule fit into sixteen.
const CLIENT: u8 = 0;
const FRONTEND: u8 = 6;
const ENDPOINT: u8 = 6;
const SCRATCH: u8 = 12;

impl Family {
    fn registers(self) -> u8 {
        if self == Family::V6 { 4 } else { 1 }
    }

    fn length(self) -> u32 {
        if self == Family::V6 { 16 } else { 4 }
    }

    fn source(self, rule: Rule, to: u8) -> Rule {
        rule.network(if self == Family::V6 { 8 } else { 12 }, self.length(), to)
    }

    fn destination(self, rule: Rule, to: u8) -> Rule {
        rule.network(if self == Family::V6 { 24 } else { 16 }, self.length(), to)
    }

    /// Loads a frontend's key: address (unless for node ports), protocol, destination port.
    fn frontend(self, rule: Rule, node: bool, to: u8) -> Rule {
        let (rule, next) = if node { (rule, to) } else { (self.destination(rule, to), to + self.registers()) };
        rule.meta(Meta::Protocol, next).transport(2, 2, next + 1)
    }

    fn only(self) -> Rule {
        Rule::new().meta(Meta::Family, 0).equal(0, &[self.number()])
    }
}

/// Replaces the whole table, if there is one, by the fixed part.
pub fn install(batch: &mut Batch, config: &TableConfig) {
    batch.add_table();
    batch.delete_table();
    batch.add_table();
    for family in Family::BOTH {
        sets(batch, family, config);
    }
    chains(batch);
    for family in Family::BOTH {
        service_rules(batch, family);
        masquerade_rules(batch, family);
    }
    batch.add_rule("refuse", &Rule::new().meta(Meta::Protocol, 0).equal(0, &[6]).reset());
    batch.add_rule("refuse", &Rule::new().unreachable());
    if let Some(port) = config.dns {
        for protocol in [17, 6] {
            for family in Family::BOTH {
                let rule = family.only().meta(Meta::Protocol, 0).equal(0, &[protocol]);
                batch.add_rule("dns", &rule.immediate(1, &port.to_be_bytes()).destination(family.number(), None, 1));
            }
        }
    }
    for chain in ["prerouting", "output"] {
        for family in Family::BOTH {
            batch.add_rule(chain, &family.only().verdict(Verdict::goto(&format!("services{}", family.digit()))));
        }
    }
    for chain in ["filter-prerouting", "filter-output"] {
        for family in Family::BOTH {
            let empty = format!("empty{}", family.digit());
            batch.add_rule(chain, &family.only().state(STATE_NEW).verdict(Verdict::goto(&empty)));
        }
    }
}

fn sets(batch: &mut Batch, family: Family, config: &TableConfig) {
    let address = family.address_type();
    let digit = family.digit();
    for node in [false, true] {
        for role in Role::ALL {
            let key: &[Type] =
                if node { &[Type::Protocol, Type::Port] } else { &[address, Type::Protocol, Type::Port] };
            let name = role.name(node, family);
            batch.add_set(&Set { name: &name, key, data: role.data(), interval: false, dynamic: None });
        }
    }
    let endpoint = Data::Value(match family {
        Family::V4 => &[Type::Address4, Type::Port],
        Family::V6 => &[Type::Address6, Type::Port],
    });
    let rows: [(&str, &[Type], Data, Option<u32>); 4] = [
        ("endpoints", &[Type::Mark, Type::Mark], endpoint, None),
        ("identities", &[Type::Mark, Type::Mark], Data::Value(&[Type::Mark]), None),
        ("affinity", &[address, Type::Mark], Data::Value(&[Type::Mark]), Some(262_144)),
        ("hairpin", &[address, address], Data::Nothing, None),
    ];
    for (name, key, data, dynamic) in rows {
        batch.add_set(&Set { name: &format!("{name}{digit}"), key, data, interval: false, dynamic });
    }
    for (name, prefixes) in [("pods", &config.pods), ("cluster", &config.cluster), ("service-range", &config.services)]
    {
        let name = format!("{name}{digit}");
        batch.add_set(&Set { name: &name, key: &[address], data: Data::Nothing, interval: true, dynamic: None });
        let ranges = ranges(prefixes.iter().filter(|prefix| Family::of(prefix.address) == family));
        batch.add_elements(&name, ranges.iter().map(|(key, value)| (key.as_slice(), value)));
    }
}

/// First address and the one after the last, merged and ordered, as the kernel wants interval sets.
fn ranges<'a>(prefixes: impl Iterator<Item = &'a Prefix>) -> Vec<(Vec<u8>, Value)> {
    let mut spans: Vec<(u128, u128, usize)> = prefixes.map(span).collect();
    spans.sort_unstable();
    let mut merged: Vec<(u128, u128, usize)> = Vec::new();
    for (first, last, width) in spans {
        match merged.last_mut() {
            Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
            _ => merged.push((first, last, width)),
        }
    }
    let bytes = |number: u128, width: usize| number.to_be_bytes()[16 - width..].to_vec();
    let mut elements = Vec::new();
    for (first, last, width) in merged {
        elements.push((bytes(first, width), Value::Nothing));
        let limit = if width == 4 { u128::from(u32::MAX) } else { u128::MAX };
        if last < limit {
            elements.push((bytes(last + 1, width), Value::RangeEnd));
        }
    }
    elements
}

fn span(prefix: &Prefix) -> (u128, u128, usize) {
    let number = number(prefix.address);
    let width = if prefix.address.is_ipv4() { 4 } else { 16 };
    let free = (width * 8usize).saturating_sub(usize::from(prefix.length));
    let mask = if free >= 128 { u128::MAX } else { (1u128 << free) - 1 };
    (number & !mask, number | mask, width)
}

fn number(address: IpAddr) -> u128 {
    octets(address).iter().fold(0, |number, byte| (number << 8) | u128::from(*byte))
}

fn chains(batch: &mut Batch) {
    const NAT_DESTINATION: i32 = -100;
    const NAT_SOURCE: i32 = 100;
    let nat = |number, priority| Some(Hook { kind: "nat", number, priority });
    // Before routing: what nobody serves is refused also where no route leads there.
    let filter = |number| Some(Hook { kind: "filter", number, priority: NAT_DESTINATION + 10 });
    batch.add_chain("refuse", None);
    batch.add_chain("dns", None);
    for family in Family::BOTH {
        for name in ["services", "by-place", "node-by-place", "empty"] {
            batch.add_chain(&format!("{name}{}", family.digit()), None);
        }
    }
    batch.add_chain("prerouting", nat(0, NAT_DESTINATION));
    batch.add_chain("output", nat(3, NAT_DESTINATION));
    batch.add_chain("postrouting", nat(4, NAT_SOURCE));
    batch.add_chain("filter-prerouting", filter(0));
    batch.add_chain("filter-output", filter(3));
}

fn service_rules(batch: &mut Batch, family: Family) {
    let digit = family.digit();
    let services = format!("services{digit}");
    for (node, place) in [(false, format!("by-place{digit}")), (true, format!("node-by-place{digit}"))] {
        let map = |role: Role| role.name(node, family);
        let local = |rule: Rule| if node { rule.local(false, true) } else { rule };
        let rule = family.frontend(local(Rule::new()), node, FRONTEND);
        batch.add_rule(&services, &rule.verdict_map(&map(Role::Services), FRONTEND));

        // Pods and the node itself reach all endpoints, also from addresses whose policy is Local; others those of this node.
        let from_pod = family.source(Rule::new(), CLIENT).contained(&format!("cluster{digit}"), CLIENT, true);
        for inside in [from_pod, Rule::new().local(true, true)] {
            let rule = family.frontend(inside, node, FRONTEND).verdict_map(&map(Role::Inside), FRONTEND);
            batch.add_rule(&place, &rule);
        }
        let rule = family.frontend(Rule::new(), node, FRONTEND);
        batch.add_rule(&place, &rule.verdict_map(&map(Role::Outside), FRONTEND));
        batch.add_rule(&place, &Rule::new().verdict(Verdict::Drop));

        let rule = family.frontend(local(Rule::new()), node, FRONTEND);
        batch.add_rule(&format!("empty{digit}"), &rule.verdict_map(&map(Role::Empty), FRONTEND));
    }
    // What is still addressed to the Services' range is none.
    let rule = family.destination(Rule::new().status(STATUS_DNAT, false), FRONTEND);
    let rule = rule.contained(&format!("service-range{digit}"), FRONTEND, true);
    batch.add_rule(&format!("empty{digit}"), &rule.verdict(Verdict::goto("refuse")));
}

fn masquerade_rules(batch: &mut Batch, family: Family) {
    let digit = family.digit();
    let chain = "postrouting";
    let registers = family.registers();
    let pods = format!("pods{digit}");
    // A pod that reaches itself through a Service would answer itself directly.
    let rule = family.destination(family.source(family.only(), CLIENT), CLIENT + registers);
    batch.add_rule(chain, &rule.contained(&format!("hairpin{digit}"), CLIENT, true).masquerade());
    // Connections from elsewhere to any endpoint of the cluster: the answer must come back through this node.
    for node in [false, true] {
        let mut rule = family.only().status(STATUS_DNAT, true);
        let mut register = FRONTEND;
        if !node {
            let key = if family == Family::V6 { Connection::OriginalAddress6 } else { Connection::OriginalAddress4 };
            rule = rule.connection(key, register);
            register += registers;
        }
        rule = rule.meta(Meta::Protocol, register).connection(Connection::OriginalPort, register + 1);
        rule = rule.contained(&Role::Masquerade.name(node, family), FRONTEND, true);
        rule = family.source(rule, CLIENT).contained(&pods, CLIENT, false).local(true, false);
        batch.add_rule(chain, &rule.masquerade());
    }
    // Pods leave the cluster with the node's address.
    let rule = family.source(family.only(), CLIENT).contained(&pods, CLIENT, true);
    let rule = family.destination(rule, CLIENT).contained(&format!("cluster{digit}"), CLIENT, false);
    let (mask, multicast): (&[u8], &[u8]) = match family {
        Family::V4 => (&[0xf0], &[0xe0]),
        Family::V6 => (&[0xff], &[0xff]),
    };
    let offset = if family == Family::V6 { 24 } else { 16 };
    let rule = rule.network(offset, 1, CLIENT).mask(CLIENT, mask).not_equal(CLIENT, multicast);
    batch.add_rule(chain, &rule.masquerade());
}

/// The rules of a balancing chain. With affinity a client's group leads to the endpoint's identity, which stays when slots
/// are numbered anew; a remembered endpoint that is gone is forgotten and another one chosen.
pub fn balancer(batch: &mut Batch, balancer: &Balancer) {
    let name = balancer.name();
    let family = balancer.family;
    let digit = family.digit();
    let (group, slot) = (CLIENT + family.registers(), CLIENT + family.registers() + 1);
    let role = if balancer.outside { Role::OutsideGroups } else { Role::Groups };
    let groups = role.name(balancer.node, family);
    let affinity = format!("affinity{digit}");
    let start = || {
        family.frontend(Rule::new(), balancer.node, FRONTEND).lookup(&groups, FRONTEND, group).number(group, SCRATCH)
    };
    let finish = |rule: Rule| {
        let rule = rule.lookup(&format!("endpoints{digit}"), group, ENDPOINT);
        rule.destination(family.number(), Some(ENDPOINT), ENDPOINT + family.registers())
    };
    batch.add_chain(&name, None);
    let Some(seconds) = balancer.affinity else {
        batch.add_rule(&name, &finish(start().random(balancer.count, slot)));
        return;
    };
    let timeout = u64::from(seconds) * 1000;
    let known = family.source(start(), CLIENT).lookup(&affinity, CLIENT, slot).number(slot, SCRATCH);
    batch.add_rule(&name, &finish(known.update(&affinity, CLIENT, slot, timeout)));
    let chosen = family.source(start(), CLIENT).random(balancer.count, slot).forget(&affinity, CLIENT, slot);
    let chosen = chosen.lookup(&format!("identities{digit}"), group, slot).number(slot, SCRATCH);
    batch.add_rule(&name, &finish(chosen.update(&affinity, CLIENT, slot, timeout)));
}
