//! Groups with a few rules each. Upstream: pkg/apis/{coordination,rbac,policy,node,scheduling}/validation.

use super::{labels, pod, workload};
use crate::causes::Causes;
use crate::names;
use crate::node::Node;

pub(super) fn lease(lease: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    let spec = lease.get("spec");
    let (duration, strategy, holder) =
        (spec.get("leaseDurationSeconds"), spec.get("strategy"), spec.get("preferredHolder"));
    if duration.int().is_some_and(|seconds| seconds <= 0) {
        duration.invalid(causes, "must be greater than 0");
    }
    spec.get("leaseTransitions").not_negative(causes);
    if strategy.is_present() {
        // Upstream's path names the field twice.
        let path = strategy.path_of("strategy");
        if strategy.str().contains('/') {
            for message in names::qualified_name(strategy.str()) {
                causes.invalid(path.clone(), strategy.str(), message);
            }
        } else if strategy.str() != "OldestEmulationVersion" {
            causes.not_supported(path, strategy.str(), &["OldestEmulationVersion"]);
        }
    }
    if !holder.is_empty() && strategy.is_empty() {
        holder.forbidden(causes, "may only be specified if `strategy` is defined");
    }
}

pub(super) fn role(role: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    for rule in role.get("rules").items() {
        let urls = rule.get("nonResourceURLs");
        if !urls.is_empty() {
            if role.get("kind").str() == "Role" {
                urls.invalid(causes, "namespaced rules cannot apply to non-resource URLs");
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !rule.get(field).is_empty()) {
                urls.invalid(causes, "rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        if rule.get("apiGroups").is_empty() {
            rule.get("apiGroups").required(causes, "resource rules must supply at least one api group");
        }
        if rule.get("resources").is_empty() {
            rule.get("resources").required(causes, "resource rules must supply at least one resource");
        }
    }
    let aggregation = role.get("aggregationRule");
    let selectors = aggregation.get("clusterRoleSelectors");
    if aggregation.is_present() && selectors.is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        selectors.required(causes, why);
    }
    for selector in selectors.items() {
        labels::label_selector(selector, causes);
        if crate::selector::LabelSelector::from_object(selector.value()).is_err() {
            causes.invalid(selector.path(), serde_json::Value::Null, "invalid label selector.");
        }
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn role_binding(binding: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let role = binding.get("roleRef");
    let namespaced = binding.get("kind").str() == "RoleBinding";
    role.get("apiGroup").one_of(&[RBAC], causes);
    role.get("kind").one_of(if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] }, causes);
    role.get("name").keep_if_set(names::path_segment, causes);
    for subject in binding.get("subjects").items() {
        let (name, kind, group) = (subject.get("name"), subject.get("kind"), subject.get("apiGroup"));
        match kind.str() {
            "ServiceAccount" => {
                name.keep_if_set(names::dns_1123_subdomain, causes);
                group.one_of(&[""], causes);
                if !namespaced {
                    subject.get("namespace").need(causes);
                }
            }
            "User" | "Group" => group.one_of(&[RBAC], causes),
            _ => kind.one_of(&["ServiceAccount", "User", "Group"], causes),
        }
    }
    if old.is_present() {
        role.immutable(old.get("roleRef"), causes);
    }
}

pub(super) fn disruption_budget(budget: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    let spec = budget.get("spec");
    let (min, max) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if min.is_present() && max.is_present() {
        spec.invalid(causes, "minAvailable and maxUnavailable cannot be both set");
    }
    for node in [min, max] {
        workload::amount(node, causes);
        workload::at_most_all(node, causes);
    }
    labels::label_selector(spec.get("selector"), causes);
    spec.get("unhealthyPodEvictionPolicy").one_of_if_present(&["AlwaysAllow", "IfHealthyBudget"], causes);
}

pub(super) fn disruption_status(budget: Node<'_, '_>, causes: &mut Causes) {
    let status = budget.get("status");
    labels::conditions(status.get("conditions"), causes);
    for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        status.get(field).not_negative(causes);
    }
}

pub(super) fn runtime_class(class: Node<'_, '_>, _: Node<'_, '_>, causes: &mut Causes) {
    let (overhead, scheduling) = (class.get("overhead"), class.get("scheduling"));
    pod::resources::fixed_overhead(overhead, causes);
    labels::labels(scheduling.get("nodeSelector"), causes);
    let tolerations = scheduling.get("tolerations");
    pod::scheduling::tolerations(tolerations, causes);
    let same = |left: Node<'_, '_>, right: Node<'_, '_>| {
        ["key", "operator", "value", "effect"].iter().all(|field| left.get(field).str() == right.get(field).str())
    };
    for (index, toleration) in tolerations.items().enumerate() {
        if tolerations.items().take(index).any(|earlier| same(earlier, toleration)) {
            toleration.duplicate(causes);
        }
    }
}

/// The classes that exist from the start, with their values.
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
const HIGHEST_PRIORITY: i64 = 1_000_000_000;

pub(super) fn priority_class(class: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (meta, value, policy) = (class.get("metadata"), class.get("value"), class.get("preemptionPolicy"));
    if old.is_present() {
        if value.number() != old.get("value").number() {
            value.forbidden(causes, "may not be changed in an update.");
        }
        return policy.immutable(old.get("preemptionPolicy"), causes);
    }
    let name = meta.get("name");
    if name.str().starts_with("system-") {
        let known = SYSTEM_CLASSES.iter().find(|(known, _)| *known == name.str());
        let why = match known {
            None => format!("{} is not a known system priority class", name.str()),
            Some((known, wanted)) if *wanted != value.number() => {
                format!("value of {known} PriorityClass must be {wanted}")
            }
            Some((known, _)) if class.get("globalDefault").bool() => {
                format!("globalDefault of {known} PriorityClass must be false")
            }
            Some(_) => String::new(),
        };
        if !why.is_empty() {
            let prefix = "priority class names with 'system-' prefix are reserved for system use only. error: ";
            name.forbidden(causes, format!("{prefix}{why}"));
        }
    } else if value.number() > HIGHEST_PRIORITY {
        let why = format!("maximum allowed value of a user defined priority is {HIGHEST_PRIORITY}");
        value.forbidden(causes, why);
    }
    if policy.is_present() {
        policy.need_one_of(&["PreemptLowerPriority", "Never"], causes);
    }
}
