//! What a Deployment's status says: counts, availability, and whether it progresses.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentSpec, DeploymentStatus};

use super::plan::Rollout;
use super::{Set, time};

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const FAILURE: &str = "ReplicaFailure";

const DONE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// Counts, with the availability condition.
pub(super) fn calculate(rollout: &Rollout<'_>, now: SystemTime) -> DeploymentStatus {
    let old = rollout.deployment.status.clone().unwrap_or_default();
    let some = |number: i32| (number != 0).then_some(number);
    let available = rollout.sum(Set::available);
    let terminating: Vec<i32> = rollout.sets.iter().filter_map(Set::terminating).collect();
    // Unknown as long as one set does not say.
    let terminating = (terminating.len() == rollout.sets.len()).then(|| terminating.iter().sum());
    let created = rollout.create.as_ref().and_then(|set| set.spec.replicas).unwrap_or(0);
    DeploymentStatus {
        observed_generation: rollout.deployment.metadata.generation,
        replicas: some(rollout.sum(Set::actual)),
        updated_replicas: some(rollout.new_set().map_or(0, Set::actual)),
        ready_replicas: some(rollout.sum(Set::ready)),
        available_replicas: some(available),
        unavailable_replicas: some((rollout.sum(Set::replicas) + created - available).max(0)),
        terminating_replicas: terminating,
        collision_count: old.collision_count,
        conditions: with_availability(rollout, old.conditions, now),
    }
}

pub(super) fn with_availability(
    rollout: &Rollout<'_>,
    conditions: Option<Vec<DeploymentCondition>>,
    now: SystemTime,
) -> Option<Vec<DeploymentCondition>> {
    let mut conditions = conditions.unwrap_or_default();
    let enough = rollout.sum(Set::available) >= rollout.desired - rollout.unavailable;
    let (status, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut conditions, condition(AVAILABLE, status, reason, message.to_owned(), now));
    Some(conditions)
}

/// The status during a rollout, and when its deadline has to be checked.
pub(super) fn of_rollout(
    rollout: &Rollout<'_>,
    base: DeploymentStatus,
    now: SystemTime,
) -> (DeploymentStatus, Option<Duration>) {
    let mut status = calculate(rollout, now);
    let mut conditions = with_availability(rollout, base.conditions.clone(), now).unwrap_or_default();
    let deadline = deadline(rollout.spec);
    if deadline.is_none() {
        conditions.retain(|it| it.type_.as_deref() != Some(PROGRESSING));
    } else if let Some(created) = &rollout.create {
        let name = created.metadata.name.as_deref().unwrap_or_default();
        set(
            &mut conditions,
            condition(PROGRESSING, "True", "NewReplicaSetCreated", format!("Created new replica set {name:?}"), now),
        );
    } else if let Some(new) = rollout.new_set().filter(|_| find(&conditions, PROGRESSING).is_none()) {
        let message = format!("Found new replica set {:?}", new.name());
        set(&mut conditions, condition(PROGRESSING, "True", "FoundNewReplicaSet", message, now));
    }
    status.conditions = Some(conditions);
    if let Some(deadline) = deadline {
        note_progress(rollout, &base, &mut status, deadline, now);
    }
    let mut conditions = status.conditions.take().unwrap_or_default();
    match failure(rollout) {
        Some(failure) => set(&mut conditions, failure),
        None => conditions.retain(|it| it.type_.as_deref() != Some(FAILURE)),
    }
    let again = deadline.and_then(|deadline| next_check(rollout, &status, &conditions, deadline, now));
    status.conditions = Some(conditions);
    (status, again)
}

fn note_progress(
    rollout: &Rollout<'_>,
    base: &DeploymentStatus,
    status: &mut DeploymentStatus,
    deadline: Duration,
    now: SystemTime,
) {
    let current = find(status.conditions.as_deref().unwrap_or_default(), PROGRESSING).cloned();
    let reason = current.as_ref().and_then(|it| it.reason.as_deref()).unwrap_or_default();
    if status.replicas == status.updated_replicas && reason == DONE {
        return;
    }
    let subject = match rollout.new_set() {
        Some(new) => format!("ReplicaSet {:?}", new.name()),
        None => format!("Deployment {:?}", rollout.deployment.metadata.name.as_deref().unwrap_or_default()),
    };
    if complete(rollout, status) {
        let message = format!("{subject} has successfully progressed.");
        set(status.conditions.get_or_insert_default(), condition(PROGRESSING, "True", DONE, message, now));
    } else if progressed(base, status) {
        let mut noted = condition(PROGRESSING, "True", "ReplicaSetUpdated", format!("{subject} is progressing."), now);
        // With the same reason the time of progress still counts, so the condition is replaced, not kept.
        if let Some(current) = current.filter(|it| it.status.as_deref() == Some("True")) {
            noted.last_transition_time = current.last_transition_time;
        }
        let conditions = status.conditions.get_or_insert_default();
        conditions.retain(|it| it.type_.as_deref() != Some(PROGRESSING));
        conditions.push(noted);
    } else if timed_out(current.as_ref(), deadline, now) {
        let message = format!("{subject} has timed out progressing.");
        set(status.conditions.get_or_insert_default(), condition(PROGRESSING, "False", TIMED_OUT, message, now));
    }
}

/// All replicas are of the new set, available, and no others are left.
pub(super) fn complete(rollout: &Rollout<'_>, status: &DeploymentStatus) -> bool {
    let all = |count: Option<i32>| count.unwrap_or(0) == rollout.desired;
    all(status.updated_replicas)
        && all(status.replicas)
        && all(status.available_replicas)
        && status.observed_generation.unwrap_or(0) >= rollout.deployment.metadata.generation.unwrap_or(0)
}

fn progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let count = |number: Option<i32>| number.unwrap_or(0);
    let outdated = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || outdated(new) < outdated(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

fn timed_out(current: Option<&DeploymentCondition>, deadline: Duration, now: SystemTime) -> bool {
    let Some(current) = current else { return false };
    match current.reason.as_deref() {
        Some(DONE) => false,
        Some(TIMED_OUT) => true,
        _ => updated(current) + (deadline.as_secs() as i64) < time::seconds(now),
    }
}

/// From now until the rollout would be late.
fn next_check(
    rollout: &Rollout<'_>,
    status: &DeploymentStatus,
    conditions: &[DeploymentCondition],
    deadline: Duration,
    now: SystemTime,
) -> Option<Duration> {
    let current = find(conditions, PROGRESSING)?;
    if complete(rollout, status) || current.reason.as_deref() == Some(TIMED_OUT) {
        return None;
    }
    // Times are whole seconds; a second more makes sure that the check finds the deadline passed.
    Some(time::until(updated(current) + deadline.as_secs() as i64, now) + Duration::from_secs(2))
}

/// So that a Deployment that was paused for long is not late when it is resumed.
pub(super) fn note_pause(spec: &DeploymentSpec, status: &mut DeploymentStatus, now: SystemTime) {
    if deadline(spec).is_none() {
        return;
    }
    let reason = find(status.conditions.as_deref().unwrap_or_default(), PROGRESSING).and_then(|it| it.reason.clone());
    let (paused, noted) = (spec.paused == Some(true), reason.as_deref() == Some("DeploymentPaused"));
    if reason.as_deref() == Some(TIMED_OUT) || paused == noted {
        return;
    }
    let (reason, message) = if paused {
        ("DeploymentPaused", "Deployment is paused")
    } else {
        ("DeploymentResumed", "Deployment is resumed")
    };
    set(status.conditions.get_or_insert_default(), condition(PROGRESSING, "Unknown", reason, message.to_owned(), now));
}

pub(super) fn note_failed_creation(status: &mut DeploymentStatus, message: String, now: SystemTime) {
    let conditions = status.conditions.get_or_insert_default();
    if find(conditions, PROGRESSING).is_some() {
        set(conditions, condition(PROGRESSING, "False", "ReplicaSetCreateError", message, now));
    }
}

/// The failure of a set, the new one's before others'.
fn failure(rollout: &Rollout<'_>) -> Option<DeploymentCondition> {
    let of = |it: &Set| {
        let conditions = it.object.status.as_ref()?.conditions.as_ref()?;
        let condition = conditions.iter().find(|condition| condition.type_.as_deref() == Some(FAILURE))?;
        Some(DeploymentCondition {
            type_: Some(FAILURE.to_owned()),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            last_transition_time: condition.last_transition_time.clone(),
            last_update_time: condition.last_transition_time.clone(),
        })
    };
    rollout.new_set().and_then(of).or_else(|| rollout.sets.iter().find_map(of))
}

fn deadline(spec: &DeploymentSpec) -> Option<Duration> {
    let seconds = spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)?;
    Some(Duration::from_secs(seconds.max(0).unsigned_abs().into()))
}

fn updated(condition: &DeploymentCondition) -> i64 {
    condition.last_update_time.as_ref().map_or(0, |time| time.0.as_second())
}

fn find<'a>(conditions: &'a [DeploymentCondition], kind: &str) -> Option<&'a DeploymentCondition> {
    conditions.iter().find(|it| it.type_.as_deref() == Some(kind))
}

fn condition(kind: &str, status: &str, reason: &str, message: String, now: SystemTime) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(time::api_time(now)),
        last_transition_time: Some(time::api_time(now)),
    }
}

/// Replaces the condition unless status and reason are what they were; a status that stays keeps its transition time.
fn set(conditions: &mut Vec<DeploymentCondition>, mut new: DeploymentCondition) {
    if let Some(old) = find(conditions, new.type_.as_deref().unwrap_or_default()) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time = old.last_transition_time.clone();
        }
    }
    conditions.retain(|it| it.type_ != new.type_);
    conditions.push(new);
}
