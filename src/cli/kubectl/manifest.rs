//! Objects of files, directories and standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use coracle_api::Resource;
use serde_json::Value;

use super::target::Target;
use crate::Failure;

/// An object with the resource it belongs to.
pub struct Manifest {
    pub resource: Resource,
    pub namespace: Option<String>,
    pub name: String,
    pub object: Value,
}

/// Everything that `-f` names, in order; `-` is standard input, a directory stands for its YAML and JSON files.
pub fn read(files: &[String]) -> Result<Vec<Manifest>, Failure> {
    let mut manifests = Vec::new();
    for file in files {
        for (source, text) in texts(file)? {
            let documents: Vec<Value> =
                serde_yaml::from_multiple(&text).with_context(|| format!("{source} is not valid YAML"))?;
            for document in documents.into_iter().filter(|document| !document.is_null()) {
                for object in items(document) {
                    manifests.push(Manifest::new(object).with_context(|| source.clone())?);
                }
            }
        }
    }
    if manifests.is_empty() {
        return Err(Failure::usage("no objects passed"));
    }
    Ok(manifests)
}

/// The objects that files name, to be looked up.
pub fn targets(files: &[String]) -> Result<Vec<Target>, Failure> {
    let manifests = read(files)?.into_iter();
    Ok(manifests.map(|manifest| Target { resource: manifest.resource, names: vec![manifest.name] }).collect())
}

impl Manifest {
    fn new(object: Value) -> anyhow::Result<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let (group, version) =
            version.split_once('/').map_or(("", version.as_str()), |(group, version)| (group, version));
        let resource = Resource::of_kind(group, version, &kind)
            .ok_or_else(|| anyhow!("no matches for kind {kind:?} in version {:?}", text(&object["apiVersion"])))?;
        let name = text(&object["metadata"]["name"]);
        if name.is_empty() {
            return Err(anyhow!("a {kind} without metadata.name"));
        }
        let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
        Ok(Self { resource, namespace, name, object })
    }
}

fn texts(file: &str) -> Result<Vec<(String, String)>, Failure> {
    if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(vec![("standard input".to_owned(), text)]);
    }
    let path = Path::new(file);
    let paths = if path.is_dir() { in_directory(path)? } else { vec![path.to_owned()] };
    let read = |path: PathBuf| -> Result<(String, String), Failure> {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((path.display().to_string(), text))
    };
    paths.into_iter().map(read).collect()
}

fn in_directory(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let is_manifest = |path: &PathBuf| {
        path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_manifest).collect();
    paths.sort();
    Ok(paths)
}

/// The items of a list, or the object itself.
fn items(mut document: Value) -> Vec<Value> {
    let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match document.get_mut("items").filter(|_| is_list).map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => vec![document],
    }
}
