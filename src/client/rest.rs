//! Requests on any resource of the catalog, where the type is not known: metadata, deletions, patches.

use coracle_api::Resource;
use http::{Method, Request};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use crate::{Error, Key, path};

/// An object's metadata alone: metav1.PartialObjectMetadata.
#[derive(Debug, Clone, Deserialize)]
pub struct Metadata {
    pub metadata: ObjectMeta,
}

const ONE: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const MANY: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
pub const MERGE_PATCH: &str = "application/merge-patch+json";
pub const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";

pub async fn metadata(client: &kube::Client, resource: &Resource, key: &Key) -> Result<Metadata, Error> {
    let uri = path::object(resource, &key.namespace, &key.name);
    ask(client, Method::GET, &uri, ("accept", ONE), None).await
}

/// Metadata of everything in a namespace (all of them when `None`).
pub async fn list_metadata(
    client: &kube::Client,
    resource: &Resource,
    namespace: Option<&str>,
) -> Result<Vec<Metadata>, Error> {
    #[derive(Deserialize)]
    struct List {
        /// Upstream writes null for an empty list.
        items: Option<Vec<Metadata>>,
    }
    let list: List = ask(client, Method::GET, &path::collection(resource, namespace), ("accept", MANY), None).await?;
    Ok(list.items.unwrap_or_default())
}

/// `options` is a metav1.DeleteOptions without kind.
pub async fn delete(client: &kube::Client, resource: &Resource, key: &Key, options: &Value) -> Result<(), Error> {
    let uri = path::object(resource, &key.namespace, &key.name);
    ask::<IgnoredAny>(client, Method::DELETE, &uri, ("content-type", "application/json"), Some(options)).await?;
    Ok(())
}

pub async fn delete_collection(
    client: &kube::Client,
    resource: &Resource,
    namespace: &str,
    options: &Value,
) -> Result<(), Error> {
    let uri = path::collection(resource, Some(namespace));
    ask::<IgnoredAny>(client, Method::DELETE, &uri, ("content-type", "application/json"), Some(options)).await?;
    Ok(())
}

/// `kind` is the patch's content type.
pub async fn patch(
    client: &kube::Client,
    resource: &Resource,
    key: &Key,
    kind: &str,
    patch: &Value,
) -> Result<(), Error> {
    let uri = path::object(resource, &key.namespace, &key.name);
    ask::<IgnoredAny>(client, Method::PATCH, &uri, ("content-type", kind), Some(patch)).await?;
    Ok(())
}

/// A request with a JSON body, or none, and a JSON answer.
pub async fn ask<T: DeserializeOwned>(
    client: &kube::Client,
    method: Method,
    uri: &str,
    header: (&str, &str),
    body: Option<&Value>,
) -> Result<T, Error> {
    let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
    let request = Request::builder().method(method).uri(uri).header(header.0, header.1);
    Ok(client.request(request.body(body).map_err(kube::Error::HttpError)?).await?)
}
