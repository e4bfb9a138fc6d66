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

/// Counts the changes of a DaemonSet's template.
/// Upstream: kubernetes pkg/registry/apps/daemonset/strategy.go, pkg/apis/apps/v1/conversion.go.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(set: &Value) -> i64 {
    let text = set["metadata"]["annotations"][TEMPLATE_GENERATION].as_str().unwrap_or_default();
    text.parse().unwrap_or_default()
}

fn set_template_generation(set: &mut Value, generation: i64) {
    set["metadata"]["annotations"][TEMPLATE_GENERATION] = json!(generation.to_string());
}

pub fn prepare_daemons(set: &mut Value) {
    let generation = template_generation(set).max(1);
    set_template_generation(set, generation);
}

pub fn update_daemons(new: &mut Value, old: &Value, subresource: &str) {
    if subresource.is_empty() {
        let changed = new["spec"]["template"] != old["spec"]["template"];
        set_template_generation(new, template_generation(old) + i64::from(changed));
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
