//! Jobs: pods that run to their end, as often as asked for, each counted exactly once.
//!
//! Upstream: pkg/controller/job. A pod carries a finalizer until its end stands in the Job's status: first as a UID in
//! `uncountedTerminatedPods`, then, once the finalizer is gone, in the counts. So a reconcile may be cut off anywhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_api::Object;
use coracle_api::selector::LabelSelector;
use coracle_client::events::Severity;
use coracle_client::{Change, Controller, Error, Item, Key, Next, Project, View, found};
use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, PostParams};
use serde::Deserialize;

use crate::owners::Owner;
use crate::pod_control::{Known, Parent, PodControl};
use crate::pods::PodView;
use crate::{Scope, owners, resources, time};

mod backoff;
mod indexes;
mod manage;
mod policy;
mod situation;
#[cfg(test)]
mod tests;
mod track;
pub mod ttl;

use backoff::Failures;
use situation::Situation;

const WORKERS: usize = 5;
/// What `spec.managedBy` says of Jobs that are this controller's.
const NAME: &str = "kubernetes.io/job-controller";

/// What is remembered of a Job. Times are seconds since the epoch.
pub struct JobView {
    selector: LabelSelector,
    /// Complete or failed.
    pub finished: bool,
    /// Another controller runs it.
    external: bool,
    /// When it is to go after its end.
    pub expires: Option<i64>,
    pub started: Option<i64>,
    /// When it succeeded.
    pub completed: Option<i64>,
    /// The managing owner.
    pub owner: Option<Owner>,
}

impl Project for JobView {
    fn project(object: &Object) -> Option<Self> {
        let job: Decoded = object.decode().ok()?;
        let end = job.status.conditions.iter().find(|it| is_end(&it.kind, &it.status));
        let ended = end.and_then(|it| time::parse_seconds(&it.last_transition_time));
        Some(Self {
            selector: LabelSelector::from_object(Some(&job.spec.selector)).ok()?,
            finished: end.is_some(),
            external: !matches!(&*job.spec.managed_by, "" | NAME),
            expires: job.spec.ttl_seconds_after_finished.and_then(|ttl| Some(ended? + i64::from(ttl))),
            started: time::parse_seconds(&job.status.start_time),
            completed: end.filter(|end| &*end.kind == "Complete").and(ended),
            owner: owners::controller_of(&job.metadata.owner_references).cloned(),
        })
    }

    /// The managing owner's UID.
    fn terms(&self) -> Vec<Box<str>> {
        self.owner.iter().map(|owner| owner.uid.clone()).collect()
    }
}

fn is_end(kind: &str, status: &str) -> bool {
    matches!(kind, "Complete" | "Failed") && status == "True"
}

#[derive(Deserialize)]
struct Decoded {
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    selector: serde_json::Value,
    #[serde(default)]
    managed_by: Box<str>,
    #[serde(default)]
    ttl_seconds_after_finished: Option<i32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    owner_references: Vec<Owner>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    conditions: Vec<Condition>,
    start_time: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    #[serde(rename = "type")]
    kind: Box<str>,
    status: Box<str>,
    last_transition_time: Box<str>,
}

/// What a key of the queue is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Job(Key),
    /// A pod that no Job will count any more.
    Orphan(Key),
}

struct Jobs {
    scope: Scope,
    control: PodControl,
    jobs: View<JobView>,
    pods: View<PodView>,
    /// As upstream's, forgotten with a restart.
    failures: Mutex<HashMap<Box<str>, Failures>>,
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let jobs = scope.views.view::<JobView>(&resources::jobs());
    let pods = scope.views.view::<PodView>(&resources::pods());
    let (known, there) = (jobs.clone(), pods.clone());
    let controller = Controller::new("job")
        .workers(WORKERS)
        .on(&jobs, move |change| job_changed(change, &there))
        .on(&pods, move |change| concerned(change, &known));
    let shutdown = scope.shutdown.clone();
    let control = PodControl::new(&scope, pods.clone());
    let this = Arc::new(Jobs { scope, control, jobs, pods, failures: Mutex::default() });
    async move { controller.run(&shutdown, move |work| this.clone().reconcile(work)).await }.boxed()
}

/// The Job; with the pods of one that ended or is gone.
fn job_changed(change: &Change<JobView>, pods: &View<PodView>) -> Vec<Work> {
    let job = change.item();
    let mut work = vec![Work::Job(job.key.clone())];
    if change.present().is_none_or(|job| job.finished) {
        let left = pods.find(&job.uid).into_iter().filter(|pod| situation::tracked(pod));
        work.extend(left.map(|pod| Work::Orphan(pod.key.clone())));
    }
    work
}

fn concerned(change: &Change<PodView>, jobs: &View<JobView>) -> Vec<Work> {
    let mut work: Vec<Work> = owners::keys_of(change, "Job").into_iter().map(Work::Job).collect();
    let Some(pod) = change.present() else { return work };
    if pod.owner.is_none() && !pod.deleting && !pod.labels.is_empty() {
        let selecting = jobs.in_namespace(&pod.key.namespace).into_iter();
        work.extend(selecting.filter(|job| job.selector.matches(&*pod.labels)).map(|job| Work::Job(job.key.clone())));
    }
    if situation::tracked(pod) && counts(pod, jobs).is_none_or(|job| job.finished) {
        work.push(Work::Orphan(pod.key.clone()));
    }
    work
}

/// The Job that owns the pod.
fn counts(pod: &Item<PodView>, jobs: &View<JobView>) -> Option<Arc<Item<JobView>>> {
    let owner = pod.owner.as_ref().filter(|owner| &*owner.kind == "Job")?;
    jobs.get(&Key::new(pod.key.namespace.clone(), &*owner.name)).filter(|job| job.uid == owner.uid)
}

/// How many pods have to succeed; as many indexes there are.
fn completions(spec: &JobSpec) -> u32 {
    spec.completions.unwrap_or(0).max(0).unsigned_abs()
}

impl Jobs {
    async fn reconcile(self: Arc<Self>, work: Work) -> Result<Next, Error> {
        match work {
            Work::Job(key) => self.sync(&key).await,
            Work::Orphan(key) => {
                let Some(pod) = self.pods.get(&key) else { return Ok(Next::Done) };
                let other = pod.owner.as_ref().is_some_and(|owner| &*owner.kind != "Job");
                let counted = counts(&pod, &self.jobs).is_some_and(|job| job.external || !job.finished);
                if !other && !counted {
                    self.control.untrack(&pod).await?;
                }
                Ok(Next::Done)
            }
        }
    }

    async fn sync(&self, key: &Key) -> Result<Next, Error> {
        let api: Api<Job> = Api::namespaced(self.scope.client.clone(), &key.namespace);
        let Some(job) = found(api.get(&key.name).await)? else { return Ok(Next::Done) };
        let Some(spec) = &job.spec else { return Ok(Next::Done) };
        let ended = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
        if ended.into_iter().any(|it| is_end(&it.type_, &it.status)) {
            self.remember(job.metadata.uid.as_deref().unwrap_or_default(), None);
            return Ok(Next::Done);
        }
        if spec.managed_by.as_deref().is_some_and(|name| name != NAME) {
            return Ok(Next::Done);
        }
        let parent = Parent { api_version: "batch/v1", kind: "Job", meta: &job.metadata };
        if !matches!(spec.completion_mode.as_deref(), None | Some("NonIndexed" | "Indexed")) {
            let message = "Skipped Job sync because completion mode is unknown".to_owned();
            self.control.report(parent, Severity::Warning, "UnknownCompletionMode", message);
            return Ok(Next::Done);
        }
        let selector = serde_json::to_value(&spec.selector)?;
        let selector = LabelSelector::from_object(Some(&selector)).map_err(Error::Other)?;
        let pods = self.control.claim(parent, &selector, true, |_| true).await?;
        self.carry_out(&api, parent, &job, spec, &pods).await
    }

    async fn carry_out(
        &self,
        api: &Api<Job>,
        parent: Parent<'_>,
        job: &Job,
        spec: &JobSpec,
        pods: &[Known],
    ) -> Result<Next, Error> {
        let now = time::api_time(self.scope.clock.now());
        let mut status = job.status.clone().unwrap_or_default();
        if status.start_time.is_none() && !situation::suspended(spec) {
            status.start_time = Some(now.clone());
        }
        let mut situation = Situation::of(job, spec, pods, status.start_time.as_ref(), &now);
        let failures = self.failures(parent.uid()).with(&situation.new_succeeded, &situation.new_failed);
        let mut again = situation::deadline(spec, status.start_time.as_ref())
            .map(|at| time::until(at, self.scope.clock.now()) + Duration::from_millis(1));
        let mut managed = Ok(());
        if situation.finished.is_some() {
            self.control.delete(parent, &situation.active).await?;
        } else if !parent.deleting() {
            match self.manage(parent, &situation, failures).await {
                Ok(wait) => again = [again, wait].into_iter().flatten().min(),
                Err(error) => managed = Err(error),
            }
        }
        self.recount(&mut situation);
        if situation.finished.is_none() {
            self.judge_completion(parent, &mut situation, &mut status, &now);
        }
        self.track(api, parent, situation, status, failures, &now).await?;
        managed?;
        Ok(again.map_or(Next::Done, Next::After))
    }

    /// Counts the pods as they are after what was made and deleted.
    fn recount(&self, situation: &mut Situation<'_>) {
        let uid = situation.job.metadata.uid.as_deref().unwrap_or_default();
        let pods = self.pods.find(uid);
        situation.terminating = pods.iter().filter(|pod| pod.deleting && !pod.finished()).count() as i32;
        situation.active = pods.into_iter().filter(|pod| pod.active()).collect();
        situation.ready = situation.active.iter().filter(|pod| pod.ready).count() as i32;
    }

    /// Enough pods succeeded, or the Job is suspended or resumed.
    fn judge_completion(&self, parent: Parent<'_>, situation: &mut Situation<'_>, status: &mut JobStatus, now: &Time) {
        let wanted = situation.spec.completions.unwrap_or(1);
        if situation.active.is_empty() && situation.succeeded >= wanted {
            let message = "Reached expected number of succeeded pods".to_owned();
            situation.finished = Some(situation::condition("SuccessCriteriaMet", "CompletionsReached", message, now));
        } else if !parent.deleting() && set_suspended(status, situation::suspended(situation.spec), now) {
            let (reason, message) = if situation::suspended(situation.spec) {
                status.start_time = None;
                ("Suspended", "Job suspended")
            } else {
                // The time in which it was suspended does not count towards its deadline.
                status.start_time = Some(now.clone());
                ("Resumed", "Job resumed")
            };
            self.control.report(parent, Severity::Normal, reason, message.to_owned());
        }
    }

    fn failures(&self, uid: &str) -> Failures {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).get(uid).copied().unwrap_or_default()
    }

    fn remember(&self, uid: &str, failures: Option<Failures>) {
        let mut all = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.filter(|failures| failures.count > 0) {
            Some(failures) => drop(all.insert(uid.into(), failures)),
            None => drop(all.remove(uid)),
        }
    }

    /// Writes the status when it differs; gives the Job as it then is.
    async fn write(&self, api: &Api<Job>, job: &Job, status: JobStatus) -> Result<Job, Error> {
        if job.status.as_ref() == Some(&status) {
            return Ok(job.clone());
        }
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let job = Job { status: Some(status), ..job.clone() };
        Ok(api.replace_status(name, &PostParams::default(), &job).await?)
    }

    async fn untrack_all(&self, pods: &[Known]) -> Result<(), Error> {
        try_join_all(pods.iter().map(|pod| self.control.untrack(pod))).await.map(drop)
    }
}

/// Says whether the condition changed.
fn set_suspended(status: &mut JobStatus, suspended: bool, now: &Time) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter_mut().find(|it| it.type_ == "Suspended");
    let was = known.as_ref().is_some_and(|it| it.status == "True");
    if was == suspended {
        return false;
    }
    let (reason, message) = if suspended { ("JobSuspended", "Job suspended") } else { ("JobResumed", "Job resumed") };
    let mut condition = situation::condition("Suspended", reason, message.to_owned(), now);
    if !suspended {
        condition.status = "False".to_owned();
    }
    match known {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
    true
}
