//! A batch: changes of one table that the kernel takes together or not at all.

use super::expression::{Rule, Verdict};
use crate::netlink::message::{ATTRIBUTE_LIMIT, Attributes, SUBSYSTEM_NFTABLES, message};
use crate::netlink::{KernelError, NetlinkSocket};

const INET: u8 = 1;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// A datatype of nft, so that `nft list ruleset` prints what we wrote; with its width in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Address4,
    Address6,
    Protocol,
    Port,
    /// Numbers are of type mark: nft 1.0.6 aborts on `integer` in a concatenation.
    Mark,
}

impl Type {
    fn number(self) -> u32 {
        match self {
            Type::Address4 => 7,
            Type::Address6 => 8,
            Type::Protocol => 12,
            Type::Port => 13,
            Type::Mark => 19,
        }
    }

    fn registers(self) -> u32 {
        if self == Type::Address6 { 4 } else { 1 }
    }
}

/// What a map gives for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// The set has no values.
    Nothing,
    Verdict,
    Value(&'static [Type]),
}

/// A set or map to create.
#[derive(Debug, Clone, Copy)]
pub struct Set<'a> {
    pub name: &'a str,
    pub key: &'a [Type],
    pub data: Data,
    /// Elements are ranges (one type only).
    pub interval: bool,
    /// Rules add elements, which time out; at most so many.
    pub dynamic: Option<u32>,
}

/// An element's value, in the form the registers have: every part padded to four bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Nothing,
    Verdict(Verdict),
    Bytes(Vec<u8>),
    /// The first key after a range.
    RangeEnd,
}

/// Where a base chain hangs.
#[derive(Debug, Clone, Copy)]
pub struct Hook {
    /// `nat` or `filter`.
    pub kind: &'static str,
    /// NF_INET_PRE_ROUTING 0, LOCAL_IN 1, FORWARD 2, LOCAL_OUT 3, POST_ROUTING 4.
    pub number: u32,
    pub priority: i32,
}

#[derive(Clone, Copy)]
enum Kind {
    NewTable = 0,
    DeleteTable = 2,
    NewChain = 3,
    DeleteChain = 5,
    NewRule = 6,
    NewSet = 9,
    NewElement = 12,
    DeleteElement = 14,
}

/// Messages for one table of the inet family, in order.
pub struct Batch {
    table: Box<str>,
    buffer: Vec<u8>,
    sequence: u32,
    last: usize,
    next_set: u32,
    labels: Vec<Box<str>>,
}

impl Batch {
    pub fn new(table: &str) -> Self {
        let mut batch =
            Self { table: table.into(), buffer: Vec::new(), sequence: 0, last: 0, next_set: 0, labels: Vec::new() };
        message(&mut batch.buffer, BATCH_BEGIN, REQUEST, 0, 0, SUBSYSTEM_NFTABLES, |_| ());
        batch
    }

    /// Nothing to send.
    pub fn is_empty(&self) -> bool {
        self.sequence == 0
    }

    fn push(&mut self, kind: Kind, flags: u16, label: &str, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.sequence += 1;
        self.labels.push(label.into());
        let kind = (SUBSYSTEM_NFTABLES << 8) | kind as u16;
        let table = &self.table;
        self.last = message(&mut self.buffer, kind, REQUEST | flags, self.sequence, INET, 0, |attributes| {
            attributes.string(1, table);
            fill(attributes);
        })
        .start;
    }

    pub fn add_table(&mut self) {
        self.push(Kind::NewTable, CREATE, "table", |attributes| attributes.u32(2, 0));
    }

    /// Fails the batch when there is no such table.
    pub fn delete_table(&mut self) {
        self.push(Kind::DeleteTable, 0, "table", |_| ());
    }

    pub fn add_chain(&mut self, name: &str, hook: Option<Hook>) {
        self.push(Kind::NewChain, CREATE, name, |attributes| {
            attributes.string(3, name);
            if let Some(hook) = hook {
                attributes.nested(4, |attributes| {
                    attributes.u32(1, hook.number);
                    attributes.bytes(2, &hook.priority.to_be_bytes());
                });
                attributes.string(7, hook.kind);
            }
        });
    }

    /// The chain goes with its rules; nothing may lead to it any more.
    pub fn delete_chain(&mut self, name: &str) {
        self.push(Kind::DeleteChain, 0, name, |attributes| attributes.string(3, name));
    }

    pub fn add_rule(&mut self, chain: &str, rule: &Rule) {
        self.push(Kind::NewRule, CREATE | APPEND, chain, |attributes| {
            attributes.string(2, chain);
            attributes.nested(4, |attributes| attributes.raw(rule.expressions()));
        });
    }

    pub fn add_set(&mut self, set: &Set<'_>) {
        const INTERVAL: u32 = 0x04;
        const MAP: u32 = 0x08;
        const TIMEOUT: u32 = 0x10;
        const DYNAMIC: u32 = 0x20;
        let mut flags = 0;
        if set.interval {
            flags |= INTERVAL;
        }
        if set.data != Data::Nothing {
            flags |= MAP;
        }
        if set.dynamic.is_some() {
            flags |= TIMEOUT | DYNAMIC;
        }
        self.next_set += 1;
        let id = self.next_set;
        self.push(Kind::NewSet, CREATE, set.name, |attributes| {
            attributes.string(2, set.name);
            attributes.u32(3, flags);
            let (kind, length) = concatenation(set.key);
            attributes.u32(4, kind);
            attributes.u32(5, length);
            match set.data {
                Data::Nothing => (),
                Data::Verdict => attributes.u32(6, 0xffff_ff00),
                Data::Value(types) => {
                    let (kind, length) = concatenation(types);
                    attributes.u32(6, kind);
                    attributes.u32(7, length);
                }
            }
            if let Some(size) = set.dynamic {
                attributes.nested(9, |attributes| attributes.u32(1, size));
            }
            attributes.u32(10, id);
        });
    }

    pub fn add_elements<'a>(&mut self, set: &str, elements: impl Iterator<Item = (&'a [u8], &'a Value)>) {
        self.elements(Kind::NewElement, CREATE, set, elements);
    }

    /// Fails the batch when one is not there.
    pub fn delete_elements<'a>(&mut self, set: &str, keys: impl Iterator<Item = &'a [u8]>) {
        self.elements(Kind::DeleteElement, 0, set, keys.map(|key| (key, &Value::Nothing)));
    }

    fn elements<'a>(
        &mut self,
        kind: Kind,
        flags: u16,
        set: &str,
        mut elements: impl Iterator<Item = (&'a [u8], &'a Value)>,
    ) {
        /// An element is far smaller: two IPv6 addresses, a chain's name, headers.
        const ELEMENT: usize = 512;
        let mut next = elements.next();
        while next.is_some() {
            let mut list = Vec::new();
            while let Some((key, value)) = next {
                element(&mut list, key, value);
                next = elements.next();
                if list.len() + ELEMENT > ATTRIBUTE_LIMIT {
                    break;
                }
            }
            self.push(kind, flags, set, |attributes| {
                attributes.string(2, set);
                attributes.nested(3, |attributes| attributes.raw(&list));
            });
        }
    }

    /// Sends the batch and waits for the kernel's answer. An error means that nothing of it was done.
    pub fn commit(mut self, socket: &mut NetlinkSocket) -> Result<(), KernelError> {
        if self.is_empty() {
            return Ok(());
        }
        let flags = u16::from_ne_bytes([self.buffer[self.last + 6], self.buffer[self.last + 7]]) | ACKNOWLEDGE;
        self.buffer[self.last + 6..self.last + 8].copy_from_slice(&flags.to_ne_bytes());
        message(&mut self.buffer, BATCH_END, REQUEST, self.sequence + 1, 0, SUBSYSTEM_NFTABLES, |_| ());
        socket.transact(&self.buffer, self.sequence, &self.labels)
    }
}

fn element(list: &mut Vec<u8>, key: &[u8], value: &Value) {
    Attributes::new(list).nested(1, |attributes| {
        attributes.nested(1, |attributes| attributes.bytes(1, key));
        match value {
            Value::Nothing => (),
            Value::Verdict(verdict) => attributes.nested(2, |attributes| verdict.write(attributes)),
            Value::Bytes(bytes) => attributes.nested(2, |attributes| attributes.bytes(1, bytes)),
            Value::RangeEnd => attributes.u32(3, 1),
        }
    });
}

/// nft's number of a concatenated type, and the length of its register form.
fn concatenation(types: &[Type]) -> (u32, u32) {
    types.iter().fold((0, 0), |(kind, length), part| ((kind << 6) | part.number(), length + 4 * part.registers()))
}
