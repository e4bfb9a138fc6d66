//! Jobs and cron jobs. Upstream: pkg/apis/batch/validation.

use serde_json::Value;

use super::{cron, labels, network, pod};
use crate::causes::{Broken, Causes, FieldError};
use crate::names;
use crate::node::Node;
use crate::selector::LabelSelector;

const MAX_PARALLELISM: i64 = 100_000;
const MAX_FAILED_INDEXES: i64 = 100_000;
const MANY_COMPLETIONS: i64 = 100_000;
const MAX_WITH_MANY: i64 = 10_000;
const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_PATTERNS: usize = 20;
const MAX_MANAGED_BY: usize = 63;
const MAX_INDEXES: usize = 64 * 1024;

pub(super) fn job(job: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (spec, meta) = (job.get("spec"), job.get("metadata"));
    if old.is_absent() {
        generated_selector(job, causes);
    }
    job_spec(spec, causes);
    let selector = spec.get("selector");
    if selector.is_absent() {
        selector.required(causes, "");
    }
    labels::label_selector(selector, causes);
    if let Ok(wanted) = LabelSelector::from_object(selector.value()) {
        let template = spec.get("template");
        let template = template.get("metadata");
        let given = template.get("labels");
        let none = serde_json::Map::new();
        let map = given.value().and_then(Value::as_object).unwrap_or(&none);
        if selector.is_absent() || !wanted.matches(map) {
            given.invalid(causes, "`selector` does not match template `labels`");
        }
    }
    if old.is_present() {
        changes(spec, old, causes);
    }
    let completions = spec.get("completions").number();
    if is_indexed(spec) && completions > 0 {
        let name = meta.get("name");
        let host = format!("{}-{}", name.str(), completions - 1);
        if !names::dns_1123_label(&host).is_empty() {
            name.invalid_text(causes, format!("will not able to create pod with invalid DNS label: {host}"));
        }
    }
}

fn is_indexed(spec: Node<'_, '_>) -> bool {
    spec.get("completionMode").str() == "Indexed"
}

/// A job that does not choose its pods itself has the labels that its strategy gives it.
fn generated_selector(job: Node<'_, '_>, causes: &mut Causes) {
    let (meta, spec) = (job.get("metadata"), job.get("spec"));
    if spec.get("manualSelector").bool() || spec.get("selector").is_absent() {
        return;
    }
    let (uid, name) = (meta.get("uid").str(), meta.get("name").str());
    let wanted = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    let template = spec.get("template");
    let template = template.get("metadata");
    let given = template.get("labels");
    for (key, value) in wanted {
        if given.key(key).is_absent() {
            given.key(key).required(causes, format!("must be '{value}'"));
        } else if given.key(key).str() != value {
            let shown = given.value().cloned().unwrap_or_default();
            causes.invalid(given.key(key).path(), shown, format!("must be '{value}'"));
        }
    }
    let expected: serde_json::Map<String, Value> =
        wanted.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
    let selector = spec.get("selector");
    if LabelSelector::from_object(selector.value()).is_ok_and(|selector| !selector.matches(&expected)) {
        selector.invalid(causes, "`selector` not auto-generated");
    }
}

fn job_spec(spec: Node<'_, '_>, causes: &mut Causes) {
    let numbers = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    numbers.iter().for_each(|field| spec.get(field).not_negative(causes));
    let (per_index, failed, manager) =
        (spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes"), spec.get("managedBy"));
    if failed.is_present() && per_index.is_absent() {
        per_index.required(causes, "when maxFailedIndexes is specified");
    }
    if manager.is_present() {
        network::domain_prefixed_path(manager, causes);
        if manager.str().len() > MAX_MANAGED_BY {
            manager.too_long(causes, MAX_MANAGED_BY);
        }
    }
    spec.get("completionMode").one_of_if_present(&["NonIndexed", "Indexed"], causes);
    match spec.get("completionMode").str() {
        "Indexed" => indexed(spec, causes),
        "" | "NonIndexed" => {
            for node in [per_index, failed] {
                if node.is_present() {
                    node.invalid(causes, "requires indexed completion mode");
                }
            }
        }
        _ => {}
    }
    let (failure, success, replacement) =
        (spec.get("podFailurePolicy"), spec.get("successPolicy"), spec.get("podReplacementPolicy"));
    if failure.is_present() {
        failure_policy(spec, failure, causes);
    }
    if success.is_present() {
        success_policy(spec, success, causes);
    }
    let supported: &[&str] = if failure.is_present() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    replacement.one_of_if_present(supported, causes);
    let template = spec.get("template");
    pod::template(template, causes);
    let policy = template.get("spec");
    let policy = policy.get("restartPolicy");
    match policy.str() {
        "Always" | "" => policy.required(causes, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if failure.is_present() => {
            policy.invalid(causes, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        _ => policy.one_of(&["OnFailure", "Never"], causes),
    }
}

fn indexed(spec: Node<'_, '_>, causes: &mut Causes) {
    let (completions, parallelism, failed) =
        (spec.get("completions"), spec.get("parallelism"), spec.get("maxFailedIndexes"));
    if completions.is_absent() {
        completions.required(causes, "when completion mode is Indexed");
    }
    if parallelism.number() > MAX_PARALLELISM {
        let why = format!("must be less than or equal to {MAX_PARALLELISM} when completion mode is Indexed");
        parallelism.invalid(causes, why);
    }
    if completions.is_present() && failed.number() > completions.number() {
        failed.invalid(causes, "must be less than or equal to completions");
    }
    if failed.number() > MAX_FAILED_INDEXES {
        failed.invalid(causes, format!("must be less than or equal to {MAX_FAILED_INDEXES}"));
    }
    if completions.number() > MANY_COMPLETIONS && spec.get("backoffLimitPerIndex").is_present() {
        if failed.is_absent() {
            failed.required(causes, format!("must be specified when completions is above {MANY_COMPLETIONS}"));
        }
        for node in [parallelism, failed] {
            if node.number() > MAX_WITH_MANY {
                let why = format!(
                    "must be less than or equal to {MAX_WITH_MANY} when completions are above {MANY_COMPLETIONS} and used \
                     with backoff limit per index"
                );
                node.invalid(causes, why);
            }
        }
    }
}

/// `valid values: [...]`, as Go prints a list.
fn required_of(node: Node<'_, '_>, supported: &[&str], causes: &mut Causes) {
    if node.is_empty() {
        let quoted: Vec<String> = supported.iter().map(|value| crate::quoting::quote(value)).collect();
        node.required(causes, format!("valid values: [{}]", quoted.join(" ")));
    } else {
        node.one_of(supported, causes);
    }
}

fn without_value(node: Node<'_, '_>, why: &str, causes: &mut Causes) {
    causes.push(FieldError { broken: Broken::Invalid, field: node.path(), value: None, detail: why.to_owned() });
}

fn failure_policy(spec: Node<'_, '_>, policy: Node<'_, '_>, causes: &mut Causes) {
    let rules = policy.get("rules");
    if rules.len() > MAX_RULES {
        causes.too_many(rules.path(), rules.len(), MAX_RULES);
    }
    for rule in rules.items() {
        let (action, codes, conditions) = (rule.get("action"), rule.get("onExitCodes"), rule.get("onPodConditions"));
        if action.str() == "FailIndex" {
            if spec.get("backoffLimitPerIndex").is_absent() {
                action.invalid(causes, "requires the backoffLimitPerIndex to be set");
            }
        } else {
            required_of(action, &["Count", "FailIndex", "FailJob", "Ignore"], causes);
        }
        if codes.is_present() {
            exit_codes(spec, codes, causes);
        }
        if conditions.len() > MAX_PATTERNS {
            causes.too_many(conditions.path(), conditions.len(), MAX_PATTERNS);
        }
        for pattern in conditions.items() {
            pattern.get("type").keep(names::qualified_name, causes);
            required_of(pattern.get("status"), &["False", "True", "Unknown"], causes);
        }
        match (codes.is_present(), !conditions.is_empty()) {
            (true, true) => {
                without_value(rule, "specifying both OnExitCodes and OnPodConditions is not supported", causes);
            }
            (false, false) => {
                without_value(rule, "specifying one of OnExitCodes and OnPodConditions is required", causes);
            }
            _ => {}
        }
    }
}

fn exit_codes(spec: Node<'_, '_>, codes: Node<'_, '_>, causes: &mut Causes) {
    let (operator, container, values) = (codes.get("operator"), codes.get("containerName"), codes.get("values"));
    required_of(operator, &["In", "NotIn"], causes);
    let template = spec.get("template");
    let template = template.get("spec");
    let known = |name: &str| {
        ["containers", "initContainers"].iter().any(|list| template.get(list).find("name", name).is_some())
    };
    if container.is_present() && !known(container.str()) {
        container.invalid(causes, "must be one of the container or initContainer names in the pod template");
    }
    if values.is_empty() {
        let shown = values.value().cloned().unwrap_or_default();
        causes.invalid(values.path(), shown, "at least one value is required");
    } else if values.len() > MAX_EXIT_CODES {
        causes.too_many(values.path(), values.len(), MAX_EXIT_CODES);
    }
    let numbers: Vec<i64> = values.items().map(|value| value.number()).collect();
    for (index, value) in values.items().enumerate() {
        if operator.str() == "In" && value.number() == 0 {
            value.invalid(causes, "must not be 0 for the In operator");
        }
        if numbers[..index].contains(&value.number()) {
            value.duplicate(causes);
        }
    }
    if !numbers.is_sorted() {
        values.invalid(causes, "must be ordered");
    }
}

fn success_policy(spec: Node<'_, '_>, policy: Node<'_, '_>, causes: &mut Causes) {
    if !is_indexed(spec) {
        return policy.invalid(causes, "requires indexed completion mode");
    }
    let (rules, completions) = (policy.get("rules"), spec.get("completions").number());
    if rules.is_empty() {
        rules.required(causes, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > MAX_RULES {
        causes.too_many(rules.path(), rules.len(), MAX_RULES);
    }
    for rule in rules.items() {
        let (count, indexes) = (rule.get("succeededCount"), rule.get("succeededIndexes"));
        if count.is_absent() && indexes.is_absent() {
            rule.required(causes, "at least one of succeededCount or succeededIndexes must be specified");
        }
        if indexes.str().len() > MAX_INDEXES {
            indexes.too_long(causes, MAX_INDEXES);
        }
        let parsed = count_indexes(indexes.str(), completions);
        if let (Err(why), true) = (&parsed, indexes.is_present()) {
            indexes.invalid(causes, format!("error parsing succeededIndexes: {why}"));
        }
        count.not_negative(causes);
        let mut limit = |limit: i64, what: &str| {
            if count.number() > limit {
                count.invalid(causes, format!("must be less than or equal to {limit} (the number of {what})"));
            }
        };
        limit(completions, "specified completions");
        if indexes.is_present() {
            limit(parsed.unwrap_or(0), "indexes in the specified succeededIndexes field");
        }
    }
}

/// `1,3-5`: how many indexes below `completions` it names.
pub(super) fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let mut total = 0;
    let mut last: Option<i64> = None;
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let (first, end) = interval_of(interval, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

fn interval_of(interval: &str, completions: i64) -> Result<(i64, i64), String> {
    let quote = crate::quoting::quote;
    let index = |text: &str| -> Result<i64, String> {
        let number: i64 =
            text.parse().map_err(|_| format!("cannot convert string to integer for index: {}", quote(text)))?;
        if number >= completions { Err(format!("too large index: {}", quote(text))) } else { Ok(number) }
    };
    match interval.split('-').collect::<Vec<_>>()[..] {
        [single] => index(single).map(|number| (number, number)),
        [first, last] => {
            let (first, last) = (index(first)?, index(last)?);
            if first >= last {
                return Err(format!("non-increasing order, previous: {first}, current: {last}"));
            }
            Ok((first, last))
        }
        _ => Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            quote(interval)
        )),
    }
}

fn changes(spec: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let before = old.get("spec");
    let (completions, had) = (spec.get("completions"), before.get("completions"));
    if !is_indexed(spec) {
        completions.immutable(had, causes);
    } else if completions.value() != had.value()
        && completions.is_present()
        && completions.number() != spec.get("parallelism").number()
    {
        completions.invalid(causes, "can only be modified in tandem with spec.parallelism");
    }
    spec.get("selector").immutable(before.get("selector"), causes);
    template_changes(spec, old, causes);
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        spec.get(field).immutable(before.get(field), causes);
    }
}

/// A job that is suspended and runs nothing may still be scheduled otherwise, and ask for other resources.
fn template_changes(spec: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let before = old.get("spec");
    let status = old.get("status");
    let suspended = before.get("suspend").bool();
    let condition = status.get("conditions");
    let condition =
        condition.find("type", "Suspended").is_some_and(|condition| condition.get("status").str() == "True");
    let started = status.get("startTime").is_present();
    let free = suspended && (!started || condition) && status.get("active").number() == 0;
    let (template, had) = (spec.get("template"), before.get("template"));
    if !free {
        return template.immutable(had, causes);
    }
    let (Some(new), Some(was)) = (template.value(), had.value()) else { return };
    let mut was = was.clone();
    let mut take = |path: &[&str]| copy(&mut was, new, path);
    for path in [&["spec", "nodeSelector"][..], &["spec", "tolerations"], &["spec", "schedulingGates"]] {
        take(path);
    }
    take(&["metadata", "annotations"]);
    take(&["metadata", "labels"]);
    take(&["spec", "affinity", "nodeAffinity"]);
    if was["spec"].get("affinity").is_some_and(|affinity| *affinity == serde_json::json!({}))
        && new["spec"].get("affinity").is_none()
    {
        was["spec"].as_object_mut().map(|spec| spec.remove("affinity"));
    }
    for list in ["containers", "initContainers"] {
        let fresh = new["spec"][list].as_array().cloned().unwrap_or_default();
        if let Some(held) =
            was["spec"].get_mut(list).and_then(Value::as_array_mut).filter(|held| held.len() == fresh.len())
        {
            for (held, fresh) in held.iter_mut().zip(&fresh) {
                if held["name"] == fresh["name"] {
                    copy(held, fresh, &["resources"]);
                }
            }
        }
    }
    if was["spec"] != new["spec"] {
        causes.invalid("spec.template.spec", new["spec"].clone(), super::checks::IMMUTABLE);
    }
}

/// Puts what `from` has at a path, or its absence, into `to`.
fn copy(to: &mut Value, from: &Value, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        if let Some(fields) = to.as_object_mut() {
            match from.get(first) {
                Some(value) => fields.insert((*first).to_owned(), value.clone()),
                None => fields.remove(*first),
            };
        }
        return;
    }
    let none = Value::Null;
    let inner = from.get(first).unwrap_or(&none);
    if to.get(first).is_some_and(Value::is_object) {
        copy(&mut to[*first], inner, rest);
    } else if inner.is_object() {
        to[*first] = serde_json::json!({});
        copy(&mut to[*first], inner, rest);
    }
}

/// Characters; what a job's name is made of and a time.
const MAX_CRON_NAME: usize = 52;

pub(super) fn cron_job(job: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (spec, before, meta) = (job.get("spec"), old.get("spec"), job.get("metadata"));
    let (schedule, zone) = (spec.get("schedule"), spec.get("timeZone"));
    if !schedule.is_empty() {
        let text = schedule.str();
        if let Err(why) = cron::check(text) {
            schedule.invalid(causes, why);
        }
        match (text.contains("TZ"), before.get("schedule").str().contains("TZ")) {
            (true, true) if zone.is_present() => {
                schedule.invalid(causes, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
            }
            (true, false) => {
                schedule.invalid(causes, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
            }
            _ => {}
        }
    }
    spec.get("startingDeadlineSeconds").not_negative(causes);
    if zone.value() != before.get("timeZone").value() {
        time_zone(zone, causes);
    }
    spec.get("concurrencyPolicy").need_one_of(&["Allow", "Forbid", "Replace"], causes);
    let template = spec.get("jobTemplate");
    let template = template.get("spec");
    job_spec(template, causes);
    if template.get("selector").is_present() {
        template.get("selector").invalid(causes, "`selector` will be auto-generated");
    }
    if template.get("manualSelector").bool() {
        template.get("manualSelector").not_supported(causes, &["nil", "false"]);
    }
    spec.get("successfulJobsHistoryLimit").not_negative(causes);
    spec.get("failedJobsHistoryLimit").not_negative(causes);
    if old.is_absent() && meta.get("name").str().len() > MAX_CRON_NAME {
        meta.get("name").invalid(causes, format!("must be no more than {MAX_CRON_NAME} characters"));
    }
}

fn time_zone(zone: Node<'_, '_>, causes: &mut Causes) {
    if zone.is_absent() {
        return;
    }
    if zone.is_empty() {
        return zone.invalid(causes, "timeZone must be nil or non-empty string");
    }
    let fits = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.len() <= 14
            && !part.starts_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte))
    };
    let name = zone.str();
    if !name.split('/').all(fits) {
        return zone.invalid(causes, format!("unknown time zone {name}"));
    }
    if name.eq_ignore_ascii_case("local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        zone.invalid(causes, why);
    }
    if !matches!(name, "UTC" | "Local") && jiff::tz::TimeZone::get(name).is_err() {
        zone.invalid(causes, format!("unknown time zone {name}"));
    }
}

/// Writes to a job's status. What the update leaves as it was is not judged again.
/// Upstream: validateJobStatus, pkg/registry/batch/job getStatusValidationOptions.
pub(super) fn status(job: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (status, before, spec) = (job.get("status"), old.get("status"), job.get("spec"));
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        status.get(field).not_negative(causes);
    }
    let is = |status: Node<'_, '_>, kind: &str| {
        status
            .get("conditions")
            .items()
            .any(|condition| condition.get("type").str() == kind && condition.get("status").str() == "True")
    };
    let now = |kind: &str| is(status, kind);
    let turned = |kind: &str| now(kind) != is(before, kind);
    let changed = |field: &str| status.get(field).value() != before.get(field).value();
    let conditions = status.get("conditions");
    let ended = now("Complete") || now("Failed");
    let ended_changed = ended != (is(before, "Complete") || is(before, "Failed"));
    let wrong = [
        (
            turned("Complete") || turned("Failed"),
            ["Complete", "Failed"],
            "cannot set Complete=True and Failed=true conditions",
        ),
        (
            turned("Complete") || turned("FailureTarget"),
            ["Complete", "FailureTarget"],
            "cannot set Complete=True and FailureTarget=true conditions",
        ),
        (true, ["SuccessCriteriaMet", "Failed"], "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
        (
            true,
            ["SuccessCriteriaMet", "FailureTarget"],
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ),
    ];
    for (judged, both, why) in wrong {
        if judged && both.iter().all(|kind| now(kind)) {
            without_value(conditions, why, causes);
        }
    }
    if (turned("Failed") || changed("failedIndexes")) && now("Failed") && !now("FailureTarget") {
        let why = "cannot set Failed=True condition without the FailureTarget=true condition";
        without_value(conditions, why, causes);
    }
    if (turned("Complete") || turned("SuccessCriteriaMet")) && now("Complete") && !now("SuccessCriteriaMet") {
        let why = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        without_value(conditions, why, causes);
    }
    let (start, end) = (status.get("startTime"), status.get("completionTime"));
    if turned("Complete") || changed("completionTime") {
        if end.is_present() && !now("Complete") {
            end.invalid(causes, "cannot set completionTime when there is no Complete=True condition");
        }
        if end.is_absent() && now("Complete") {
            end.required(causes, "completionTime is required for Complete jobs");
        }
    }
    if (changed("startTime") || changed("completionTime"))
        && start.is_present()
        && end.is_present()
        && end.str() < start.str()
    {
        end.invalid(causes, "must be equal to or after `startTime`");
    }
    if (ended_changed || changed("active")) && ended && status.get("active").number() > 0 {
        status.get("active").invalid(causes, "active>0 is invalid for finished job");
    }
    let idle = spec.get("suspend").bool() && spec.get("completions").int() == Some(0);
    if (ended_changed || changed("startTime")) && !idle && ended && start.is_absent() {
        start.required(causes, "startTime is required for finished job");
    }
    let uncounted = status.get("uncountedTerminatedPods");
    let left = uncounted.get("succeeded").len() + uncounted.get("failed").len();
    if (ended_changed || changed("uncountedTerminatedPods")) && ended && left > 0 {
        uncounted.invalid(causes, "must be empty for finished job");
    }
    if (ended_changed || changed("terminating")) && ended && status.get("terminating").number() > 0 {
        status.get("terminating").invalid(causes, "terminating>0 is invalid for finished job");
    }
    if (changed("ready") || changed("active")) && status.get("ready").number() > status.get("active").number() {
        status.get("ready").invalid(causes, "cannot set more ready pods than active");
    }
    indexes(status, spec, &changed, causes);
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is(before, kind) && !now(kind) {
            without_value(conditions, &format!("cannot disable the terminal {kind}=True condition"), causes);
        }
    }
    let scales = is_indexed(spec) && spec.get("completions").value() == spec.get("parallelism").value();
    for (field, judged) in [("failed", true), ("succeeded", !scales)] {
        if judged && status.get(field).number() < before.get(field).number() {
            status.get(field).invalid_number(causes, format!("cannot decrease the {field} counter"));
        }
    }
    if changed("completionTime") && end.is_present() && before.get("completionTime").is_present() {
        end.invalid(causes, super::checks::IMMUTABLE);
    }
    let resumes = is(before, "Suspended")
        && conditions.find("type", "Suspended").is_some_and(|condition| condition.get("status").str() == "False");
    if changed("startTime") && !resumes && before.get("startTime").is_present() && !spec.get("suspend").bool() {
        start.invalid(causes, "field is immutable for unsuspended job once set");
    }
    if is(before, "SuccessCriteriaMet") && !now("SuccessCriteriaMet") {
        without_value(conditions, "cannot disable the SuccessCriteriaMet=True condition", causes);
    }
    if is(before, "Complete") && !is(before, "SuccessCriteriaMet") && now("SuccessCriteriaMet") {
        let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        without_value(conditions, why, causes);
    }
}

fn indexes(status: Node<'_, '_>, spec: Node<'_, '_>, changed: &dyn Fn(&str) -> bool, causes: &mut Causes) {
    let (completed, failed, completions) =
        (status.get("completedIndexes"), status.get("failedIndexes"), spec.get("completions"));
    let per_index = spec.get("backoffLimitPerIndex").is_present();
    for (node, field, judged) in
        [(completed, "completedIndexes", true), (failed, "failedIndexes", per_index && failed.is_present())]
    {
        if changed(field)
            && judged
            && completions.is_present()
            && let Err(why) = count_indexes(node.str(), completions.number())
        {
            node.invalid_text(causes, format!("error parsing {field}: {why}"));
        }
    }
    if changed("completedIndexes") && !completed.is_empty() && !is_indexed(spec) {
        completed.invalid(causes, "cannot set non-empty completedIndexes when non-indexed completion mode");
    }
    if changed("failedIndexes") && !per_index && failed.is_present() {
        failed.invalid(causes, "cannot set non-null failedIndexes when backoffLimitPerIndex is null");
    }
}
