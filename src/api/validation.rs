//! Whether an object may be stored, with upstream's field paths and wording.
//!
//! Upstream: pkg/apis/*/validation. The functions take normalised, defaulted trees. Kinds without rules of their own are
//! checked in their metadata only.

mod autoscaling;
mod batch;
mod certificates;
mod checks;
mod claim;
mod core;
mod cron;
mod declarative;
mod flow;
mod groups;
mod labels;
mod metadata;
mod network;
mod pod;
mod service;
mod storage;
mod volume;
mod workload;

use crate::causes::Causes;
use crate::names;
use crate::node::Node;
use crate::resource::Resource;
use crate::schema::Schema;

type NameRule = fn(&str) -> Vec<String>;
/// The object, and what it replaces (absent on create).
type Rule = fn(Node<'_, '_>, Node<'_, '_>, &mut Causes);
/// The object, what it replaces, and the subresource that is written.
type PartRule = fn(Node<'_, '_>, Node<'_, '_>, &str, &mut Causes);

/// The rules of a kind.
struct Kind {
    group: &'static str,
    kind: &'static str,
    name: NameRule,
    rule: Rule,
    part: PartRule,
}

const fn kind(group: &'static str, kind: &'static str, name: NameRule, rule: Rule) -> Kind {
    Kind { group, kind, name, rule, part: |_, _, _, _| {} }
}

/// A kind with rules for its subresources.
const fn parts(group: &'static str, kind: &'static str, name: NameRule, rule: Rule, part: PartRule) -> Kind {
    Kind { group, kind, name, rule, part }
}

const LABEL: NameRule = names::dns_1123_label;
const DOMAIN: NameRule = names::dns_1123_subdomain;
const SEGMENT: NameRule = names::path_segment;

const COUNTS: PartRule = |new, old, _, causes| workload::status(new, old, causes);

const KINDS: &[Kind] = &[
    kind("", "ConfigMap", DOMAIN, core::config_map),
    kind("", "Endpoints", DOMAIN, network::endpoints),
    kind("", "Event", any_name, core::event),
    kind("", "LimitRange", DOMAIN, core::limit_range),
    parts("", "Namespace", LABEL, core::namespace, |new, _, part, causes| core::namespace_part(new, part, causes)),
    parts("", "Node", DOMAIN, core::node, |new, old, _, causes| core::node_status(new, old, causes)),
    kind("", "PersistentVolume", DOMAIN, volume::persistent_volume),
    parts("", "PersistentVolumeClaim", DOMAIN, claim::claim, |new, _, _, causes| claim::status(new, causes)),
    parts("", "Pod", DOMAIN, pod::pod, pod::subresource),
    kind("", "PodTemplate", DOMAIN, pod::pod_template),
    parts("", "ReplicationController", DOMAIN, workload::replication_controller, COUNTS),
    parts("", "ResourceQuota", DOMAIN, core::resource_quota, |new, _, _, causes| core::quota_status(new, causes)),
    kind("", "Secret", DOMAIN, core::secret),
    parts("", "Service", LABEL, service::service, |new, old, _, causes| service::status(new, old, causes)),
    kind("apps", "ControllerRevision", DOMAIN, workload::controller_revision),
    parts("apps", "DaemonSet", DOMAIN, workload::daemon_set, COUNTS),
    parts("apps", "Deployment", DOMAIN, workload::deployment, COUNTS),
    parts("apps", "ReplicaSet", DOMAIN, workload::replica_set, COUNTS),
    parts("apps", "StatefulSet", LABEL, workload::stateful_set, COUNTS),
    parts("autoscaling", "HorizontalPodAutoscaler", DOMAIN, autoscaling::autoscaler, |new, _, _, causes| {
        autoscaling::status(new, causes);
    }),
    kind("batch", "CronJob", DOMAIN, batch::cron_job),
    parts("batch", "Job", DOMAIN, batch::job, |new, old, _, causes| batch::status(new, old, causes)),
    parts(
        "certificates.k8s.io",
        "CertificateSigningRequest",
        any_name,
        certificates::request,
        certificates::request_part,
    ),
    kind("certificates.k8s.io", "ClusterTrustBundle", any_name, certificates::trust_bundle),
    kind("coordination.k8s.io", "Lease", DOMAIN, groups::lease),
    kind("discovery.k8s.io", "EndpointSlice", DOMAIN, network::endpoint_slice),
    parts("flowcontrol.apiserver.k8s.io", "FlowSchema", DOMAIN, flow::schema, |new, _, _, causes| {
        flow::status(new, causes)
    }),
    parts("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration", DOMAIN, flow::level, |new, _, _, causes| {
        flow::status(new, causes);
    }),
    kind("networking.k8s.io", "IPAddress", network::ip_name, network::ip_address),
    parts("networking.k8s.io", "Ingress", DOMAIN, network::ingress, |new, old, _, causes| {
        network::ingress_status(new, old, causes);
    }),
    kind("networking.k8s.io", "IngressClass", DOMAIN, network::ingress_class),
    kind("networking.k8s.io", "NetworkPolicy", DOMAIN, network::network_policy),
    kind("networking.k8s.io", "ServiceCIDR", DOMAIN, network::service_cidr),
    kind("node.k8s.io", "RuntimeClass", DOMAIN, groups::runtime_class),
    parts("policy", "PodDisruptionBudget", DOMAIN, groups::disruption_budget, |new, _, _, causes| {
        groups::disruption_status(new, causes);
    }),
    kind("rbac.authorization.k8s.io", "ClusterRole", SEGMENT, groups::role),
    kind("rbac.authorization.k8s.io", "ClusterRoleBinding", SEGMENT, groups::role_binding),
    kind("rbac.authorization.k8s.io", "Role", SEGMENT, groups::role),
    kind("rbac.authorization.k8s.io", "RoleBinding", SEGMENT, groups::role_binding),
    kind("scheduling.k8s.io", "PriorityClass", DOMAIN, groups::priority_class),
    kind("storage.k8s.io", "CSIDriver", DOMAIN, storage::csi_driver),
    kind("storage.k8s.io", "CSINode", DOMAIN, storage::csi_node),
    kind("storage.k8s.io", "CSIStorageCapacity", DOMAIN, storage::storage_capacity),
    kind("storage.k8s.io", "StorageClass", DOMAIN, storage::storage_class),
    kind("storage.k8s.io", "VolumeAttachment", DOMAIN, storage::attachment),
    kind("storage.k8s.io", "VolumeAttributesClass", DOMAIN, storage::attributes_class),
];

static NOTHING: Kind = kind("", "", DOMAIN, nothing);

fn nothing(_: Node<'_, '_>, _: Node<'_, '_>, _: &mut Causes) {}

fn any_name(_: &str) -> Vec<String> {
    Vec::new()
}

fn rules(resource: &Resource) -> &'static Kind {
    KINDS.iter().find(|kind| kind.kind == resource.kind && kind.group == resource.group).unwrap_or(&NOTHING)
}

/// An address as older fields take it, also with leading zeros.
pub fn parse_address(text: &str) -> Option<std::net::IpAddr> {
    network::parse_sloppy(text)
}

/// Rules for a new object whose name has been generated.
pub fn create(resource: &Resource, object: Node<'_, '_>, causes: &mut Causes) {
    let rules = rules(resource);
    metadata::create(object, resource.namespaced, rules.name, causes);
    (rules.rule)(object, Node::nothing(), causes);
    declared(resource, object, Node::nothing(), causes);
}

/// Rules for what replaces `old`; `subresource` is `""` for the object itself.
pub fn update(resource: &Resource, new: Node<'_, '_>, old: Node<'_, '_>, subresource: &str, causes: &mut Causes) {
    let rules = rules(resource);
    metadata::update(new, causes);
    if matches!(subresource, "" | "scale") {
        (rules.rule)(new, old, causes);
    } else {
        (rules.part)(new, old, subresource, causes);
    }
    declared(resource, new, old, causes);
}

fn declared(resource: &Resource, new: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    if let Some(ty) = resource.ty(Schema::builtin()) {
        declarative::check(ty, new, old, causes);
    }
}

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

#[cfg(test)]
mod tests;
