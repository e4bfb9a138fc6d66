//! The batch group. Upstream: pkg/apis/batch/v1/defaults.go.

use serde_json::Value;

use super::draft::Draft;
use super::pod::template_spec;

pub(super) fn job(job: &mut Draft<'_>) {
    let mut spec = job.make("spec");
    if spec.is_absent("completions") && spec.is_absent("parallelism") {
        spec.set("completions", 1);
    }
    spec.default("parallelism", 1);
    let limit = if spec.is_absent("backoffLimitPerIndex") { 6 } else { i32::MAX };
    spec.default("backoffLimit", limit);
    spec.default("completionMode", "NonIndexed");
    spec.default("suspend", false);
    let replacement = if spec.is_absent("podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    spec.default("podReplacementPolicy", replacement);
    spec.default("manualSelector", false);
    job_spec(&mut spec);
    let labels = spec
        .value("template")
        .and_then(|template| template.pointer("/metadata/labels"))
        .filter(|labels| labels.as_object().is_some_and(|labels| !labels.is_empty()))
        .cloned();
    if let Some(labels) = labels {
        job.make("metadata").default_zero("labels", labels);
    }
}

pub(super) fn cron_job(job: &mut Draft<'_>) {
    let mut spec = job.make("spec");
    spec.default_zero("concurrencyPolicy", "Allow");
    spec.default("suspend", false);
    spec.default("successfulJobsHistoryLimit", 3);
    spec.default("failedJobsHistoryLimit", 1);
    if let Some(mut template) = spec.get("jobTemplate")
        && let Some(mut spec) = template.get("spec")
    {
        job_spec(&mut spec);
    }
}

/// What holds in templates of jobs too.
fn job_spec(spec: &mut Draft<'_>) {
    if let Some(mut policy) = spec.get("podFailurePolicy") {
        for mut rule in policy.items("rules") {
            rule.items("onPodConditions").for_each(|mut pattern| pattern.default_zero("status", Value::from("True")));
        }
    }
    if let Some(mut template) = spec.get("template") {
        template_spec(&mut template);
    }
}
