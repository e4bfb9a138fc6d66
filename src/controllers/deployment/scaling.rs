//! Scaling in proportion: a Deployment that changes size during a rollout keeps the proportions of its sets.

use k8s_openapi::api::apps::v1::DeploymentStatus;

use super::plan::Rollout;
use super::{Set, annotations};

/// Brings the sets to the Deployment's size without moving the rollout forward.
pub(super) fn scale(rollout: &mut Rollout<'_>, status: &DeploymentStatus) {
    if let Some(index) = only_active_or_latest(rollout) {
        rollout.scale(index, rollout.desired);
        return;
    }
    if saturated(rollout) {
        for index in rollout.old() {
            rollout.scale(index, 0);
        }
        return;
    }
    let recreate = rollout.spec.strategy.as_ref().and_then(|it| it.type_.as_deref()) == Some("Recreate");
    if !recreate {
        in_proportion(rollout, status);
    }
}

/// The one set in use, or the newest when none is; `None` when several are, or there is no set at all.
fn only_active_or_latest(rollout: &Rollout<'_>) -> Option<usize> {
    let active: Vec<usize> = (0..rollout.sets.len()).filter(|index| rollout.sets[*index].replicas() > 0).collect();
    match active[..] {
        [] => rollout.new.or_else(|| rollout.sets.len().checked_sub(1)),
        [only] => Some(only),
        _ => None,
    }
}

/// The new set has all the replicas, and they are available.
fn saturated(rollout: &Rollout<'_>) -> bool {
    rollout.new_set().is_some_and(|new| {
        let noted = annotations::number(&new.object.metadata, annotations::DESIRED_REPLICAS);
        new.replicas() == rollout.desired && noted == Some(rollout.desired) && new.available() == rollout.desired
    })
}

fn in_proportion(rollout: &mut Rollout<'_>, status: &DeploymentStatus) {
    let mut active: Vec<usize> = (0..rollout.sets.len()).filter(|index| rollout.sets[*index].replicas() > 0).collect();
    let allowed = if rollout.desired > 0 { rollout.max() } else { 0 };
    let to_add = allowed - rollout.sum(Set::replicas);
    // Larger sets first; of equal ones the newer first on the way up, the older first on the way down.
    active.sort_by(|a, b| {
        let (a, b) = (&rollout.sets[*a], &rollout.sets[*b]);
        let by_age = if to_add > 0 { b.age().cmp(&a.age()) } else { a.age().cmp(&b.age()) };
        b.replicas().cmp(&a.replicas()).then(by_age)
    });
    let mut added = 0;
    let mut sizes = Vec::with_capacity(active.len());
    for index in &active {
        let set = &rollout.sets[*index];
        let share = if to_add == 0 { 0 } else { share(rollout, set, status, to_add - added) };
        added += share;
        sizes.push(set.replicas() + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (index, size) in active.into_iter().zip(sizes) {
        let (desired, max) = (rollout.desired, rollout.max());
        rollout.sets[index].scale(size, desired, max);
    }
}

/// How many of the `left` replicas to add (or, negative, to remove) fall to a set.
fn share(rollout: &Rollout<'_>, set: &Set, status: &DeploymentStatus, left: i32) -> i32 {
    if left == 0 {
        return 0;
    }
    let fraction = fraction(rollout, set, status);
    if left > 0 { fraction.min(left) } else { fraction.max(left) }
}

fn fraction(rollout: &Rollout<'_>, set: &Set, status: &DeploymentStatus) -> i32 {
    if rollout.desired == 0 {
        return -set.replicas();
    }
    let noted = annotations::number(&set.object.metadata, annotations::MAX_REPLICAS).filter(|max| *max != 0);
    let before = noted.or(status.replicas).unwrap_or(0);
    if before == 0 {
        return 0;
    }
    let size = f64::from(set.replicas()) * f64::from(rollout.max()) / f64::from(before);
    size.round() as i32 - set.replicas()
}
