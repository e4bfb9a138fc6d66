//! Single kinds of the core group. Upstream: pkg/apis/core/validation.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::checks::Seen;
use super::{network, pod};
use crate::causes::{Broken, Causes, FieldError};
use crate::names;
use crate::node::Node;

/// Bytes of all values of a ConfigMap or Secret together.
const MAX_DATA: usize = 1024 * 1024;

pub(super) fn config_map(map: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    unchanged(map, old, &["data", "binaryData"], causes);
    let (data, binary) = (map.get("data"), map.get("binaryData"));
    let mut size = 0;
    for (key, value) in data.entries() {
        for message in names::config_key(key) {
            causes.invalid(value.path(), key, message);
        }
        if binary.key(key).is_present() {
            causes.invalid(value.path(), key, "duplicate of key present in binaryData");
        }
        size += value.str().len();
    }
    for (key, value) in binary.entries() {
        for message in names::config_key(key) {
            causes.invalid(value.path(), key, message);
        }
        size += decoded_length(value.str());
    }
    if size > MAX_DATA {
        // As Go prints a path of one empty name.
        causes.too_long("[]", MAX_DATA);
    }
}

/// Bytes of what base64 holds.
fn decoded_length(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().rev().take_while(|byte| *byte == b'=').count().min(text.len() / 4 * 3)
}

pub(super) fn secret(secret: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    if old.is_present() {
        secret.get("type").immutable(old.get("type"), causes);
    }
    unchanged(secret, old, &["data"], causes);
    let data = secret.get("data");
    let mut size = 0;
    for (key, value) in data.entries() {
        for message in names::config_key(key) {
            causes.invalid(value.path(), key, message);
        }
        size += decoded_length(value.str());
    }
    if size > MAX_DATA {
        data.too_long(causes, MAX_DATA);
    }
    let mut require = |key: &str| {
        if data.key(key).is_absent() {
            data.key(key).required(causes, "");
        }
    };
    match secret.get("type").str() {
        "kubernetes.io/service-account-token" => {
            let meta = secret.get("metadata");
            meta.get("annotations").key("kubernetes.io/service-account.name").need(causes);
        }
        "kubernetes.io/dockercfg" => json_key(data.key(".dockercfg"), causes),
        "kubernetes.io/dockerconfigjson" => json_key(data.key(".dockerconfigjson"), causes),
        "kubernetes.io/basic-auth" if data.key("username").is_absent() && data.key("password").is_absent() => {
            require("username");
            require("password");
        }
        "kubernetes.io/ssh-auth" => {
            data.key("ssh-privatekey").need(causes);
        }
        "kubernetes.io/tls" => {
            require("tls.crt");
            require("tls.key");
        }
        _ => {}
    }
}

/// Upstream tells what Go's decoder did not like; where it is only that there is nothing, so do we.
fn json_key(node: Node<'_, '_>, causes: &mut Causes) {
    if node.is_absent() {
        return node.required(causes, "");
    }
    let bytes = STANDARD.decode(node.str()).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes) {
        let why = if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() };
        causes.invalid(node.path(), "<secret contents redacted>", why);
    }
}

/// Once `immutable` is set it stays, and so do the fields it stands for.
fn unchanged(new: Node<'_, '_>, old: Node<'_, '_>, fields: &[&str], causes: &mut Causes) {
    if !old.get("immutable").bool() {
        return;
    }
    let why = "field is immutable when `immutable` is set";
    if !new.get("immutable").bool() {
        new.get("immutable").forbidden(causes, why);
    }
    for field in fields {
        if new.get(field).value() != old.get(field).value() {
            new.get(field).forbidden(causes, why);
        }
    }
}

pub(super) fn namespace(namespace: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    if old.is_present() {
        return;
    }
    let spec = namespace.get("spec");
    let finalizers = spec.get("finalizers");
    for finalizer in finalizers.items() {
        finalizer_name(&finalizers.path(), finalizer.str(), causes);
    }
}

fn finalizer_name(path: &str, name: &str, causes: &mut Causes) {
    for message in names::qualified_name(name) {
        causes.invalid(path, name, message);
    }
    if !name.contains('/') && !super::metadata::STANDARD_FINALIZERS.contains(&name) {
        causes.invalid(path, name, super::metadata::UNKNOWN_FINALIZER);
    }
}

/// Writes to `status` and `finalize`.
pub(super) fn namespace_part(namespace: Node<'_, '_>, subresource: &str, causes: &mut Causes) {
    let (meta, spec, status) = (namespace.get("metadata"), namespace.get("spec"), namespace.get("status"));
    if subresource == "finalize" {
        for finalizer in spec.get("finalizers").items() {
            finalizer_name(&finalizer.path(), finalizer.str(), causes);
        }
        return;
    }
    let deleting = meta.get("deletionTimestamp").is_present();
    let (phase, not) = if deleting { ("Terminating", "not ") } else { ("Active", "") };
    if status.get("phase").str() != phase {
        let why = format!("may only be '{phase}' if `deletionTimestamp` is {not}empty");
        causes.invalid("status.Phase", status.get("phase").str(), why);
    }
}

pub(super) fn node(node: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (spec, before) = (node.get("spec"), old.get("spec"));
    node_facts(node, old, causes);
    taints(spec.get("taints"), causes);
    let (ranges, had) = (spec.get("podCIDRs"), before.get("podCIDRs"));
    if old.is_absent() {
        ranges.items().for_each(|range| network::legacy_range(range, causes));
        let families: Vec<_> = ranges.items().map(|range| network::Range::parse_sloppy(range.str())).collect();
        let v4 = families.iter().flatten().filter(|range| range.is_ipv4()).count();
        if ranges.len() > 1 && (v4 == 0 || v4 == ranges.len() || ranges.len() > 2) {
            ranges.invalid(causes, "may specify no more than one CIDR for each IP family");
        }
        return;
    }
    let why = "node updates may not change podCIDR except from \"\" to valid";
    if !had.is_empty() && had.len() != ranges.len() {
        ranges.forbidden(causes, why);
    } else {
        for _ in had.items().zip(ranges.items()).filter(|(had, now)| had.str() != now.str()) {
            ranges.forbidden(causes, why);
        }
    }
    let (provider, had) = (spec.get("providerID"), before.get("providerID"));
    if !had.is_empty() && provider.str() != had.str() {
        let what = if provider.is_empty() { "cleared" } else { "modified" };
        causes.invalid(provider.path(), serde_json::Value::Null, format!("field cannot be {what} once set"));
    }
    if spec.get("externalID").str() != before.get("externalID").str() {
        spec.get("externalID").forbidden(causes, "may not be updated");
    }
}

/// What a node says of itself.
fn node_facts(node: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let status = node.get("status");
    for list in ["capacity", "allocatable"] {
        for (name, amount) in status.get(list).entries() {
            // Upstream joins the resource's name with a dot.
            let mut found = Causes::new();
            pod::resources::resource_amount(name, amount, &mut found);
            for mut error in found.into_errors() {
                error.field = format!("status.{list}.{name}");
                causes.push(error);
            }
        }
    }
    let addresses = status.get("addresses");
    if old.is_present() {
        for (index, address) in addresses.items().enumerate() {
            if addresses.items().take(index).any(|earlier| earlier.value() == address.value()) {
                address.duplicate(causes);
            }
        }
    }
}

/// Writes to a node's status obey the rules of updates.
pub(super) fn node_status(new: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    node(new, old, causes);
}

fn taints(taints: Node<'_, '_>, causes: &mut Causes) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (index, taint) in taints.items().enumerate() {
        // Upstream names the path under metadata.
        let path = |field: &str| format!("metadata.taints[{index}].{field}");
        let (key, value, effect) = (taint.get("key").str(), taint.get("value").str(), taint.get("effect").str());
        for message in names::qualified_name(key) {
            causes.invalid(path("key"), key, message);
        }
        let messages = names::label_value(value);
        if !messages.is_empty() {
            causes.invalid(path("value"), value, messages.join(";"));
        }
        if effect.is_empty() {
            causes.required(path("effect"), "");
        } else if !pod::scheduling::EFFECTS.contains(&effect) {
            causes.not_supported(path("effect"), effect, pod::scheduling::EFFECTS);
        }
        if seen.contains(&(key, effect)) {
            causes.push(FieldError {
                broken: Broken::Duplicate,
                field: format!("metadata.taints[{index}]"),
                value: taint.value().cloned(),
                detail: "taints must be unique by key and effect pair".to_owned(),
            });
            continue;
        }
        seen.push((key, effect));
    }
}

pub(super) fn limit_range(range: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    let spec = range.get("spec");
    let mut kinds = Seen::new();
    for limit in spec.get("limits").items() {
        let kind = limit.get("type");
        let messages = names::qualified_name(kind.str());
        let standard = ["Pod", "Container", "PersistentVolumeClaim"].contains(&kind.str());
        if messages.is_empty() && !kind.str().contains('/') && !standard {
            kind.invalid_text(causes, "must be a standard limit type or fully qualified");
        }
        kind.invalid_each(causes, messages);
        if !kinds.insert(kind.str()) {
            kind.duplicate(causes);
        }
        one_limit(limit, kind.str(), causes);
    }
}

const LIMITS: &[&str] = &["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

fn one_limit(limit: Node<'_, '_>, kind: &str, causes: &mut Causes) {
    let mut resources: Vec<&str> = Vec::new();
    for list in LIMITS {
        let amounts = limit.get(list);
        if kind == "Pod" && list.starts_with("default") {
            if !amounts.is_empty() {
                amounts.forbidden(causes, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, amount) in amounts.entries() {
            if matches!(kind, "Pod" | "Container") {
                pod::resources::container_resource_name(&amount.path(), name, causes);
            } else {
                pod::resources::resource_name(&amount.path(), name, causes);
            }
            if !resources.contains(&name) {
                resources.push(name);
            }
        }
    }
    let of = |list: &str, name: &str| {
        let hidden = kind == "Pod" && list.starts_with("default");
        limit.get(list).key(name).amount().filter(|_| !hidden)
    };
    let storage = ["min", "max"].iter().any(|list| of(list, "storage").is_some());
    if kind == "PersistentVolumeClaim" && !storage {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        causes.required(limit.path_of("limits"), why);
    }
    for name in resources {
        let mut above = |low: &str, low_name: &str, high: &str, high_name: &str, list: &str, shown: &str| {
            if let (Some(lower), Some(upper)) = (of(low, name), of(high, name))
                && lower > upper
            {
                let why = format!("{low_name} value {lower} is greater than {high_name} value {upper}");
                let value = if shown == low { lower } else { upper };
                causes.invalid(format!("{}.{list}[{name}]", limit.path()), value.to_string(), why);
            }
        };
        above("min", "min", "max", "max", "min", "min");
        above("min", "min", "defaultRequest", "default request", "defaultRequest", "defaultRequest");
        above("defaultRequest", "default request", "max", "max", "defaultRequest", "defaultRequest");
        above("defaultRequest", "default request", "default", "default limit", "defaultRequest", "defaultRequest");
        above("min", "min", "default", "default", "default", "min");
        above("default", "default", "max", "max", "default", "max");
        ratio(limit, name, causes);
        let (default, request) = (of("default", name), of("defaultRequest", name));
        let overcommits = (!name.contains('/') || name.contains("kubernetes.io/")) && !name.starts_with("hugepages-");
        if let (Some(default), Some(request), false) = (default, request, overcommits)
            && default != request
        {
            let why = format!("default value {default} must equal to defaultRequest value {request} in {name}");
            causes.invalid(format!("{}.defaultRequest[{name}]", limit.path()), request.to_string(), why);
        }
    }
}

fn ratio(limit: Node<'_, '_>, name: &str, causes: &mut Causes) {
    let amount = |list: &str| limit.get(list).key(name).amount();
    let Some(ratio) = amount("maxLimitRequestRatio") else { return };
    let path = format!("{}.maxLimitRequestRatio[{name}]", limit.path());
    if ratio.milli_value() < 1000 {
        causes.invalid(path.clone(), ratio.to_string(), format!("ratio {ratio} is less than 1"));
    }
    if let (Some(min), Some(max)) = (amount("min"), amount("max")) {
        let most = max.milli_value() as f64 / min.milli_value() as f64;
        if ratio.milli_value() as f64 / 1000.0 > most {
            causes.invalid(path, ratio.to_string(), format!("ratio {ratio} is greater than max/min = {most:.6}"));
        }
    }
}

pub(super) fn resource_quota(quota: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (spec, before) = (quota.get("spec"), old.get("spec"));
    quota_amounts(spec.get("hard"), causes);
    let scopes = spec.get("scopes");
    for scope in scopes.items() {
        if !SCOPES.contains(&scope.str()) {
            scopes.invalid(causes, "unsupported scope");
        }
        for _ in mismatched(spec, scope.str()) {
            scopes.invalid(causes, "unsupported scope applied to resource");
        }
    }
    let given: Vec<&str> = scopes.items().map(|scope| scope.str()).collect();
    conflicting(&given, scopes.path(), scopes, causes);
    scope_selector(spec, causes);
    if old.is_present() {
        let same = |left: Node<'_, '_>, right: Node<'_, '_>| {
            left.items().all(|scope| right.items().any(|other| other.str() == scope.str()))
        };
        let had = before.get("scopes");
        if !same(scopes, had) || !same(had, scopes) {
            scopes.invalid(causes, super::checks::IMMUTABLE);
        }
    } else {
        quota_status(quota, causes);
    }
}

/// Writes to `status`.
pub(super) fn quota_status(quota: Node<'_, '_>, causes: &mut Causes) {
    let status = quota.get("status");
    quota_amounts(status.get("hard"), causes);
    quota_amounts(status.get("used"), causes);
}

fn quota_amounts(list: Node<'_, '_>, causes: &mut Causes) {
    for (name, amount) in list.entries() {
        pod::resources::resource_name(&amount.path(), name, causes);
        if !name.contains('/') && !pod::resources::is_quota(name) {
            causes.invalid(amount.path(), name, "must be a standard resource for quota");
        }
        pod::resources::resource_amount(name, amount, causes);
    }
}

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];

/// Limited resources of the quota that a scope does not fit.
fn mismatched<'v>(spec: Node<'v, '_>, scope: &str) -> Vec<&'v str> {
    let compute = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    let fits = |name: &str| match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            name == "pods" || compute.contains(&name)
        }
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    };
    spec.get("hard")
        .entries()
        .map(|(name, _)| name)
        .filter(|name| pod::resources::is_quota(name) && !fits(name))
        .collect()
}

fn conflicting(given: &[&str], path: String, shown: Node<'_, '_>, causes: &mut Causes) {
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| given.contains(scope)) {
            let value = shown.value().cloned().unwrap_or_default();
            causes.invalid(path.clone(), value, "conflicting scopes");
        }
    }
}

fn scope_selector(spec: Node<'_, '_>, causes: &mut Causes) {
    let selector = spec.get("scopeSelector");
    let expressions = selector.get("matchExpressions");
    let mut given = Vec::new();
    for expression in expressions.items() {
        let (scope, operator, values) =
            (expression.get("scopeName").str(), expression.get("operator").str(), expression.get("values"));
        // Upstream forgets the index in these paths.
        let path = |field: &str| expressions.path_of(field);
        if !SCOPES.contains(&scope) {
            causes.invalid(path("scopeName"), scope, "unsupported scope");
        }
        for _ in mismatched(spec, scope) {
            let shown = selector.value().cloned().unwrap_or_default();
            causes.invalid(expressions.path(), shown, "unsupported scope applied to resource");
        }
        let only_exists = !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && SCOPES.contains(&scope);
        if only_exists && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                       ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                       ResourceQuotaScopeCrossNamespacePodAffinity";
            causes.invalid(path("operator"), operator, why);
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                causes.required(path("values"), why);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                causes.invalid(path("values"), values.value().cloned().unwrap_or_default(), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => causes.invalid(path("operator"), operator, "not a valid selector operator"),
        }
        given.push(scope);
    }
    conflicting(&given, expressions.path(), spec.get("scopes"), causes);
}

/// As events.k8s.io/v1 judges, which core/v1 does not.
pub(super) fn event(event: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    let (meta, involved) = (event.get("metadata"), event.get("involvedObject"));
    let (own, other, time) = (meta.get("namespace").str(), involved.get("namespace"), event.get("eventTime"));
    let mismatch = if time.is_absent() {
        if other.is_empty() { !matches!(own, "" | "default") } else { own != other.str() }
    } else {
        other.is_empty() && !matches!(own, "default" | "kube-system")
    };
    if mismatch {
        other.invalid_text(causes, "does not match event.namespace");
    }
    if time.is_absent() {
        return;
    }
    let controller = event.get("reportingComponent");
    controller.need(causes);
    controller.keep(names::qualified_name, causes);
    event.get("reportingInstance").need(causes);
    for (field, limit) in [("reportingInstance", 128), ("action", 128), ("reason", 128), ("message", 1024)] {
        let node = event.get(field);
        if matches!(field, "action" | "reason") {
            node.need(causes);
        }
        if node.str().len() > limit {
            causes.invalid(node.path(), "", format!("can have at most {limit} characters"));
        }
    }
}
