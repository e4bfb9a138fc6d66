//! Rules as lists of nf_tables expressions over 32-bit registers (linux/netfilter/nf_tables.h).

use crate::netlink::message::Attributes;

/// Where a packet or a value goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(Box<str>),
    Goto(Box<str>),
}

impl Verdict {
    pub fn goto(chain: &str) -> Self {
        Verdict::Goto(chain.into())
    }

    /// Writes NFTA_DATA_VERDICT with code and chain.
    pub(super) fn write(&self, attributes: &mut Attributes<'_>) {
        let (code, chain) = match self {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Goto(chain) => (-4, Some(chain)),
            Verdict::Return => (-5, None),
        };
        attributes.nested(2, |attributes| {
            attributes.bytes(1, &i32::to_be_bytes(code));
            if let Some(chain) = chain {
                attributes.string(2, chain);
            }
        });
    }
}

/// One of sixteen 32-bit registers; longer values take the registers that follow.
pub type Register = u8;

const FIRST_REGISTER: u32 = 8;
const VERDICT_REGISTER: u32 = 0;

fn number(register: Register) -> u32 {
    debug_assert!(register < 16);
    FIRST_REGISTER + u32::from(register)
}

/// A rule under construction; each method appends one expression.
#[derive(Default, Clone)]
pub struct Rule {
    expressions: Vec<u8>,
}

/// Packet facts of `meta`.
#[derive(Clone, Copy)]
pub enum Meta {
    Mark = 3,
    Family = 15,
    Protocol = 16,
}

/// Facts of the packet's connection.
#[derive(Clone, Copy)]
pub enum Connection {
    State = 0,
    Status = 2,
    OriginalPort = 12,
    OriginalAddress4 = 20,
    OriginalAddress6 = 22,
}

/// `NF_CT_STATE_BIT(IP_CT_NEW)`.
pub const STATE_NEW: u32 = 8;
/// `IPS_DST_NAT`.
pub const STATUS_DNAT: u32 = 0x20;

impl Rule {
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn expressions(&self) -> &[u8] {
        &self.expressions
    }

    fn push(mut self, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) -> Self {
        Attributes::new(&mut self.expressions).nested(1, |element| {
            element.string(1, name);
            element.nested(2, fill);
        });
        self
    }

    pub fn meta(self, key: Meta, to: Register) -> Self {
        self.push("meta", |data| {
            data.u32(1, number(to));
            data.u32(2, key as u32);
        })
    }

    /// Loads `length` bytes at `offset` of the network header.
    pub fn network(self, offset: u32, length: u32, to: Register) -> Self {
        self.payload(1, offset, length, to)
    }

    /// Loads `length` bytes at `offset` of the transport header.
    pub fn transport(self, offset: u32, length: u32, to: Register) -> Self {
        self.payload(2, offset, length, to)
    }

    fn payload(self, base: u32, offset: u32, length: u32, to: Register) -> Self {
        self.push("payload", |data| {
            data.u32(1, number(to));
            data.u32(2, base);
            data.u32(3, offset);
            data.u32(4, length);
        })
    }

    pub fn connection(self, key: Connection, to: Register) -> Self {
        self.push("ct", |data| {
            data.u32(1, number(to));
            data.u32(2, key as u32);
            if !matches!(key, Connection::State | Connection::Status) {
                data.u8(3, 0);
            }
        })
    }

    /// Matches when the register equals `value`.
    pub fn equal(self, register: Register, value: &[u8]) -> Self {
        self.compare(register, 0, value)
    }

    pub fn not_equal(self, register: Register, value: &[u8]) -> Self {
        self.compare(register, 1, value)
    }

    fn compare(self, register: Register, operator: u32, value: &[u8]) -> Self {
        self.push("cmp", |data| {
            data.u32(1, number(register));
            data.u32(2, operator);
            data.nested(3, |data| data.bytes(1, value));
        })
    }

    /// Keeps the bits of `mask`.
    pub fn mask(self, register: Register, mask: &[u8]) -> Self {
        self.push("bitwise", |data| {
            data.u32(1, number(register));
            data.u32(2, number(register));
            data.u32(3, u32::try_from(mask.len()).expect("a mask is an address at most"));
            data.nested(4, |data| data.bytes(1, mask));
            data.nested(5, |data| data.bytes(1, &vec![0; mask.len()]));
        })
    }

    /// Leaves the number as it is, by passing it through the packet's mark, which is put back from `scratch`: nft 1.0.6 does not
    /// know how long a looked-up value is, and `nft list` aborts where one is part of a key; of a mark it knows.
    pub fn number(self, register: Register, scratch: Register) -> Self {
        let set_mark = |rule: Self, from: Register| {
            rule.push("meta", |data| {
                data.u32(2, Meta::Mark as u32);
                data.u32(3, number(from));
            })
        };
        let passed = set_mark(self.meta(Meta::Mark, scratch), register).meta(Meta::Mark, register);
        set_mark(passed, scratch)
    }

    /// Matches packets of connections with one of these state bits.
    pub fn state(self, bits: u32) -> Self {
        self.connection(Connection::State, 0).mask(0, &bits.to_ne_bytes()).not_equal(0, &[0; 4])
    }

    /// Matches packets of connections with (or without) one of these status bits.
    pub fn status(self, bits: u32, set: bool) -> Self {
        let rule = self.connection(Connection::Status, 0).mask(0, &bits.to_ne_bytes());
        if set { rule.not_equal(0, &[0; 4]) } else { rule.equal(0, &[0; 4]) }
    }

    /// Matches when the key is in the set, or is not.
    pub fn contained(self, set: &str, key: Register, inside: bool) -> Self {
        self.push("lookup", |data| {
            data.string(1, set);
            data.u32(2, number(key));
            if !inside {
                data.u32(5, 1);
            }
        })
    }

    /// Loads the map's value for the key; no match without one.
    pub fn lookup(self, map: &str, key: Register, to: Register) -> Self {
        self.push("lookup", |data| {
            data.string(1, map);
            data.u32(2, number(key));
            data.u32(3, number(to));
        })
    }

    /// Goes where the verdict map says; goes on without an element.
    pub fn verdict_map(self, map: &str, key: Register) -> Self {
        self.push("lookup", |data| {
            data.string(1, map);
            data.u32(2, number(key));
            data.u32(3, VERDICT_REGISTER);
        })
    }

    /// A random number below `modulus`, in host byte order.
    pub fn random(self, modulus: u32, to: Register) -> Self {
        self.push("numgen", |data| {
            data.u32(1, number(to));
            data.u32(2, modulus);
            data.u32(3, 1);
        })
    }

    /// Matches when the packet's source (or destination) address is (or is not) one of the machine's own.
    pub fn local(self, source: bool, local: bool) -> Self {
        const LOCAL: [u8; 4] = 2u32.to_ne_bytes();
        let rule = self.push("fib", |data| {
            data.u32(1, number(0));
            data.u32(2, 3);
            data.u32(3, if source { 1 } else { 2 });
        });
        if local { rule.equal(0, &LOCAL) } else { rule.not_equal(0, &LOCAL) }
    }

    /// Adds the element or refreshes its timeout (milliseconds).
    pub fn update(self, map: &str, key: Register, value: Register, timeout: u64) -> Self {
        self.push("dynset", |data| {
            data.string(1, map);
            data.u32(3, 1);
            data.u32(4, number(key));
            data.u32(5, number(value));
            data.u64(6, timeout);
        })
    }

    /// Removes the element, if there is one; the kernel wants a value, and does not look at it.
    pub fn forget(self, map: &str, key: Register, value: Register) -> Self {
        self.push("dynset", |data| {
            data.string(1, map);
            data.u32(3, 2);
            data.u32(4, number(key));
            data.u32(5, number(value));
        })
    }

    pub fn immediate(self, to: Register, value: &[u8]) -> Self {
        self.push("immediate", |data| {
            data.u32(1, number(to));
            data.nested(2, |data| data.bytes(1, value));
        })
    }

    /// Translates the destination; without an address register the port only. `family` is NFPROTO_IPV4 or NFPROTO_IPV6.
    pub fn destination(self, family: u8, address: Option<Register>, port: Register) -> Self {
        self.push("nat", |data| {
            data.u32(1, 1);
            data.u32(2, u32::from(family));
            if let Some(address) = address {
                data.u32(3, number(address));
                data.u32(4, number(address));
            }
            data.u32(5, number(port));
            data.u32(6, number(port));
            data.u32(7, 0x02 | if address.is_some() { 0x01 } else { 0 });
        })
    }

    pub fn masquerade(self) -> Self {
        self.push("masq", |_| ())
    }

    /// Answers with a TCP reset.
    pub fn reset(self) -> Self {
        self.push("reject", |data| {
            data.u32(1, 1);
            data.u8(2, 0);
        })
    }

    /// Answers with ICMP (or ICMPv6) port unreachable.
    pub fn unreachable(self) -> Self {
        self.push("reject", |data| {
            data.u32(1, 2);
            data.u8(2, 1);
        })
    }

    pub fn verdict(self, verdict: Verdict) -> Self {
        self.push("immediate", |data| {
            data.u32(1, VERDICT_REGISTER);
            data.nested(2, |data| verdict.write(data));
        })
    }
}
