//! What to do for a Deployment: a pure function of it, its ReplicaSets and the time.

use std::time::{Duration, SystemTime};

use coracle_client::Error;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet};

use super::{Set, annotations, scaling, set, status};
use crate::percent::scaled;

/// What is to be written. Sets are written where they changed.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) create: Option<ReplicaSet>,
    pub(super) sets: Vec<Set>,
    /// Names of old sets beyond the history limit.
    pub(super) delete: Vec<String>,
    pub(super) status: DeploymentStatus,
    /// The Deployment's revision annotation.
    pub(super) revision: Option<String>,
    /// When to look again even if nothing changes.
    pub(super) again: Option<Duration>,
    pub(super) warning: Option<&'static str>,
}

/// The Deployment with its sets sorted into new and old, while a plan is made.
pub(super) struct Rollout<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) spec: &'a DeploymentSpec,
    /// Oldest first.
    pub(super) sets: Vec<Set>,
    /// The index of the set with the present template.
    pub(super) new: Option<usize>,
    pub(super) desired: i32,
    pub(super) surge: i32,
    pub(super) unavailable: i32,
    /// The new set, where it does not exist yet.
    pub(super) create: Option<ReplicaSet>,
}

/// `old_pods` says whether pods of other sets than the one with that UID still run.
pub(super) fn plan(
    deployment: &Deployment,
    sets: Vec<ReplicaSet>,
    old_pods: &dyn Fn(Option<&str>) -> bool,
    now: SystemTime,
) -> Result<Plan, Error> {
    let spec = &deployment.spec;
    let selector = &spec.selector;
    if selector.match_labels.as_ref().is_none_or(|labels| labels.is_empty())
        && selector.match_expressions.as_ref().is_none_or(|expressions| expressions.is_empty())
    {
        return Ok(selecting_all(deployment));
    }
    let mut rollout = Rollout::new(deployment, spec, sets);
    if deployment.metadata.deletion_timestamp.is_some() {
        let status = status::calculate(&rollout, now);
        return Ok(rollout.finish(Vec::new(), status, None));
    }
    rollout.renew_new_set();
    let mut base = deployment.status.clone().unwrap_or_default();
    status::note_pause(spec, &mut base, now);

    if spec.paused == Some(true) {
        scaling::scale(&mut rollout, &base);
        let delete = rollout.history();
        return Ok(rollout.finish_sync(delete, base, now));
    }
    if rollout.scaling_event() {
        scaling::scale(&mut rollout, &base);
        return Ok(rollout.finish_sync(Vec::new(), base, now));
    }
    let kind = spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate");
    let moved = match kind {
        "RollingUpdate" => rollout.roll(),
        "Recreate" => rollout.recreate(old_pods),
        other => return Err(Error::Other(format!("unexpected deployment strategy type: {other}"))),
    };
    let delete = if !moved && status::complete(&rollout, &base) { rollout.history() } else { Vec::new() };
    let (status, again) = status::of_rollout(&rollout, base, now);
    Ok(rollout.finish(delete, status, again))
}

fn selecting_all(deployment: &Deployment) -> Plan {
    let mut status = deployment.status.clone().unwrap_or_default();
    status.observed_generation = status.observed_generation.max(deployment.metadata.generation);
    Plan {
        create: None,
        sets: Vec::new(),
        delete: Vec::new(),
        status,
        revision: None,
        again: None,
        warning: Some("This deployment is selecting all pods. A non-empty selector is required."),
    }
}

impl<'a> Rollout<'a> {
    pub(super) fn new(deployment: &'a Deployment, spec: &'a DeploymentSpec, sets: Vec<ReplicaSet>) -> Self {
        let mut sets: Vec<Set> = sets.into_iter().map(Set::new).collect();
        sets.sort_by(|a, b| a.age().cmp(&b.age()));
        // After an upgrade several sets can have the template: the oldest of them is the new one.
        let new = sets.iter().position(|it| set::same_template(deployment, &it.object));
        let desired = spec.replicas.unwrap_or(1);
        let (surge, unavailable) = fence_posts(spec, desired);
        Self { deployment, spec, sets, new, desired, surge, unavailable, create: None }
    }

    /// The most replicas there may be.
    pub(super) fn max(&self) -> i32 {
        self.desired + self.surge
    }

    pub(super) fn new_set(&self) -> Option<&Set> {
        self.new.map(|index| &self.sets[index])
    }

    pub(super) fn old(&self) -> impl Iterator<Item = usize> + use<> {
        let new = self.new;
        (0..self.sets.len()).filter(move |index| Some(*index) != new)
    }

    pub(super) fn sum(&self, of: impl Fn(&Set) -> i32) -> i32 {
        self.sets.iter().map(of).sum()
    }

    pub(super) fn scale(&mut self, index: usize, replicas: i32) -> bool {
        let (desired, max) = (self.desired, self.max());
        let changes = self.sets[index].replicas() != replicas;
        if changes {
            self.sets[index].scale(replicas, desired, max);
        }
        changes
    }

    fn next_revision(&self) -> i64 {
        self.old().map(|index| self.sets[index].revision()).max().unwrap_or(0) + 1
    }

    fn renew_new_set(&mut self) {
        let revision = self.next_revision();
        if let Some(index) = self.new {
            let object = &mut self.sets[index].object;
            annotations::renew(self.deployment, &mut object.metadata, revision);
            let min_ready = self.spec.min_ready_seconds.filter(|seconds| *seconds != 0);
            let spec = &mut object.spec;
            if spec.min_ready_seconds.filter(|seconds| *seconds != 0) != min_ready {
                spec.min_ready_seconds = min_ready;
            }
        }
    }

    /// Whether a set in use was sized for another size of the Deployment.
    fn scaling_event(&self) -> bool {
        let sized = self.sets.iter().filter(|it| it.replicas() > 0);
        let noted = sized.filter_map(|it| annotations::number(&it.object.metadata, annotations::DESIRED_REPLICAS));
        noted.into_iter().any(|noted| noted != self.desired)
    }

    /// The replicas the new set may have now, beside what runs.
    fn new_replicas(&self, present: i32) -> i32 {
        let total = self.sum(Set::replicas);
        if total >= self.max() { present } else { present + (self.max() - total).min(self.desired - present) }
    }

    fn prepare_new_set(&mut self, replicas: i32) {
        let mut made = set::make(self.deployment);
        annotations::renew(self.deployment, &mut made.metadata, self.next_revision());
        annotations::set_sizes(&mut made.metadata, self.desired, self.max());
        made.spec.replicas = Some(replicas);
        self.create = Some(made);
    }

    /// One move of a rolling update: up with the new set if there is room, else down with old ones if enough is
    /// available. Says whether anything moved.
    fn roll(&mut self) -> bool {
        let Some(index) = self.new else {
            self.prepare_new_set(self.new_replicas(0));
            return true;
        };
        let present = self.sets[index].replicas();
        let wanted = if present > self.desired { self.desired } else { self.new_replicas(present) };
        if present != self.desired && self.scale(index, wanted) {
            return true;
        }
        self.scale_down_old(index)
    }

    fn scale_down_old(&mut self, new: usize) -> bool {
        let least = self.desired - self.unavailable;
        let new_unavailable = self.sets[new].replicas() - self.sets[new].available();
        let removable = self.sum(Set::replicas) - least - new_unavailable;
        let used: Vec<usize> = self.old().filter(|index| self.sets[*index].replicas() > 0).collect();
        if used.is_empty() || removable <= 0 {
            return false;
        }
        // Replicas that are not available cost nothing, and would block the way to the end.
        let mut removed = 0;
        for index in &used {
            let unhealthy = self.sets[*index].replicas() - self.sets[*index].available();
            let count = unhealthy.min(removable - removed).max(0);
            removed += count;
            self.scale(*index, self.sets[*index].replicas() - count);
        }
        let mut spare = self.sum(Set::available) - least;
        for index in used {
            let count = self.sets[index].replicas().min(spare).max(0);
            spare -= count;
            removed += count;
            self.scale(index, self.sets[index].replicas() - count);
        }
        removed > 0
    }

    /// One move of a recreation: old sets to zero, then wait for their pods, then the new set.
    fn recreate(&mut self, old_pods: &dyn Fn(Option<&str>) -> bool) -> bool {
        let down = self.old().map(|index| self.scale(index, 0)).filter(|scaled| *scaled).count();
        if down > 0 {
            return true;
        }
        let actual: i32 = self.old().map(|index| self.sets[index].actual()).sum();
        if actual > 0 || old_pods(self.new_set().map(Set::uid)) {
            return true;
        }
        match self.new {
            Some(index) => self.scale(index, self.desired),
            None => {
                self.prepare_new_set(self.desired);
                true
            }
        }
    }

    /// Names of the old sets that are beyond the history limit and idle.
    fn history(&self) -> Vec<String> {
        let Some(limit) = self.spec.revision_history_limit.filter(|limit| *limit != i32::MAX) else {
            return Vec::new();
        };
        let mut old: Vec<&Set> = self.old().map(|index| &self.sets[index]).filter(|it| !it.deleting()).collect();
        let surplus = old.len().saturating_sub(limit.max(0) as usize);
        old.sort_by_key(|it| (it.revision(), it.age().0));
        old.into_iter().take(surplus).filter(|it| it.idle()).map(|it| it.name().to_owned()).collect()
    }

    /// After scaling, no progress is estimated.
    fn finish_sync(self, delete: Vec<String>, base: DeploymentStatus, now: SystemTime) -> Plan {
        let mut status = status::calculate(&self, now);
        status.conditions = status::with_availability(&self, base.conditions, now);
        self.finish(delete, status, None)
    }

    fn finish(self, delete: Vec<String>, status: DeploymentStatus, again: Option<Duration>) -> Plan {
        let new = self.new_set().map(|it| &it.object).or(self.create.as_ref());
        let revision = new.and_then(|it| annotations::get(&it.metadata, annotations::REVISION)).map(str::to_owned);
        Plan { create: self.create, sets: self.sets, delete, status, revision, again, warning: None }
    }
}

impl Plan {
    /// The new set could not be created: says so in the status, and counts a collision of names.
    pub(super) fn creation_failed(&mut self, set: &ReplicaSet, error: &Error, now: SystemTime) {
        self.revision = None;
        if error.is_already_exists() {
            self.status.collision_count = Some(self.status.collision_count.unwrap_or(0) + 1);
            return;
        }
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let message = format!("Failed to create new replica set {name:?}: {}", error.chain());
        status::note_failed_creation(&mut self.status, message, now);
    }
}

/// maxSurge rounded up and maxUnavailable rounded down, in replicas; not both zero.
fn fence_posts(spec: &DeploymentSpec, desired: i32) -> (i32, i32) {
    let rolling = spec.strategy.as_ref().filter(|strategy| strategy.type_.as_deref() != Some("Recreate"));
    let Some(rolling) = rolling.and_then(|strategy| strategy.rolling_update.as_ref()) else { return (0, 0) };
    let surge = scaled(rolling.max_surge.as_ref(), desired, true);
    let unavailable = scaled(rolling.max_unavailable.as_ref(), desired, false);
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    // Without replicas nothing can be unavailable.
    if desired == 0 { (surge, 0) } else { (surge, unavailable.min(desired)) }
}
