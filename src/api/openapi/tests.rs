//! The documents against upstream's own, read from the Go module that the generator is pinned to.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;

fn served() -> (Vec<Resource>, &'static Schema) {
    (Resource::all().collect(), Schema::builtin())
}

fn upstream() -> PathBuf {
    let output = std::process::Command::new("go")
        .args(["list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("generate"))
        .output()
        .expect("the tests need Go on PATH");
    Path::new(String::from_utf8(output.stdout).unwrap().trim()).join("api/openapi-spec")
}

/// What of a schema clients branch on: everything but prose, defaults, enums, unions and the wrapping of references.
fn facts(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let inner = map.get("allOf").and_then(|all| all.get(0)).and_then(Value::as_object);
            let kept = map.iter().chain(inner.into_iter().flatten()).filter(|(key, value)| {
                // Open types: upstream gives them names.
                let left_out =
                    matches!(key.as_str(), "description" | "default" | "enum" | "allOf" | "x-kubernetes-unions");
                let open = *key == "$ref" && is_open_name(value);
                !left_out && !open
            });
            let mut map: serde_json::Map<_, _> = kept.map(|(key, value)| (key.clone(), facts(value))).collect();
            if let Some(Value::Array(required)) = map.get_mut("required") {
                required.sort_by_key(Value::to_string);
            }
            Value::Object(map)
        }
        Value::Array(items) => Value::Array(items.iter().map(facts).collect()),
        other => other.clone(),
    }
}

fn is_open_name(reference: &Value) -> bool {
    let name = reference.as_str().and_then(|name| name.rsplit('.').next()).unwrap_or_default();
    matches!(
        name,
        "RawExtension"
            | "FieldsV1"
            | "JSON"
            | "JSONSchemaPropsOrBool"
            | "JSONSchemaPropsOrArray"
            | "JSONSchemaPropsOrStringArray"
    )
}

/// Kinds that belong to every version: ours are the served ones only.
fn is_request(name: &str) -> bool {
    name.ends_with(".DeleteOptions") || name.ends_with(".WatchEvent")
}

#[test]
fn every_schema_of_upstreams_v3_documents_is_here() {
    let (resources, schema) = served();
    let served = Served { schema, resources: &resources };
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (group, version) in served.group_versions() {
        let mut bytes = Vec::new();
        v3::document(served, group, version, &mut bytes).unwrap();
        let ours: Value = serde_json::from_slice(&bytes).unwrap();
        let file = format!("v3/{}_openapi.json", v3::key(group, version).replace('/', "__"));
        let theirs: Value = serde_json::from_slice(&std::fs::read(upstream().join(file)).unwrap()).unwrap();
        let ours = ours["components"]["schemas"].as_object().unwrap();
        for (name, expected) in theirs["components"]["schemas"].as_object().unwrap() {
            if is_open_name(&Value::from(name.as_str())) || is_request(name) {
                continue;
            }
            compared += 1;
            match ours.get(name) {
                None => wrong.push(format!("{group}/{version}: no {name}")),
                Some(found)
                    if name.ends_with(".Time") || name.ends_with(".MicroTime") || facts(found) == facts(expected) => {}
                Some(found) => wrong.push(format!("{name}:\n  {}\n  {}", facts(found), facts(expected))),
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    assert!(compared > 700);
}

#[test]
fn upstreams_paths_and_operations_are_here() {
    let (resources, schema) = served();
    let served = Served { schema, resources: &resources };
    let mut wrong = Vec::new();
    for (group, version) in served.group_versions() {
        let mut bytes = Vec::new();
        v3::document(served, group, version, &mut bytes).unwrap();
        let ours: Value = serde_json::from_slice(&bytes).unwrap();
        let file = format!("v3/{}_openapi.json", v3::key(group, version).replace('/', "__"));
        let theirs: Value = serde_json::from_slice(&std::fs::read(upstream().join(file)).unwrap()).unwrap();
        for (path, expected) in theirs["paths"].as_object().unwrap() {
            if path.contains("/watch/") || path.ends_with('/') {
                continue;
            }
            let Some(found) = ours["paths"].get(path) else {
                wrong.push(format!("no {path}"));
                continue;
            };
            let shared = [found["parameters"].clone(), expected["parameters"].clone()];
            for (method, expected) in expected.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
                let found = &found[method];
                for key in ["x-kubernetes-action", "x-kubernetes-group-version-kind", "operationId"] {
                    if found[key] != expected[key] {
                        wrong.push(format!("{method} {path} {key}: {} for {}", found[key], expected[key]));
                    }
                }
                let names = |operation: &Value, shared: &Value| -> Vec<String> {
                    let all = [&operation["parameters"], shared].into_iter().filter_map(Value::as_array).flatten();
                    let mut names: Vec<_> = all.map(|one| format!("{} {}", one["in"], one["name"])).collect();
                    names.sort();
                    names
                };
                if names(found, &shared[0]) != names(expected, &shared[1]) {
                    wrong.push(format!(
                        "{method} {path}: {:?} for {:?}",
                        names(found, &shared[0]),
                        names(expected, &shared[1])
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
}

#[test]
fn references_of_v2_resolve() {
    let (resources, schema) = served();
    let mut bytes = Vec::new();
    v2::document(Served { schema, resources: &resources }, &mut bytes).unwrap();
    let document: Value = serde_json::from_slice(&bytes).unwrap();
    let definitions = document["definitions"].as_object().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    for reference in text.split("\"#/definitions/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(definitions.contains_key(name), "{name}");
    }
    assert!(!text.contains("#/components"));
}

#[test]
fn the_index_names_every_version_with_a_hash_that_is_stable() {
    let (resources, schema) = served();
    let served = Served { schema, resources: &resources };
    let mut bytes = Vec::new();
    v3::index(served, |group, version| v3::document_hash(served, group, version), &mut bytes).unwrap();
    let index: Value = serde_json::from_slice(&bytes).unwrap();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(url, format!("/openapi/v3/apis/apps/v1?hash={}", v3::document_hash(served, "apps", "v1")));
    assert!(index["paths"]["api/v1"].is_object());
    assert_eq!(v3::parse_key("apis/apps/v1"), Some(("apps", "v1")));
    assert_eq!(v3::parse_key("api/v1"), Some(("", "v1")));
    assert_eq!(v3::parse_key("apis/apps"), None);
}

#[test]
fn the_protobuf_form_of_v2_is_whole() {
    let (resources, schema) = served();
    let served = Served { schema, resources: &resources };
    let mut bytes = Vec::new();
    v2::protobuf::document(served, &mut bytes).unwrap();
    // Fields 1, 2, 8 and 9, all of them messages or text, to the last byte.
    let (mut at, mut counts) = (0, [0; 16]);
    while at < bytes.len() {
        let (number, wire) = (bytes[at] >> 3, bytes[at] & 7);
        assert_eq!(wire, 2);
        at += 1;
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            length |= usize::from(bytes[at] & 0x7f) << shift;
            shift += 7;
            at += 1;
            if bytes[at - 1] < 0x80 {
                break;
            }
        }
        at += length;
        counts[usize::from(number)] += 1;
    }
    assert_eq!(at, bytes.len());
    assert_eq!(counts[9], served.types(None).count() + 5);
    assert_eq!(counts[8], resources.iter().map(|resource| path::of(resource).len()).sum::<usize>());
}
