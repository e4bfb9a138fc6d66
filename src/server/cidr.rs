//! A network in CIDR form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// `10.43.0.0/16`; host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

#[derive(Debug, thiserror::Error)]
#[error("not a network like 10.42.0.0/16 or fd00:42::/56")]
pub struct CidrError;

impl Cidr {
    /// The network's own address.
    pub fn address(&self) -> IpAddr {
        self.network
    }

    /// Bits of the prefix.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    pub fn is_ipv4(&self) -> bool {
        self.network.is_ipv4()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && masked(address, self.prefix) == self.network
    }

    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// The address `offset` above the network's own.
    pub fn nth(&self, offset: u32) -> Option<IpAddr> {
        let address = match self.network {
            IpAddr::V4(network) => IpAddr::V4(u32::from(network).checked_add(offset)?.into()),
            IpAddr::V6(network) => IpAddr::V6(u128::from(network).checked_add(u128::from(offset))?.into()),
        };
        self.contains(address).then_some(address)
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from(u32::from(address) & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from(u128::from(address) & mask).into()
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = text.split_once('/').ok_or(CidrError)?;
        let address: IpAddr = address.parse().map_err(|_| CidrError)?;
        let prefix: u8 = prefix.parse().map_err(|_| CidrError)?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        if prefix > widest || masked(address, prefix) != address {
            return Err(CidrError);
        }
        Ok(Self { network: address, prefix })
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_asked() {
        let cidr: Cidr = "10.43.0.0/16".parse().unwrap();
        assert_eq!(cidr.nth(10), Some("10.43.0.10".parse().unwrap()));
        assert_eq!(cidr.nth(65_536), None);
        assert!(cidr.contains("10.43.255.255".parse().unwrap()) && !cidr.contains("10.44.0.0".parse().unwrap()));
        assert!(cidr.overlaps(&"10.0.0.0/8".parse().unwrap()) && !cidr.overlaps(&"fd00::/64".parse().unwrap()));
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("1.2.3.4".parse().unwrap()));
        for bad in ["10.43.0.1/16", "10.43.0.0", "10.43.0.0/33", "x/1", "fd00::1/64"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
