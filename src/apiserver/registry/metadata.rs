//! The part of `metadata` that belongs to the system: names, UIDs, times, generations, deletion.
//!
//! Upstream: k8s.io/apiserver pkg/registry/rest/{create,update,delete,meta}.go.

use coracle_api::{Causes, Resource, Status};
use coracle_base::crypto;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Letters and digits that make no words and are not mistaken for each other.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
const GENERATED_BASE: usize = 63 - SUFFIX;

/// Now as `metadata` shows time: whole seconds, UTC.
pub fn now() -> String {
    time(Timestamp::now())
}

pub fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `metadata` as a map, made when absent.
pub fn of(tree: &mut Value) -> &mut Map<String, Value> {
    if !tree["metadata"].is_object() {
        tree["metadata"] = Value::Object(Map::new());
    }
    tree["metadata"].as_object_mut().expect("made an object above")
}

pub fn text<'a>(tree: &'a Value, name: &str) -> &'a str {
    tree.get("metadata").and_then(|metadata| metadata.get(name)).and_then(Value::as_str).unwrap_or_default()
}

pub fn finalizers(tree: &Value) -> Vec<&str> {
    let list = tree.get("metadata").and_then(|metadata| metadata.get("finalizers")).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

pub fn is_deleting(tree: &Value) -> bool {
    !text(tree, "deletionTimestamp").is_empty()
}

/// `metadata.deletionGracePeriodSeconds`; 0 when absent.
pub fn grace(tree: &Value) -> i64 {
    tree["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0)
}

pub fn generation(tree: &Value) -> i64 {
    tree["metadata"]["generation"].as_i64().unwrap_or(0)
}

/// A name for `generateName`.
pub fn generate_name(base: &str) -> String {
    let mut end = base.len().min(GENERATED_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let suffix = crypto::random_bytes::<SUFFIX>();
    let letters = suffix.iter().map(|&byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
    base[..end].chars().chain(letters).collect()
}

/// Makes the namespace of `tree` that of the request. 400 when it names another one.
pub fn set_namespace(resource: &Resource, tree: &mut Value, namespace: &str) -> Result<(), Status> {
    let given = text(tree, "namespace");
    if resource.namespaced {
        if given.is_empty() {
            of(tree).insert("namespace".to_owned(), json!(namespace));
        } else if given != namespace {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    } else if !given.is_empty() {
        return Err(Status::bad_request("namespace is not allowed on this type"));
    }
    Ok(())
}

/// Fills what a new object gets and takes away what no client may give.
pub fn begin(tree: &mut Value) {
    let metadata = of(tree);
    for name in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
        metadata.remove(name);
    }
    metadata.insert("uid".to_owned(), json!(crypto::uuid()));
    metadata.insert("creationTimestamp".to_owned(), json!(now()));
}

/// 409 for an object whose UID is another than the client's; `own` is empty when there is none.
pub fn other_uid(resource: &Resource, namespace: &str, name: &str, given: &str, own: &str) -> Status {
    let slash = if namespace.is_empty() { "" } else { "/" };
    // Upstream tells its own key.
    let directory = match (&*resource.group, &*resource.plural) {
        ("", "services") => "services/specs",
        ("", "endpoints") => "services/endpoints",
        ("", "nodes") => "minions",
        ("networking.k8s.io", "ingresses") => "ingress",
        (_, plural) => plural,
    };
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{directory}/{namespace}{slash}{name}, ResourceVersion: 0, \
         AdditionalErrorMsg: Precondition failed: UID in precondition: {given}, UID in object meta: {own}"
    );
    Status::conflict(resource, name, why)
}

/// Takes owners away that stand twice, and gives their UIDs. Upstream: handlers dedupOwnerReferencesAndAddWarning.
pub fn dedup_owners(tree: &mut Value) -> Vec<String> {
    let mut doubled = Vec::new();
    if let Some(Value::Array(owners)) =
        tree.get_mut("metadata").and_then(|metadata| metadata.get_mut("ownerReferences"))
    {
        let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
        for owner in std::mem::take(owners) {
            if kept.contains(&owner) {
                doubled.push(owner["uid"].as_str().unwrap_or_default().to_owned());
            } else {
                kept.push(owner);
            }
        }
        *owners = kept;
    }
    doubled.dedup();
    doubled
}

/// Carries over what an update cannot change, and checks what it must not contradict.
pub fn carry(resource: &Resource, new: &mut Value, old: &Value) -> Result<(), Status> {
    let name = text(old, "name").to_owned();
    let (given, own) = (text(new, "uid"), text(old, "uid"));
    if !given.is_empty() && given != own {
        return Err(other_uid(resource, text(old, "namespace"), &name, given, own));
    }
    // A deletion that has begun cannot be taken back.
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        match old["metadata"].get(field) {
            Some(value) => of(new).insert(field.to_owned(), value.clone()),
            None => of(new).remove(field),
        };
    }
    of(new).remove("selfLink");
    Ok(())
}

/// Whether a finalizer was added to an object that is being deleted: 422.
pub fn check_finalizers(resource: &Resource, new: &Value, old: &Value) -> Result<(), Status> {
    if !is_deleting(old) {
        return Ok(());
    }
    let known = finalizers(old);
    let added: Vec<&str> = finalizers(new).into_iter().filter(|name| !known.contains(name)).collect();
    if added.is_empty() {
        return Ok(());
    }
    let quoted: Vec<String> = added.iter().map(|name| format!("{name:?}")).collect();
    let mut causes = Causes::new();
    causes.forbidden(
        "metadata.finalizers",
        format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            quoted.join(", ")
        ),
    );
    Err(Status::invalid(resource, text(old, "name"), &causes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit_and_differ() {
        let long = "x".repeat(100);
        assert_eq!(generate_name(&long).len(), 63);
        let (first, second) = (generate_name("web-"), generate_name("web-"));
        assert!(first.starts_with("web-") && first.len() == 9 && first != second);
    }
}
