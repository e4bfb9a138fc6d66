//! The pods that a Job has to have: too many go, missing ones are made.
//!
//! Upstream: manageJob in pkg/controller/job/job_controller.go, indexed_job_utils.go.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_client::Error;
use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use super::backoff::Failures;
use super::policy::{self, Verdict};
use super::situation::{self, Situation, finished_at, index, indexed};
use super::{Jobs, completions};
use crate::pod_control::{BURST, Known, Parent};
use crate::pods::JOB_TRACKING;
use crate::replicaset::rank;
use crate::time;

pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Of a name that is generated, without the suffix.
const LONGEST_PREFIX: usize = 58;

impl Jobs {
    /// Gives the time after which failed pods may be replaced, where that is what the Job waits for.
    pub(super) async fn manage(
        &self,
        parent: Parent<'_>,
        situation: &Situation<'_>,
        failures: Failures,
    ) -> Result<Option<Duration>, Error> {
        let now = time::seconds(self.scope.clock.now());
        let (active, wanted) = (situation.active.len(), wanted(situation));
        let mut surplus = surplus(situation, active.saturating_sub(wanted), now);
        if !surplus.is_empty() {
            surplus.truncate(BURST);
            self.untrack_all(&surplus).await?;
            self.control.delete(parent, &surplus).await?;
            return Ok(None);
        }
        let leaving =
            if situation::only_replaces_failed(situation.spec) { situation.terminating.max(0) as usize } else { 0 };
        let missing = wanted.saturating_sub(leaving + active).min(BURST);
        if missing == 0 {
            return Ok(None);
        }
        let per_index = situation.spec.backoff_limit_per_index.is_some();
        let wait = failures.remaining(now);
        if !per_index && !wait.is_zero() {
            return Ok(Some(wait));
        }
        let pods = if indexed(situation.spec) {
            let indexes = pending(situation, missing);
            let waits: Vec<(u32, Duration)> =
                indexes.into_iter().map(|index| (index, index_wait(situation, index, now))).collect();
            let ready: Vec<u32> = waits.iter().filter(|(_, wait)| wait.is_zero()).map(|(index, _)| *index).collect();
            if ready.is_empty() {
                return Ok(waits.into_iter().map(|(_, wait)| wait).min());
            }
            ready.into_iter().map(|index| indexed_pod(parent, situation, index)).collect()
        } else {
            vec![pod(parent, situation.spec); missing]
        };
        self.control.create(parent, &pods).await?;
        Ok(None)
    }
}

/// How many pods should be active.
fn wanted(situation: &Situation<'_>) -> usize {
    let (spec, active) = (situation.spec, situation.active.len());
    let parallelism = spec.parallelism.unwrap_or(1).max(0) as usize;
    if situation::suspended(spec) {
        return 0;
    }
    match spec.completions {
        // Any success is enough: the pods at work then finish, and no more are made.
        None if situation.succeeded > 0 => active,
        None => parallelism,
        Some(completions) => parallelism.min((completions - situation.succeeded).max(0) as usize),
    }
}

/// At least `count` pods to delete: first those whose index is none, too high or taken twice.
fn surplus(situation: &Situation<'_>, count: usize, now: i64) -> Vec<Known> {
    let ranked = rank::first_to_go(&situation.active, &situation.active, now);
    if !indexed(situation.spec) {
        return ranked.into_iter().take(count).collect();
    }
    let completions = completions(situation.spec);
    // The last in the order of deletion keeps its index.
    let keeper: BTreeMap<u32, usize> =
        ranked.iter().enumerate().filter_map(|(at, pod)| Some((index(pod)?, at))).collect();
    let keeps =
        |at: usize, pod: &Known| index(pod).is_some_and(|index| index < completions && keeper.get(&index) == Some(&at));
    let mut left = Vec::new();
    let mut surplus = Vec::new();
    for (at, pod) in ranked.into_iter().enumerate() {
        if keeps(at, &pod) { left.push(pod) } else { surplus.push(pod) }
    }
    let more = count.saturating_sub(surplus.len());
    surplus.extend(left.into_iter().take(more));
    surplus
}

/// The first indexes that nothing is done for.
fn pending(situation: &Situation<'_>, count: usize) -> Vec<u32> {
    let leaving = situation
        .pods
        .iter()
        .filter(|pod| situation::only_replaces_failed(situation.spec) && pod.deleting && !pod.finished());
    let taken = situation.active.iter().chain(leaving).filter_map(|pod| index(pod));
    let mut taken = situation.succeeded_indexes.with_indexes(taken);
    if let Some(failed) = &situation.failed_indexes {
        taken = taken.union(failed);
    }
    taken.missing(count, completions(situation.spec))
}

/// Where failures count per index, each index backs off by itself.
pub(super) fn index_wait(situation: &Situation<'_>, index: u32, now: i64) -> Duration {
    let Some(last) = situation.delayed.get(&index) else { return Duration::ZERO };
    let count = last.work.as_ref().map_or(0, |work| work.failures + work.ignored_failures);
    Failures { count: count.unsigned_abs() + 1, last: finished_at(last) }.remaining(now)
}

fn pod(parent: Parent<'_>, spec: &JobSpec) -> Pod {
    let mut pod = parent.pod(&spec.template);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == JOB_TRACKING) {
        finalizers.push(JOB_TRACKING.to_owned());
    }
    pod
}

pub(super) fn indexed_pod(parent: Parent<'_>, situation: &Situation<'_>, index: u32) -> Pod {
    let mut pod = pod(parent, situation.spec);
    let suffix = format!("-{index}-");
    let mut prefix = parent.name();
    if prefix.len() + suffix.len() > LONGEST_PREFIX {
        prefix = &prefix[..LONGEST_PREFIX - suffix.len()];
    }
    pod.metadata.generate_name = Some(format!("{prefix}{suffix}"));
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index.to_string());
    if situation.spec.backoff_limit_per_index.is_some() {
        let (failures, ignored) = inherited(situation, index);
        annotations.insert(FAILURES.to_owned(), failures.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED_FAILURES.to_owned(), ignored.to_string());
        }
    }
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{}-{index}", parent.name()));
    spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).for_each(add_variable);
    pod
}

/// The failures of an index with the one of the pod that is replaced: counted and ignored.
fn inherited(situation: &Situation<'_>, index: u32) -> (i32, i32) {
    let Some(last) = situation.delayed.get(&index) else { return (0, 0) };
    let (failures, ignored) = last.work.as_ref().map_or((0, 0), |work| (work.failures, work.ignored_failures));
    match policy::judge(situation.spec.pod_failure_policy.as_ref(), last) {
        Verdict::Ignored => (failures, ignored + 1),
        _ => (failures + 1, ignored),
    }
}

fn add_variable(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), ..Default::default() };
    variables.push(EnvVar {
        name: VARIABLE.to_owned(),
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
        ..EnvVar::default()
    });
}
