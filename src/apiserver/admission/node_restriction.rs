//! NodeRestriction: what the Node authorizer cannot see from the request line. A node writes its own objects, in ways that win it nothing.
//!
//! Upstream: kubernetes plugin/pkg/admission/noderestriction.

use std::collections::BTreeSet;

use coracle_api::{Resource, Status};
use serde_json::Value;

use super::{Operation, Request, certificates};
use crate::authn::User;
use crate::authz::node::node_name;
use crate::registry::{Registry, tree};

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels in the `kubernetes.io` and `k8s.io` domains that a node may give itself, and domains in which it may give any.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const RESTRICTED: &str = "node-restriction.kubernetes.io";

/// A create or update by a node; anybody else passes.
pub fn check(registry: &Registry, request: &Request<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let Some(node) = node_name(&request.facts.user) else { return Ok(()) };
    let name = text(new, "/metadata/name");
    let (group, plural) = (&*request.resource.group, &*request.resource.plural);
    let verdict = match (group, plural, request.subresource) {
        ("", "pods", "") if request.operation == Operation::Create => mirror_pod(registry, node, new),
        ("", "pods", "") => {
            Err(format!("unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"))
        }
        ("", "pods", "status") => pod_status(node, new, old.unwrap_or(new)),
        ("", "pods", other) => {
            Err(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))
        }
        ("", "nodes", _) if name != node => Err(format!("node {node:?} is not allowed to modify node {name:?}")),
        ("", "nodes", _) => own_node(node, new, old),
        ("", "persistentvolumeclaims", "status") => claim_status(node, new, old.unwrap_or(new)),
        ("", "persistentvolumeclaims", _) => Err("may only update PVC status".to_owned()),
        ("coordination.k8s.io", "leases", _) if text(new, "/metadata/namespace") != "kube-node-lease" => {
            Err("can only access leases in the \"kube-node-lease\" system namespace".to_owned())
        }
        ("coordination.k8s.io", "leases", _) if name != node => {
            Err("can only access node lease with the same name as the requesting node".to_owned())
        }
        ("storage.k8s.io", "csinodes", _) if name != node => {
            Err("can only access CSINode with the same name as the requesting node".to_owned())
        }
        ("resource.k8s.io", "resourceslices", _)
            if request.operation == Operation::Create && text(new, "/spec/nodeName") != node =>
        {
            Err("can only create ResourceSlice with the same NodeName as the requesting node".to_owned())
        }
        ("certificates.k8s.io", "certificatesigningrequests", "") if request.operation == Operation::Create => {
            certificate(node, new)
        }
        _ => Ok(()),
    };
    verdict.map_err(|why| Status::forbidden(request.resource, name, why))
}

/// A delete of a pod by a node; an eviction ends in one.
pub fn check_pod(
    registry: &Registry,
    user: &User,
    resource: &Resource,
    namespace: &str,
    name: &str,
) -> Result<(), Status> {
    let Some(node) = node_name(user) else { return Ok(()) };
    let Some(pod) = found(registry, resource, namespace, name)? else { return Ok(()) };
    if text(&pod, "/spec/nodeName") == node {
        return Ok(());
    }
    let why = format!("node {node:?} can only delete pods with spec.nodeName set to itself");
    Err(Status::forbidden(resource, name, why))
}

/// A TokenRequest by a node for service account `name`: only for a pod that runs there.
pub fn check_token(
    registry: &Registry,
    user: &User,
    namespace: &str,
    name: &str,
    request: &Value,
) -> Result<(), Status> {
    let Some(node) = node_name(user) else { return Ok(()) };
    let refused = |why: String| Err(Status::forbidden(("", "serviceaccounts"), name, why));
    let bound = &request["spec"]["boundObjectRef"];
    let pod = text(bound, "/name");
    if text(bound, "/kind") != "Pod" || text(bound, "/apiVersion") != "v1" || pod.is_empty() {
        return refused("node requested token not bound to a pod".to_owned());
    }
    let uid = text(bound, "/uid");
    if uid.is_empty() {
        return refused("node requested token with a pod binding without a uid".to_owned());
    }
    let pods = Resource::find("", "v1", "pods").ok_or_else(Status::no_such_path)?;
    let Some(found) = found(registry, &pods, namespace, pod)? else { return Err(Status::not_found(&pods, pod)) };
    if text(&found, "/metadata/uid") != uid {
        return refused(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ));
    }
    if text(&found, "/spec/nodeName") != node {
        return refused("node requested token bound to a pod scheduled on a different node".to_owned());
    }
    Ok(())
}

fn mirror_pod(registry: &Registry, node: &str, pod: &Value) -> Result<(), String> {
    if pod["metadata"]["annotations"].get(MIRROR).is_none() {
        return Err(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"));
    }
    if text(pod, "/spec/nodeName") != node {
        return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owner = match list(&pod["metadata"]["ownerReferences"]) {
        [owner] => owner,
        [] => return Err(format!("node {node:?} can only create pods with an owner reference set to itself")),
        _ => return Err(format!("node {node:?} can only create pods with a single owner reference set to itself")),
    };
    if (text(owner, "/apiVersion"), text(owner, "/kind"), text(owner, "/name")) != ("v1", "Node", node) {
        return Err(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if owner["controller"] != true {
        return Err(format!("node {node:?} can only create pods with a controller owner reference set to itself"));
    }
    if owner["blockOwnerDeletion"] == true {
        return Err(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let nodes = Resource::find("", "v1", "nodes").ok_or("nodes are not in the catalog")?;
    let own = found(registry, &nodes, "", node).ok().flatten().unwrap_or_default();
    let (given, real) = (text(owner, "/uid"), text(&own, "/metadata/uid"));
    if given != real {
        return Err(format!("node {node} UID mismatch: expected {given} got {real}"));
    }
    match referenced(&pod["spec"]) {
        Some(what) => Err(format!("node {node:?} can not create pods that reference {what}")),
        None => Ok(()),
    }
}

/// What a pod spec names of the API, by which a node could read it. Upstream: pkg/api/pod HasAPIObjectReference.
fn referenced(spec: &Value) -> Option<&'static str> {
    if !text(spec, "/serviceAccountName").is_empty() {
        return Some("serviceaccounts");
    }
    let kinds = ["containers", "initContainers", "ephemeralContainers"];
    let containers = || kinds.into_iter().flat_map(|kind| list(&spec[kind]));
    let names = |from: &str, key: &str| {
        containers().any(|container| {
            list(&container["envFrom"]).iter().any(|source| source.get(from).is_some())
                || list(&container["env"]).iter().any(|variable| variable["valueFrom"].get(key).is_some())
        })
    };
    if !list(&spec["imagePullSecrets"]).is_empty() || names("secretRef", "secretKeyRef") {
        return Some("secrets");
    }
    if names("configMapRef", "configMapKeyRef") {
        return Some("configmaps");
    }
    if !list(&spec["resourceClaims"]).is_empty() {
        return Some("resourceclaims");
    }
    const VOLUMES: [(&str, &str); 6] = [
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("projected", "objects (via projected volumes)"),
    ];
    let volumes = list(&spec["volumes"]);
    VOLUMES.into_iter().find(|(kind, _)| volumes.iter().any(|volume| volume.get(kind).is_some())).map(|(_, what)| what)
}

fn pod_status(node: &str, new: &Value, old: &Value) -> Result<(), String> {
    if text(old, "/spec/nodeName") != node {
        return Err(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"));
    }
    if new["metadata"].get("labels") != old["metadata"].get("labels") {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    const OTHERS: [(&str, &str); 2] = [
        ("resourceClaimStatuses", "resource claim statues"),
        ("extendedResourceClaimStatus", "extended resource claim status"),
    ];
    match OTHERS.iter().find(|(field, _)| new["status"].get(field) != old["status"].get(field)) {
        Some((_, what)) => Err(format!("node {node:?} cannot update {what}")),
        None => Ok(()),
    }
}

fn own_node(node: &str, new: &Value, old: Option<&Value>) -> Result<(), String> {
    let before = old.map_or(&Value::Null, |old| &old["metadata"]["labels"]);
    let forbidden: Vec<String> =
        changed(&new["metadata"]["labels"], before).into_iter().filter(|key| !may_label(key)).collect();
    let Some(old) = old else {
        if forbidden.is_empty() {
            return Ok(());
        }
        return Err(format!("node {node:?} is not allowed to set the following labels: {}", forbidden.join(", ")));
    };
    if list(&new["spec"]["taints"]) != list(&old["spec"]["taints"]) {
        return Err(format!("node {node:?} is not allowed to modify taints"));
    }
    if list(&new["metadata"]["ownerReferences"]) != list(&old["metadata"]["ownerReferences"]) {
        return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    match forbidden.is_empty() {
        true => Ok(()),
        false => Err(format!("is not allowed to modify labels: {}", forbidden.join(", "))),
    }
}

/// Keys whose value differs.
fn changed(new: &Value, old: &Value) -> BTreeSet<String> {
    let keys =
        |labels: &Value| labels.as_object().into_iter().flat_map(|labels| labels.keys().cloned()).collect::<Vec<_>>();
    keys(new).into_iter().chain(keys(old)).filter(|key| new.get(key) != old.get(key)).collect()
}

fn may_label(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let within = |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    if within(RESTRICTED) {
        return false;
    }
    let reserved = within("kubernetes.io") || within("k8s.io");
    !reserved || OWN_LABELS.contains(&key) || OWN_DOMAINS.into_iter().any(within)
}

/// Only what a mounter reports may differ.
fn claim_status(node: &str, new: &Value, old: &Value) -> Result<(), String> {
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
            claim["status"].as_object_mut().map(|status| status.remove(field));
        }
        for field in ["resourceVersion", "managedFields"] {
            claim["metadata"].as_object_mut().map(|metadata| metadata.remove(field));
        }
        claim
    };
    match rest(new) == rest(old) {
        true => Ok(()),
        false => Err(format!(
            "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
        )),
    }
}

/// A node asks for certificates of its own name only.
fn certificate(node: &str, request: &Value) -> Result<(), String> {
    const SIGNERS: [&str; 2] = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];
    if !SIGNERS.contains(&text(request, "/spec/signerName")) {
        return Ok(());
    }
    let name = certificates::common_name(request).map_err(|why| format!("unable to parse csr: {why}"))?;
    match name.strip_prefix("system:node:") {
        Some(other) if other != node => Err(format!("can only create a node CSR with CN=system:node:{node}")),
        _ => Ok(()),
    }
}

fn found(registry: &Registry, resource: &Resource, namespace: &str, name: &str) -> Result<Option<Value>, Status> {
    registry.resident(resource, namespace, name).as_ref().map(tree).transpose()
}

fn text<'a>(tree: &'a Value, pointer: &str) -> &'a str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_labels_itself_with_what_steers_nothing() {
        for allowed in
            ["mine", "example.com/x", "kubernetes.io/hostname", "node.kubernetes.io/x", "a.kubelet.kubernetes.io/x"]
        {
            assert!(may_label(allowed), "{allowed}");
        }
        for refused in [
            "node-role.kubernetes.io/control-plane",
            "node-restriction.kubernetes.io/x",
            "a.node-restriction.kubernetes.io/x",
            "k8s.io/x",
        ] {
            assert!(!may_label(refused), "{refused}");
        }
        assert!(may_label("notkubernetes.io/x"));
    }

    #[test]
    fn taints_and_owners_stay() {
        let node = |taints: Value| json!({"metadata": {"name": "a", "labels": {"x": "1"}}, "spec": {"taints": taints}});
        let old = node(json!([{"key": "k", "effect": "NoSchedule"}]));
        assert_eq!(own_node("a", &old, Some(&old)), Ok(()));
        assert!(own_node("a", &node(json!([])), Some(&old)).unwrap_err().contains("modify taints"));
        assert_eq!(own_node("a", &node(Value::Null), None), Ok(()));
    }

    #[test]
    fn mirror_pods_name_nothing_of_the_api() {
        assert_eq!(referenced(&json!({"containers": [{"name": "a"}], "volumes": [{"hostPath": {}}]})), None);
        for (spec, what) in [
            (json!({"serviceAccountName": "x"}), "serviceaccounts"),
            (json!({"initContainers": [{"envFrom": [{"secretRef": {}}]}]}), "secrets"),
            (json!({"containers": [{"env": [{"valueFrom": {"configMapKeyRef": {}}}]}]}), "configmaps"),
            (json!({"volumes": [{"secret": {}}]}), "secrets (via secret volumes)"),
        ] {
            assert_eq!(referenced(&spec), Some(what));
        }
    }
}
