//! The manifests directory: objects in its files are applied at start and on change; what leaves a file leaves the cluster.
//!
//! Which file brought which objects is written down beside the directory, so that removals while the server was down
//! are seen at the next start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_api::Resource;
use coracle_base::directory_watch::DirectoryWatch;
use coracle_base::shutdown::Shutdown;
use coracle_client::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::Api;
use crate::data_directory::{read_optional, write_private};

/// What failed (a kind not served yet, a namespace of a later file) is tried again after this time.
const RETRY: Duration = Duration::from_secs(10);

/// An object that a file brought.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    api_version: String,
    kind: String,
    #[serde(default)]
    namespace: String,
    name: String,
}

/// File name to objects.
type Record = BTreeMap<String, BTreeSet<Reference>>;

/// Keeps the cluster as the directory says until shutdown.
pub async fn run(api: Api, directory: PathBuf, record_path: PathBuf, shutdown: Shutdown) {
    let follow = async {
        let mut watch = match DirectoryWatch::new(&directory) {
            Ok(watch) => watch,
            Err(error) => return tracing::warn!(%error, directory = %directory.display(), "manifests are not watched"),
        };
        loop {
            let complete = sync(&api, &directory, &record_path).await;
            let changed = watch.changed();
            let waited = match complete {
                true => changed.await,
                false => tokio::time::timeout(RETRY, changed).await.unwrap_or(Ok(())),
            };
            if let Err(error) = waited {
                return tracing::warn!(%error, "manifests are no longer watched");
            }
        }
    };
    shutdown.bound(follow).await;
}

/// One pass; false when something has to be tried again.
async fn sync(api: &Api, directory: &Path, record_path: &Path) -> bool {
    let before = read_optional(record_path).ok().flatten();
    let before: Record = before.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let mut after = Record::new();
    let mut complete = true;
    for path in files(directory) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match read(&path) {
            Ok(objects) => {
                let mut brought = BTreeSet::new();
                for (reference, object) in objects {
                    if let Err(error) = apply(api, &reference, &object).await {
                        complete = false;
                        let error = anyhow::Error::from(error);
                        tracing::warn!(
                            file = name,
                            kind = reference.kind,
                            name = reference.name,
                            "not applied: {error:#}"
                        );
                    }
                    brought.insert(reference);
                }
                after.insert(name, brought);
            }
            Err(error) => {
                tracing::warn!(file = name, "not a manifest: {error}");
                // A file that cannot be read right now takes nothing away.
                after.extend(before.get(&name).map(|brought| (name, brought.clone())));
            }
        }
    }
    let kept: BTreeSet<&Reference> = after.values().flatten().collect();
    let gone: Vec<&Reference> = before.values().flatten().filter(|reference| !kept.contains(reference)).collect();
    let mut left = BTreeSet::new();
    for reference in gone {
        if let Err(error) = remove(api, reference).await {
            complete = false;
            tracing::warn!(kind = reference.kind, name = reference.name, %error, "not removed");
            left.insert(reference.clone());
        }
    }
    if !left.is_empty() {
        after.insert(String::new(), left);
    }
    if after != before {
        let text = serde_json::to_vec(&after).expect("names are text");
        if let Err(error) = write_private(record_path, &text) {
            tracing::warn!(%error, "the record of manifests is not written");
        }
    }
    complete
}

/// Manifests in the order of their names; drafts and hidden files are not.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let is_manifest = |path: &PathBuf| {
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        !hidden && path.extension().is_some_and(|kind| kind == "yaml" || kind == "yml" || kind == "json")
    };
    let mut files: Vec<PathBuf> = entries.filter(is_manifest).collect();
    files.sort();
    files
}

fn read(path: &Path) -> Result<Vec<(Reference, Value)>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    objects(&text)
}

/// The objects of a text of YAML documents; lists are taken apart.
fn objects(text: &str) -> Result<Vec<(Reference, Value)>, String> {
    let documents: Vec<Value> = serde_yaml::from_multiple(text).map_err(|error| error.to_string())?;
    let mut objects = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        let items = match (document["kind"].as_str(), document["items"].as_array()) {
            (Some(kind), Some(items)) if kind.ends_with("List") => items.clone(),
            _ => vec![document],
        };
        for object in items {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let reference = Reference {
                api_version: text(&object["apiVersion"]),
                kind: text(&object["kind"]),
                namespace: text(&object["metadata"]["namespace"]),
                name: text(&object["metadata"]["name"]),
            };
            if reference.kind.is_empty() || reference.name.is_empty() {
                return Err("an object without kind or metadata.name".to_owned());
            }
            objects.push((reference, object));
        }
    }
    Ok(objects)
}

impl Reference {
    fn resource(&self) -> Result<(Resource, &str), Error> {
        let (group, version) = self.api_version.split_once('/').unwrap_or(("", &self.api_version));
        let resource = Resource::of_kind(group, version, &self.kind)
            .ok_or_else(|| Error::Other(format!("{} {} is not served", self.api_version, self.kind)))?;
        let namespace = match (resource.namespaced, self.namespace.as_str()) {
            (false, _) => "",
            (true, "") => "default",
            (true, namespace) => namespace,
        };
        Ok((resource, namespace))
    }
}

async fn apply(api: &Api, reference: &Reference, object: &Value) -> Result<(), Error> {
    let (resource, namespace) = reference.resource()?;
    api.apply(&resource, namespace, &reference.name, object).await
}

async fn remove(api: &Api, reference: &Reference) -> Result<(), Error> {
    let (resource, namespace) = reference.resource()?;
    api.delete(&resource, namespace, &reference.name).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let text = "---\n# nothing\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n\
                    apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: b, namespace: x}}\n";
        let found = objects(text).unwrap();
        let names: Vec<String> =
            found.iter().map(|(found, _)| format!("{} {} {}", found.kind, found.namespace, found.name)).collect();
        assert_eq!(names, ["ConfigMap  a", "Secret x b"]);
        assert_eq!(found[0].0.resource().unwrap().1, "default");
        assert!(objects("kind: ConfigMap\n").is_err());
        assert!(objects("a: [").is_err());
    }

    #[test]
    fn only_manifests_are_read_in_order() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "c.json", ".d.yaml", "e.txt", "f.yaml~"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let names: Vec<String> = files(directory.path())
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["a.yml", "b.yaml", "c.json"]);
    }
}
