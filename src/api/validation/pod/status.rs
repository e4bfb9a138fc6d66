//! What a node may say of a pod. Upstream: pkg/apis/core/validation ValidatePodStatusUpdate.

use super::annotations;
use crate::causes::Causes;
use crate::names;
use crate::node::Node;
use crate::validation::checks::Seen;
use crate::validation::network;

pub(super) fn status(pod: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    let (status, before, spec, old_spec) = (pod.get("status"), old.get("status"), pod.get("spec"), old.get("spec"));
    annotations::rules(pod, pod.get("metadata"), causes);
    for condition in status.get("conditions").items() {
        non_negative(condition.get("observedGeneration"), causes);
        let kind = condition.get("type").str();
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            for message in names::qualified_name(kind) {
                causes.invalid(condition.path_of("Type"), kind, message);
            }
        }
    }
    let (node, old_node) = (status.get("nominatedNodeName"), before.get("nominatedNodeName"));
    if !node.is_empty() && node.str() != old_node.str() {
        node.keep(names::dns_1123_subdomain, causes);
        if !old_spec.get("nodeName").is_empty() {
            node.forbidden(causes, "may not be set on pods that are already bound to a node");
        }
    }
    non_negative(status.get("observedGeneration"), causes);
    let class = status.get("qosClass");
    if class.str() != before.get("qosClass").str() {
        class.invalid_text(causes, "field is immutable");
    }
    for (list, containers) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", "ephemeralContainers"),
    ] {
        no_resurrection(status.get(list), before.get(list), old_spec, containers, causes);
        users(status.get(list), spec, causes);
    }
    claims(status.get("resourceClaimStatuses"), spec.get("resourceClaims"), causes);
    addresses(status, before, "podIP", causes);
    addresses(status, before, "hostIP", causes);
}

fn non_negative(number: Node<'_, '_>, causes: &mut Causes) {
    if number.number() < 0 {
        number.invalid(causes, "must be a non-negative integer");
    }
}

/// A container that has ended for good runs no more.
fn no_resurrection(new: Node<'_, '_>, old: Node<'_, '_>, spec: Node<'_, '_>, list: &str, causes: &mut Causes) {
    if list != "ephemeralContainers" && all_may_restart(spec) {
        return;
    }
    for (index, before) in old.items().enumerate() {
        let ended = before.get("state");
        let ended = ended.get("terminated");
        let name = before.get("name").str();
        let again = new.find("name", name).is_some_and(|now| now.get("state").get("terminated").is_absent());
        if ended.is_absent() || !again {
            continue;
        }
        let code = ended.get("exitCode").number();
        let containers = spec.get(list);
        let restarts = containers.find("name", name).is_some_and(|container| restarts(container, spec, code));
        if list == "ephemeralContainers" || !restarts {
            let path = format!("{}[{index}].state", new.path());
            causes.forbidden(path, "may not be transitioned to non-terminated state");
        }
    }
}

/// A rule may restart every container. Upstream: pkg/api/v1/pod AllContainersCouldRestart.
fn all_may_restart(spec: Node<'_, '_>) -> bool {
    ["containers", "initContainers"].iter().any(|list| {
        spec.get(list).items().any(|container| {
            container.get("restartPolicyRules").items().any(|rule| rule.get("action").str() == "RestartAllContainers")
        })
    })
}

/// Upstream: pkg/api/v1/pod ContainerShouldRestart.
fn restarts(container: Node<'_, '_>, spec: Node<'_, '_>, code: i64) -> bool {
    let by_policy = |policy: &str| match policy {
        "Always" => true,
        "OnFailure" => code != 0,
        _ => false,
    };
    let own = container.get("restartPolicy");
    if own.is_absent() {
        return by_policy(spec.get("restartPolicy").str());
    }
    let rule = container.get("restartPolicyRules").items().any(|rule| {
        let codes = rule.get("exitCodes");
        let listed = codes.get("values").items().any(|value| value.number() == code);
        codes.is_present() && listed == (codes.get("operator").str() == "In")
    });
    rule || by_policy(own.str())
}

const MAX_ID: i64 = i32::MAX as i64;

fn users(statuses: Node<'_, '_>, spec: Node<'_, '_>, causes: &mut Causes) {
    let windows = spec.get("os").get("name").str() == "windows";
    for status in statuses.items() {
        let user = status.get("user");
        let linux = user.get("linux");
        if linux.is_absent() {
            continue;
        }
        if windows {
            linux.forbidden(causes, "cannot be set for a windows pod");
            continue;
        }
        linux.get("uid").in_range(0, MAX_ID, causes);
        linux.get("gid").in_range(0, MAX_ID, causes);
        linux.get("supplementalGroups").items().for_each(|group| group.in_range(0, MAX_ID, causes));
    }
}

fn claims(statuses: Node<'_, '_>, claims: Node<'_, '_>, causes: &mut Causes) {
    let mut seen = Seen::new();
    for status in statuses.items() {
        let name = status.get("name");
        if claims.find("name", name.str()).is_none() {
            name.invalid_text(causes, "must match the name of an entry in `spec.resourceClaims`");
        }
        if !seen.insert(name.str()) {
            name.duplicate(causes);
        }
        if status.get("resourceClaimName").is_present() {
            status.get("resourceClaimName").keep(names::dns_1123_subdomain, causes);
        }
    }
}

/// `podIP` and `podIPs`, `hostIP` and `hostIPs`.
fn addresses(status: Node<'_, '_>, old: Node<'_, '_>, single: &str, causes: &mut Causes) {
    let plural = format!("{single}s");
    let (one, list, before) = (status.get(single), status.get(&plural), old.get(&plural));
    let is_pod = single == "podIP";
    if list.is_empty() && !is_pod {
        return;
    }
    let first = list.items().next();
    let check_first = |causes: &mut Causes| {
        if let Some(first) = first.filter(|first| first.get("ip").str() != one.str()) {
            first.get("ip").invalid_text(causes, format!("must be equal to `{single}`"));
        }
    };
    if !is_pod {
        check_first(causes);
    }
    for address in list.items() {
        let ip = address.get("ip");
        if before.find("ip", ip.str()).is_none() {
            // Upstream names the element, not its field.
            for message in network::legacy_ip_messages(ip.str()) {
                causes.invalid(address.path(), ip.str(), message);
            }
        }
    }
    if list.len() > 1 {
        let families: Vec<Option<bool>> =
            list.items().map(|address| network::parse_sloppy(address.get("ip").str()).map(|ip| ip.is_ipv4())).collect();
        let bad = list.items().enumerate().zip(&families).find(|(_, family)| family.is_none());
        if let Some(((index, address), _)) = bad {
            let ip = address.get("ip").str();
            let why = format!("failed to check for dual stack with error:invalid IP[{index}]: {ip}");
            causes.internal(list.path(), why);
        }
        let dual = families.contains(&Some(true)) && families.contains(&Some(false));
        if !dual || list.len() > 2 {
            list.invalid(causes, "may specify no more than one IP for each IP family");
        }
    }
    if is_pod {
        if one.is_empty() != list.is_empty() {
            let shown = list.value().cloned().unwrap_or_default();
            causes.invalid(list.path(), shown, "podIP and podIPs must either both be set or both be unset");
        } else {
            check_first(causes);
        }
    }
}
