//! Defaults that are rules of a kind, after upstream's pkg/apis/*/*/defaults.go; those of `+default` tags are in the table.
//!
//! The functions take normalised trees and may be applied again without effect.

mod admission;
mod apps;
mod autoscaling;
mod batch;
mod core;
mod draft;
mod groups;
mod pod;
mod table;

use serde_json::Value;

use crate::resource::Resource;
use draft::Draft;
pub use table::apply_table_defaults;

type Rule = fn(&mut Draft<'_>);

/// Group, version, kind, rule.
const RULES: &[(&str, &str, &str, Rule)] = &[
    ("", "v1", "Endpoints", core::endpoints),
    ("", "v1", "LimitRange", core::limit_range),
    ("", "v1", "Namespace", core::namespace),
    ("", "v1", "Node", core::node),
    ("", "v1", "PersistentVolume", core::persistent_volume),
    ("", "v1", "PersistentVolumeClaim", core::persistent_volume_claim),
    ("", "v1", "Pod", pod::pod),
    ("", "v1", "PodTemplate", pod::pod_template),
    ("", "v1", "ReplicationController", core::replication_controller),
    ("", "v1", "ResourceQuota", core::resource_quota),
    ("", "v1", "Secret", core::secret),
    ("", "v1", "Service", core::service),
    ("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicy", admission::policy),
    ("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicyBinding", admission::policy_binding),
    ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration", admission::mutating_webhooks),
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", admission::policy),
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding", admission::policy_binding),
    ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration", admission::webhooks),
    ("apps", "v1", "DaemonSet", apps::daemon_set),
    ("apps", "v1", "Deployment", apps::deployment),
    ("apps", "v1", "ReplicaSet", apps::replica_set),
    ("apps", "v1", "StatefulSet", apps::stateful_set),
    ("autoscaling", "v1", "HorizontalPodAutoscaler", autoscaling::v1),
    ("autoscaling", "v2", "HorizontalPodAutoscaler", autoscaling::v2),
    ("batch", "v1", "CronJob", batch::cron_job),
    ("batch", "v1", "Job", batch::job),
    ("discovery.k8s.io", "v1", "EndpointSlice", groups::endpoint_slice),
    ("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema", groups::flow_schema),
    ("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration", groups::priority_level),
    ("networking.k8s.io", "v1", "IngressClass", groups::ingress_class),
    ("networking.k8s.io", "v1", "NetworkPolicy", groups::network_policy),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", groups::role_binding),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", groups::role_binding),
    ("resource.k8s.io", "v1", "ResourceClaim", groups::resource_claim),
    ("resource.k8s.io", "v1", "ResourceClaimTemplate", groups::resource_claim_template),
    ("scheduling.k8s.io", "v1", "PriorityClass", groups::priority_class),
    ("storage.k8s.io", "v1", "CSIDriver", groups::csi_driver),
    ("storage.k8s.io", "v1", "StorageClass", groups::storage_class),
];

/// Applies the rules of the object's kind; kinds without any stay as they are.
pub fn apply(resource: &Resource, object: &mut Value) {
    apply_kind(&resource.group, &resource.version, &resource.kind, object);
}

fn apply_kind(group: &str, version: &str, kind: &str, object: &mut Value) {
    let rule = RULES.iter().find(|rule| rule.2 == kind && rule.0 == group && rule.1 == version);
    if let (Some((.., rule)), Some(mut draft)) = (rule, Draft::of(object)) {
        rule(&mut draft);
    }
}

#[cfg(test)]
mod tests;
