//! Amounts of resources as integers.

use std::collections::BTreeMap;

use coracle_api::quantity::Quantity;

/// What a pod asks for, or a node has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a core.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// Everything else by name (hugepages, extended resources), sorted.
    pub others: BTreeMap<Box<str>, i64>,
}

/// A resource list as it stands in an object.
pub type Written = BTreeMap<Box<str>, Box<str>>;

impl Amounts {
    /// Reads a resource list; `pods` is not an amount and is left out, as is what cannot be read.
    pub fn read(written: &Written) -> Self {
        let mut amounts = Self::default();
        for (name, text) in written {
            let Ok(quantity) = Quantity::parse(text) else { continue };
            match &**name {
                "cpu" => amounts.milli_cpu = quantity.milli_value(),
                "memory" => amounts.memory = quantity.value(),
                "ephemeral-storage" => amounts.ephemeral_storage = quantity.value(),
                "pods" => {}
                _ => drop(amounts.others.insert(name.clone(), quantity.value())),
            }
        }
        amounts
    }

    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
        self.others.retain(|_, amount| *amount != 0);
    }

    /// The larger of both, resource by resource.
    pub fn raise(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, with: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.others {
            let mine = self.others.entry(name.clone()).or_default();
            *mine = with(*mine, *amount);
        }
    }
}
