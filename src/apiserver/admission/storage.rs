//! DefaultStorageClass, DefaultIngressClass, StorageObjectInUseProtection, PersistentVolumeClaimResize.
//!
//! Upstream: kubernetes plugin/pkg/admission/{storage,network/defaultingressclass}.

use std::sync::LazyLock;

use coracle_api::quantity::Quantity;
use coracle_api::{Resource, Status};
use serde_json::{Value, json};

use super::{Operation, Request};
use crate::registry::{Registry, metadata, tree};

static STORAGE_CLASSES: LazyLock<Resource> = LazyLock::new(|| {
    Resource::find("storage.k8s.io", "v1", "storageclasses").expect("the catalog holds storageclasses")
});
static INGRESS_CLASSES: LazyLock<Resource> = LazyLock::new(|| {
    Resource::find("networking.k8s.io", "v1", "ingressclasses").expect("the catalog holds ingressclasses")
});

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const INGRESS_CLASS: &str = "kubernetes.io/ingress.class";
/// Annotations of the class that those get which name none.
const IS_DEFAULT_STORAGE: &[&str] =
    &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const IS_DEFAULT_INGRESS: &[&str] = &["ingressclass.kubernetes.io/is-default-class"];

pub fn mutate(registry: &Registry, request: &Request<'_>, new: &mut Value) {
    if request.creates("", "persistentvolumes") {
        protect(new, "kubernetes.io/pv-protection");
    }
    if request.creates("", "persistentvolumeclaims") {
        fill(new, "storageClassName", BETA_CLASS, registry.all(&STORAGE_CLASSES, ""), IS_DEFAULT_STORAGE);
        protect(new, "kubernetes.io/pvc-protection");
    }
    if request.creates("networking.k8s.io", "ingresses") {
        fill(new, "ingressClassName", INGRESS_CLASS, registry.all(&INGRESS_CLASSES, ""), IS_DEFAULT_INGRESS);
    }
}

fn protect(new: &mut Value, finalizer: &str) {
    let list = metadata::of(new).entry("finalizers").or_insert_with(|| json!([]));
    if !list.is_array() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut().filter(|list| !list.iter().any(|known| known == finalizer)) {
        list.push(finalizer.into());
    }
}

/// Names the default class in `field`, unless one is named there or in an annotation.
fn fill(new: &mut Value, field: &str, annotation: &str, classes: Vec<coracle_api::Object>, marks: &[&str]) {
    if !new["spec"].is_object()
        || new["spec"].get(field).is_some()
        || new["metadata"]["annotations"].get(annotation).is_some()
    {
        return;
    }
    let classes = classes.iter().filter_map(|class| tree(class).ok()).collect();
    if let Some(name) = default_class(classes, marks) {
        new["spec"][field] = name.into();
    }
}

/// The newest of those that say that they are it.
fn default_class(classes: Vec<Value>, marks: &[&str]) -> Option<String> {
    let says = |class: &Value| marks.iter().any(|mark| class["metadata"]["annotations"][*mark] == "true");
    let key = |class: &Value, field: &str| metadata::text(class, field).to_owned();
    let mut marked: Vec<Value> = classes.into_iter().filter(says).collect();
    marked.sort_by_key(|class| (std::cmp::Reverse(key(class, "creationTimestamp")), key(class, "name")));
    marked.first().map(|class| key(class, "name"))
}

/// Claims grow only where their class lets them.
pub fn check(registry: &Registry, request: &Request<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let update = request.operation == Operation::Update && request.subresource.is_empty();
    let Some(old) = old.filter(|_| update && request.is("", "persistentvolumeclaims")) else { return Ok(()) };
    let size = |claim: &Value| {
        Quantity::from_value(&claim["spec"]["resources"]["requests"]["storage"]).unwrap_or(Quantity::ZERO)
    };
    if size(new) <= size(old) {
        return Ok(());
    }
    let forbid = |why: &str| Err(Status::forbidden(request.resource, metadata::text(new, "name"), why));
    if old["status"]["phase"] != "Bound" {
        return forbid("Only bound persistent volume claims can be expanded");
    }
    let class = |claim: &Value| {
        let annotated = claim["metadata"]["annotations"][BETA_CLASS].as_str();
        annotated.or(claim["spec"]["storageClassName"].as_str()).unwrap_or_default().to_owned()
    };
    let (now, before) = (class(new), class(old));
    let named = !now.is_empty() && now == before;
    let found = registry.resident(&STORAGE_CLASSES, "", &now).and_then(|found| tree(&found).ok());
    if named && found.is_some_and(|found| found["allowVolumeExpansion"] == true) {
        return Ok(());
    }
    forbid(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_the_default_classes_is_taken() {
        let class = |name: &str, time: &str, default: &str| json!({"metadata": {"name": name, "creationTimestamp": time, "annotations": {IS_DEFAULT_INGRESS[0]: default}}});
        let (old, new, other) = (class("a", "1", "true"), class("b", "2", "true"), class("c", "3", "false"));
        assert_eq!(default_class(vec![old.clone(), new, other.clone()], IS_DEFAULT_INGRESS), Some("b".to_owned()));
        assert_eq!(default_class(vec![other, old], IS_DEFAULT_INGRESS), Some("a".to_owned()));
        assert_eq!(default_class(Vec::new(), IS_DEFAULT_INGRESS), None);
    }

    #[test]
    fn finalizers_are_added_once() {
        let mut claim = json!({"metadata": {"finalizers": ["x/y"]}});
        protect(&mut claim, "a/b");
        protect(&mut claim, "a/b");
        assert_eq!(claim["metadata"]["finalizers"], json!(["x/y", "a/b"]));
    }
}
