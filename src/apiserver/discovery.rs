//! Discovery: which groups, versions and resources there are, in the old form and in the aggregated one.
//!
//! Documents are made from the catalog when asked for: clients cache them, so keeping them would cost more than making them.
//! Upstream: k8s.io/apiserver pkg/endpoints/discovery, pkg/endpoints/discovery/aggregated.

use std::collections::BTreeMap;

use coracle_api::object::Encoding;
use coracle_api::{Resource, Status};
use coracle_base::crypto;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::body::Body;
use crate::call::Call;
use crate::negotiate::{self, MEDIA_TYPES};
use crate::paths::typed;
use crate::{encode, failure};

const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The answer for `/api...` and `/apis...`, split at slashes.
pub fn answer(call: &Call, parts: &[&str]) -> Result<Response<Body>, Status> {
    let core = parts[0] == "api";
    let accept = call.header(header::ACCEPT);
    let document = match parts.len() {
        1 if aggregated(accept)? => return Ok(tagged(call, aggregated_document(core), V2)),
        1 => Some(if core { core_versions(call) } else { group_list() }),
        2 if core => resource_list("", parts[1]),
        2 => group(parts[1]),
        3 if !core => resource_list(parts[1], parts[2]),
        _ => None,
    };
    if let Some(document) = document {
        let encoding = negotiate::accepted(accept, false).map_or(Encoding::Json, |accepted| accepted.encoding);
        let body = encode::document(&document.to_string().into(), encoding)?;
        return Ok(typed(body, negotiate::media_type(encoding)));
    }
    // Within a group that is served, a version that is not is a Status; other groups are no path at all.
    let known = core || (parts.len() > 1 && Resource::all().any(|row| row.group == parts[1]));
    if known { Err(Status::no_such_path()) } else { Ok(failure::no_such_page()) }
}

/// Whether the first clause of Accept that can be served asks for aggregated discovery; 406 when none can be.
fn aggregated(accept: &str) -> Result<bool, Status> {
    for clause in accept.split(',').filter(|_| !accept.is_empty()) {
        let mut parts: Vec<&str> = clause.split(';').map(str::trim).collect();
        let media_type = parts.remove(0);
        if !MEDIA_TYPES.contains(&media_type) && media_type != "*/*" && media_type != "application/*" {
            continue;
        }
        let has = |part: &str| parts.contains(&part);
        if has("g=apidiscovery.k8s.io") && has("as=APIGroupDiscoveryList") && has("v=v2") {
            return Ok(true);
        }
        if !parts.iter().any(|part| part.starts_with("as=")) {
            return Ok(false);
        }
    }
    if accept.is_empty() { Ok(false) } else { Err(Status::not_acceptable(&MEDIA_TYPES)) }
}

/// Answers with an ETag, or 304 when the client has the document.
pub fn tagged(call: &Call, document: Value, content_type: &'static str) -> Response<Body> {
    let text = document.to_string();
    let tag = format!("\"{}\"", crypto::hex(&crypto::sha256(text.as_bytes())).to_uppercase());
    let known = call.header(header::IF_NONE_MATCH).split(',').any(|own| own.trim() == tag);
    let mut response = if known { Response::new(Body::Empty) } else { typed(text, content_type) };
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

/// A group's versions and their resources.
type Versions = Vec<(String, Vec<Resource>)>;

/// Versions of each group with their resources, the preferred version first, groups as the catalog has them.
fn groups(core: bool) -> Vec<(String, Versions)> {
    let mut order: Vec<String> = Vec::new();
    let mut groups: BTreeMap<String, Versions> = BTreeMap::new();
    for resource in Resource::all().filter(|resource| resource.group.is_empty() == core) {
        let group = groups.entry(resource.group.to_string()).or_insert_with(|| {
            order.push(resource.group.to_string());
            Vec::new()
        });
        match group.iter_mut().find(|(version, _)| *version == resource.version) {
            Some((_, resources)) => resources.push(resource),
            None => group.push((resource.version.to_string(), vec![resource])),
        }
    }
    for versions in groups.values_mut() {
        versions.sort_by(|(left, _), (right, _)| right.cmp(left));
        for (_, resources) in versions {
            resources.sort_by(|left, right| left.plural.cmp(&right.plural));
        }
    }
    order
        .into_iter()
        .map(|name| {
            let versions = groups.remove(&name).unwrap_or_default();
            (name, versions)
        })
        .collect()
}

fn core_versions(call: &Call) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": call.header(header::HOST) }],
    })
}

fn group_document(name: &str, versions: &[(String, Vec<Resource>)]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|(version, _)| json!({ "groupVersion": format!("{name}/{version}"), "version": version }))
        .collect();
    json!({ "name": name, "preferredVersion": versions[0], "versions": versions })
}

fn group_list() -> Value {
    let groups: Vec<Value> = groups(false).iter().map(|(name, versions)| group_document(name, versions)).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

fn group(name: &str) -> Option<Value> {
    let groups = groups(false);
    let (name, versions) = groups.iter().find(|(own, _)| own == name)?;
    let mut document = group_document(name, versions);
    document["kind"] = json!("APIGroup");
    document["apiVersion"] = json!("v1");
    Some(document)
}

fn resource_list(group: &str, version: &str) -> Option<Value> {
    let groups = groups(group.is_empty());
    let (_, versions) = groups.iter().find(|(name, _)| name == group)?;
    let (_, resources) = versions.iter().find(|(own, _)| own == version)?;
    let mut rows = Vec::new();
    for resource in resources {
        let mut row = Map::new();
        row.insert("name".to_owned(), json!(resource.plural));
        row.insert("singularName".to_owned(), json!(resource.singular));
        row.insert("namespaced".to_owned(), json!(resource.namespaced));
        row.insert("kind".to_owned(), json!(resource.kind));
        row.insert("verbs".to_owned(), json!(sorted(&resource.verbs)));
        list(&mut row, "shortNames", &resource.short_names);
        list(&mut row, "categories", &resource.categories);
        if resource.has_verb("get") && resource.plural != "componentstatuses" {
            row.insert("storageVersionHash".to_owned(), json!(storage_hash(resource)));
        }
        rows.push(Value::Object(row));
        for subresource in resource.subresources.iter() {
            let mut row = json!({
                "name": format!("{}/{}", resource.plural, subresource.name),
                "singularName": "", "namespaced": resource.namespaced, "kind": subresource.kind,
                "verbs": sorted(&subresource.verbs),
            });
            if (&subresource.group, &subresource.version) != (&resource.group, &resource.version) {
                row["group"] = json!(subresource.group);
                row["version"] = json!(subresource.version);
                if subresource.group.is_empty() {
                    row.as_object_mut().expect("made as an object above").remove("group");
                }
            }
            rows.push(row);
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut list = json!({ "kind": "APIResourceList", "groupVersion": group_version, "resources": rows });
    if !group.is_empty() {
        list["apiVersion"] = json!("v1");
    }
    Some(list)
}

/// Changes when objects are stored in another form. Upstream: discovery.StorageVersionHash.
fn storage_hash(resource: &Resource) -> String {
    let (group, version) = &resource.storage;
    let hash = crypto::sha256(format!("{group}/{version}/{}", resource.kind).as_bytes());
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &hash[..8])
}

fn aggregated_document(core: bool) -> Value {
    let items: Vec<Value> = groups(core)
        .iter()
        .map(|(name, versions)| {
            let metadata = if name.is_empty() { json!({}) } else { json!({ "name": name }) };
            let versions: Vec<Value> = versions
                .iter()
                .map(|(version, resources)| {
                    let resources: Vec<Value> = resources.iter().map(aggregated_resource).collect();
                    json!({ "version": version, "resources": resources, "freshness": "Current" })
                })
                .collect();
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    let api_version = "apidiscovery.k8s.io/v2";
    json!({ "kind": "APIGroupDiscoveryList", "apiVersion": api_version, "metadata": {}, "items": items })
}

fn aggregated_resource(resource: &Resource) -> Value {
    let mut row = Map::new();
    // Group and version are empty where they are the list's own.
    let kind = |group: &str, version: &str, kind: &str| match group == resource.group && version == resource.version {
        true => json!({ "group": "", "version": "", "kind": kind }),
        false => json!({ "group": group, "version": version, "kind": kind }),
    };
    row.insert("resource".to_owned(), json!(resource.plural));
    row.insert("responseKind".to_owned(), kind(&resource.group, &resource.version, &resource.kind));
    row.insert("scope".to_owned(), json!(if resource.namespaced { "Namespaced" } else { "Cluster" }));
    row.insert("singularResource".to_owned(), json!(resource.singular));
    row.insert("verbs".to_owned(), json!(sorted(&resource.verbs)));
    list(&mut row, "shortNames", &resource.short_names);
    list(&mut row, "categories", &resource.categories);
    let subresources: Vec<Value> = resource
        .subresources
        .iter()
        .map(|subresource| {
            json!({
                "subresource": subresource.name,
                "responseKind": kind(&subresource.group, &subresource.version, &subresource.kind),
                "verbs": sorted(&subresource.verbs),
            })
        })
        .collect();
    if !subresources.is_empty() {
        row.insert("subresources".to_owned(), json!(subresources));
    }
    Value::Object(row)
}

fn sorted(verbs: &[coracle_api::resource::Text]) -> Vec<&str> {
    let mut verbs: Vec<&str> = verbs.iter().map(|verb| &**verb).collect();
    verbs.sort_unstable();
    verbs
}

fn list(row: &mut Map<String, Value>, name: &str, values: &[coracle_api::resource::Text]) {
    if !values.is_empty() {
        row.insert(name.to_owned(), json!(values));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_ask_get_the_aggregated_form() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let v2beta1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        for (accept, expected) in [
            (format!("{v2},{v2beta1},application/json"), Some(true)),
            (format!("{v2beta1},application/json"), Some(false)),
            (v2beta1.to_owned(), None),
            ("application/json".to_owned(), Some(false)),
            ("text/html".to_owned(), None),
            (String::new(), Some(false)),
        ] {
            assert_eq!(aggregated(&accept).ok(), expected, "{accept}");
        }
    }

    #[test]
    fn the_preferred_version_stands_first() {
        let versions = |name: &str| group(name).unwrap()["preferredVersion"]["version"].clone();
        assert_eq!((versions("apps"), versions("autoscaling")), (json!("v1"), json!("v2")));
        let list = resource_list("", "v1").unwrap();
        let pods = list["resources"].as_array().unwrap().iter().find(|row| row["name"] == "pods").unwrap();
        assert_eq!(pods["shortNames"], json!(["po"]));
    }
}
