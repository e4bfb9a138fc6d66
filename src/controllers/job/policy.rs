//! What a Job's failure and success policies say of its pods.
//!
//! Upstream: pkg/controller/job/pod_failure_policy.go, success_policy.go.

use coracle_client::Item;
use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
};

use super::indexes::Indexes;
use crate::pods::PodView;

/// What becomes of a failed pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    Ignored,
    Counted,
    /// Its index has failed for good.
    FailsIndex,
    /// The Job has failed, with this message.
    FailsJob(String),
}

pub(super) fn judge(policy: Option<&PodFailurePolicy>, pod: &Item<PodView>) -> Verdict {
    let rules = policy.iter().flat_map(|policy| policy.rules.iter().enumerate());
    for (position, rule) in rules {
        let what = if let Some(codes) = &rule.on_exit_codes {
            exit(codes, pod)
                .map(|(name, code)| format!("Container {name} for pod {} failed with exit code {code}", pod.key))
        } else {
            let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
            condition(patterns, pod).map(|kind| format!("Pod {} has condition {kind}", pod.key))
        };
        let Some(what) = what else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignored,
            "FailIndex" => Verdict::FailsIndex,
            "FailJob" => Verdict::FailsJob(format!("{what} matching {} rule at index {position}", rule.action)),
            "Count" => Verdict::Counted,
            // Rules of later versions do nothing.
            _ => continue,
        };
    }
    Verdict::Counted
}

fn exit<'a>(rule: &PodFailurePolicyOnExitCodesRequirement, pod: &'a PodView) -> Option<(&'a str, i32)> {
    let exits = pod.work.iter().flat_map(|work| &work.exits);
    let mut named = exits.filter(|(name, _)| rule.container_name.as_deref().is_none_or(|wanted| *wanted == **name));
    let matching = named.find(|(_, code)| match rule.operator.as_str() {
        "In" => rule.values.contains(code),
        "NotIn" => !rule.values.contains(code),
        _ => false,
    });
    matching.map(|(name, code)| (&**name, *code))
}

fn condition<'a>(patterns: &[PodFailurePolicyOnPodConditionsPattern], pod: &'a PodView) -> Option<&'a str> {
    let mut conditions = pod.work.iter().flat_map(|work| &work.conditions);
    let matches = |(kind, status): &&(Box<str>, Box<str>)| {
        let is = |pattern: &PodFailurePolicyOnPodConditionsPattern| {
            *pattern.type_ == **kind && pattern.status.as_deref().unwrap_or("True") == &**status
        };
        patterns.iter().any(is)
    };
    conditions.find(matches).map(|(kind, _)| &**kind)
}

/// The message when one of the rules of the success policy is met.
pub(super) fn success(spec: &JobSpec, succeeded: &Indexes) -> Option<String> {
    let completions = super::completions(spec);
    if succeeded.total() == 0 {
        return None;
    }
    let rules = spec.success_policy.iter().flat_map(|policy| &policy.rules);
    let met = rules.enumerate().find(|(_, rule)| {
        let enough = |count: u32| rule.succeeded_count.is_some_and(|wanted| count >= wanted.max(0).unsigned_abs());
        match &rule.succeeded_indexes {
            None => enough(succeeded.total()),
            Some(text) => {
                let wanted = Indexes::parse(text, completions);
                let shared = wanted.shared(succeeded);
                wanted.total() > 0 && (shared == wanted.total() || enough(shared))
            }
        }
    });
    met.map(|(position, _)| format!("Matched rules at index {position}"))
}
