//! Counting: how the ends of pods get into a Job's status, each once, and how the Job ends.
//!
//! Upstream: trackJobStatusAndRemoveFinalizers in pkg/controller/job/job_controller.go.

use coracle_client::Error;
use coracle_client::events::Severity;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus, UncountedTerminatedPods};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::Api;

use super::backoff::Failures;
use super::policy::{self, Verdict};
use super::situation::{self, Situation, has_failed, holds, index, indexed, tracked};
use super::{Jobs, completions};
use crate::pod_control::{Known, Parent};
use crate::pods::Phase;

/// UIDs in a status at most.
const MOST: usize = 500;

/// The ends of pods that go into the status now.
#[derive(Default)]
pub(super) struct Ends {
    /// Whose finalizers go once the status is written.
    pub(super) pods: Vec<Known>,
    succeeded: Vec<String>,
    failed: Vec<String>,
    indexes: Vec<u32>,
    /// There are more.
    pub(super) cut: bool,
}

impl Jobs {
    pub(super) async fn track(
        &self,
        api: &Api<Job>,
        parent: Parent<'_>,
        mut situation: Situation<'_>,
        mut status: JobStatus,
        failures: Failures,
        now: &Time,
    ) -> Result<(), Error> {
        status.active = Some(situation.active.len() as i32).filter(|number| *number != 0);
        status.ready = Some(situation.ready);
        status.terminating = Some(situation.terminating);
        settle(&mut status, situation.pods);
        let ends = ends(&situation, &status);
        note(&mut status, &ends, &mut situation);
        let finished = situation.finished.take().map(|cause| conclude(&mut status, cause, now));
        let job = self.write(api, situation.job, status).await?;
        self.remember(parent.uid(), Some(failures));

        self.untrack_all(&ends.pods).await?;
        let mut status = job.status.clone().unwrap_or_default();
        let left: Vec<Known> = situation.pods.iter().filter(|pod| !ends.pods.contains_uid(pod)).cloned().collect();
        settle(&mut status, &left);
        let uncounted = situation::uncounted(&status) != UncountedTerminatedPods::default();
        let finished = finished.filter(|_| !uncounted && !ends.cut && situation.terminating <= 0);
        if let Some(condition) = &finished {
            if condition.type_ == "Complete" {
                status.completion_time = Some(now.clone());
            }
            status.conditions.get_or_insert_default().push(condition.clone());
        }
        self.write(api, &job, status.clone()).await?;
        if let Some(condition) = finished {
            self.report_end(parent, &situation, &status, condition);
        }
        Ok(())
    }

    fn report_end(&self, parent: Parent<'_>, situation: &Situation<'_>, status: &JobStatus, end: JobCondition) {
        if end.type_ != "Complete" {
            let (reason, message) = (end.reason.unwrap_or_default(), end.message.unwrap_or_default());
            let reason = FAILURES.iter().copied().find(|known| *known == reason).unwrap_or("Failed");
            return self.control.report(parent, Severity::Warning, reason, message);
        }
        if situation.spec.completions.is_some_and(|wanted| status.succeeded.unwrap_or(0) > wanted) {
            let message = "Too many succeeded pods running after completion count reached".to_owned();
            self.control.report(parent, Severity::Warning, "TooManySucceededPods", message);
        }
        self.control.report(parent, Severity::Normal, "Completed", "Job completed".to_owned());
    }
}

/// Why Jobs fail.
const FAILURES: [&str; 5] =
    ["PodFailurePolicy", "BackoffLimitExceeded", "DeadlineExceeded", "MaxFailedIndexesExceeded", "FailedIndexes"];

trait ContainsUid {
    fn contains_uid(&self, pod: &Known) -> bool;
}

impl ContainsUid for Vec<Known> {
    fn contains_uid(&self, pod: &Known) -> bool {
        self.iter().any(|other| other.uid == pod.uid)
    }
}

/// Moves pods that carry no finalizer any more from the list of UIDs into the counts.
pub(super) fn settle(status: &mut JobStatus, pods: &[Known]) {
    let mut uncounted = situation::uncounted(status);
    let kept = |uid: &String| pods.iter().any(|pod| *pod.uid == **uid && tracked(pod));
    for (list, count) in
        [(&mut uncounted.succeeded, &mut status.succeeded), (&mut uncounted.failed, &mut status.failed)]
    {
        let uids = list.take().unwrap_or_default();
        let (stay, done): (Vec<_>, Vec<_>) = uids.into_iter().partition(kept);
        let total = count.unwrap_or(0) + done.len() as i32;
        *count = (total != 0).then_some(total);
        *list = (!stay.is_empty()).then_some(stay);
    }
    status.uncounted_terminated_pods = Some(uncounted);
}

/// The pods whose ends can be written down.
pub(super) fn ends(situation: &Situation<'_>, status: &JobStatus) -> Ends {
    let (spec, indexed) = (situation.spec, indexed(situation.spec));
    let known = situation::uncounted(status);
    let listed = |list: &Option<Vec<String>>, pod: &Known| list.iter().flatten().any(|uid| **uid == *pod.uid);
    let fails_all = situation.finished.as_ref().is_some_and(|cause| cause.type_ != "SuccessCriteriaMet");
    let mut pods = situation.pods.to_vec();
    if indexed {
        pods.sort_by_key(|pod| index(pod));
    }
    let mut ends = Ends::default();
    for pod in pods.into_iter().filter(|pod| tracked(pod)) {
        let failed = has_failed(spec, &pod);
        if !released(situation, &pod, failed) {
            continue;
        }
        let fits = index(&pod).filter(|index| *index < completions(spec));
        if pod.phase == Phase::Succeeded && !listed(&known.failed, &pod) {
            if indexed {
                ends.indexes.extend(fits.filter(|index| !situation.succeeded_before.has(*index)));
            } else if !listed(&known.succeeded, &pod) {
                ends.succeeded.push(pod.uid.to_string());
            }
        } else if (failed || fails_all)
            && !listed(&known.failed, &pod)
            && (!indexed || fits.is_some())
            && policy::judge(spec.pod_failure_policy.as_ref(), &pod) != Verdict::Ignored
        {
            ends.failed.push(pod.uid.to_string());
        }
        ends.pods.push(pod);
        if ends.indexes.len() + ends.succeeded.len() + ends.failed.len() >= MOST {
            ends.cut = true;
            break;
        }
    }
    ends
}

/// Whether the pod need not be kept.
fn released(situation: &Situation<'_>, pod: &Known, failed: bool) -> bool {
    if situation.job.metadata.deletion_timestamp.is_some()
        || situation.finished.is_some()
        || pod.phase == Phase::Succeeded
    {
        return true;
    }
    let awaits_successor = || {
        let last = index(pod).and_then(|index| situation.delayed.get(&index));
        last.is_some_and(|last| last.uid == pod.uid)
    };
    failed && !awaits_successor()
}

fn note(status: &mut JobStatus, ends: &Ends, situation: &mut Situation<'_>) {
    let mut uncounted = situation::uncounted(status);
    for (list, new) in [(&mut uncounted.succeeded, &ends.succeeded), (&mut uncounted.failed, &ends.failed)] {
        if !new.is_empty() {
            list.get_or_insert_default().extend(new.iter().cloned());
        }
    }
    status.uncounted_terminated_pods = Some(uncounted);
    if indexed(situation.spec) {
        situation.succeeded_indexes = situation.succeeded_indexes.with_indexes(ends.indexes.iter().copied());
        let total = situation.succeeded_indexes.total() as i32;
        status.succeeded = (total != 0).then_some(total);
        status.completed_indexes = Some(situation.succeeded_indexes.to_string()).filter(|text| !text.is_empty());
        status.failed_indexes = situation.failed_indexes.as_ref().map(ToString::to_string);
    }
}

/// Writes down the cause of the end; gives the condition that says it once everything is counted.
fn conclude(status: &mut JobStatus, cause: JobCondition, now: &Time) -> JobCondition {
    let end = if cause.type_ == "SuccessCriteriaMet" { "Complete" } else { "Failed" };
    let (reason, message) = (cause.reason.clone().unwrap_or_default(), cause.message.clone().unwrap_or_default());
    if cause.type_ != "Failed" && holds(status, &cause.type_).is_none() {
        status.conditions.get_or_insert_default().push(cause);
    }
    situation::condition(end, &reason, message, now)
}
