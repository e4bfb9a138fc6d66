//! What a cluster has from the start: namespaces, the bootstrap policy, the Service `kubernetes`, priority classes.
//!
//! Upstream does this in kube-apiserver's post-start hooks and in-tree controllers (system namespaces, RBAC policy,
//! scheduling classes, kubernetes service, authentication ConfigMap, default ServiceCIDR). An object that is as it should
//! be is not written, so a restart writes nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_api::Resource;
use coracle_apiserver::authn::NODES;
use coracle_apiserver::authn::bootstrap_token::BOOTSTRAPPERS;
use coracle_apiserver::authz::bootstrap::{self, Step};
use coracle_base::shutdown::Shutdown;
use coracle_client::Error;
use coracle_client::source::{ObjectEvent, ObjectSource, Selection};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use crate::api::Api;
use crate::cluster::{self, Cluster};
use crate::config::{Config, Part};
use crate::pki::Pki;

/// Writes in flight; they share commits.
const AT_ONCE: usize = 64;

/// Makes or mends everything. `api` must be the API server's own, for there are no rules yet.
pub async fn run(api: &Api, config: &Config, pki: &Pki, port: u16) -> Result<(), Error> {
    all(api, namespaces()).await?;
    policy(api).await?;
    all(api, objects(config, pki, port)).await?;
    // The address may be another Service's, in a cluster whose DNS was turned on later.
    if let Err(error) = all(api, dns(config).into_iter().collect()).await {
        tracing::warn!(%error, "the Service kube-dns cannot be made; the cluster's DNS answers on its address all the same");
    }
    Ok(())
}

/// What finds the API server and the DNS; without it pods do not.
const KEPT: [(&str, &str); 3] = [("", "services"), ("", "endpoints"), ("discovery.k8s.io", "endpointslices")];
/// When it cannot be made again at once.
const RETRY: Duration = Duration::from_secs(5);

/// Makes system namespaces, and the Services `kubernetes` and `kube-dns` with their endpoints, again when somebody deletes them, until
/// shutdown.
pub async fn keep(
    api: Api,
    source: Arc<dyn ObjectSource>,
    config: Arc<Config>,
    pki: Arc<Pki>,
    port: u16,
    shutdown: Shutdown,
) {
    let named = |namespace: &str, name: &str| Selection {
        namespace: Some(namespace.to_owned()),
        fields: format!("metadata.name={name}"),
        ..Selection::default()
    };
    let mut followed: Vec<(Resource, Selection)> = Vec::new();
    for (group, plural) in KEPT {
        followed.extend(Resource::find(group, "v1", plural).map(|resource| (resource, named("default", "kubernetes"))));
    }
    let find = |plural| Resource::find("", "v1", plural);
    followed.extend(find("services").map(|services| (services, named("kube-system", DNS))));
    followed.extend(find("namespaces").map(|namespaces| (namespaces, Selection::default())));
    let mut events =
        stream::select_all(followed.into_iter().map(|(resource, selection)| source.list_watch(&resource, selection)));
    let follow = async {
        while let Some(event) = events.next().await {
            let Ok(ObjectEvent::Deleted(gone)) = event else { continue };
            if gone.resource().plural == "namespaces" && !NAMESPACES.contains(&&*gone.meta().name) {
                continue;
            }
            let again = || async {
                all(&api, namespaces()).await?;
                all(&api, objects(&config, &pki, port)).await?;
                all(&api, dns(&config).into_iter().collect()).await
            };
            while let Err(error) = again().await {
                tracing::warn!(%error, name = &*gone.meta().name, "was deleted and cannot be made again yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    shutdown.bound(follow).await;
}

/// An object as it should be.
struct Wanted {
    resource: Resource,
    namespace: &'static str,
    name: &'static str,
    object: Value,
    /// Whether fields that differ are set back; else the object only has to be there.
    kept: bool,
}

fn wanted(
    (group, plural): (&str, &str),
    namespace: &'static str,
    name: &'static str,
    kept: bool,
    fields: Value,
) -> Option<Wanted> {
    let resource = Resource::find(group, "v1", plural)?;
    let mut object = fields;
    object["apiVersion"] = json!(resource.api_version());
    object["kind"] = json!(&*resource.kind);
    object["metadata"]["name"] = json!(name);
    if resource.namespaced {
        object["metadata"]["namespace"] = json!(namespace);
    }
    Some(Wanted { resource, namespace, name, object, kept })
}

async fn all(api: &Api, wanted: Vec<Wanted>) -> Result<(), Error> {
    stream::iter(wanted).map(|wanted| ensure(api, wanted)).buffer_unordered(AT_ONCE).try_collect().await
}

async fn ensure(api: &Api, wanted: Wanted) -> Result<(), Error> {
    let Wanted { resource, namespace, name, object, kept } = wanted;
    let Some(current) = api.get(&resource, namespace, name).await? else {
        return api.create(&resource, namespace, &object).await;
    };
    let mut merged = current.clone();
    overlay(&mut merged, &object);
    if !kept || merged == current {
        return Ok(());
    }
    api.replace(&resource, namespace, name, &merged).await
}

/// Maps are merged, everything else is replaced.
fn overlay(current: &mut Value, wanted: &Value) {
    match (current, wanted) {
        (Value::Object(current), Value::Object(wanted)) => {
            for (key, value) in wanted {
                overlay(current.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (current, wanted) => current.clone_from(wanted),
    }
}

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// The Service that has the address of the cluster's DNS, so that no other gets it.
const DNS: &str = "kube-dns";

/// The Service of the built-in DNS, under the name and with the labels that other distributions give theirs. It has no endpoints:
/// every node answers its address itself.
fn dns(config: &Config) -> Option<Wanted> {
    let addresses: Vec<String> = config.network.cluster_dns.iter().map(ToString::to_string).collect();
    let first = addresses.first().filter(|_| !config.disable.contains(&Part::Dns))?;
    let port = |name: &str, protocol: &str| json!({ "name": name, "protocol": protocol, "port": 53, "targetPort": 53 });
    let fields = json!({
        "metadata": { "labels": {
            "k8s-app": DNS, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
        } },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": first,
            "clusterIPs": addresses,
            "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
        },
    });
    wanted(("", "services"), "kube-system", DNS, false, fields)
}

fn namespaces() -> Vec<Wanted> {
    NAMESPACES.into_iter().filter_map(|name| wanted(("", "namespaces"), "", name, false, json!({}))).collect()
}

fn objects(config: &Config, pki: &Pki, port: u16) -> Vec<Wanted> {
    let service_addresses: Vec<String> = config.network.api_server().iter().map(ToString::to_string).collect();
    let family = if config.advertise_address.is_ipv4() { "IPv4" } else { "IPv6" };
    // Endpoints may not be loopback addresses: nothing outside of this machine reaches such a server.
    let reachable = !config.advertise_address.is_loopback();
    let address = config.advertise_address.to_string();
    let cidrs: Vec<String> = config.network.service_cidr.iter().map(ToString::to_string).collect();
    let names = json!(["front-proxy-client"]).to_string();
    let list = |text: &str| json!([text]).to_string();
    let class = |name, value: i64, description: &str| {
        wanted(
            ("scheduling.k8s.io", "priorityclasses"),
            "",
            name,
            false,
            json!({
                "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority",
            }),
        )
    };
    [
        wanted(("networking.k8s.io", "servicecidrs"), "", "kubernetes", false, json!({ "spec": { "cidrs": cidrs } })),
        wanted(("", "services"), "default", "kubernetes", false, json!({
            "metadata": { "labels": { "component": "apiserver", "provider": "kubernetes" } },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": service_addresses.first(),
                "clusterIPs": service_addresses,
                "ports": [{ "name": "https", "protocol": "TCP", "port": 443, "targetPort": port }],
                "sessionAffinity": "None",
            },
        })),
        reachable.then(|| wanted(("discovery.k8s.io", "endpointslices"), "default", "kubernetes", true, json!({
            "metadata": { "labels": { "kubernetes.io/service-name": "kubernetes" } },
            "addressType": family,
            "endpoints": [{ "addresses": [address], "conditions": { "ready": true } }],
            "ports": [{ "name": "https", "protocol": "TCP", "port": port }],
        }))).flatten(),
        reachable.then(|| wanted(("", "endpoints"), "default", "kubernetes", true, json!({
            "metadata": { "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } },
            "subsets": [{
                "addresses": [{ "ip": address }],
                "ports": [{ "name": "https", "protocol": "TCP", "port": port }],
            }],
        }))).flatten(),
        wanted(("", "configmaps"), cluster::NAMESPACE, cluster::NAME, true, json!({ "data": {
            cluster::KEY: Cluster::of(config, &pki.client.certificate).to_text(),
        } })),
        class("system-node-critical", 2_000_001_000, "Used for system critical pods that must not be moved from their current node."),
        class("system-cluster-critical", 2_000_000_000, "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."),
        wanted(("", "configmaps"), "kube-system", "extension-apiserver-authentication", true, json!({ "data": {
            "client-ca-file": pki.client.certificate,
            "requestheader-allowed-names": names,
            "requestheader-client-ca-file": pki.request_header.certificate,
            "requestheader-extra-headers-prefix": list("X-Remote-Extra-"),
            "requestheader-group-headers": list("X-Remote-Group"),
            "requestheader-username-headers": list("X-Remote-User"),
            "requestheader-uid-headers": list("X-Remote-Uid"),
        } })),
    ]
    .into_iter()
    .flatten()
    .chain(rights())
    .collect()
}

/// What machines may do on their way to be nodes, nodes beside their pods' affairs, and the approver of their certificates.
/// kubeadm and k3s bind the first three alike.
fn rights() -> impl Iterator<Item = Wanted> {
    const RBAC: &str = "rbac.authorization.k8s.io";
    let group = |name: &str| json!([{ "apiGroup": RBAC, "kind": "Group", "name": name }]);
    let role = |name: &str| json!({ "apiGroup": RBAC, "kind": "ClusterRole", "name": name });
    let bound = |name, role_name: &str, subjects| {
        wanted(
            (RBAC, "clusterrolebindings"),
            "",
            name,
            true,
            json!({ "roleRef": role(role_name), "subjects": subjects }),
        )
    };
    let approver = json!([{ "kind": "ServiceAccount", "namespace": "kube-system", "name": "certificate-controller" }]);
    const CLIENT: &str = "system:certificates.k8s.io:certificatesigningrequests:nodeclient";
    const OWN: &str = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient";
    [
        bound("coracle:node-bootstrapper", "system:node-bootstrapper", group(BOOTSTRAPPERS)),
        bound("coracle:node-client-certificates", CLIENT, group(BOOTSTRAPPERS)),
        bound("coracle:node-own-certificates", OWN, group(NODES)),
        bound("coracle:node-proxier", "system:node-proxier", group(NODES)),
        wanted((RBAC, "roles"), cluster::NAMESPACE, "coracle:cluster", true, json!({ "rules": [{
            "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [cluster::NAME], "verbs": ["get"],
        }] })),
        wanted((RBAC, "rolebindings"), cluster::NAMESPACE, "coracle:cluster", true, json!({
            "roleRef": { "apiGroup": RBAC, "kind": "Role", "name": "coracle:cluster" }, "subjects": group(NODES),
        })),
        wanted((RBAC, "clusterroles"), "", "coracle:node-certificates", true, json!({ "rules": [
            { "apiGroups": [""], "resources": ["nodes"], "verbs": ["get"] },
            { "apiGroups": ["certificates.k8s.io"], "resources": ["signers"],
                "resourceNames": ["kubernetes.io/kubelet-serving"], "verbs": ["approve"] },
        ] })),
        bound("coracle:node-certificates", "coracle:node-certificates", approver.clone()),
        wanted((RBAC, "roles"), cluster::NAMESPACE, "coracle:node-identities", true, json!({ "rules": [{
            "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "update"],
        }] })),
        wanted((RBAC, "rolebindings"), cluster::NAMESPACE, "coracle:node-identities", true, json!({
            "roleRef": { "apiGroup": RBAC, "kind": "Role", "name": "coracle:node-identities" }, "subjects": approver,
        })),
    ]
    .into_iter()
    .flatten()
}

/// Reconciles the bootstrap roles and bindings against four lists.
async fn policy(api: &Api) -> Result<(), Error> {
    let mut current: HashMap<(&str, String, String), Value> = HashMap::new();
    for plural in ["clusterroles", "roles", "clusterrolebindings", "rolebindings"] {
        for object in api.list(&rbac(plural)?).await? {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            current.insert((plural, text("namespace"), text("name")), object);
        }
    }
    let steps = bootstrap::defaults().into_iter().filter_map(|default| {
        let key = (default.plural, default.namespace.to_owned(), default.name.to_owned());
        let step = bootstrap::reconcile(current.get(&key), &default.object)?;
        Some(take(api, default.plural, default.namespace, default.name, step))
    });
    let steps: Vec<_> = steps.collect();
    stream::iter(steps).buffer_unordered(AT_ONCE).try_collect().await
}

async fn take(api: &Api, plural: &str, namespace: &str, name: &str, step: Step) -> Result<(), Error> {
    let resource = rbac(plural)?;
    match step {
        Step::Create(object) => api.create(&resource, namespace, &object).await,
        Step::Update(object) => api.replace(&resource, namespace, name, &object).await,
        Step::Recreate(object) => {
            api.delete(&resource, namespace, name).await?;
            api.create(&resource, namespace, &object).await
        }
    }
}

fn rbac(plural: &str) -> Result<Resource, Error> {
    Resource::find("rbac.authorization.k8s.io", "v1", plural)
        .ok_or_else(|| Error::Other(format!("{plural} are not served")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_merge_and_the_rest_is_replaced() {
        let mut current =
            json!({ "metadata": { "name": "a", "uid": "1" }, "data": { "x": "1", "y": "2" }, "list": [1, 2] });
        overlay(&mut current, &json!({ "metadata": { "name": "a" }, "data": { "x": "3" }, "list": [4] }));
        assert_eq!(
            current,
            json!({ "metadata": { "name": "a", "uid": "1" }, "data": { "x": "3", "y": "2" }, "list": [4] })
        );
    }

    #[test]
    fn every_object_is_of_a_served_kind() {
        assert_eq!(namespaces().len(), NAMESPACES.len());
        for default in bootstrap::defaults() {
            rbac(default.plural).unwrap();
        }
    }
}
