//! CronJobs: a Job each time the schedule says so.
//!
//! Upstream: pkg/controller/cronjob. What has been started stands in the status; a Job's name is that of its minute, so
//! that no time is served twice.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::Object;
use coracle_client::events::Severity;
use coracle_client::{Change, Controller, Error, Item, Key, Next, Project, View, found};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, DeleteParams, PostParams};
use serde::Deserialize;

use crate::job::JobView;
use crate::pod_control::{Parent, report};
use crate::{Scope, resources, time};

mod due;
mod schedule;

use due::Due;
use schedule::Schedule;

const WORKERS: usize = 5;
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// What triggers need to know: times, in seconds since the epoch, and the schedule.
struct CronView {
    schedule: Box<str>,
    zone: Box<str>,
    /// Nothing was due before.
    since: i64,
}

impl Project for CronView {
    fn project(object: &Object) -> Option<Self> {
        #[derive(Deserialize)]
        struct Decoded {
            metadata: Meta,
            spec: Spec,
            #[serde(default)]
            status: Status,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Meta {
            creation_timestamp: Box<str>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec {
            schedule: Box<str>,
            #[serde(default)]
            time_zone: Box<str>,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct Status {
            last_schedule_time: Box<str>,
        }
        let Decoded { metadata, spec, status } = object.decode().ok()?;
        let since = time::parse_seconds(&status.last_schedule_time)
            .or_else(|| time::parse_seconds(&metadata.creation_timestamp));
        Some(Self { schedule: spec.schedule, zone: spec.time_zone, since: since? })
    }
}

struct CronJobs {
    scope: Scope,
    jobs: View<JobView>,
}

pub fn start(scope: Scope) -> BoxFuture<'static, ()> {
    let cron_jobs = scope.views.view::<CronView>(&resources::cron_jobs());
    let jobs = scope.views.view::<JobView>(&resources::jobs());
    let controller = Controller::new("cronjob").workers(WORKERS);
    let (queue, clock) = (controller.queue(), scope.clock.clone());
    let controller = controller
        .on(&cron_jobs, move |change| match rescheduled(change, clock.since_epoch().as_secs() as i64) {
            // What a new schedule would have asked for before it was given is not made up for.
            Some(wait) => {
                queue.add_after(change.item().key.clone(), wait);
                None
            }
            None => Some(change.item().key.clone()),
        })
        .on(&jobs, |change: &Change<JobView>| {
            let jobs = [change.former(), change.present()].into_iter().flatten();
            let owner = |job: &Arc<Item<JobView>>| {
                let owner = job.owner.as_ref().filter(|owner| &*owner.kind == "CronJob")?;
                Some(Key::new(job.key.namespace.clone(), &*owner.name))
            };
            jobs.filter_map(owner).collect::<Vec<_>>()
        });
    let shutdown = scope.shutdown.clone();
    let this = Arc::new(CronJobs { scope, jobs });
    async move { controller.run(&shutdown, move |key| this.clone().reconcile(key)).await }.boxed()
}

/// The time until a changed schedule is due.
fn rescheduled(change: &Change<CronView>, now: i64) -> Option<Duration> {
    let (old, new) = (change.former()?, change.present()?);
    if old.schedule == new.schedule && old.zone == new.zone {
        return None;
    }
    let zone = if new.zone.is_empty() { TimeZone::UTC } else { TimeZone::get(&new.zone).ok()? };
    let schedule = Schedule::parse(&new.schedule, &zone).ok()?;
    Some(Due::of(&schedule, new.since, None, now).wait(&schedule, now))
}

/// A CronJob while it is looked at.
struct Pass<'a> {
    cron: &'a CronJob,
    parent: Parent<'a>,
    spec: &'a CronJobSpec,
    status: CronJobStatus,
    api: Api<Job>,
}

impl CronJobs {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Next, Error> {
        let api: Api<CronJob> = Api::namespaced(self.scope.client.clone(), &key.namespace);
        let Some(cron) = found(api.get(&key.name).await)? else { return Ok(Next::Done) };
        let spec = &cron.spec;
        let parent = Parent { api_version: "batch/v1", kind: "CronJob", meta: &cron.metadata };
        let status = cron.status.clone().unwrap_or_default();
        let jobs = Api::namespaced(self.scope.client.clone(), &key.namespace);
        let mut pass = Pass { cron: &cron, parent, spec, status, api: jobs };
        let children = self.jobs.find(parent.uid());
        self.prune(&mut pass, &children).await;
        self.follow(&mut pass, &children).await?;
        let outcome = self.start_due(&mut pass).await;
        let status = Some(pass.status);
        if cron.status.clone().or(Some(CronJobStatus::default())) != status {
            let changed = CronJob { status, ..cron.clone() };
            found(api.replace_status(&key.name, &PostParams::default(), &changed).await)?;
        }
        Ok(outcome?.map_or(Next::Done, Next::After))
    }

    fn report(&self, pass: &Pass<'_>, severity: Severity, reason: &'static str, message: String) {
        report(&self.scope.events, pass.parent, severity, reason, message);
    }

    /// Deletes the oldest of the Jobs that ended, beyond those that are to be kept.
    async fn prune(&self, pass: &mut Pass<'_>, children: &[Arc<Item<JobView>>]) {
        let limits = [(true, pass.spec.successful_jobs_history_limit), (false, pass.spec.failed_jobs_history_limit)];
        for (complete, limit) in limits {
            let Some(limit) = limit else { continue };
            let mut ended: Vec<_> =
                children.iter().filter(|job| job.finished && job.completed.is_some() == complete).collect();
            ended.sort_by_key(|job| (job.started.is_none(), job.started, job.key.clone()));
            let surplus = ended.len().saturating_sub(limit.max(0) as usize);
            for job in &ended[..surplus] {
                self.delete(pass, &job.key.name, &job.uid).await;
            }
        }
    }

    async fn delete(&self, pass: &mut Pass<'_>, name: &str, uid: &str) -> bool {
        match found(pass.api.delete(name, &DeleteParams::background()).await) {
            Err(error) => {
                self.report(pass, Severity::Warning, "FailedDelete", format!("Deleted job: {}", error.chain()));
                false
            }
            Ok(deleted) => {
                forget(&mut pass.status, uid);
                if deleted.is_some() {
                    self.report(pass, Severity::Normal, "SuccessfulDelete", format!("Deleted job {name}"));
                }
                true
            }
        }
    }

    /// Brings the list of active Jobs up to date.
    async fn follow(&self, pass: &mut Pass<'_>, children: &[Arc<Item<JobView>>]) -> Result<(), Error> {
        for job in children {
            let active = is_active(&pass.status, |it| it.uid.as_deref() == Some(&*job.uid));
            if !active && !job.finished {
                let text = format!("Saw a job that the controller did not create or forgot: {}", job.key.name);
                self.report(pass, Severity::Warning, "UnexpectedJob", text);
            } else if job.finished && active {
                forget(&mut pass.status, &job.uid);
                let end = if job.completed.is_some() { "Complete" } else { "Failed" };
                let text = format!("Saw completed job: {}, condition: {end}", job.key.name);
                self.report(pass, Severity::Normal, "SawCompletedJob", text);
            }
            if let Some(completed) = job.completed
                && pass.status.last_successful_time.as_ref().is_none_or(|last| time::seconds_of(last) < completed)
            {
                pass.status.last_successful_time = time::from_seconds(completed);
            }
        }
        for job in pass.status.active.clone().unwrap_or_default() {
            let (uid, name) = (job.uid.unwrap_or_default(), job.name.unwrap_or_default());
            if children.iter().any(|child| *child.uid == *uid) {
                continue;
            }
            // The view may not show it yet.
            if found(pass.api.get_metadata(&name).await)?.is_none() {
                self.report(pass, Severity::Normal, "MissingJob", format!("Active job went missing: {name}"));
                forget(&mut pass.status, &uid);
            }
        }
        Ok(())
    }

    /// Starts what is due; gives the time until the schedule is due again.
    async fn start_due(&self, pass: &mut Pass<'_>) -> Result<Option<Duration>, Error> {
        if pass.parent.deleting() {
            return Ok(None);
        }
        let Some(zone) = self.zone(pass) else { return Ok(None) };
        if pass.spec.suspend == Some(true) {
            return Ok(None);
        }
        let schedule = match Schedule::parse(&pass.spec.schedule, &zone) {
            Ok(schedule) => schedule,
            Err(error) => {
                let text = format!("unparseable schedule: {:?} : {error}", pass.spec.schedule);
                self.report(pass, Severity::Warning, "UnparseableSchedule", text);
                return Ok(None);
            }
        };
        let now = time::seconds(self.scope.clock.now());
        let last = pass.status.last_schedule_time.as_ref().map(time::seconds_of);
        let since =
            last.unwrap_or_else(|| pass.cron.metadata.creation_timestamp.as_ref().map_or(now, time::seconds_of));
        let due = Due::of(&schedule, since, pass.spec.starting_deadline_seconds, now);
        let wait = Due::of(&schedule, since, None, now).wait(&schedule, now);
        let Some(at) = due.at else { return Ok(Some(wait)) };
        if due.many {
            let text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.report(pass, Severity::Warning, "TooManyMissedTimes", text.to_owned());
        }
        if pass.spec.starting_deadline_seconds.is_some_and(|deadline| at.saturating_add(deadline) < now) {
            let when = Timestamp::from_second(at).unwrap_or_default().strftime("%a, %d %b %Y %H:%M:%S UTC").to_string();
            self.report(
                pass,
                Severity::Warning,
                "MissSchedule",
                format!("Missed scheduled time to start a job: {when}"),
            );
            return Ok(Some(wait));
        }
        let name = format!("{}-{}", pass.parent.name(), at / 60);
        if is_active(&pass.status, |it| it.name.as_deref() == Some(&name)) || last == Some(at) {
            return Ok(Some(wait));
        }
        let active = pass.status.active.clone().unwrap_or_default();
        match pass.spec.concurrency_policy.as_deref() {
            Some("Forbid") if !active.is_empty() => {
                let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.report(pass, Severity::Normal, "JobAlreadyActive", text.to_owned());
                return Ok(Some(wait));
            }
            Some("Replace") => {
                for job in active {
                    let (uid, name) = (job.uid.unwrap_or_default(), job.name.unwrap_or_default());
                    if !self.delete(pass, &name, &uid).await {
                        return Err(Error::Other(format!("could not replace job {name}")));
                    }
                }
            }
            _ => {}
        }
        self.start_job(pass, name, at, &zone).await?;
        Ok(Some(Due::of(&schedule, at, None, now).wait(&schedule, now)))
    }

    /// The CronJob's time zone; `None` when there is none of that name.
    fn zone(&self, pass: &Pass<'_>) -> Option<TimeZone> {
        let Some(name) = &pass.spec.time_zone else { return Some(TimeZone::UTC) };
        match TimeZone::get(name) {
            Ok(zone) => Some(zone),
            Err(error) => {
                let text = format!("invalid timeZone: {name:?}: {error}");
                self.report(pass, Severity::Warning, "UnknownTimeZone", text);
                None
            }
        }
    }

    async fn start_job(&self, pass: &mut Pass<'_>, name: String, at: i64, zone: &TimeZone) -> Result<(), Error> {
        let scheduled = Timestamp::from_second(at).unwrap_or_default();
        let job = match pass.api.create(&PostParams::default(), &job_of(pass, &name, scheduled, zone)).await {
            Ok(job) => {
                self.report(pass, Severity::Normal, "SuccessfulCreate", format!("Created job {name}"));
                job
            }
            Err(error) => {
                let error = Error::from(error);
                if !error.is_already_exists() {
                    if !error.is_namespace_terminating() {
                        let text = format!("Error creating job: {}", error.chain());
                        self.report(pass, Severity::Warning, "FailedCreate", text);
                    }
                    return Err(error);
                }
                // Made by an earlier attempt that did not get to write it down, or somebody else's.
                match found(pass.api.get(&name).await)? {
                    Some(job) if crate::owners::controller_uid(&job.metadata) == pass.parent.uid() => job,
                    _ => return Ok(()),
                }
            }
        };
        let uid = job.metadata.uid.clone().unwrap_or_default();
        if !is_active(&pass.status, |it| it.uid.as_deref() == Some(&uid)) {
            pass.status.active.get_or_insert_default().push(ObjectReference {
                api_version: Some("batch/v1".to_owned()),
                kind: Some("Job".to_owned()),
                namespace: job.metadata.namespace,
                name: Some(name),
                uid: Some(uid),
                resource_version: job.metadata.resource_version,
                field_path: None,
            });
        }
        pass.status.last_schedule_time = Some(Time(scheduled));
        Ok(())
    }
}

fn job_of(pass: &Pass<'_>, name: &str, scheduled: Timestamp, zone: &TimeZone) -> Job {
    let template = pass.spec.job_template.clone();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let local = scheduled.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    annotations.insert(SCHEDULED.to_owned(), local.replace("+00:00", "Z"));
    Job {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: pass.cron.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![pass.parent.reference()]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

fn is_active(status: &CronJobStatus, is: impl Fn(&ObjectReference) -> bool) -> bool {
    status.active.iter().flatten().any(is)
}

fn forget(status: &mut CronJobStatus, uid: &str) {
    if let Some(active) = &mut status.active {
        active.retain(|job| job.uid.as_deref() != Some(uid));
        if active.is_empty() {
            status.active = None;
        }
    }
}
