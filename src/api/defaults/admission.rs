//! Webhook configurations and admission policies. Upstream: pkg/apis/admissionregistration/v1/defaults.go.

use serde_json::json;

use super::draft::Draft;

pub(super) fn webhooks(configuration: &mut Draft<'_>) {
    for mut webhook in configuration.items("webhooks") {
        webhook.default("failurePolicy", "Fail");
        match_defaults(&mut webhook);
        webhook.default("timeoutSeconds", 10);
        webhook.items("rules").for_each(|mut rule| rule.default("scope", "*"));
        if let Some(mut client) = webhook.get("clientConfig")
            && let Some(mut service) = client.get("service")
        {
            service.default("port", 443);
        }
    }
}

pub(super) fn mutating_webhooks(configuration: &mut Draft<'_>) {
    webhooks(configuration);
    configuration.items("webhooks").for_each(|mut webhook| webhook.default("reinvocationPolicy", "Never"));
}

pub(super) fn policy(policy: &mut Draft<'_>) {
    let Some(mut spec) = policy.get("spec") else { return };
    spec.default("failurePolicy", "Fail");
    if let Some(mut constraints) = spec.get("matchConstraints") {
        match_resources(&mut constraints);
    }
}

pub(super) fn policy_binding(binding: &mut Draft<'_>) {
    let Some(mut spec) = binding.get("spec") else { return };
    if let Some(mut resources) = spec.get("matchResources") {
        match_resources(&mut resources);
    }
}

fn match_resources(resources: &mut Draft<'_>) {
    match_defaults(resources);
    for list in ["resourceRules", "excludeResourceRules"] {
        resources.items(list).for_each(|mut rule| rule.default("scope", "*"));
    }
}

fn match_defaults(matching: &mut Draft<'_>) {
    matching.default("matchPolicy", "Equivalent");
    matching.default("namespaceSelector", json!({}));
    matching.default("objectSelector", json!({}));
}
