//! Cells of workloads: replicas, containers, images, selectors, jobs.

use serde_json::Value;

use super::{Now, age, label_selector, labels};
use crate::node::Node;

pub(super) fn ready(object: Node<'_, '_>, _: &Now) -> Value {
    let ready = object.get("status").get("readyReplicas").int().unwrap_or_default();
    let desired = object.get("spec").get("replicas").int().unwrap_or_default();
    format!("{ready}/{desired}").into()
}

pub(super) fn containers(object: Node<'_, '_>, _: &Now) -> Value {
    of_containers(object.get("spec").get("template"), "name")
}

pub(super) fn images(object: Node<'_, '_>, _: &Now) -> Value {
    of_containers(object.get("spec").get("template"), "image")
}

pub(super) fn cron_containers(object: Node<'_, '_>, _: &Now) -> Value {
    of_containers(object.get("spec").get("jobTemplate").get("spec").get("template"), "name")
}

pub(super) fn cron_images(object: Node<'_, '_>, _: &Now) -> Value {
    of_containers(object.get("spec").get("jobTemplate").get("spec").get("template"), "image")
}

pub(super) fn template_containers(object: Node<'_, '_>, _: &Now) -> Value {
    of_containers(object.get("template"), "name")
}

pub(super) fn template_images(object: Node<'_, '_>, _: &Now) -> Value {
    of_containers(object.get("template"), "image")
}

fn of_containers(template: Node<'_, '_>, field: &str) -> Value {
    let spec = template.get("spec");
    let containers = spec.get("containers");
    containers.items().map(|container| container.get(field).str()).collect::<Vec<_>>().join(",").into()
}

pub(super) fn selector(object: Node<'_, '_>, _: &Now) -> Value {
    label_selector(object.get("spec").get("selector")).into()
}

pub(super) fn cron_selector(object: Node<'_, '_>, _: &Now) -> Value {
    label_selector(object.get("spec").get("jobTemplate").get("spec").get("selector")).into()
}

pub(super) fn node_selector(object: Node<'_, '_>, _: &Now) -> Value {
    labels(object.get("spec").get("template").get("spec").get("nodeSelector")).into()
}

pub(super) fn job_status(job: Node<'_, '_>, _: &Now) -> Value {
    let status = job.get("status");
    let conditions = status.get("conditions");
    let holds = |kind| conditions.find("type", kind).is_some_and(|condition| condition.get("status").str() == "True");
    if holds("Complete") {
        "Complete"
    } else if holds("Failed") {
        "Failed"
    } else if job.get("metadata").get("deletionTimestamp").is_present() {
        "Terminating"
    } else if holds("Suspended") {
        "Suspended"
    } else if holds("FailureTarget") {
        "FailureTarget"
    } else if holds("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
    .into()
}

pub(super) fn completions(job: Node<'_, '_>, _: &Now) -> Value {
    let (spec, status) = (job.get("spec"), job.get("status"));
    let succeeded = status.get("succeeded").int().unwrap_or_default();
    match (spec.get("completions").int(), spec.get("parallelism").int().unwrap_or_default()) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
    .into()
}

pub(super) fn job_duration(job: Node<'_, '_>, now: &Now) -> Value {
    let status = job.get("status");
    let (start, end) = (status.get("startTime").str(), status.get("completionTime").str());
    match (start, end) {
        ("", _) => "".into(),
        (start, "") => age::since(start, now).into(),
        (start, end) => age::between(start, end).unwrap_or_default().into(),
    }
}

pub(super) fn suspended(job: Node<'_, '_>, _: &Now) -> Value {
    if job.get("spec").get("suspend").bool() { "True".into() } else { "False".into() }
}

pub(super) fn last_schedule(job: Node<'_, '_>, now: &Now) -> Value {
    match job.get("status").get("lastScheduleTime").str() {
        "" => "<none>".into(),
        time => age::since(time, now).into(),
    }
}
