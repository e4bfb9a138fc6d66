//! What objects count for against resource quotas: the same sums for admission and for the quota controller.
//!
//! Upstream: kubernetes pkg/quota/v1/evaluator/core, k8s.io/apiserver pkg/quota/v1.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::Resource;
use crate::quantity::{Notation, Quantity};

/// Amounts by the names that quotas use: `pods`, `requests.cpu`, `count/jobs.batch`.
pub type Amounts = BTreeMap<String, Quantity>;

const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const HUGE_PAGES: &str = "hugepages-";

/// Names for the number of objects, beside `count/...`.
const COUNTED: [&str; 7] =
    ["pods", "services", "persistentvolumeclaims", "configmaps", "secrets", "replicationcontrollers", "resourcequotas"];

/// What pods are measured by.
const OF_PODS: [&str; 9] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

/// Each container has to say these when a quota bounds them.
const REQUIRED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

fn number(amount: usize) -> Quantity {
    Quantity::new(amount as i64, Notation::Decimal)
}

/// A list of resources.
pub fn quantities(list: &Value) -> Amounts {
    let entries = list.as_object().into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), Quantity::from_value(value).ok()?))).collect()
}

/// `count/deployments.apps`.
fn count_name(resource: &Resource) -> String {
    match &*resource.group {
        "" => format!("count/{}", resource.plural),
        group => format!("count/{}.{group}", resource.plural),
    }
}

/// Which of the names in a quota objects of this resource count for.
pub fn concerns(resource: &Resource, name: &str) -> bool {
    if name == count_name(resource) {
        return true;
    }
    if !resource.group.is_empty() {
        return false;
    }
    if COUNTED.contains(&name) {
        return name == resource.plural;
    }
    match &*resource.plural {
        "pods" => {
            OF_PODS.contains(&name)
                || name.starts_with(HUGE_PAGES)
                || name.starts_with("requests.hugepages-")
                || (name.starts_with("requests.") && name.contains('/'))
        }
        "services" => matches!(name, "services.loadbalancers" | "services.nodeports"),
        "persistentvolumeclaims" => {
            name == "requests.storage"
                || name.ends_with(&format!("{STORAGE_CLASS}persistentvolumeclaims"))
                || name.ends_with(&format!("{STORAGE_CLASS}requests.storage"))
        }
        _ => false,
    }
}

/// The resources that the names in a quota are about.
pub fn resources<'a>(names: impl IntoIterator<Item = &'a str> + Clone) -> Vec<Resource> {
    Resource::all()
        .filter(|resource| resource.namespaced && names.clone().into_iter().any(|name| concerns(resource, name)))
        .collect()
}

/// What one object counts for at `now`.
pub fn usage(resource: &Resource, object: &Value, now: Timestamp) -> Amounts {
    let mut usage = Amounts::from([(count_name(resource), number(1))]);
    if !resource.group.is_empty() {
        return usage;
    }
    match &*resource.plural {
        "pods" if counts(object, now) => {
            usage.insert("pods".to_owned(), number(1));
            pod(object, &mut usage);
        }
        "pods" => {}
        plural if COUNTED.contains(&plural) => drop(usage.insert(plural.to_owned(), number(1))),
        _ => {}
    }
    match &*resource.plural {
        "services" => service(object, &mut usage),
        "persistentvolumeclaims" => claim(object, &mut usage),
        _ => {}
    }
    usage
}

/// Pods that ended, or should have, take nothing.
fn counts(pod: &Value, now: Timestamp) -> bool {
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
    let deleted = pod["metadata"]["deletionTimestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let overdue = deleted.zip(grace).is_some_and(|(at, grace)| now.as_second() > at.as_second().saturating_add(grace));
    !ended && !overdue
}

fn pod(pod: &Value, usage: &mut Amounts) {
    for (field, prefix) in [("requests", "requests."), ("limits", "limits.")] {
        for (name, amount) in pod_total(pod, field) {
            let extended = name.contains('/');
            let huge = name.starts_with(HUGE_PAGES);
            let known = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
            if field == "requests" && (known || huge) {
                usage.insert(name.clone(), amount);
            }
            if known || (field == "requests" && (huge || extended)) {
                usage.insert(format!("{prefix}{name}"), amount);
            }
        }
    }
}

/// What a pod asks for at most at any time, with its overhead. Upstream: k8s.io/component-helpers resource.PodRequests,
/// PodLimits.
fn pod_total(pod: &Value, field: &str) -> Amounts {
    let mut total = containers_total(pod, field);
    for (name, amount) in quantities(&pod["spec"]["overhead"]) {
        // A limit that is not there is none, also with overhead.
        if field == "requests" || total.contains_key(&name) {
            let sum = total.entry(name).or_insert(Quantity::ZERO);
            *sum = *sum + amount;
        }
    }
    total
}

/// The `requests` or `limits` of all containers: init containers run one after the other, sidecars beside all others.
pub fn containers_total(pod: &Value, field: &str) -> Amounts {
    let containers = |list: &str| pod["spec"][list].as_array().cloned().unwrap_or_default();
    let own = |container: &Value| quantities(&container["resources"][field]);
    let (mut sidecars, mut highest) = (Amounts::new(), Amounts::new());
    for container in containers("initContainers") {
        let mut now = sidecars.clone();
        add(&mut now, &own(&container));
        for (name, amount) in &now {
            let most = highest.entry(name.clone()).or_insert(*amount);
            *most = (*most).max(*amount);
        }
        if container["restartPolicy"] == "Always" {
            sidecars = now;
        }
    }
    let mut total = sidecars;
    containers("containers").iter().for_each(|container| add(&mut total, &own(container)));
    for (name, amount) in highest {
        let most = total.entry(name).or_insert(amount);
        *most = (*most).max(amount);
    }
    // Amounts of the pod as a whole take the place of its containers'.
    for (name, amount) in quantities(&pod["spec"]["resources"][field]) {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with(HUGE_PAGES) {
            total.insert(name, amount);
        }
    }
    total
}

fn service(service: &Value, usage: &mut Amounts) {
    let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let balanced = service["spec"]["type"] == "LoadBalancer";
    let node_ports = match service["spec"]["type"].as_str() {
        Some("LoadBalancer") if service["spec"]["allocateLoadBalancerNodePorts"] == false => {
            ports.iter().filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0).count()
        }
        Some("NodePort" | "LoadBalancer") => ports.len(),
        _ => 0,
    };
    usage.insert("services.nodeports".to_owned(), number(node_ports));
    usage.insert("services.loadbalancers".to_owned(), number(balanced.into()));
}

fn claim(claim: &Value, usage: &mut Amounts) {
    let annotated = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    let class = annotated.or(claim["spec"]["storageClassName"].as_str()).unwrap_or_default();
    let storage = |list: &Value| list.get("storage").and_then(|text| Quantity::from_value(text).ok());
    let asked = storage(&claim["spec"]["resources"]["requests"]);
    let asked = asked.map(|asked| storage(&claim["status"]["allocatedResources"]).map_or(asked, |own| own.max(asked)));
    let mut put = |name: &str, amount: Quantity| {
        usage.insert(name.to_owned(), amount);
        if !class.is_empty() {
            usage.insert(format!("{class}{STORAGE_CLASS}{name}"), amount);
        }
    };
    put("persistentvolumeclaims", number(1));
    if let Some(asked) = asked {
        put("requests.storage", asked);
    }
}

/// Adds name by name.
pub fn add(sum: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let own = sum.entry(name.clone()).or_insert(Quantity::new(0, Notation::Decimal));
        // Zero has no notation of its own.
        *own = if own.is_zero() { *amount } else { *own + *amount };
    }
}

/// Whether a quota's scopes let it count an object.
pub fn in_scope(quota: &Value, resource: &Resource, object: &Value) -> bool {
    let plain = quota["spec"]["scopes"].as_array().into_iter().flatten();
    let plain = plain.filter_map(Value::as_str).map(|scope| (scope, "Exists", &Value::Null));
    let selected = quota["spec"]["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
    let selected = selected.map(|it| {
        let text = |field: &str| it[field].as_str().unwrap_or_default();
        (text("scopeName"), text("operator"), &it["values"])
    });
    let pods = resource.group.is_empty() && resource.plural == "pods";
    plain.chain(selected).all(|(scope, operator, values)| pods && pod_in_scope(object, scope, operator, values))
}

fn pod_in_scope(pod: &Value, scope: &str, operator: &str, values: &Value) -> bool {
    let terminating = pod["spec"]["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0);
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "CrossNamespacePodAffinity" => reaches_namespaces(pod),
        "PriorityClass" => {
            let class = pod["spec"]["priorityClassName"].as_str().unwrap_or_default();
            let listed = values.as_array().into_iter().flatten().any(|value| value == class);
            match operator {
                "Exists" => !class.is_empty(),
                "DoesNotExist" => class.is_empty(),
                "In" => !class.is_empty() && listed,
                "NotIn" => !listed,
                _ => false,
            }
        }
        _ => false,
    }
}

fn is_best_effort(pod: &Value) -> bool {
    let asks = |resources: &Value| {
        ["requests", "limits"].into_iter().any(|field| {
            let amounts = quantities(&resources[field]);
            ["cpu", "memory"].into_iter().any(|name| amounts.get(name).is_some_and(|amount| !amount.is_zero()))
        })
    };
    let lists = ["containers", "initContainers"].into_iter().filter_map(|list| pod["spec"][list].as_array());
    !asks(&pod["spec"]["resources"]) && !lists.flatten().any(|container| asks(&container["resources"]))
}

fn reaches_namespaces(pod: &Value) -> bool {
    let reaches = |term: &Value| {
        term["namespaces"].as_array().is_some_and(|names| !names.is_empty()) || term["namespaceSelector"].is_object()
    };
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let affinity = &pod["spec"]["affinity"][kind];
        let required = affinity["requiredDuringSchedulingIgnoredDuringExecution"].as_array().into_iter().flatten();
        let preferred = affinity["preferredDuringSchedulingIgnoredDuringExecution"].as_array().into_iter().flatten();
        required.chain(preferred.map(|term| &term["podAffinityTerm"])).any(reaches)
    })
}

/// What containers have to say because a quota bounds it, in upstream's words: `must specify cpu for: c1,c2`.
pub fn missing<'a>(pod: &Value, names: impl Iterator<Item = &'a str>) -> Option<String> {
    if pod["spec"]["resources"].as_object().is_some_and(|own| !own.is_empty()) {
        return None;
    }
    let mut wanted: Vec<&str> = names.filter(|name| REQUIRED.contains(name)).collect();
    wanted.sort_unstable();
    let lists = ["containers", "initContainers"].into_iter().filter_map(|list| pod["spec"][list].as_array());
    let containers: Vec<&Value> = lists.flatten().collect();
    let lacking = wanted.into_iter().filter_map(|name| {
        let (field, own) = name.split_once('.').unwrap_or(("requests", name));
        let mut lacking: Vec<&str> = containers
            .iter()
            .filter(|container| container["resources"][field].get(own).is_none())
            .filter_map(|container| container["name"].as_str())
            .collect();
        lacking.sort_unstable();
        lacking.dedup();
        (!lacking.is_empty()).then(|| format!("{name} for: {}", lacking.join(",")))
    });
    let lacking: Vec<String> = lacking.collect();
    (!lacking.is_empty()).then(|| format!("must specify {}", lacking.join("; ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(plural: &str, object: Value) -> String {
        let resource = Resource::find("", "v1", plural).unwrap();
        let now = Timestamp::from_second(1000).unwrap();
        let usage = usage(&resource, &object, now);
        usage.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_pod_counts_for_what_it_asks() {
        let container = |cpu: &str, more: Value| {
            let mut container =
                json!({"name": "c", "resources": {"requests": {"cpu": cpu}, "limits": {"memory": "1Gi"}}});
            more.as_object().unwrap().iter().for_each(|(field, value)| container[field] = value.clone());
            container
        };
        let spec = json!({
            "containers": [container("100m", json!({})), container("200m", json!({}))],
            "initContainers": [container("50m", json!({"restartPolicy": "Always"})), container("1", json!({}))],
        });
        assert_eq!(
            told("pods", json!({"spec": spec.clone()})),
            "count/pods=1 cpu=1050m limits.memory=3Gi pods=1 requests.cpu=1050m"
        );
        assert_eq!(told("pods", json!({"spec": spec.clone(), "status": {"phase": "Failed"}})), "count/pods=1");
        let names = ["cpu", "limits.cpu", "pods", "memory"].into_iter();
        let missing = missing(&json!({"spec": {"containers": [container("1", json!({}))]}}), names);
        assert_eq!(missing.as_deref(), Some("must specify limits.cpu for: c; memory for: c"));
    }

    #[test]
    fn services_and_claims() {
        let service = |kind: &str| json!({"spec": {"type": kind, "ports": [{"port": 1}, {"port": 2}]}});
        assert_eq!(
            told("services", service("LoadBalancer")),
            "count/services=1 services=1 services.loadbalancers=1 services.nodeports=2"
        );
        assert_eq!(
            told("services", service("ClusterIP")),
            "count/services=1 services=1 services.loadbalancers=0 services.nodeports=0"
        );
        let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}});
        assert_eq!(
            told("persistentvolumeclaims", claim),
            "count/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
             gold.storageclass.storage.k8s.io/requests.storage=1Gi persistentvolumeclaims=1 requests.storage=1Gi"
        );
        assert_eq!(told("secrets", json!({})), "count/secrets=1 secrets=1");
    }

    #[test]
    fn scopes_choose_pods() {
        let pods = Resource::find("", "v1", "pods").unwrap();
        let best_effort = json!({"spec": {"containers": [{"name": "c"}], "activeDeadlineSeconds": 5}});
        let scoped = |scopes: Value| in_scope(&json!({"spec": {"scopes": scopes}}), &pods, &best_effort);
        assert!(scoped(json!(["BestEffort", "Terminating"])));
        assert!(!scoped(json!(["NotBestEffort"])) && !scoped(json!(["BestEffort", "NotTerminating"])));
        let classes = json!({"spec": {"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}});
        assert!(!in_scope(&classes, &pods, &best_effort));
        assert!(in_scope(&classes, &pods, &json!({"spec": {"priorityClassName": "high"}})));
        let secrets = Resource::find("", "v1", "secrets").unwrap();
        assert!(!in_scope(&classes, &secrets, &json!({})) && in_scope(&json!({}), &secrets, &json!({})));
    }
}
