//! Whether an object may be stored, with upstream's field paths and wording.
//!
//! Upstream: pkg/apis/*/validation. The functions take normalised, defaulted trees. Kinds without rules of their own are
//! checked in their metadata only.

mod container;
mod core;
mod groups;
mod labels;
mod metadata;
mod pod;
mod service;
mod volume;
mod workload;

use crate::causes::Causes;
use crate::names;
use crate::node::Node;
use crate::resource::Resource;

type NameRule = fn(&str) -> Vec<String>;
/// The object, and what it replaces (absent on create).
type Rule = fn(Node<'_, '_>, Node<'_, '_>, &mut Causes);

/// Group, kind, grammar of names, rules.
const KINDS: &[(&str, &str, NameRule, Rule)] = &[
    ("", "ConfigMap", names::dns_1123_subdomain, core::config_map),
    ("", "Endpoints", names::dns_1123_subdomain, core::endpoints),
    ("", "Namespace", names::dns_1123_label, nothing),
    ("", "Node", names::dns_1123_subdomain, core::node),
    ("", "Pod", names::dns_1123_subdomain, pod::pod),
    ("", "PodTemplate", names::dns_1123_subdomain, pod::pod_template),
    ("", "ReplicationController", names::dns_1123_subdomain, workload::replication_controller),
    ("", "Secret", names::dns_1123_subdomain, core::secret),
    ("", "Service", names::dns_1123_label, service::service),
    ("apps", "DaemonSet", names::dns_1123_subdomain, workload::daemon_set),
    ("apps", "Deployment", names::dns_1123_subdomain, workload::deployment),
    ("apps", "ReplicaSet", names::dns_1123_subdomain, workload::replica_set),
    ("apps", "StatefulSet", names::dns_1123_subdomain, workload::stateful_set),
    ("batch", "CronJob", names::dns_1123_subdomain, workload::cron_job),
    ("batch", "Job", names::dns_1123_subdomain, workload::job),
    ("certificates.k8s.io", "ClusterTrustBundle", any_name, nothing),
    ("coordination.k8s.io", "Lease", names::dns_1123_subdomain, groups::lease),
    ("discovery.k8s.io", "EndpointSlice", names::dns_1123_subdomain, groups::endpoint_slice),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema", names::path_segment, nothing),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration", names::path_segment, nothing),
    ("networking.k8s.io", "IPAddress", any_name, nothing),
    ("rbac.authorization.k8s.io", "ClusterRole", names::path_segment, groups::role),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", names::path_segment, groups::role_binding),
    ("rbac.authorization.k8s.io", "Role", names::path_segment, groups::role),
    ("rbac.authorization.k8s.io", "RoleBinding", names::path_segment, groups::role_binding),
];

fn nothing(_: Node<'_, '_>, _: Node<'_, '_>, _: &mut Causes) {}

fn any_name(_: &str) -> Vec<String> {
    Vec::new()
}

fn rules(resource: &Resource) -> (NameRule, Rule) {
    KINDS
        .iter()
        .find(|(group, kind, ..)| *kind == resource.kind && *group == resource.group)
        .map_or((names::dns_1123_subdomain as NameRule, nothing as Rule), |(.., name, rule)| (*name, *rule))
}

/// Rules for a new object whose name has been generated.
pub fn create(resource: &Resource, object: Node<'_, '_>, causes: &mut Causes) {
    let (name, rule) = rules(resource);
    metadata::create(object, resource.namespaced, name, causes);
    rule(object, Node::nothing(), causes);
}

/// Rules for what replaces `old`. Writes to subresources are checked in their metadata only.
pub fn update(resource: &Resource, new: Node<'_, '_>, old: Node<'_, '_>, subresource: &str, causes: &mut Causes) {
    metadata::update(new, causes);
    if subresource.is_empty() {
        rules(resource).1(new, old, causes);
    }
}

/// Numbers below zero are refused; absent ones are not.
fn not_negative(node: Node<'_, '_>, causes: &mut Causes) {
    if node.int().is_some_and(|number| number < 0) {
        node.invalid(causes, "must be greater than or equal to 0");
    }
}

/// Absent fields are required, others must be one of a list in upstream's order.
fn one_of(node: Node<'_, '_>, supported: &[&str], causes: &mut Causes) {
    if node.is_empty() {
        node.required(causes, "");
    } else if !supported.contains(&node.str()) {
        node.not_supported(causes, supported);
    }
}

fn immutable(new: Node<'_, '_>, old: Node<'_, '_>, causes: &mut Causes) {
    if new.value() != old.value() {
        new.invalid(causes, "field is immutable");
    }
}

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

#[cfg(test)]
mod tests;
