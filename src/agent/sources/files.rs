//! Static pods: one manifest a file in a directory that is watched (upstream: pkg/kubelet/config/file_linux.go, common.go).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use coracle_api::object::Meta;
use coracle_api::{Object, Resource};
use coracle_base::directory_watch::DirectoryWatch;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::Value;

use super::{PodEvent, PodSource};
use crate::containerd::content;
use crate::pod::{CONFIG_HASH, CONFIG_SOURCE};

pub struct FilePods {
    pub directory: PathBuf,
    pub node: String,
}

impl PodSource for FilePods {
    fn pods(&self) -> BoxStream<'static, PodEvent> {
        let state = State {
            directory: self.directory.clone(),
            node: self.node.clone(),
            known: HashMap::new(),
            watch: None,
            first: true,
        };
        futures::stream::unfold(state, |mut state| async move {
            let events = state.next().await?;
            Some((futures::stream::iter(events), state))
        })
        .flatten()
        .boxed()
    }
}

struct State {
    directory: PathBuf,
    node: String,
    /// By UID, which changes with the file's content.
    known: HashMap<Box<str>, Object>,
    watch: Option<DirectoryWatch>,
    first: bool,
}

impl State {
    /// Waits for a change and reads all files again; `None` when the directory cannot be watched.
    async fn next(&mut self) -> Option<Vec<PodEvent>> {
        let first = std::mem::take(&mut self.first);
        if first {
            let made = std::fs::create_dir_all(&self.directory).and_then(|()| DirectoryWatch::new(&self.directory));
            self.watch = made.inspect_err(|error| tracing::error!(%error, "static pods cannot be watched")).ok();
        } else {
            self.watch.as_mut()?.changed().await.ok()?;
        }
        let mut present = HashMap::new();
        for path in files(&self.directory) {
            match std::fs::read_to_string(&path)
                .map_err(|error| error.to_string())
                .and_then(|text| parse(&text, &path, &self.node))
            {
                Ok(pod) => {
                    present.insert(pod.meta().uid.clone(), pod);
                }
                Err(error) => tracing::error!(file = %path.display(), error, "not a pod manifest"),
            }
        }
        let gone = self
            .known
            .iter()
            .filter(|(uid, _)| !present.contains_key(*uid))
            .map(|(_, pod)| PodEvent::Gone(pod.clone()));
        let new =
            present.iter().filter(|(uid, _)| !self.known.contains_key(*uid)).map(|(_, pod)| PodEvent::Set(pod.clone()));
        let events = gone.chain(new).chain(first.then_some(PodEvent::Synced)).collect();
        self.known = present;
        Some(events)
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_manifest = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        path.is_file() && !name.starts_with('.')
    };
    entries.filter(is_manifest).collect()
}

/// The pod as the API would have it: a UID from file and node, the node's name behind its own, bound to the node.
fn parse(text: &str, path: &Path, node: &str) -> Result<Object, String> {
    let mut pod: Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    if pod["kind"] != "Pod" || !pod["spec"].is_object() {
        return Err("a v1 Pod is wanted".to_owned());
    }
    let name = pod["metadata"]["name"].as_str().filter(|name| !name.is_empty()).ok_or("metadata.name is missing")?;
    let name = format!("{name}-{}", node.to_lowercase());
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
    let hash = content::digest(format!("{node}\0{}\0{text}", path.display()).as_bytes());
    let uid = hash[7..39].to_owned();
    pod["metadata"]["name"] = name.clone().into();
    pod["metadata"]["namespace"] = namespace.clone().into();
    pod["metadata"]["uid"] = uid.clone().into();
    pod["metadata"]["annotations"][CONFIG_HASH] = uid.clone().into();
    pod["metadata"]["annotations"][CONFIG_SOURCE] = "file".into();
    pod["spec"]["nodeName"] = node.into();
    let json = serde_json::to_vec(&pod).map_err(|error| error.to_string())?;
    serde_json::from_slice::<k8s_openapi::api::core::v1::Pod>(&json).map_err(|error| error.to_string())?;
    let resource = Resource::find("", "v1", "pods").expect("core/v1 is in the catalog");
    let meta = Meta { namespace: namespace.into(), name: name.into(), uid: uid.into(), ..Meta::default() };
    Ok(Object::new(resource, 0, Bytes::from(json), meta))
}
