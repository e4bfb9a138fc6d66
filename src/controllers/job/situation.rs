//! Where a Job stands: a pure function of the Job, its pods and the time.
//!
//! Upstream: syncJob in pkg/controller/job/job_controller.go.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::indexes::Indexes;
use super::policy::{self, Verdict};
use crate::pod_control::Known;
use crate::pods::{Phase, PodView};
use crate::time::seconds_of;

pub(super) struct Situation<'a> {
    pub(super) job: &'a Job,
    pub(super) spec: &'a JobSpec,
    pub(super) pods: &'a [Known],
    pub(super) active: Vec<Known>,
    pub(super) terminating: i32,
    pub(super) ready: i32,
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    /// Ended since the last status, and not yet counted in it.
    pub(super) new_succeeded: Vec<Known>,
    pub(super) new_failed: Vec<Known>,
    /// What the status says, and with the pods at hand.
    pub(super) succeeded_before: Indexes,
    pub(super) succeeded_indexes: Indexes,
    /// Where failures count per index.
    pub(super) failed_indexes: Option<Indexes>,
    /// Failed pods that stay until their index has another pod, which takes over their count.
    pub(super) delayed: BTreeMap<u32, Known>,
    /// Why the Job is about to end: `FailureTarget`, `Failed`, or `SuccessCriteriaMet`.
    pub(super) finished: Option<JobCondition>,
}

pub(super) fn finished_at(pod: &PodView) -> i64 {
    pod.work.as_ref().map_or(pod.created, |work| work.finished)
}

pub(super) fn tracked(pod: &PodView) -> bool {
    pod.work.as_ref().is_some_and(|work| work.tracked)
}

pub(super) fn indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

pub(super) fn suspended(spec: &JobSpec) -> bool {
    spec.suspend == Some(true)
}

pub(super) fn only_replaces_failed(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed")
}

pub(super) fn index(pod: &PodView) -> Option<u32> {
    pod.work.as_ref().and_then(|work| work.index)
}

/// Ended without success, or is on the way to.
pub(super) fn has_failed(spec: &JobSpec, pod: &PodView) -> bool {
    match pod.phase {
        Phase::Failed => true,
        Phase::Succeeded => false,
        _ => pod.deleting && !only_replaces_failed(spec),
    }
}

pub(super) fn condition(kind: &str, reason: &str, message: String, now: &Time) -> JobCondition {
    JobCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_probe_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    }
}

pub(super) fn holds<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|it| it.type_ == kind && it.status == "True")
}

/// The UIDs of pods that are in the status but not in its counts yet.
pub(super) fn uncounted(status: &JobStatus) -> UncountedTerminatedPods {
    status.uncounted_terminated_pods.clone().unwrap_or_default()
}

fn listed(uids: &Option<Vec<String>>, pod: &Known) -> bool {
    uids.iter().flatten().any(|uid| **uid == *pod.uid)
}

impl<'a> Situation<'a> {
    /// `start` is when the Job began, which the status may not say yet.
    pub(super) fn of(job: &'a Job, spec: &'a JobSpec, pods: &'a [Known], start: Option<&Time>, now: &Time) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let completions = super::completions(spec);
        let counted = uncounted(&status);
        let fits = |pod: &Known| !indexed(spec) || index(pod).is_some_and(|index| index < completions);
        let ended = |in_status: &Option<Vec<String>>, ended: &dyn Fn(&PodView) -> bool| -> Vec<Known> {
            let new = pods.iter().filter(|pod| tracked(pod) && !listed(in_status, pod) && fits(pod) && ended(pod));
            new.cloned().collect()
        };
        let new_succeeded = ended(&counted.succeeded, &|pod| pod.phase == Phase::Succeeded);
        let new_failed = ended(&counted.failed, &|pod| has_failed(spec, pod));
        let policy = spec.pod_failure_policy.as_ref();
        let counts = |pod: &&Known| policy::judge(policy, pod) != Verdict::Ignored;
        let number = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len);
        let succeeded = new_succeeded.len() + number(&counted.succeeded);
        let failed = new_failed.iter().filter(counts).count() + number(&counted.failed);
        let active: Vec<Known> = pods.iter().filter(|pod| pod.active()).cloned().collect();
        let mut this = Self {
            job,
            spec,
            pods,
            terminating: pods.iter().filter(|pod| pod.deleting && !pod.finished()).count() as i32,
            ready: active.iter().filter(|pod| pod.ready).count() as i32,
            active,
            succeeded: status.succeeded.unwrap_or(0) + succeeded as i32,
            failed: status.failed.unwrap_or(0) + failed as i32,
            new_succeeded,
            new_failed,
            succeeded_before: Indexes::default(),
            succeeded_indexes: Indexes::default(),
            failed_indexes: None,
            delayed: BTreeMap::new(),
            finished: None,
        };
        this.judge(&status, start, now);
        if indexed(spec) {
            this.judge_indexes(&status, completions, now);
        }
        this
    }

    /// Whether earlier reconciles, the pods or the time end the Job. The order decides when several do.
    fn judge(&mut self, status: &JobStatus, start: Option<&Time>, now: &Time) {
        if let Some(met) = holds(status, "SuccessCriteriaMet") {
            self.finished = Some(met.clone());
            return;
        }
        if let Some(target) = holds(status, "FailureTarget") {
            let (reason, message) = (target.reason.clone().unwrap_or_default(), target.message.clone());
            self.finished = Some(condition("Failed", &reason, message.unwrap_or_default(), now));
            return;
        }
        let policy = self.spec.pod_failure_policy.as_ref();
        let mut failed = self.pods.iter().filter(|pod| has_failed(self.spec, pod));
        let message = failed.find_map(|pod| match policy::judge(policy, pod) {
            Verdict::FailsJob(message) => Some(message),
            _ => None,
        });
        let (reason, message) = if let Some(message) = message {
            ("PodFailurePolicy", message)
        } else if self.failed > self.spec.backoff_limit.unwrap_or(6) || self.restarted_too_often() {
            ("BackoffLimitExceeded", "Job has reached the specified backoff limit".to_owned())
        } else if deadline(self.spec, start).is_some_and(|at| at <= seconds_of(now)) {
            ("DeadlineExceeded", "Job was active longer than specified deadline".to_owned())
        } else {
            return;
        };
        self.finished = Some(condition("FailureTarget", reason, message, now));
    }

    /// Where containers restart in place, their restarts count.
    fn restarted_too_often(&self) -> bool {
        let policy = self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return false;
        }
        let running = self.pods.iter().filter(|pod| matches!(pod.phase, Phase::Running | Phase::Pending));
        let restarts: i32 = running.filter_map(|pod| pod.work.as_ref()).map(|work| work.restarts).sum();
        restarts > 0 && restarts >= self.spec.backoff_limit.unwrap_or(6)
    }

    fn judge_indexes(&mut self, status: &JobStatus, completions: u32, now: &Time) {
        let of = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), completions);
        let below = |pod: &&Known| tracked(pod) && index(pod).is_some_and(|index| index < completions);
        let succeeded = self.pods.iter().filter(below).filter(|pod| pod.phase == Phase::Succeeded);
        self.succeeded_before = of(&status.completed_indexes);
        self.succeeded_indexes = self.succeeded_before.with_indexes(succeeded.filter_map(|pod| index(pod)));
        self.succeeded = self.succeeded_indexes.total() as i32;
        if let Some(limit) = self.spec.backoff_limit_per_index {
            let failed = self.pods.iter().filter(below).filter(|pod| self.fails_index(pod, limit));
            let failed = of(&status.failed_indexes).with_indexes(failed.filter_map(|pod| index(pod)));
            let most = self.spec.max_failed_indexes.map(|most| most.max(0).unsigned_abs());
            if self.finished.is_none() {
                if most.is_some_and(|most| failed.total() > most) {
                    let message = "Job has exceeded the specified maximal number of failed indexes".to_owned();
                    self.finished = Some(condition("FailureTarget", "MaxFailedIndexesExceeded", message, now));
                } else if failed.total() > 0 && failed.total() + self.succeeded_indexes.total() >= completions {
                    let message = "Job has failed indexes".to_owned();
                    self.finished = Some(condition("FailureTarget", "FailedIndexes", message, now));
                }
            }
            self.delayed = self.delayed_pods(&failed, completions);
            self.failed_indexes = Some(failed);
        }
        if self.finished.is_none()
            && let Some(message) = policy::success(self.spec, &self.succeeded_indexes)
        {
            self.finished = Some(condition("SuccessCriteriaMet", "SuccessPolicy", message, now));
        }
    }

    fn fails_index(&self, pod: &Known, limit: i32) -> bool {
        if !has_failed(self.spec, pod) {
            return false;
        }
        match policy::judge(self.spec.pod_failure_policy.as_ref(), pod) {
            Verdict::FailsIndex => true,
            Verdict::Ignored => false,
            _ => pod.work.as_ref().is_some_and(|work| work.failures >= limit),
        }
    }

    /// The last failed pod of every index that is still to be done and has no active pod.
    fn delayed_pods(&self, failed: &Indexes, completions: u32) -> BTreeMap<u32, Known> {
        let active: Vec<u32> = self.active.iter().filter_map(|pod| index(pod)).collect();
        let failures = |pod: &PodView| pod.work.as_ref().map_or(0, |work| work.failures + work.ignored_failures);
        let mut delayed: BTreeMap<u32, Known> = BTreeMap::new();
        for pod in self.pods.iter().filter(|pod| tracked(pod) && has_failed(self.spec, pod)) {
            let Some(index) = index(pod).filter(|index| *index < completions) else { continue };
            if self.succeeded_indexes.has(index) || failed.has(index) || active.contains(&index) {
                continue;
            }
            let later = |known: &Known| failures(known) <= failures(pod) && finished_at(pod) >= finished_at(known);
            if delayed.get(&index).is_none_or(later) {
                delayed.insert(index, pod.clone());
            }
        }
        delayed
    }
}

/// When the Job has been active for as long as it may; seconds since the epoch.
pub(super) fn deadline(spec: &JobSpec, start: Option<&Time>) -> Option<i64> {
    let allowed = spec.active_deadline_seconds.filter(|_| !suspended(spec))?;
    Some(seconds_of(start?).saturating_add(allowed))
}
