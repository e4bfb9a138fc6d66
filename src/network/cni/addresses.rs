//! The node's pod addresses: which sandbox has which, in a file that outlives the process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::services::{HostPort, Prefix};

/// What one interface of a sandbox holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub container: Box<str>,
    pub interface: Box<str>,
    /// The host's end.
    pub host_interface: Box<str>,
    /// One of each of the node's ranges.
    pub addresses: Vec<IpAddr>,
    #[serde(default)]
    pub host_ports: Vec<HostPort>,
}

impl Attachment {
    pub fn id(&self) -> String {
        identifier(&self.container, &self.interface)
    }
}

/// How an attachment is called: containers may have several interfaces.
pub fn identifier(container: &str, interface: &str) -> String {
    format!("{container}/{interface}")
}

#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("all addresses of {0} are in use")]
    Exhausted(String),
    #[error("the node has no pod addresses yet")]
    NoRange,
    #[error("address file {path}")]
    File { path: PathBuf, source: io::Error },
}

/// All attachments; every change is in the file before it returns.
pub struct Addresses {
    file: PathBuf,
    ranges: Vec<Prefix>,
    state: State,
}

#[derive(Default, Serialize, Deserialize)]
struct State {
    attachments: BTreeMap<String, Attachment>,
    /// The last number given in each range: an address is used again as late as possible.
    last: BTreeMap<String, u128>,
}

impl Addresses {
    /// Reads the file. One that is cut or foreign counts as empty: what is alive is found by its interface.
    pub fn open(directory: &Path, ranges: Vec<Prefix>) -> Result<Self, AddressError> {
        let file = directory.join("addresses.json");
        let failed = |source| AddressError::File { path: file.clone(), source };
        fs::create_dir_all(directory).map_err(failed)?;
        let state = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(file = %file.display(), %error, "address file is unreadable and starts anew");
                State::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { file, ranges, state })
    }

    pub fn get(&self, id: &str) -> Option<&Attachment> {
        self.state.attachments.get(id)
    }

    pub fn all(&self) -> impl Iterator<Item = &Attachment> {
        self.state.attachments.values()
    }

    /// Gives an address of every range. The attachment is complete but for its host ports, which `host_ports` makes of the addresses.
    pub fn allocate(
        &mut self,
        container: &str,
        interface: &str,
        host_interface: &str,
        host_ports: impl FnOnce(&[IpAddr]) -> Vec<HostPort>,
    ) -> Result<Attachment, AddressError> {
        if self.ranges.is_empty() {
            return Err(AddressError::NoRange);
        }
        let used: BTreeSet<IpAddr> = self.all().flat_map(|attachment| attachment.addresses.iter().copied()).collect();
        let mut addresses = Vec::new();
        for range in &self.ranges {
            let name = format!("{}/{}", range.address, range.length);
            let last = self.state.last.get(&name).copied().unwrap_or(1);
            let (number, address) =
                next_free(range, last, &used).ok_or_else(|| AddressError::Exhausted(name.clone()))?;
            self.state.last.insert(name, number);
            addresses.push(address);
        }
        let attachment = Attachment {
            container: container.into(),
            interface: interface.into(),
            host_interface: host_interface.into(),
            host_ports: host_ports(&addresses),
            addresses,
        };
        self.state.attachments.insert(attachment.id(), attachment.clone());
        self.save()?;
        Ok(attachment)
    }

    pub fn release(&mut self, id: &str) -> Result<Option<Attachment>, AddressError> {
        let released = self.state.attachments.remove(id);
        if released.is_some() {
            self.save()?;
        }
        Ok(released)
    }

    /// Replaces the file by rename: a kill leaves the old or the new one.
    fn save(&self) -> Result<(), AddressError> {
        let write = || {
            let temporary = self.file.with_extension("new");
            let mut file = fs::File::create(&temporary)?;
            file.write_all(&serde_json::to_vec(&self.state)?)?;
            fs::rename(&temporary, &self.file)
        };
        write().map_err(|source| AddressError::File { path: self.file.clone(), source })
    }
}

/// The free address after number `last`, around the range's end. The first two (network and a conventional gateway) and an
/// IPv4 range's last are not given.
fn next_free(range: &Prefix, last: u128, used: &BTreeSet<IpAddr>) -> Option<(u128, IpAddr)> {
    /// More pods than this are on no node.
    const SEARCH: u128 = 1 << 17;
    let bits = if range.address.is_ipv4() { 32u32 } else { 128 };
    let free = bits - u32::from(range.length).min(bits);
    let size = if free >= 127 { u128::MAX } else { 1u128 << free };
    let end = if range.address.is_ipv4() { size.saturating_sub(1) } else { size };
    let count = end.checked_sub(2).filter(|count| *count > 0)?;
    (1..=count.min(SEARCH)).find_map(|step| {
        let number = 2 + (last.saturating_sub(2).min(count) + step + u128::from(last >= 2) - 1) % count;
        let address = nth(range.address, number);
        (!used.contains(&address)).then_some((number, address))
    })
}

fn nth(network: IpAddr, number: u128) -> IpAddr {
    match network {
        IpAddr::V4(network) => IpAddr::V4((u32::from(network) + u32::try_from(number).unwrap_or(0)).into()),
        IpAddr::V6(network) => IpAddr::V6((u128::from(network) + number).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str, length: u8) -> Prefix {
        Prefix { address: text.parse().expect("an address"), length }
    }

    #[test]
    fn addresses_are_given_once_and_again_as_late_as_possible() {
        let directory = tempfile::tempdir().expect("a directory");
        let ranges = vec![range("10.42.0.0", 29), range("fd42::", 64)];
        let mut addresses = Addresses::open(directory.path(), ranges.clone()).expect("it opens");
        let mut give = |name: &str| addresses.allocate(name, "eth0", "c1", |_| Vec::new()).map(|given| given.addresses);
        let texts: Vec<String> = (0..5).map(|number| give(&number.to_string()).expect("free")[0].to_string()).collect();
        assert_eq!(texts, ["10.42.0.2", "10.42.0.3", "10.42.0.4", "10.42.0.5", "10.42.0.6"]);
        assert!(matches!(give("more"), Err(AddressError::Exhausted(_))));
        addresses.release("3/eth0").expect("it is saved");
        addresses.release("1/eth0").expect("it is saved");
        // A new process goes on where the old one stood.
        let mut addresses = Addresses::open(directory.path(), ranges).expect("it opens");
        let again = addresses.allocate("again", "eth0", "c1", |_| Vec::new()).expect("free");
        assert_eq!(again.addresses[0].to_string(), "10.42.0.3");
        assert_eq!(again.addresses[1].to_string(), "fd42::7");
        let next = addresses.allocate("next", "eth0", "c1", |_| Vec::new()).expect("free");
        assert_eq!(next.addresses[0].to_string(), "10.42.0.5");
    }

    #[test]
    fn a_cut_file_starts_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("addresses.json"), "{\"attach").expect("it is written");
        assert_eq!(Addresses::open(directory.path(), Vec::new()).expect("it opens").all().count(), 0);
    }
}
