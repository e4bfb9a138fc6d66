//! A few requests on untyped objects, for what the assembly itself writes: the bootstrap objects and the manifests.

use coracle_api::Resource;
use coracle_base::url;
use coracle_client::{Error, path};
use http::{Method, Request, header};
use serde_json::Value;

/// A client for objects of any kind.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
    /// Who owns the fields it sets.
    manager: &'static str,
}

impl Api {
    pub fn new(client: kube::Client, manager: &'static str) -> Self {
        Self { client, manager }
    }

    /// `None` when there is no such object.
    pub async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Option<Value>, Error> {
        let found = self.send(Method::GET, path::object(resource, namespace, name), "", None).await;
        match found {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The objects of all namespaces.
    pub async fn list(&self, resource: &Resource) -> Result<Vec<Value>, Error> {
        self.items(path::collection(resource, None)).await
    }

    /// The objects of one namespace with these labels.
    pub async fn select(&self, resource: &Resource, namespace: &str, labels: &str) -> Result<Vec<Value>, Error> {
        let collection = path::collection(resource, Some(namespace));
        self.items(format!("{collection}?labelSelector={}", url::encode(labels))).await
    }

    async fn items(&self, target: String) -> Result<Vec<Value>, Error> {
        let mut list = self.send(Method::GET, target, "", None).await?;
        match list.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// An object that is there already is left as it is.
    pub async fn create(&self, resource: &Resource, namespace: &str, object: &Value) -> Result<(), Error> {
        let target = format!("{}?fieldManager={}", path::collection(resource, Some(namespace)), self.manager);
        match self.send(Method::POST, target, "application/json", Some(object)).await {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(()),
        }
    }

    pub async fn replace(&self, resource: &Resource, namespace: &str, name: &str, object: &Value) -> Result<(), Error> {
        let target = format!("{}?fieldManager={}", path::object(resource, namespace, name), self.manager);
        self.send(Method::PUT, target, "application/json", Some(object)).await.map(|_| ())
    }

    /// Server-side apply; takes fields from whoever held them.
    pub async fn apply(&self, resource: &Resource, namespace: &str, name: &str, object: &Value) -> Result<(), Error> {
        let target = format!("{}?fieldManager={}&force=true", path::object(resource, namespace, name), self.manager);
        self.send(Method::PATCH, target, "application/apply-patch+yaml", Some(object)).await.map(|_| ())
    }

    /// An object that is gone already counts as deleted.
    pub async fn delete(&self, resource: &Resource, namespace: &str, name: &str) -> Result<(), Error> {
        let target = format!("{}?propagationPolicy=Background", path::object(resource, namespace, name));
        match self.send(Method::DELETE, target, "", None).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn send(&self, method: Method, target: String, kind: &str, body: Option<&Value>) -> Result<Value, Error> {
        let mut request = Request::builder().method(method).uri(&target);
        if !kind.is_empty() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = request.body(body).map_err(|error| Error::Other(format!("{target}: {error}")))?;
        Ok(self.client.request(request).await?)
    }
}
