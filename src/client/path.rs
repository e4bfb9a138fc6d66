//! The URL paths of the API.

use coracle_api::Resource;

/// `/api/v1/namespaces/NS/pods` or `/apis/GROUP/VERSION/...`; all namespaces when `namespace` is `None` or empty.
pub fn collection(resource: &Resource, namespace: Option<&str>) -> String {
    let root = if resource.group.is_empty() { "/api" } else { "/apis" };
    let version = resource.api_version();
    match namespace.filter(|namespace| resource.namespaced && !namespace.is_empty()) {
        Some(namespace) => format!("{root}/{version}/namespaces/{namespace}/{}", resource.plural),
        None => format!("{root}/{version}/{}", resource.plural),
    }
}

/// The path of one object.
pub fn object(resource: &Resource, namespace: &str, name: &str) -> String {
    format!("{}/{name}", collection(resource, Some(namespace)))
}
