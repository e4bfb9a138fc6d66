//! Moving a DaemonSet's pods to its present template, a few nodes at a time.
//!
//! Upstream: rollingUpdate in pkg/controller/daemon/update.go.

use super::plan::{Moves, Situation};
use crate::percent::scaled;
use crate::pod_control::Known;

/// The pods of a node by template.
struct Pair<'a> {
    node: &'a str,
    new: Option<&'a Known>,
    old: Option<&'a Known>,
}

impl Situation<'_> {
    pub(super) fn roll(&self) -> Moves {
        let strategy = self.spec.update_strategy.as_ref();
        if strategy.is_some_and(|it| it.type_.as_deref() == Some("OnDelete")) {
            return Moves::default();
        }
        let desired = self.nodes.iter().filter(|node| self.place.admits(node).0).count() as i32;
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let mut unavailable = scaled(rolling.and_then(|it| it.max_unavailable.as_ref()), desired, true);
        let surge = self.surge(desired);
        if desired > 0 && surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        if surge == 0 { self.roll_in_place(unavailable) } else { self.roll_with_surge(surge, desired) }
    }

    /// Every node that has pods or should have one; `None` for a node with too many.
    fn pairs(&self) -> Vec<Option<Pair<'_>>> {
        let empty = self.nodes.iter().filter(|node| self.place.admits(node).0 && self.on(&node.key.name).is_empty());
        let empty = empty.map(|node| Some(Pair { node: &node.key.name, new: None, old: None }));
        let pairs = self.pods.iter().map(|(node, pods)| {
            let mut pair = Pair { node, new: None, old: None };
            for pod in pods.iter().filter(|pod| !pod.deleting) {
                let slot = if self.updated(pod) { &mut pair.new } else { &mut pair.old };
                if slot.replace(pod).is_some() {
                    return None;
                }
            }
            Some(pair)
        });
        pairs.chain(empty).collect()
    }

    fn roll_in_place(&self, most_unavailable: i32) -> Moves {
        let mut unavailable = 0;
        let (mut allowed, mut candidates) = (Vec::new(), Vec::new());
        for pair in self.pairs() {
            match pair {
                Some(Pair { new: Some(new), old: None, .. }) => unavailable += i32::from(!self.available(new)),
                Some(Pair { new: None, old: Some(old), .. }) => {
                    if self.available(old) {
                        candidates.push(old.clone());
                    } else {
                        // It is no loss.
                        allowed.push(old.clone());
                        unavailable += 1;
                    }
                }
                _ => unavailable += 1,
            }
        }
        candidates.truncate((most_unavailable - unavailable).max(0) as usize);
        allowed.extend(candidates);
        Moves { delete: allowed, ..Moves::default() }
    }

    fn roll_with_surge(&self, most: i32, desired: i32) -> Moves {
        let mut moves = Moves::default();
        let (mut surging, mut available) = (0, 0);
        let (mut candidates, mut unwanted) = (Vec::new(), Vec::new());
        for pair in self.pairs() {
            let Some(pair) = pair else {
                surging += 1;
                continue;
            };
            let serving = pair.old.or(pair.new).is_some_and(|pod| self.available(pod));
            available += i32::from(serving);
            let Some(old) = pair.old else { continue };
            if let Some(new) = pair.new {
                if self.available(new) {
                    moves.delete.push(old.clone())
                } else {
                    surging += 1
                }
                continue;
            }
            let Some(node) = self.nodes.iter().find(|node| *node.key.name == *pair.node) else { continue };
            match (self.place.admits(node).0, self.available(old)) {
                (false, false) => moves.delete.push(old.clone()),
                (false, true) => unwanted.push(old.clone()),
                (true, false) => moves.create.push(node.key.name.clone()),
                (true, true) => candidates.push(node.key.name.clone()),
            }
        }
        unwanted.truncate((available - desired).max(0) as usize);
        moves.delete.extend(unwanted);
        candidates.truncate((most - surging).max(0) as usize);
        moves.create.extend(candidates);
        moves
    }
}
