//! What containers and pods ask for. Upstream: pkg/apis/core/validation ValidateContainerResourceRequirements, validatePodResources.

use std::collections::BTreeMap;

use crate::causes::Causes;
use crate::names;
use crate::node::Node;
use crate::quantity::Quantity;
use crate::validation::checks::Seen;

const COMPUTE: &[&str] = &["cpu", "memory", "ephemeral-storage"];

/// Standard names beside those of compute resources and their requests and limits.
const COUNTED: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Names of quota or containers without a domain.
fn is_standard(name: &str) -> bool {
    is_quota(name) || name == "storage"
}

pub(in crate::validation) fn is_quota(name: &str) -> bool {
    let base = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits.")).unwrap_or(name);
    COMPUTE.contains(&base)
        || COUNTED.contains(&name)
        || is_huge(name)
        || name.starts_with("requests.hugepages-")
        || name == "requests.storage"
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

pub(in crate::validation) fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Amounts of which there are only whole ones.
fn is_counted(name: &str) -> bool {
    COUNTED.contains(&name) || is_extended(name)
}

/// A name that is qualified, or one of the standard ones; says whether it is.
pub(in crate::validation) fn resource_name(path: &str, name: &str, causes: &mut Causes) -> bool {
    let messages = names::qualified_name(name);
    let known = messages.is_empty() && (name.contains('/') || is_standard(name));
    for message in &messages {
        causes.invalid(path, name, message.clone());
    }
    if messages.is_empty() && !known {
        causes.invalid(path, name, "must be a standard resource type or fully qualified");
    }
    known
}

pub(in crate::validation) fn container_resource_name(path: &str, name: &str, causes: &mut Causes) {
    resource_name(path, name, causes);
    if name.split('/').count() == 1 {
        if !COMPUTE.contains(&name) && !is_huge(name) {
            causes.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        causes.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

fn pod_resource_name(path: &str, name: &str, causes: &mut Causes) {
    if resource_name(path, name, causes) && !["cpu", "memory"].contains(&name) && !is_huge(name) {
        causes.not_supported(path, name, &["cpu", "hugepages-", "memory"]);
    }
}

/// Not negative, and whole where only whole ones are.
pub(in crate::validation) fn resource_amount(name: &str, amount: Node<'_, '_>, causes: &mut Causes) {
    amount.quantity_not_negative(causes);
    if is_counted(name) && amount.amount().is_some_and(|amount| amount.milli_value() % 1000 != 0) {
        amount.invalid(causes, "must be an integer");
    }
}

type NameCheck = fn(&str, &str, &mut Causes);

/// `claims`: the pod's, by name.
pub(super) fn of_container(resources: Node<'_, '_>, claims: Node<'_, '_>, causes: &mut Causes) {
    requirements(resources, container_resource_name, causes);
    claim_names(resources.get("claims"), claims, causes);
}

/// `overhead` of a runtime class.
pub(in crate::validation) fn fixed_overhead(overhead: Node<'_, '_>, causes: &mut Causes) {
    let limits = overhead.get_as("podFixed", "limits");
    amounts(limits, container_resource_name, causes);
    huge_needs_compute(overhead, &[limits], causes);
}

fn huge_needs_compute(resources: Node<'_, '_>, lists: &[Node<'_, '_>], causes: &mut Causes) {
    let any = |wanted: fn(&str) -> bool| lists.iter().any(|list| list.entries().any(|(name, _)| wanted(name)));
    if any(is_huge) && !any(|name| matches!(name, "cpu" | "memory")) {
        resources.forbidden(causes, "HugePages require cpu or memory");
    }
}

/// A pod's overhead is checked as limits of a container.
pub(super) fn overhead(spec: Node<'_, '_>, causes: &mut Causes) {
    let overhead = spec.get("overhead");
    let mut found = Causes::new();
    amounts(overhead, container_resource_name, &mut found);
    for mut error in found.into_errors() {
        error.field = error.field.replacen("overhead", "overhead.limits", 1);
        causes.push(error);
    }
}

fn amounts(list: Node<'_, '_>, name_check: NameCheck, causes: &mut Causes) {
    for (name, amount) in list.entries() {
        name_check(&amount.path(), name, causes);
        resource_amount(name, amount, causes);
        if !is_huge(name) {
            continue;
        }
        let page = Quantity::parse(name.trim_start_matches("hugepages-")).ok();
        let page = page.filter(|page| page.value() > 0 && page.milli_value() % 1000 == 0);
        let held = amount.amount();
        if let Some(held) = held.filter(|held| page.is_none_or(|page| held.value() % page.value() != 0)) {
            amount.invalid(causes, format!("{held} is not positive integer multiple of {name}"));
        }
    }
}

fn requirements(resources: Node<'_, '_>, name_check: NameCheck, causes: &mut Causes) {
    let (limits, requests) = (resources.get("limits"), resources.get("requests"));
    amounts(limits, name_check, causes);
    amounts(requests, name_check, causes);
    for (name, request) in requests.entries() {
        let overcommits = is_native(name) && !is_huge(name);
        let Some(amount) = request.amount() else { continue };
        match limits.key(name).amount() {
            Some(limit) if !overcommits && amount != limit => {
                let why = format!("must be equal to {name} limit of {limit}");
                causes.invalid(requests.path(), amount.to_string(), why);
            }
            Some(limit) if amount > limit => {
                let why = format!("must be less than or equal to {name} limit of {limit}");
                causes.invalid(requests.path(), amount.to_string(), why);
            }
            None if !overcommits => limits.required(causes, "Limit must be set for non overcommitable resources"),
            _ => {}
        }
    }
    huge_needs_compute(resources, &[limits, requests], causes);
}

fn claim_names(claims: Node<'_, '_>, of_pod: Node<'_, '_>, causes: &mut Causes) {
    let mut known: Vec<&str> =
        of_pod.items().map(|claim| claim.get("name").str()).filter(|name| !name.is_empty()).collect();
    known.sort_unstable();
    known.dedup();
    let mut seen: Vec<String> = Vec::new();
    for claim in claims.items() {
        let (name, request) = (claim.get("name").str(), claim.get("request"));
        if name.is_empty() {
            claim.required(causes, "");
            continue;
        }
        if seen.iter().any(|seen| seen == name) {
            causes.duplicate(claim.path(), name);
        } else {
            request.keep_if_set(names::dns_1123_label, causes);
            let key = if request.is_empty() { name.to_owned() } else { format!("{name}/{}", request.str()) };
            if seen.contains(&key) {
                causes.duplicate(claim.path(), key.clone());
            } else if request.is_empty()
                && seen.iter().any(|seen| seen.split_once('/').is_some_and(|(base, _)| base == name))
            {
                causes.duplicate(claim.path(), name);
            }
            seen.push(key);
        }
        if !known.contains(&name) {
            let detail =
                if known.is_empty() { " which is empty".to_owned() } else { format!(": {}", known.join(", ")) };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{detail}");
            causes.push(crate::causes::FieldError {
                broken: crate::causes::Broken::NotFound,
                field: claim.path(),
                value: Some(name.into()),
                detail,
            });
        }
    }
}

/// `resources` of a whole pod.
pub(super) fn of_pod(spec: Node<'_, '_>, causes: &mut Causes) {
    let resources = spec.get("resources");
    if resources.is_absent() {
        return;
    }
    if spec.get("os").get("name").str() == "windows" {
        return resources.forbidden(causes, "may not be set for a windows pod");
    }
    if resources.get("claims").is_present() {
        resources.get("claims").forbidden(causes, "claims may not be set for Resources at pod-level");
    }
    requirements(resources, pod_resource_name, causes);
    claim_names(resources.get("claims"), spec.get("resourceClaims"), causes);
    let (requests, limits) = (resources.get("requests"), resources.get("limits"));
    for (name, sum) in total(spec, "requests") {
        let own = requests.key(&name);
        if own.amount().is_some_and(|own| sum > own) {
            own.invalid(causes, format!("must be greater than or equal to aggregate container requests of {sum}"));
        }
    }
    for (name, sum) in total(spec, "limits").into_iter().filter(|(name, _)| is_huge(name)) {
        let own = limits.key(&name);
        if own.amount().is_some_and(|own| sum > own) {
            own.invalid(causes, format!("must be greater than or equal to aggregate container limits of {sum}"));
        }
    }
    for (index, container) in spec.get("containers").items().enumerate() {
        for (name, limit) in container.get("resources").get("limits").entries() {
            if let (Some(limit), Some(own)) = (limit.amount(), limits.key(name).amount())
                && limit > own
            {
                // Upstream's path goes through `resources`.
                let path = format!("{}.containers[{index}][{name}].limits", resources.path());
                causes.invalid(path, limit.to_string(), format!("must be less than or equal to pod limits of {own}"));
            }
        }
    }
}

/// What the containers ask for together: those that run side by side are added, init containers count by the highest.
/// Upstream: k8s.io/component-helpers resource AggregateContainerRequests.
fn total(spec: Node<'_, '_>, which: &str) -> BTreeMap<String, Quantity> {
    let mut sum: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut sidecars: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut highest: BTreeMap<String, Quantity> = BTreeMap::new();
    for container in spec.get("containers").items() {
        add(&mut sum, &of(container, which));
    }
    for container in spec.get("initContainers").items() {
        let own = of(container, which);
        let mut now = sidecars.clone();
        add(&mut now, &own);
        if container.get("restartPolicy").str() == "Always" {
            add(&mut sum, &own);
            sidecars = now.clone();
        }
        raise(&mut highest, &now);
    }
    raise(&mut sum, &highest);
    sum
}

fn of(container: Node<'_, '_>, which: &str) -> BTreeMap<String, Quantity> {
    let resources = container.get("resources");
    resources.get(which).entries().filter_map(|(name, node)| Some((name.to_owned(), node.amount()?))).collect()
}

fn add(to: &mut BTreeMap<String, Quantity>, more: &BTreeMap<String, Quantity>) {
    for (name, amount) in more {
        let sum = to.get(name).map_or(*amount, |known| *known + *amount);
        to.insert(name.clone(), sum);
    }
}

fn raise(to: &mut BTreeMap<String, Quantity>, other: &BTreeMap<String, Quantity>) {
    for (name, amount) in other {
        let higher = to.get(name).map_or(*amount, |known| (*known).max(*amount));
        to.insert(name.clone(), higher);
    }
}

pub(super) fn resize_policies(container: Node<'_, '_>, restart: &str, causes: &mut Causes) {
    let policies = container.get("resizePolicy");
    let mut seen = Seen::new();
    for policy in policies.items() {
        let (resource, action) = (policy.get("resourceName").str(), policy.get("restartPolicy").str());
        if !seen.insert(resource) {
            causes.duplicate(policy.path(), resource);
        }
        for (text, supported) in [(resource, ["cpu", "memory"]), (action, ["NotRequired", "RestartContainer"])] {
            match text {
                "" => policies.required(causes, ""),
                _ if !supported.contains(&text) => causes.not_supported(policies.path(), text, &supported),
                _ => {}
            }
        }
        if restart == "Never" && action != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            causes.invalid(policies.path(), action, why);
        }
    }
}
