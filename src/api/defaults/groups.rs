//! Groups with a rule or two each. Upstream: the defaults.go of each group under pkg/apis.

use serde_json::{Value, json};

use super::draft::Draft;

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn endpoint_slice(slice: &mut Draft<'_>) {
    for mut port in slice.items("ports") {
        port.default("name", "");
        port.default("protocol", "TCP");
    }
}

pub(super) fn flow_schema(schema: &mut Draft<'_>) {
    schema.make("spec").default_zero("matchingPrecedence", 1000);
}

pub(super) fn priority_level(level: &mut Draft<'_>) {
    let Some(mut spec) = level.get("spec") else { return };
    for (name, shares) in [("exempt", 0), ("limited", 30)] {
        if let Some(mut kind) = spec.get(name) {
            kind.default("nominalConcurrencyShares", shares);
            kind.default("lendablePercent", 0);
            if let Some(mut response) = kind.get("limitResponse")
                && let Some(mut queuing) = response.get("queuing")
            {
                queuing.default_zero("handSize", 8);
                queuing.default_zero("queues", 64);
                queuing.default_zero("queueLengthLimit", 50);
            }
        }
    }
}

pub(super) fn ingress_class(class: &mut Draft<'_>) {
    if let Some(mut spec) = class.get("spec")
        && let Some(mut parameters) = spec.get("parameters")
    {
        parameters.default("scope", "Cluster");
    }
}

pub(super) fn network_policy(policy: &mut Draft<'_>) {
    let Some(mut spec) = policy.get("spec") else { return };
    let types = if spec.is_zero("egress") { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
    spec.default_zero("policyTypes", types);
    for list in ["ingress", "egress"] {
        for mut rule in spec.items(list) {
            rule.items("ports").for_each(|mut port| port.default("protocol", "TCP"));
        }
    }
}

pub(super) fn role_binding(binding: &mut Draft<'_>) {
    binding.make("roleRef").default_zero("apiGroup", RBAC);
    for mut subject in binding.items("subjects") {
        if matches!(subject.str("kind"), "User" | "Group") {
            subject.default_zero("apiGroup", RBAC);
        }
    }
}

pub(super) fn priority_class(class: &mut Draft<'_>) {
    class.default("preemptionPolicy", "PreemptLowerPriority");
}

pub(super) fn storage_class(class: &mut Draft<'_>) {
    class.default("reclaimPolicy", "Delete");
    class.default("volumeBindingMode", "Immediate");
}

pub(super) fn csi_driver(driver: &mut Draft<'_>) {
    let mut spec = driver.make("spec");
    spec.default("attachRequired", true);
    spec.default("fsGroupPolicy", "ReadWriteOnceWithFSType");
    spec.default_zero("volumeLifecycleModes", json!(["Persistent"]));
    for flag in
        ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount", "preventPodSchedulingIfMissing"]
    {
        spec.default(flag, false);
    }
}

pub(super) fn resource_claim(claim: &mut Draft<'_>) {
    if let Some(mut spec) = claim.get("spec") {
        device_requests(&mut spec);
    }
}

pub(super) fn resource_claim_template(template: &mut Draft<'_>) {
    if let Some(mut outer) = template.get("spec")
        && let Some(mut spec) = outer.get("spec")
    {
        device_requests(&mut spec);
    }
}

fn device_requests(spec: &mut Draft<'_>) {
    let Some(mut devices) = spec.get("devices") else { return };
    for mut request in devices.items("requests") {
        if let Some(mut exactly) = request.get("exactly") {
            device_count(&mut exactly);
        }
        request.items("firstAvailable").for_each(|mut request| device_count(&mut request));
    }
}

fn device_count(request: &mut Draft<'_>) {
    request.default_zero("allocationMode", Value::from("ExactCount"));
    if request.str("allocationMode") == "ExactCount" {
        request.default_zero("count", 1);
    }
}
