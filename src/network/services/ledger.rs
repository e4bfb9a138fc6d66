//! Who claims which element, and what the kernel therefore should hold; a change touches only its own keys.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use coracle_client::Key as ObjectKey;

use super::element::{Content, Family, Group, Key};
use super::plan::{Fragment, Groups, Scope};
use super::ruleset;
use crate::nftables::{Batch, Value};

/// Who puts elements into the table. Where two claim one key, the smaller owner has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    Dns,
    Service(ObjectKey),
    /// A pod sandbox with host ports.
    Sandbox(Arc<str>),
}

/// The desired elements of all owners, and what of it is installed.
#[derive(Default)]
pub struct Ledger {
    owners: HashMap<Owner, Fragment>,
    /// Further claims on keys that more than one owner has.
    claims: HashMap<Key, BTreeSet<Owner>>,
    installed: HashMap<Key, Content>,
    touched: BTreeSet<Key>,
    numbers: HashMap<Owner, BTreeMap<(usize, Family, Scope), Group>>,
    next_group: Group,
}

/// The changes of one step, in the order of their keys.
#[derive(Debug, Default)]
pub struct Changes {
    /// What was there before and is not, or not in this form, any more.
    pub removed: BTreeMap<Key, Content>,
    pub added: BTreeMap<Key, Content>,
}

struct OwnGroups<'a> {
    numbers: &'a mut BTreeMap<(usize, Family, Scope), Group>,
    next: &'a mut Group,
}

impl Groups for OwnGroups<'_> {
    fn group(&mut self, port: usize, family: Family, scope: Scope) -> Group {
        *self.numbers.entry((port, family, scope)).or_insert_with(|| {
            *self.next += 1;
            *self.next
        })
    }
}

impl Ledger {
    /// Gives `build` the owner's group numbers; they are free again when the owner has no elements.
    pub fn plan(&mut self, owner: &Owner, build: impl FnOnce(&mut dyn Groups) -> Fragment) {
        let numbers = self.numbers.entry(owner.clone()).or_default();
        let fragment = build(&mut OwnGroups { numbers, next: &mut self.next_group });
        self.set(owner, fragment);
    }

    /// Replaces all elements of an owner; an empty fragment removes it.
    pub fn set(&mut self, owner: &Owner, fragment: Fragment) {
        if fragment.is_empty() {
            self.numbers.remove(owner);
        }
        let before = self.owners.remove(owner).unwrap_or_default();
        for (key, content) in &before {
            if fragment.get(key) != Some(content) {
                self.touched.insert(key.clone());
            }
            if !fragment.contains_key(key)
                && let Some(owners) = self.claims.get_mut(key)
            {
                owners.remove(owner);
                if owners.is_empty() {
                    self.claims.remove(key);
                }
            }
        }
        for (key, content) in &fragment {
            if before.get(key) != Some(content) {
                self.touched.insert(key.clone());
            }
            if !before.contains_key(key) {
                self.claims.entry(key.clone()).or_default().insert(owner.clone());
            }
        }
        if !fragment.is_empty() {
            self.owners.insert(owner.clone(), fragment);
        }
    }

    /// What the owner has claimed.
    pub fn fragment(&self, owner: &Owner) -> Option<&Fragment> {
        self.owners.get(owner)
    }

    fn desired(&self, key: &Key) -> Option<&Content> {
        self.claims.get(key)?.first().and_then(|owner| self.owners.get(owner)?.get(key))
    }

    /// What must change in the kernel; call `done` when it has.
    pub fn changes(&self) -> Changes {
        let mut changes = Changes::default();
        for key in &self.touched {
            let (desired, installed) = (self.desired(key), self.installed.get(key));
            if desired == installed {
                continue;
            }
            if let Some(content) = installed {
                changes.removed.insert(key.clone(), content.clone());
            }
            if let Some(content) = desired {
                changes.added.insert(key.clone(), content.clone());
            }
        }
        changes
    }

    /// The kernel has taken the changes.
    pub fn done(&mut self, changes: &Changes) {
        for key in changes.removed.keys() {
            self.installed.remove(key);
        }
        for (key, content) in &changes.added {
            self.installed.insert(key.clone(), content.clone());
        }
        self.touched.clear();
    }

    /// The table was replaced: nothing is installed.
    pub fn reset(&mut self) {
        self.installed.clear();
        self.touched = self.claims.keys().cloned().collect();
    }

    /// Everything that is desired, in order; for tests and for people.
    pub fn elements(&self) -> BTreeMap<&Key, &Content> {
        self.claims.keys().filter_map(|key| Some((key, self.desired(key)?))).collect()
    }
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// New chains, old elements out, new elements in, old chains out.
    pub fn write(&self, batch: &mut Batch) {
        for key in self.added.keys() {
            if let Key::Chain(balancer) = key {
                ruleset::balancer(batch, balancer);
            }
        }
        let keys: BTreeMap<String, Vec<Vec<u8>>> = by_set(self.removed.keys().map(|key| (key, key.bytes())));
        for (set, keys) in &keys {
            batch.delete_elements(set, keys.iter().map(Vec::as_slice));
        }
        let elements: BTreeMap<String, Vec<(Vec<u8>, Value)>> =
            by_set(self.added.iter().map(|(key, content)| (key, (key.bytes(), content.value(key)))));
        for (set, elements) in &elements {
            batch.add_elements(set, elements.iter().map(|(key, value)| (key.as_slice(), value)));
        }
        for key in self.removed.keys() {
            if let Key::Chain(balancer) = key {
                batch.delete_chain(&balancer.name());
            }
        }
    }
}

fn by_set<'a, T>(items: impl Iterator<Item = (&'a Key, T)>) -> BTreeMap<String, Vec<T>> {
    let mut sets: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for (key, item) in items {
        if let Some(set) = key.set() {
            sets.entry(set).or_default().push(item);
        }
    }
    sets
}
