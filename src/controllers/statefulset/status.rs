//! What a StatefulSet's status says of its pods.
//!
//! Upstream: updateStatus and completeUpdate in pkg/controller/statefulset.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSetStatus;

use super::plan::{Situation, revision};
use crate::pods::{Phase, PodView};

pub(super) fn calculate(situation: &Situation<'_>, before: StatefulSetStatus) -> StatefulSetStatus {
    let count = |counts: &dyn Fn(&PodView) -> bool| situation.pods.iter().filter(|pod| counts(pod)).count() as i32;
    let of = |name: &str| count(&|pod| !pod.deleting && revision(pod) == Some(name));
    let ready = count(&|pod| pod.phase == Phase::Running && pod.ready);
    let available = count(&|pod| pod.phase == Phase::Running && situation.available(pod));
    let (replicas, updated) = (situation.pods.len() as i32, of(situation.update));
    let complete = [updated, ready, replicas].iter().all(|number| *number == situation.replicas);
    let (current, current_revision) =
        if complete { (updated, situation.update) } else { (of(situation.current), situation.current) };
    let some = |number: i32| (number != 0).then_some(number);
    StatefulSetStatus {
        replicas,
        ready_replicas: some(ready),
        // Upstream says zero.
        available_replicas: Some(available),
        current_replicas: some(current),
        updated_replicas: some(updated),
        current_revision: Some(current_revision.to_owned()),
        update_revision: Some(situation.update.to_owned()),
        observed_generation: situation.set.metadata.generation,
        collision_count: before.collision_count,
        conditions: before.conditions,
    }
}

/// When a ready pod becomes available by the passing of time.
pub(super) fn next_check(situation: &Situation<'_>) -> Option<Duration> {
    let waiting = situation.pods.iter().any(|pod| pod.ready && !situation.available(pod));
    waiting.then(|| Duration::from_secs(situation.min_ready().max(0).unsigned_abs().into()) + Duration::from_millis(1))
}
