//! Object metadata. Upstream: k8s.io/apimachinery pkg/api/validation/objectmeta.go.

use super::{NameRule, labels};
use crate::causes::Causes;
use crate::names;
use crate::node::Node;

/// Bytes of all keys and values of annotations together.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Finalizers without a domain.
pub(super) const STANDARD_FINALIZERS: &[&str] = &["kubernetes", "orphan", "foregroundDeletion"];
pub(super) const UNKNOWN_FINALIZER: &str = "name is neither a standard finalizer name nor is it fully qualified";

pub(super) fn create(object: Node<'_, '_>, namespaced: bool, name_rule: NameRule, causes: &mut Causes) {
    let metadata = object.get("metadata");
    let (name, generate, namespace) = (metadata.get("name"), metadata.get("generateName"), metadata.get("namespace"));
    if !generate.is_empty() {
        generate.invalid_each(causes, name_rule(&names::mask_trailing_dash(generate.str())));
    }
    if name.is_empty() {
        name.required(causes, "name or generateName is required");
    } else {
        name.invalid_each(causes, name_rule(name.str()));
    }
    if !namespaced {
        if !namespace.is_empty() {
            namespace.forbidden(causes, "not allowed on this type");
        }
    } else if namespace.is_empty() {
        namespace.required(causes, "");
    } else {
        namespace.invalid_each(causes, names::dns_1123_label(namespace.str()));
    }
    shared(metadata, causes);
    finalizers(metadata.get("finalizers"), causes);
}

/// What an update may change; what it may not is carried over from the old object before.
pub(super) fn update(object: Node<'_, '_>, causes: &mut Causes) {
    let metadata = object.get("metadata");
    shared(metadata, causes);
    metadata.get("finalizers").items().for_each(|finalizer| qualified_finalizer(finalizer, causes));
}

fn shared(metadata: Node<'_, '_>, causes: &mut Causes) {
    metadata.get("generation").not_negative(causes);
    labels::labels(metadata.get("labels"), causes);
    annotations(metadata.get("annotations"), causes);
    owners(metadata.get("ownerReferences"), causes);
}

pub(super) fn annotations(annotations: Node<'_, '_>, causes: &mut Causes) {
    let mut size = 0;
    for (key, value) in annotations.entries() {
        size += key.len() + value.str().len();
        for message in names::qualified_name(&key.to_lowercase()) {
            causes.invalid(annotations.path(), key, message);
        }
    }
    if size > MAX_ANNOTATIONS {
        annotations.too_long(causes, MAX_ANNOTATIONS);
    }
}

fn owners(owners: Node<'_, '_>, causes: &mut Causes) {
    let mut controller: Option<String> = None;
    for owner in owners.items() {
        let version = owner.get("apiVersion");
        let malformed = version.str().matches('/').count() > 1 || version.str().ends_with('/');
        if version.is_empty() {
            version.required(causes, "must not be empty");
        } else if malformed {
            version.invalid(causes, "must be <group>/<version> or <version>");
        }
        for field in ["kind", "name", "uid"] {
            let node = owner.get(field);
            if node.is_empty() {
                node.required(causes, "must not be empty");
            }
        }
        let kind = owner.get("kind").str();
        if version.str() == "v1" && kind == "Event" {
            owner.invalid(causes, "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.get("controller").bool() {
            let this = format!("{kind}/{}", owner.get("name").str());
            match &controller {
                Some(first) => {
                    let why = "Only one reference can have Controller set to true. Found \"true\" in references for";
                    owners.invalid(causes, format!("{why} {first} and {this}"));
                }
                None => controller = Some(this),
            }
        }
    }
}

fn finalizers(finalizers: Node<'_, '_>, causes: &mut Causes) {
    for finalizer in finalizers.items() {
        for message in names::qualified_name(finalizer.str()) {
            causes.invalid(finalizers.path(), finalizer.str(), message);
        }
    }
    let listed = |name: &str| finalizers.items().any(|finalizer| finalizer.str() == name);
    if listed("orphan") && listed("foregroundDeletion") {
        finalizers.invalid(causes, "finalizer orphan and foregroundDeletion cannot be both set");
    }
    for finalizer in finalizers.items() {
        qualified_finalizer(finalizer, causes);
    }
}

fn qualified_finalizer(finalizer: Node<'_, '_>, causes: &mut Causes) {
    if !finalizer.str().contains('/') && !STANDARD_FINALIZERS.contains(&finalizer.str()) {
        finalizer.invalid(causes, UNKNOWN_FINALIZER);
    }
}
