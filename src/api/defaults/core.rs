//! The core group but for pods. Upstream: pkg/apis/core/v1/defaults.go.

use serde_json::{Map, Value, json};

use super::draft::Draft;
use super::pod::{claim_spec, resource_list, template_spec};

const CLIENT_IP_AFFINITY_SECONDS: i32 = 10800;

pub(super) fn secret(secret: &mut Draft<'_>) {
    secret.default_zero("type", "Opaque");
}

pub(super) fn endpoints(endpoints: &mut Draft<'_>) {
    for mut subset in endpoints.items("subsets") {
        subset.items("ports").for_each(|mut port| port.default_zero("protocol", "TCP"));
    }
}

pub(super) fn namespace(namespace: &mut Draft<'_>) {
    if let Some(mut metadata) = namespace.get("metadata") {
        let name = metadata.str("name").to_owned();
        if !name.is_empty() {
            metadata.make("labels").set("kubernetes.io/metadata.name", name);
        }
    }
    namespace.make("status").default_zero("phase", "Active");
}

pub(super) fn node(node: &mut Draft<'_>) {
    if let Some(mut spec) = node.get("spec") {
        // The older field wins over the list.
        let single = spec.str("podCIDR").to_owned();
        let first = spec.value("podCIDRs").and_then(|list| list.get(0)?.as_str()).map(str::to_owned);
        match (single.is_empty(), first) {
            (true, Some(first)) => spec.set("podCIDR", first),
            (false, first) if first.as_deref() != Some(&single) => spec.set("podCIDRs", json!([single])),
            _ => {}
        }
    }
    let Some(mut status) = node.get("status") else { return };
    if status.is_absent("allocatable") && !status.is_absent("capacity") {
        status.fill_map("allocatable", "capacity");
    }
    for name in ["capacity", "allocatable"] {
        if let Some(mut list) = status.get(name) {
            resource_list(&mut list);
        }
    }
}

pub(super) fn persistent_volume(volume: &mut Draft<'_>) {
    volume.make("status").default_zero("phase", "Pending");
    let mut spec = volume.make("spec");
    spec.default_zero("persistentVolumeReclaimPolicy", "Retain");
    spec.default("volumeMode", "Filesystem");
    if let Some(mut capacity) = spec.get("capacity") {
        resource_list(&mut capacity);
    }
    if let Some(mut source) = spec.get("hostPath") {
        source.default("type", "");
    }
}

pub(super) fn persistent_volume_claim(claim: &mut Draft<'_>) {
    claim.make("status").default_zero("phase", "Pending");
    claim_spec(&mut claim.make("spec"));
}

pub(super) fn resource_quota(quota: &mut Draft<'_>) {
    for (part, name) in [("spec", "hard"), ("status", "hard"), ("status", "used")] {
        if let Some(mut part) = quota.get(part)
            && let Some(mut list) = part.get(name)
        {
            resource_list(&mut list);
        }
    }
}

/// Container limits come from the maximum, requests from the limits and then from the minimum.
pub(super) fn limit_range(range: &mut Draft<'_>) {
    let Some(mut spec) = range.get("spec") else { return };
    for mut item in spec.items("limits") {
        if item.str("type") == "Container" {
            item.fill_map("default", "max");
            item.fill_map("defaultRequest", "default");
            item.fill_map("defaultRequest", "min");
        }
        for name in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            if let Some(mut list) = item.get(name) {
                resource_list(&mut list);
            }
        }
    }
}

pub(super) fn replication_controller(controller: &mut Draft<'_>) {
    let Some(mut spec) = controller.get("spec") else { return };
    spec.default("replicas", 1);
    let mut labels = Map::new();
    if let Some(mut template) = spec.get("template") {
        if let Some(metadata) = template.get("metadata") {
            labels = metadata.value("labels").and_then(Value::as_object).cloned().unwrap_or_default();
        }
        template_spec(&mut template);
    }
    if !labels.is_empty() {
        spec.default_zero("selector", Value::Object(labels.clone()));
        controller.make("metadata").default_zero("labels", Value::Object(labels));
    }
}

pub(super) fn service(service: &mut Draft<'_>) {
    let Some(mut spec) = service.get("spec") else { return };
    spec.default_zero("sessionAffinity", "None");
    match spec.str("sessionAffinity") {
        "None" => spec.remove("sessionAffinityConfig"),
        "ClientIP" => {
            let timeout =
                spec.value("sessionAffinityConfig").and_then(|config| config.pointer("/clientIP/timeoutSeconds"));
            if timeout.is_none_or(Value::is_null) {
                spec.set("sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": CLIENT_IP_AFFINITY_SECONDS}}));
            }
        }
        _ => {}
    }
    spec.default_zero("type", "ClusterIP");
    for mut port in spec.items("ports") {
        port.default_zero("protocol", "TCP");
        if let Some(number) = port.value("port").cloned() {
            port.default_zero("targetPort", number);
        }
    }
    let kind = spec.str("type").to_owned();
    let balanced = kind == "LoadBalancer";
    let external = balanced || kind == "NodePort" || (kind == "ClusterIP" && !spec.is_zero("externalIPs"));
    if external {
        spec.default_zero("externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        spec.default("internalTrafficPolicy", "Cluster");
    }
    if !balanced {
        return;
    }
    spec.default("allocateLoadBalancerNodePorts", true);
    let Some(mut status) = service.get("status") else { return };
    if let Some(mut balancer) = status.get("loadBalancer") {
        for mut ingress in balancer.items("ingress") {
            if !ingress.is_zero("ip") {
                ingress.default("ipMode", "VIP");
            }
        }
    }
}
