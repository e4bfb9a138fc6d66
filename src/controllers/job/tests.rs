//! Jobs step by step: what the pods are, what the status then says.

use std::sync::Arc;

use coracle_client::{Item, Key};
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::backoff::Failures;
use super::situation::Situation;
use super::{manage, track};
use crate::pod_control::{Known, Parent};
use crate::pods::{Phase, PodView, Work};

fn job(spec: Value) -> Job {
    let mut all = json!({"parallelism": 2, "completions": 4, "backoffLimit": 6,
        "template": {"spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}}});
    for (field, value) in spec.as_object().unwrap() {
        all[field] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": "work", "namespace": "a", "uid": "j"}, "spec": all})).unwrap()
}

fn pod(name: &str, phase: Phase, change: impl Fn(&mut PodView, &mut Work)) -> Known {
    let mut work = Work { tracked: true, finished: 90, ..Work::default() };
    let mut value = PodView { phase, created: 50, ..PodView::default() };
    change(&mut value, &mut work);
    value.work = Some(Box::new(work));
    Arc::new(Item { key: Key::new("a", name), uid: name.into(), revision: 1, value })
}

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn situation<'a>(job: &'a Job, pods: &'a [Known]) -> Situation<'a> {
    Situation::of(job, job.spec.as_ref().unwrap(), pods, Some(&at(10)), &at(100))
}

fn cause(situation: &Situation<'_>) -> String {
    let condition = situation.finished.as_ref();
    condition.map_or(String::new(), |it| format!("{} {}", it.type_, it.reason.as_deref().unwrap_or_default()))
}

#[test]
fn a_pod_is_counted_once_wherever_it_is_cut_off() {
    let job = job(json!({}));
    let (done, failed) = (pod("done", Phase::Succeeded, |_, _| ()), pod("bad", Phase::Failed, |_, _| ()));
    let pods = [done.clone(), failed, pod("runs", Phase::Running, |_, _| ())];
    let seen = situation(&job, &pods);
    assert_eq!((seen.succeeded, seen.failed, seen.active.len()), (1, 1, 1));
    let ends = track::ends(&seen, &JobStatus::default());
    assert_eq!(ends.pods.iter().map(|pod| &*pod.uid).collect::<Vec<_>>(), ["done", "bad"]);

    // The status is written, finalizers are still there: seen again, it is the same.
    let uncounted = json!({"uncountedTerminatedPods": {"succeeded": ["done"], "failed": ["bad"]}});
    let mut status: JobStatus = serde_json::from_value(uncounted).unwrap();
    let again = Job { status: Some(status.clone()), ..job.clone() };
    let seen = situation(&again, &pods);
    assert_eq!((seen.succeeded, seen.failed, seen.new_succeeded.len()), (1, 1, 0));
    track::settle(&mut status, &pods);
    assert_eq!((status.succeeded, status.failed), (None, None));
    // One finalizer is gone, then the other with its pod.
    let free = pod("done", Phase::Succeeded, |_, work| work.tracked = false);
    track::settle(&mut status, &[free, pods[1].clone()]);
    assert_eq!((status.succeeded, status.failed), (Some(1), None));
    track::settle(&mut status, &[]);
    assert_eq!((status.succeeded, status.failed), (Some(1), Some(1)));
    assert_eq!(situation(&Job { status: Some(status), ..job }, &[]).succeeded, 1);
}

#[test]
fn what_ends_a_job() {
    let failed = |name: &str| pod(name, Phase::Failed, |_, work| work.exits = [("c".into(), 42)].into());
    let rule = |action: &str| json!({"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": [42]}}]});
    let indexed = |name: &str, phase, index: u32| pod(name, phase, move |_, work| work.index = Some(index));
    type Case = (Value, Vec<Known>, &'static str, i32);
    let cases: [Case; 11] = [
        (json!({}), vec![failed("x")], "", 1),
        (json!({"backoffLimit": 0}), vec![failed("x")], "FailureTarget BackoffLimitExceeded", 1),
        (json!({"backoffLimit": 0, "podFailurePolicy": rule("Ignore")}), vec![failed("x")], "", 0),
        (json!({"podFailurePolicy": rule("FailJob")}), vec![failed("x")], "FailureTarget PodFailurePolicy", 1),
        (json!({"activeDeadlineSeconds": 90}), vec![], "FailureTarget DeadlineExceeded", 0),
        (json!({"activeDeadlineSeconds": 91}), vec![], "", 0),
        (json!({"activeDeadlineSeconds": 9, "suspend": true}), vec![], "", 0),
        (
            json!({"completionMode": "Indexed", "successPolicy": {"rules": [{"succeededIndexes": "1,2", "succeededCount": 1}]}}),
            vec![indexed("x", Phase::Succeeded, 2)],
            "SuccessCriteriaMet SuccessPolicy",
            0,
        ),
        (
            json!({"completionMode": "Indexed", "backoffLimitPerIndex": 0, "maxFailedIndexes": 1}),
            vec![indexed("x", Phase::Failed, 0), indexed("y", Phase::Failed, 3)],
            "FailureTarget MaxFailedIndexesExceeded",
            2,
        ),
        (
            json!({"completionMode": "Indexed", "backoffLimitPerIndex": 0, "completions": 2}),
            vec![indexed("x", Phase::Failed, 0), indexed("y", Phase::Succeeded, 1)],
            "FailureTarget FailedIndexes",
            1,
        ),
        (
            json!({"completionMode": "Indexed", "backoffLimitPerIndex": 1, "completions": 2}),
            vec![indexed("x", Phase::Failed, 0), indexed("y", Phase::Succeeded, 1)],
            "",
            1,
        ),
    ];
    for (spec, pods, expected, failures) in cases {
        let job = job(spec.clone());
        let seen = situation(&job, &pods);
        assert_eq!((cause(&seen).as_str(), seen.failed), (expected, failures), "{spec}");
    }
}

#[test]
fn a_replacement_takes_over_the_failures_of_its_index() {
    let job = job(json!({"completionMode": "Indexed", "backoffLimitPerIndex": 3, "backoffLimit": 1000}));
    let pods = [
        pod("old", Phase::Failed, |_, work| (work.index, work.failures) = (Some(1), 0)),
        pod("last", Phase::Failed, |_, work| (work.index, work.failures) = (Some(1), 1)),
        pod("runs", Phase::Running, |_, work| work.index = Some(0)),
    ];
    let seen = situation(&job, &pods);
    let parent = Parent { api_version: "batch/v1", kind: "Job", meta: &job.metadata };
    let pod = manage::indexed_pod(parent, &seen, 1);
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("work-1-"));
    assert_eq!(
        serde_json::to_value(pod.metadata.annotations).unwrap(),
        json!({"batch.kubernetes.io/job-completion-index": "1", "batch.kubernetes.io/job-index-failure-count": "2"})
    );
    assert_eq!(pod.spec.unwrap().hostname.as_deref(), Some("work-1"));
    // The last pod of the index stays until then.
    let ends = track::ends(&seen, &JobStatus::default());
    assert_eq!(ends.pods.iter().map(|pod| &*pod.uid).collect::<Vec<_>>(), ["old"]);
    // The wait counts from its end: 20 s for the second failure.
    assert_eq!(manage::index_wait(&seen, 1, 100).as_secs(), 10);
}

#[test]
fn failures_count_from_the_last_success() {
    let ended = |name: &str, phase, at| pod(name, phase, move |_, work| work.finished = at);
    let failed = [ended("a", Phase::Failed, 10), ended("b", Phase::Failed, 30)];
    let before = Failures { count: 3, last: 5 };
    assert_eq!(before.with(&[], &failed), Failures { count: 5, last: 30 });
    assert_eq!(before.with(&[ended("s", Phase::Succeeded, 20)], &failed), Failures { count: 1, last: 30 });
    assert_eq!(before.with(&[ended("s", Phase::Succeeded, 40)], &failed), Failures::default());
    assert_eq!(before.with(&[], &[]), before);
}
