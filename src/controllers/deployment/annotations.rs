//! The annotations in which Deployments and ReplicaSets keep revisions and sizes.
//!
//! Upstream: pkg/controller/deployment/util/deployment_util.go. kubectl rollout reads them.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// Not copied from a Deployment to its ReplicaSets.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// The history of revisions is kept to about so many characters.
const HISTORY_LIMIT: usize = 2000;

pub(super) fn get<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

pub(super) fn set(meta: &mut ObjectMeta, name: &str, value: &str) {
    meta.annotations.get_or_insert_default().insert(name.to_owned(), value.to_owned());
}

pub(super) fn number(meta: &ObjectMeta, name: &str) -> Option<i32> {
    get(meta, name)?.parse().ok().filter(|number| *number >= 0)
}

/// The revision of a ReplicaSet; 0 where it has none.
pub(super) fn revision(set: &ReplicaSet) -> i64 {
    get(&set.metadata, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Notes how large the Deployment and its surge were when the set got its size.
pub(super) fn set_sizes(set_meta: &mut ObjectMeta, desired: i32, max: i32) {
    set(set_meta, DESIRED_REPLICAS, &desired.to_string());
    set(set_meta, MAX_REPLICAS, &max.to_string());
}

/// Gives the new set the Deployment's annotations and, where its own is smaller, the revision. A set that had an
/// older revision is being rolled back to: that revision goes to its history.
pub(super) fn renew(deployment: &Deployment, set_meta: &mut ObjectMeta, revision: i64) {
    for (name, value) in deployment.metadata.annotations.iter().flatten() {
        if !OWN.contains(&name.as_str()) {
            set(set_meta, name, value);
        }
    }
    let old = get(set_meta, REVISION).map(str::to_owned);
    let old_number = match old.as_deref() {
        None | Some("") => 0,
        Some(text) => match text.parse::<i64>() {
            Ok(number) => number,
            Err(_) => return,
        },
    };
    if old_number >= revision {
        return;
    }
    set(set_meta, REVISION, &revision.to_string());
    if let Some(old) = old {
        let history = get(set_meta, REVISION_HISTORY).unwrap_or_default();
        if let Some(history) = with_revision(history, &old) {
            set(set_meta, REVISION_HISTORY, &history);
        }
    }
}

/// The history with one more revision; the oldest ones fall out at the limit. `None` when there is no room at all.
fn with_revision(history: &str, revision: &str) -> Option<String> {
    if history.is_empty() {
        return Some(revision.to_owned());
    }
    let mut kept: Vec<&str> = history.split(',').collect();
    let mut length = history.len() + revision.len() + 1;
    while length > HISTORY_LIMIT && !kept.is_empty() {
        length -= kept.remove(0).len() + 1;
    }
    kept.push(revision);
    (length <= HISTORY_LIMIT).then(|| kept.join(","))
}
