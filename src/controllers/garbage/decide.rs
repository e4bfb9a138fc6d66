//! What becomes of an object, given what its owners are: a pure function.
//!
//! Upstream: attemptToDeleteItem in pkg/controller/garbagecollector/garbagecollector.go.

use super::{FOREGROUND, ORPHAN};
use crate::owners::Owner;

/// What an owner turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Solid,
    /// Being deleted, and waits for its dependents to go first.
    Waiting,
    Gone,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Keep,
    /// Take the references to owners with these UIDs.
    Disown(Vec<Box<str>>),
    /// Delete with this propagation policy.
    Delete(&'static str),
}

pub(super) fn decide(owners: &[Owner], presence: &[Presence], has_dependents: bool, finalizers: &[String]) -> Decision {
    if owners.is_empty() {
        return Decision::Keep;
    }
    let any = |wanted: Presence| presence.contains(&wanted);
    if any(Presence::Solid) {
        let others = owners.iter().zip(presence).filter(|(_, presence)| **presence != Presence::Solid);
        let others: Vec<_> = others.map(|(owner, _)| owner.uid.clone()).collect();
        return if others.is_empty() { Decision::Keep } else { Decision::Disown(others) };
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if any(Presence::Waiting) && has_dependents {
        // The owner waits for all below it.
        Decision::Delete("Foreground")
    } else if has(ORPHAN) {
        Decision::Delete("Orphan")
    } else if has(FOREGROUND) {
        Decision::Delete("Foreground")
    } else {
        Decision::Delete("Background")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_decide() {
        use Presence::{Gone, Solid, Waiting};
        let disown = |uids: &[&str]| Decision::Disown(uids.iter().map(|uid| (*uid).into()).collect());
        let cases: [(&[Presence], bool, &[&str], Decision); 11] = [
            (&[], false, &[], Decision::Keep),
            (&[Solid], true, &[], Decision::Keep),
            (&[Solid, Gone], false, &[], disown(&["1"])),
            (&[Waiting, Solid, Gone], false, &[], disown(&["0", "2"])),
            (&[Gone], false, &[], Decision::Delete("Background")),
            (&[Gone, Gone], true, &[], Decision::Delete("Background")),
            (&[Gone], false, &["orphan"], Decision::Delete("Orphan")),
            (&[Gone], false, &["foregroundDeletion"], Decision::Delete("Foreground")),
            (&[Waiting], false, &[], Decision::Delete("Background")),
            (&[Waiting], true, &[], Decision::Delete("Foreground")),
            (&[Waiting, Gone], true, &["orphan"], Decision::Delete("Foreground")),
        ];
        for (presence, has_dependents, finalizers, expected) in cases {
            let owners: Vec<_> =
                (0..presence.len()).map(|uid| Owner { uid: uid.to_string().into(), ..Owner::default() }).collect();
            let finalizers: Vec<_> = finalizers.iter().map(|it| it.to_string()).collect();
            assert_eq!(decide(&owners, presence, has_dependents, &finalizers), expected, "{presence:?} {finalizers:?}");
        }
    }
}
