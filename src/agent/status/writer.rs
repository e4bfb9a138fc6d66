//! Brings statuses to the API: one patch per change, against what was written last.

use coracle_api::Object;
use coracle_client::Error;
use http::Request;
use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// The strategic merge patch that makes `old` into `new`; `None` when nothing has changed.
pub fn patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Result<Option<Value>, serde_json::Error> {
    let (Value::Object(old), Value::Object(new)) = (serde_json::to_value(old)?, serde_json::to_value(new)?) else {
        return Ok(None);
    };
    let mut changes = Map::new();
    for (field, value) in &new {
        if old.get(field) != Some(value) {
            changes.insert(field.clone(), value.clone());
        }
    }
    for field in old.keys().filter(|field| !new.contains_key(*field)) {
        changes.insert(field.clone(), Value::Null);
    }
    if changes.is_empty() {
        return Ok(None);
    }
    for (field, key) in [("conditions", "type"), ("podIPs", "ip"), ("hostIPs", "ip")] {
        if let Some(Value::Array(items)) = changes.get_mut(field) {
            let before = old.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let gone = before.iter().filter(|item| !items.iter().any(|present| present[key] == item[key]));
            let gone: Vec<Value> = gone.map(|item| json!({"$patch": "delete", key: item[key]})).collect();
            // Only what changed: another client may own the other entries.
            items.retain(|item| !before.contains(item));
            items.extend(gone);
        }
    }
    Ok(Some(json!({"metadata": {"uid": uid}, "status": changes})))
}

/// Writes the patch and answers with the pod as it is now. That the pod is gone, or is another one by now, is left to the caller.
pub async fn write(client: &kube::Client, pod: &Object, patch: &Value) -> Result<Object, Error> {
    #[derive(serde::Deserialize)]
    struct Written {
        metadata: Metadata,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        resource_version: String,
    }
    let meta = pod.meta();
    let uri = format!("/api/v1/namespaces/{}/pods/{}/status", meta.namespace, meta.name);
    let request = Request::patch(uri).header("content-type", "application/strategic-merge-patch+json");
    let request = request.body(serde_json::to_vec(patch)?).map_err(kube::Error::HttpError)?;
    let answer = client.request_text(request).await?;
    let written: Written = serde_json::from_str(&answer)?;
    let revision = written.metadata.resource_version.parse().unwrap_or(0);
    // Nothing here selects by labels, so those of the earlier form do.
    Ok(Object::new(pod.resource().clone(), revision, answer.into(), meta.clone()))
}

/// Deletes the API's object of a pod of which nothing runs any more; gone already is as good.
pub async fn delete(client: &kube::Client, namespace: &str, name: &str, uid: &str) -> Result<(), Error> {
    let options =
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
    let uri = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    let request = Request::delete(uri).header("content-type", "application/json");
    let request = request.body(serde_json::to_vec(&options)?).map_err(kube::Error::HttpError)?;
    match client.request::<serde::de::IgnoredAny>(request).await.map_err(Error::from) {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}
