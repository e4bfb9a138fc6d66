//! What a namespace that is being deleted says of its progress.
//!
//! Upstream: pkg/controller/namespace/deletion/status_condition_utils.go, whose words users look for.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Finalizers;

/// What a pass over the namespace left.
#[derive(Debug, Default)]
pub(super) struct Remaining {
    /// Counts by `pods.` (plural, dot, group).
    pub(super) resources: BTreeMap<String, usize>,
    pub(super) finalizers: Finalizers,
    pub(super) failures: Vec<String>,
    /// When it is worth looking again.
    pub(super) again: Option<Duration>,
}

/// Type, and reason and message where all is well.
const ROWS: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

/// Sets all conditions; says whether any changed.
pub(super) fn update(status: &mut NamespaceStatus, remaining: &Remaining, now: &Time) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    let mut changed = false;
    for (kind, reason, message) in ROWS {
        let trouble = trouble(kind, remaining);
        let (status, reason, message) = match trouble {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", reason, message.to_owned()),
        };
        let new = NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(now.clone()),
        };
        match conditions.iter_mut().find(|old| old.type_ == kind) {
            None => {
                conditions.push(new);
                changed = true;
            }
            Some(old) if (&old.status, &old.reason, &old.message) != (&new.status, &new.reason, &new.message) => {
                let since = if old.status == new.status { old.last_transition_time.clone() } else { Some(now.clone()) };
                *old = NamespaceCondition { last_transition_time: since, ..new };
                changed = true;
            }
            Some(_) => {}
        }
    }
    changed
}

fn trouble(kind: &str, remaining: &Remaining) -> Option<(&'static str, String)> {
    let list = |parts: Vec<String>| parts.join(", ");
    match kind {
        "NamespaceDeletionContentFailure" if !remaining.failures.is_empty() => {
            let (count, all) = (remaining.failures.len(), remaining.failures.join(", "));
            Some(("ContentDeletionFailed", format!("Failed to delete all resource types, {count} remaining: {all}")))
        }
        "NamespaceContentRemaining" if !remaining.resources.is_empty() => {
            let parts =
                remaining.resources.iter().map(|(name, count)| format!("{name} has {count} resource instances"));
            Some(("SomeResourcesRemain", format!("Some resources are remaining: {}", list(parts.collect()))))
        }
        "NamespaceFinalizersRemaining" if !remaining.finalizers.is_empty() => {
            let parts =
                remaining.finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances"));
            let parts = list(parts.collect());
            Some(("SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {parts}")))
        }
        _ => None,
    }
}
