//! ServiceAccount: every pod has an account, and its token as a projected volume.
//!
//! Upstream: kubernetes plugin/pkg/admission/serviceaccount.

use std::sync::LazyLock;
use std::time::Duration;

use coracle_api::{Resource, Status};
use serde_json::{Value, json};

use super::{Operation, Request};
use crate::registry::{Registry, metadata, tree};

pub static ACCOUNTS: LazyLock<Resource> =
    LazyLock::new(|| Resource::find("", "v1", "serviceaccounts").expect("the catalog holds serviceaccounts"));

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME: &str = "kube-api-access-";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// How long a pod waits for the account that a controller makes in every namespace.
const DEFAULT_ACCOUNT_WAIT: Duration = Duration::from_secs(2);

pub async fn mutate(registry: &Registry, request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    if request.operation != Operation::Create || !request.subresource.is_empty() || !pod["spec"].is_object() {
        return Ok(());
    }
    let name = metadata::text(pod, "name").to_owned();
    if pod["metadata"]["annotations"].get(MIRROR).is_some() {
        return check_mirror(request, &name, pod);
    }
    if pod["spec"]["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        pod["spec"]["serviceAccountName"] = json!("default");
        pod["spec"]["serviceAccount"] = json!("default");
    }
    let namespace = metadata::text(pod, "namespace").to_owned();
    let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default().to_owned();
    let found = match registry.resident(&ACCOUNTS, &namespace, &account) {
        None if account == "default" => registry.appears(&ACCOUNTS, &namespace, &account, DEFAULT_ACCOUNT_WAIT).await,
        found => found,
    };
    let Some(found) = found else {
        let why =
            format!("error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found");
        return Err(Status::forbidden(request.resource, &name, why));
    };
    let found = tree(&found)?;
    let wish = pod["spec"]["automountServiceAccountToken"].as_bool();
    if wish.or(found["automountServiceAccountToken"].as_bool()).unwrap_or(true) {
        mount_token(pod);
    }
    if let Some(secrets) = found["imagePullSecrets"].as_array().filter(|secrets| !secrets.is_empty())
        && pod["spec"]["imagePullSecrets"].as_array().is_none_or(Vec::is_empty)
    {
        pod["spec"]["imagePullSecrets"] = json!(secrets);
    }
    Ok(())
}

fn check_mirror(request: &Request<'_>, name: &str, pod: &Value) -> Result<(), Status> {
    if pod["spec"]["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        return Ok(());
    }
    Err(Status::forbidden(request.resource, name, "a mirror pod may not reference service accounts"))
}

/// Mounts the token volume into every container that has nothing at its path.
fn mount_token(pod: &mut Value) {
    let known = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let known = known.filter_map(|volume| volume["name"].as_str()).find(|name| name.starts_with(VOLUME));
    let exists = known.is_some();
    let volume = known.map_or_else(|| metadata::generate_name(VOLUME), str::to_owned);
    let mut needed = false;
    for field in ["initContainers", "containers"] {
        let Some(containers) = pod["spec"].get_mut(field).and_then(Value::as_array_mut) else { continue };
        for container in containers.iter_mut().filter_map(Value::as_object_mut) {
            let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
            let Some(mounts) = mounts.as_array_mut() else { continue };
            if !mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
                mounts.push(json!({ "name": volume, "readOnly": true, "mountPath": MOUNT_PATH }));
                needed = true;
            }
        }
    }
    if exists || !needed {
        return;
    }
    if !pod["spec"]["volumes"].is_array() {
        pod["spec"]["volumes"] = json!([]);
    }
    if let Some(volumes) = pod["spec"]["volumes"].as_array_mut() {
        volumes.push(json!({ "name": volume, "projected": token_source() }));
    }
}

/// Token, cluster CA and namespace, as upstream's TokenVolumeSource.
fn token_source() -> Value {
    let namespace =
        json!({ "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } });
    json!({
        "defaultMode": 420,
        "sources": [
            { "serviceAccountToken": { "path": "token", "expirationSeconds": 3607 } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [namespace] } },
        ],
    })
}
