//! The Node authorizer: what `system:node:NAME` may do, from the pods that are bound to it at this moment.
//!
//! Upstream keeps a graph of pods and what they name; here the few pods of a namespace on the node are read from the
//! current state when a node asks, so nothing is kept and nothing lags behind a binding.
//! Upstream: kubernetes plugin/pkg/auth/authorizer/node/node_authorizer.go.

use std::sync::LazyLock;

use coracle_api::{Object, Resource};
use serde::Deserialize;

use super::policy::Policy;
use super::{Attributes, Decision, Grant, ResourceTarget, Rule, Target};
use crate::authn::{Lookup, NODES, User};

/// The node's name, of a user in `system:nodes`.
pub fn node_name(user: &User) -> Option<&str> {
    if !user.is_in(NODES) {
        return None;
    }
    user.name.strip_prefix("system:node:").filter(|name| !name.is_empty())
}

/// `None` when the user is no node.
pub fn authorize(attributes: &Attributes<'_>, lookup: &dyn Lookup) -> Option<Decision> {
    let node = node_name(attributes.user)?;
    let decided = match attributes.target {
        Target::Resource(target) => subdivided(node, attributes.verb, &target, lookup),
        Target::Path(_) => None,
    };
    Some(match decided {
        Some(Ok(())) => Decision::Allowed(Grant::Node),
        Some(Err(reason)) => Decision::Refused(reason.into()),
        None if RULES.iter().any(|rule| rule.allows(attributes)) => Decision::Allowed(Grant::Node),
        None => Decision::Refused("".into()),
    })
}

/// What every node may do alike: the rules of the ClusterRole `system:node`.
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    Policy::builtin().roles.into_iter().find(|role| role.name == "system:node").map_or_else(Vec::new, |role| role.rules)
});

/// Resources of which a node may touch some objects only; `None` for all others.
fn subdivided(
    node: &str,
    verb: &str,
    target: &ResourceTarget<'_>,
    lookup: &dyn Lookup,
) -> Option<Result<(), &'static str>> {
    let related = |used: &dyn Fn(&PodSpec) -> bool| {
        if target.name.is_empty() {
            return Err("No Object name found");
        }
        on_node(lookup, node, target.namespace).any(|pod| used(&pod)).then_some(()).ok_or(UNRELATED)
    };
    let read_only = |used: &dyn Fn(&PodSpec) -> bool| match (verb, target.subresource, target.namespace) {
        ("get" | "list" | "watch", "", namespace) if !namespace.is_empty() => related(used),
        ("get" | "list" | "watch", "", _) => Err("can only read namespaced object of this type"),
        ("get" | "list" | "watch", ..) => Err("cannot read subresource"),
        _ => Err("can only read resources of this type"),
    };
    Some(match (target.group, target.resource) {
        ("", "secrets") => read_only(&|pod| pod.secrets().any(|name| name == target.name)),
        ("", "configmaps") => read_only(&|pod| pod.config_maps().any(|name| name == target.name)),
        ("", "persistentvolumeclaims") => match (verb, target.subresource) {
            ("get", "") | ("update" | "patch", "status") => {
                related(&|pod| pod.claims().any(|name| name == target.name))
            }
            (_, "status") => Err("can only get/update/patch this type"),
            _ => Err("can only get individual resources of this type"),
        },
        ("", "persistentvolumes") => match (verb, target.subresource) {
            ("get", "") => volume(node, target.name, lookup),
            _ => Err("can only get individual resources of this type"),
        },
        ("storage.k8s.io", "volumeattachments") => match (verb, target.subresource) {
            ("get", "") => attachment(node, target.name, lookup),
            _ => Err("can only get individual resources of this type"),
        },
        ("", "serviceaccounts") => match (verb, target.subresource) {
            ("get", "") | ("create", "token") => related(&|pod| pod.service_account_name == target.name),
            ("create", _) => Err("can only create token subresource of serviceaccount"),
            _ => Err("can only create tokens for individual service accounts"),
        },
        ("coordination.k8s.io", "leases") => own(node, verb, target, "kube-node-lease"),
        ("storage.k8s.io", "csinodes") => own(node, verb, target, ""),
        ("", "nodes") => match (verb, target.subresource) {
            ("create" | "update" | "patch", "") | ("update" | "patch", "status") => Ok(()),
            ("get" | "list" | "watch", "") if target.name == node => Ok(()),
            ("list" | "watch", "") if selects(target.fields, "metadata.name", node) => Ok(()),
            ("get" | "list" | "watch", "") => Err("a node can only read its own Node object"),
            _ => Err(""),
        },
        ("", "pods") => match (verb, target.subresource) {
            ("get", "") => pod_of(node, target, lookup),
            ("list" | "watch", "") if selects(target.fields, "spec.nodeName", node) => Ok(()),
            ("list" | "watch", "") if !target.name.is_empty() => pod_of(node, target, lookup),
            ("list" | "watch", "") => Err("can only list/watch pods with spec.nodeName field selector"),
            ("create" | "delete", "") | ("update" | "patch", "status") | ("create", "eviction") => Ok(()),
            _ => Err(""),
        },
        _ => return None,
    })
}

const UNRELATED: &str = "no relationship found between this node and this object";

/// Objects that carry the node's own name. Creation does not know the name yet; NodeRestriction checks it then.
fn own(node: &str, verb: &str, target: &ResourceTarget<'_>, namespace: &str) -> Result<(), &'static str> {
    match verb {
        _ if target.namespace != namespace => Err("can only access leases in the \"kube-node-lease\" system namespace"),
        _ if !target.subresource.is_empty() => Err("cannot authorize subresources"),
        "create" => Ok(()),
        "get" | "update" | "patch" | "delete" if target.name == node => Ok(()),
        "get" | "update" | "patch" | "delete" => Err("can only access the object with the same name as the node"),
        _ => Err("can only get, create, update, patch, or delete"),
    }
}

/// Whether every object that the field selector selects has `field` equal to `value`.
fn selects(fields: &str, field: &str, value: &str) -> bool {
    fields
        .split(',')
        .filter_map(|term| term.split_once('='))
        .any(|(name, wanted)| name.trim() == field && wanted.strip_prefix('=').unwrap_or(wanted).trim() == value)
}

fn pod_of(node: &str, target: &ResourceTarget<'_>, lookup: &dyn Lookup) -> Result<(), &'static str> {
    let pods = Resource::find("", "v1", "pods").ok_or(UNRELATED)?;
    let pod = lookup.get(&pods, target.namespace, target.name).ok_or(UNRELATED)?;
    (pod_spec(&pod).ok_or(UNRELATED)?.node_name == node).then_some(()).ok_or(UNRELATED)
}

/// A PersistentVolume is the node's when a pod there uses the claim it is bound to.
fn volume(node: &str, name: &str, lookup: &dyn Lookup) -> Result<(), &'static str> {
    let volumes = Resource::find("", "v1", "persistentvolumes").ok_or(UNRELATED)?;
    let volume: Volume = lookup.get(&volumes, "", name).and_then(|object| object.decode().ok()).ok_or(UNRELATED)?;
    let claim = volume.spec.claim_ref.ok_or(UNRELATED)?;
    let used = on_node(lookup, node, &claim.namespace).any(|pod| pod.claims().any(|name| name == claim.name));
    used.then_some(()).ok_or(UNRELATED)
}

fn attachment(node: &str, name: &str, lookup: &dyn Lookup) -> Result<(), &'static str> {
    let attachments = Resource::find("storage.k8s.io", "v1", "volumeattachments").ok_or(UNRELATED)?;
    let pod: Pod = lookup.get(&attachments, "", name).and_then(|object| object.decode().ok()).ok_or(UNRELATED)?;
    (pod.spec.node_name == node).then_some(()).ok_or(UNRELATED)
}

/// The pods of `namespace` that are bound to `node`. Mirror pods grant nothing: the node makes them itself.
fn on_node(lookup: &dyn Lookup, node: &str, namespace: &str) -> impl Iterator<Item = PodSpec> {
    let pods = Resource::find("", "v1", "pods").map(|pods| lookup.list(&pods, namespace)).unwrap_or_default();
    pods.into_iter().filter_map(|object| pod_spec(&object)).filter(move |spec| spec.node_name == node)
}

fn pod_spec(object: &Object) -> Option<PodSpec> {
    // Most pods of a namespace are elsewhere; the indexed field spares decoding them.
    let position = object.resource().selectable.iter().position(|(label, _)| *label == "spec.nodeName");
    let node = position.and_then(|position| object.meta().fields.get(position));
    if node.is_some_and(|node| node.is_empty()) {
        return None;
    }
    let pod: Pod = object.decode().ok()?;
    let mirror = pod.metadata.annotations.is_some_and(|annotations| annotations.mirror.is_some());
    Some(if mirror { PodSpec { node_name: pod.spec.node_name, ..PodSpec::default() } } else { pod.spec })
}

#[derive(Deserialize)]
struct Volume {
    spec: VolumeSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeSpec {
    claim_ref: Option<ClaimReference>,
}

#[derive(Deserialize)]
struct ClaimReference {
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    metadata: Metadata,
    spec: PodSpec,
}

#[derive(Deserialize, Default)]
struct Metadata {
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<String>,
}

/// The fields of a pod that name other objects.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
    service_account_name: String,
    image_pull_secrets: Vec<Named>,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    ephemeral_containers: Vec<Container>,
    volumes: Vec<PodVolume>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    env: Vec<Variable>,
    env_from: Vec<EnvironmentSource>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Variable {
    value_from: Option<ValueSource>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ValueSource {
    secret_key_ref: Option<Named>,
    config_map_key_ref: Option<Named>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct EnvironmentSource {
    secret_ref: Option<Named>,
    config_map_ref: Option<Named>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodVolume {
    secret: Option<SecretVolume>,
    config_map: Option<Named>,
    projected: Option<Projected>,
    persistent_volume_claim: Option<ClaimVolume>,
    csi: Option<CsiVolume>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SecretVolume {
    secret_name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ClaimVolume {
    claim_name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct CsiVolume {
    node_publish_secret_ref: Option<Named>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Projected {
    sources: Vec<ProjectedSource>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ProjectedSource {
    secret: Option<Named>,
    config_map: Option<Named>,
}

impl PodSpec {
    fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().chain(&self.init_containers).chain(&self.ephemeral_containers)
    }

    fn variables(&self) -> impl Iterator<Item = &ValueSource> {
        self.all_containers().flat_map(|container| &container.env).filter_map(|variable| variable.value_from.as_ref())
    }

    fn environments(&self) -> impl Iterator<Item = &EnvironmentSource> {
        self.all_containers().flat_map(|container| &container.env_from)
    }

    fn projections(&self) -> impl Iterator<Item = &ProjectedSource> {
        self.volumes.iter().filter_map(|volume| volume.projected.as_ref()).flat_map(|projected| &projected.sources)
    }

    fn secrets(&self) -> impl Iterator<Item = &str> {
        let volumes = self.volumes.iter().filter_map(|volume| volume.secret.as_ref()).map(|secret| &secret.secret_name);
        let csi = self.volumes.iter().filter_map(|volume| volume.csi.as_ref()?.node_publish_secret_ref.as_ref());
        let named = self
            .image_pull_secrets
            .iter()
            .chain(self.variables().filter_map(|source| source.secret_key_ref.as_ref()))
            .chain(self.environments().filter_map(|source| source.secret_ref.as_ref()))
            .chain(self.projections().filter_map(|source| source.secret.as_ref()))
            .chain(csi);
        named.map(|named| &named.name).chain(volumes).map(String::as_str)
    }

    fn config_maps(&self) -> impl Iterator<Item = &str> {
        let volumes = self.volumes.iter().filter_map(|volume| volume.config_map.as_ref());
        let named = self
            .variables()
            .filter_map(|source| source.config_map_key_ref.as_ref())
            .chain(self.environments().filter_map(|source| source.config_map_ref.as_ref()))
            .chain(self.projections().filter_map(|source| source.config_map.as_ref()))
            .chain(volumes);
        named.map(|named| named.name.as_str())
    }

    fn claims(&self) -> impl Iterator<Item = &str> {
        let claims = self.volumes.iter().filter_map(|volume| volume.persistent_volume_claim.as_ref());
        claims.map(|claim| claim.claim_name.as_str())
    }
}

#[cfg(test)]
mod tests;
