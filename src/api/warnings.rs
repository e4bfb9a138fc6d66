//! What an accepted object says that its author may not mean, in upstream's words.
//!
//! Upstream: pkg/api/{pod,service,job,node}/warnings.go and the WarningsOn functions of pkg/registry.

mod pod;

use crate::names;
use crate::node::Node;
use crate::resource::Resource;

/// Warnings of a write to an object itself; `old` is absent on create.
pub fn of(resource: &Resource, object: Node<'_, '_>, old: Node<'_, '_>) -> Vec<String> {
    let mut said = Vec::new();
    let (meta, spec, created) = (object.get("metadata"), object.get("spec"), old.is_absent());
    let before = old.get("metadata");
    let changed = created || meta.get("generation").value() != before.get("generation").value();
    match (&*resource.group, &*resource.kind) {
        ("", "Pod") if created => {
            label_is_better("the Pod's hostname", meta.get("name"), &mut said);
            pod::pod(object, &mut said);
        }
        ("", "PodTemplate") if changed => pod::template(object.get("template"), &mut said),
        ("", "ReplicationController") | ("apps", "Deployment" | "ReplicaSet" | "DaemonSet") if changed => {
            if created && resource.kind != "DaemonSet" {
                label_is_better("Pod names and hostnames", meta.get("name"), &mut said);
            }
            pod::template(spec.get("template"), &mut said);
        }
        ("apps", "StatefulSet") => {
            if changed {
                pod::template(spec.get("template"), &mut said);
            }
            let claims = spec.get("volumeClaimTemplates");
            claims.items().for_each(|claim| fractions_of_claim(claim.get("spec"), &mut said));
            if spec.get("revisionHistoryLimit").int().is_some_and(|limit| limit < 0) {
                let why = "a negative value retains all historical revisions; a value >= 0 is recommended";
                say(spec.get("revisionHistoryLimit"), why, &mut said);
            }
        }
        ("batch", "Job") if changed => {
            if created {
                label_is_better("Pod names and hostnames", meta.get("name"), &mut said);
            }
            job(spec, &mut said);
        }
        ("batch", "CronJob") if changed => {
            if created {
                label_is_better("Pod names and hostnames", meta.get("name"), &mut said);
            }
            job(spec.get("jobTemplate").get("spec"), &mut said);
        }
        ("", "Service") => service(meta, spec, &mut said),
        ("", "PersistentVolumeClaim") => fractions_of_claim(spec, &mut said),
        ("networking.k8s.io", "Ingress") if created => {
            let key = "kubernetes.io/ingress.class";
            if meta.get("annotations").key(key).is_present() && spec.get("ingressClassName").is_absent() {
                said.push(format!("annotation \"{key}\" is deprecated, please use 'spec.ingressClassName' instead"));
            }
        }
        ("node.k8s.io", "RuntimeClass") => {
            let scheduling = object.get("scheduling");
            let selector = scheduling.get("nodeSelector");
            for (_, why) in selector.entries().filter_map(|(key, _)| deprecated_label(key)) {
                say(selector, why, &mut said);
            }
        }
        _ => {}
    }
    said
}

fn say(node: Node<'_, '_>, why: impl std::fmt::Display, said: &mut Vec<String>) {
    said.push(format!("{}: {why}", node.path()));
}

fn label_is_better(used: &str, name: Node<'_, '_>, said: &mut Vec<String>) {
    let messages = names::dns_1123_label(name.str());
    if !messages.is_empty() {
        let why =
            format!("this is used in {used}, which can result in surprising behavior; a DNS label is recommended");
        say(name, format!("{why}: [{}]", messages.join(" ")), said);
    }
}

/// Labels of nodes that have another name by now, or none.
const DEPRECATED_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("scheduler.alpha.kubernetes.io/preferAvoidPods", "deprecated since v1.22; use Taints and Tolerations instead"),
];

fn deprecated_label(key: &str) -> Option<(&'static str, &'static str)> {
    DEPRECATED_LABELS.iter().find(|(known, _)| *known == key).copied()
}

/// Bytes come whole.
fn fraction(amount: Node<'_, '_>, said: &mut Vec<String>) {
    if let Some(Ok(quantity)) = amount.quantity()
        && quantity.milli_value() % 1000 != 0
    {
        say(amount, format!("fractional byte value \"{quantity}\" is invalid, must be an integer"), said);
    }
}

fn fractions_of_claim(spec: Node<'_, '_>, said: &mut Vec<String>) {
    let resources = spec.get("resources");
    for list in ["requests", "limits"] {
        fraction(resources.get(list).key("storage"), said);
    }
}

const MANY_COMPLETIONS: i64 = 100_000;
const MANY_PODS: i64 = 10_000;

fn job(spec: Node<'_, '_>, said: &mut Vec<String>) {
    let number = |field: &str| spec.get(field).int().unwrap_or_default();
    let indexed = spec.get("completionMode").str() == "Indexed";
    if indexed && number("completions") > MANY_COMPLETIONS && number("parallelism") > MANY_PODS {
        let why = "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
                   Kubernetes might not be able to track completedIndexes when a big number of indexes fail";
        say(spec, why, said);
    }
    pod::template(spec.get("template"), said);
}

/// An address that is written in another way than the one that lasts.
fn address(node: Node<'_, '_>, said: &mut Vec<String>) {
    let text = node.str();
    let Some(ip) = crate::validation::parse_address(text) else { return };
    let ip = ip.to_canonical();
    let mapped = text.contains(':') && ip.is_ipv4();
    if mapped || text.parse::<std::net::IpAddr>().is_err() {
        say(node, format!("non-standard IP address \"{text}\" is invalid: use \"{ip}\""), said);
    } else if ip.is_ipv6() && ip.to_string() != text {
        say(node, format!("IPv6 address \"{text}\" should be in RFC 5952 canonical format (\"{ip}\")"), said);
    }
}

fn service(meta: Node<'_, '_>, spec: Node<'_, '_>, said: &mut Vec<String>) {
    let hints = "service.kubernetes.io/topology-aware-hints";
    if meta.get("annotations").key(hints).is_present() {
        said.push(format!("annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead"));
    }
    let (own, external, balancer) = (spec.get("clusterIPs"), spec.get("externalIPs"), spec.get("loadBalancerIP"));
    let (kind, cluster) = (spec.get("type").str(), spec.get("clusterIP").str());
    let (headless, named) = (kind == "ClusterIP" && cluster == "None", kind == "ExternalName");
    if !cluster.is_empty() && cluster != "None" {
        own.items().for_each(|ip| address(ip, said));
    }
    if headless {
        let affinity = spec.get("sessionAffinity").str() != "None";
        for (given, field) in [
            (!balancer.is_empty(), "loadBalancerIP"),
            (!external.is_empty(), "externalIPs"),
            (affinity, "SessionAffinity"),
        ] {
            if given {
                said.push(format!("spec.{field} is ignored for headless services"));
            }
        }
    }
    external.items().for_each(|ip| address(ip, said));
    if !external.is_empty() && !headless && !named {
        said.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    address(balancer, said);
    if named && !external.is_empty() {
        said.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !named && !spec.get("externalName").is_empty() {
        said.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.get("trafficDistribution").str() == "PreferClose" {
        say(spec.get("trafficDistribution"), "\"PreferClose\" is deprecated; use \"PreferSameZone\"", said);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(kind: &str, mut object: Value) -> Vec<String> {
        let resource = Resource::all().find(|resource| resource.kind == kind).expect("a kind");
        crate::defaults::apply(&resource, &mut object);
        of(&resource, Node::root(&object), Node::nothing())
    }

    #[test]
    fn pods() {
        let container = |name: &str| {
            json!({
                "name": name, "image": "i", "resources": {"requests": {"memory": "1500m"}},
                "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
                "ports": [{"name": "p", "containerPort": 1}],
            })
        };
        let spec = json!({
            "containers": [container("a"), container("b")],
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "volumes": [{"name": "v", "gitRepo": {}}],
            "imagePullSecrets": [{}],
        });
        let expected = "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]
spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead
spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+
spec.imagePullSecrets[0].name: invalid empty name \"\"
spec.containers[0].resources.requests[memory]: fractional byte value \"1500m\" is invalid, must be an integer
spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply
spec.containers[1].resources.requests[memory]: fractional byte value \"1500m\" is invalid, must be an integer
spec.containers[1].env[1]: hides previous definition of \"A\", which may be dropped when using apply
spec.containers[1].ports[0]: duplicate port definition with spec.containers[0].ports[0]
spec.containers[1].ports[0]: duplicate port name \"p\" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]";
        assert_eq!(said("Pod", json!({"metadata": {"name": "a.b"}, "spec": spec})).join("\n"), expected);
    }

    #[test]
    fn services() {
        let spec = json!({"clusterIP": "None", "externalIPs": ["010.0.0.1"], "externalName": "a.example"});
        assert_eq!(
            said("Service", json!({"metadata": {"name": "a"}, "spec": spec})),
            [
                "spec.externalIPs is ignored for headless services",
                "spec.externalIPs[0]: non-standard IP address \"010.0.0.1\" is invalid: use \"10.0.0.1\"",
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
            ]
        );
    }
}
