//! Deployments, ReplicaSets, jobs and the like: what a status update cannot touch.
//!
//! Upstream: kubernetes pkg/registry/{apps,batch}.

use serde_json::{Value, json};

use crate::registry::metadata;

pub fn prepare_update(new: &mut Value, old: &Value, subresource: &str) {
    if subresource == "status" && old["kind"] == "Deployment" {
        match old["metadata"].get("labels") {
            Some(labels) => metadata::of(new).insert("labels".to_owned(), labels.clone()),
            None => metadata::of(new).remove("labels"),
        };
    }
}

/// The labels by which a job finds its pods, unless it says that it chooses them itself.
/// Upstream: kubernetes pkg/registry/batch/job/strategy.go generateSelector.
pub fn prepare_job(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (metadata::text(job, "uid").to_owned(), metadata::text(job, "name").to_owned());
    let template = &job["spec"]["template"]["metadata"]["labels"];
    // Labels that a job does not have are those of its template.
    let shared = template.is_null() && job["metadata"]["labels"].is_null() || *template == job["metadata"]["labels"];
    let mut labels = template.as_object().cloned().unwrap_or_default();
    for (key, value) in [
        ("controller-uid", &uid),
        ("job-name", &name),
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
    ] {
        labels.entry(key).or_insert_with(|| json!(value));
    }
    if shared {
        metadata::of(job).insert("labels".to_owned(), json!(labels));
    }
    job["spec"]["template"]["metadata"]["labels"] = json!(labels);
    job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"] = json!(uid);
}
