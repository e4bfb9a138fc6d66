//! Netlink messages and attributes as bytes: what nf_tables and ctnetlink share.

use std::ops::Range;

/// nfnetlink subsystems (linux/netfilter/nfnetlink.h).
pub const SUBSYSTEM_CTNETLINK: u16 = 1;
pub const SUBSYSTEM_NFTABLES: u16 = 10;

/// Bytes of a netlink header.
const NETLINK_HEADER: usize = 16;

/// An attribute's length is a u16 that counts its own header.
pub const ATTRIBUTE_LIMIT: usize = u16::MAX as usize;

const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// Appends attributes to a buffer.
pub struct Attributes<'a> {
    buffer: &'a mut Vec<u8>,
}

impl<'a> Attributes<'a> {
    pub fn new(buffer: &'a mut Vec<u8>) -> Self {
        Self { buffer }
    }

    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).expect("callers keep values far below the 64 KiB of an attribute");
        self.buffer.extend_from_slice(&length.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(value);
        self.pad();
    }

    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// nf_tables numbers are big-endian.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub fn u64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Numbers of rtnetlink are in host order.
    pub fn native(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// NUL-terminated.
    pub fn string(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 2]);
        self.buffer.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(&mut Attributes { buffer: self.buffer });
        let length = u16::try_from(self.buffer.len() - start).expect("element lists are cut before they reach 64 KiB");
        self.buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn pad(&mut self) {
        while !self.buffer.len().is_multiple_of(4) {
            self.buffer.push(0);
        }
    }
}

/// Appends one message: header, nfgenmsg, attributes. `kind` holds subsystem and message type.
pub fn message(
    buffer: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u16,
    fill: impl FnOnce(&mut Attributes<'_>),
) -> Range<usize> {
    let [high, low] = resource.to_be_bytes();
    plain_message(buffer, kind, flags, sequence, &[family, 0, high, low], fill)
}

/// Appends one message: header, a body of fixed layout, attributes.
pub fn plain_message(
    buffer: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &[u8],
    fill: impl FnOnce(&mut Attributes<'_>),
) -> Range<usize> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&kind.to_ne_bytes());
    buffer.extend_from_slice(&flags.to_ne_bytes());
    buffer.extend_from_slice(&sequence.to_ne_bytes());
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(body);
    fill(&mut Attributes::new(buffer));
    let length = u32::try_from(buffer.len() - start).expect("a message is below 4 GiB");
    buffer[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    start..buffer.len()
}

/// A received message, still in the receive buffer.
#[derive(Clone, Copy)]
pub struct Received<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// What follows the netlink header.
    pub payload: &'a [u8],
}

/// Cuts a datagram into its messages; a malformed rest ends the iteration.
pub fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let header = datagram.get(..NETLINK_HEADER)?;
        let length = u32::from_ne_bytes(header[0..4].try_into().expect("four bytes")) as usize;
        let payload = datagram.get(NETLINK_HEADER..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Received {
            kind: u16::from_ne_bytes(header[4..6].try_into().expect("two bytes")),
            flags: u16::from_ne_bytes(header[6..8].try_into().expect("two bytes")),
            sequence: u32::from_ne_bytes(header[8..12].try_into().expect("four bytes")),
            payload,
        })
    })
}

/// The attributes in a buffer as (type, value).
pub fn attributes(mut buffer: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = buffer.get(..4)?;
        let length = u16::from_ne_bytes([header[0], header[1]]) as usize;
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let value = buffer.get(4..length)?;
        buffer = buffer.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of this type.
pub fn attribute(buffer: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(buffer).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut buffer = Vec::new();
        message(&mut buffer, 7, 5, 9, 1, 10, |attributes| {
            attributes.string(1, "web");
            attributes.nested(2, |inner| inner.u32(3, 77));
        });
        let mut received = messages(&buffer);
        let first = received.next().expect("one message");
        assert_eq!((first.kind, first.flags, first.sequence), (7, 5, 9));
        let body = &first.payload[4..];
        assert_eq!(attribute(body, 1), Some(&b"web\0"[..]));
        let nested = attribute(body, 2).expect("nested");
        assert_eq!(attribute(nested, 3), Some(&77u32.to_be_bytes()[..]));
        assert!(received.next().is_none());
    }

    #[test]
    fn cut_and_lying_lengths_end_the_iteration() {
        let mut buffer = Vec::new();
        message(&mut buffer, 7, 5, 9, 1, 10, |attributes| attributes.u32(3, 77));
        for end in 0..buffer.len() {
            assert_eq!(messages(&buffer[..end]).count(), 0);
        }
        assert_eq!(attributes(&[0, 0, 1, 0, 9, 9]).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
    }
}
