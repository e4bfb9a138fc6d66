//! Where the addresses and node ports of Services come from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Ranges that Services draw on. The first network's family is the one that a Service gets by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks {
    pub services: Vec<Network>,
    pub node_ports: RangeInclusive<u16>,
}

/// An address range in CIDR form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    /// Bits of the prefix.
    pub length: u8,
}

impl Default for Networks {
    fn default() -> Self {
        let address = IpAddr::V4(Ipv4Addr::new(10, 43, 0, 0));
        Self { services: vec![Network { address, length: 16 }], node_ports: 30000..=32767 }
    }
}

impl Network {
    pub fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }

    pub fn family(&self) -> &'static str {
        if self.is_ipv6() { "IPv6" } else { "IPv4" }
    }

    /// How many addresses can be handed out: not the network's own, and not the broadcast one of IPv4. Bounded to 2^20,
    /// so that a search ends.
    pub fn size(&self) -> u64 {
        let bits = u32::from(if self.is_ipv6() { 128 } else { 32 } - self.length);
        let all = 1u64 << bits.min(20);
        all.saturating_sub(if self.is_ipv6() { 1 } else { 2 }).max(1)
    }

    /// The address at `index`, which counts from 1 for the first one that may be handed out.
    pub fn nth(&self, index: u64) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from(u32::from(address).wrapping_add(index as u32))),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address).wrapping_add(u128::from(index)))),
        }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let masked = |bits: u128, width: u8| bits >> (width - self.length).min(127);
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                masked(u32::from(own).into(), 32) == masked(u32::from(other).into(), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => masked(own.into(), 128) == masked(other.into(), 128),
            _ => false,
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(address, length)| {
            let address: IpAddr = address.parse().ok()?;
            let length: u8 = length.parse().ok()?;
            (length <= if address.is_ipv6() { 128 } else { 32 }).then_some(Network { address, length })
        });
        parsed
            .ok_or_else(|| format!("{text:?} is no network: want an address, a slash and a length, like 10.43.0.0/16"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        let network: Network = "10.43.0.0/16".parse().unwrap();
        assert_eq!((network.nth(1).to_string(), network.size()), ("10.43.0.1".to_owned(), 65534));
        assert!(network.contains("10.43.255.254".parse().unwrap()) && !network.contains("10.44.0.1".parse().unwrap()));
        let network: Network = "fd00:43::/112".parse().unwrap();
        assert!(network.contains("fd00:43::ff".parse().unwrap()) && !network.contains("fd00:44::1".parse().unwrap()));
        for text in ["10.43.0.0", "10.43.0.0/33", "x/8"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
