//! The ConfigMaps and Secrets that this node's pods name: one watch for each, as long as a pod needs it.
//!
//! The Node authorizer lets a node read exactly these, by name, so they cannot be watched together. ClusterTrustBundles
//! are chosen by labels too, so that one watch has all of them, while any pod asks for one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_api::{Object, Resource};
use coracle_base::task::{self, Task};
use coracle_client::{ObjectEvent, ObjectSource, Selection};
use futures::StreamExt;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};

use crate::environment::ConfigError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    ConfigMap,
    Secret,
    ClusterTrustBundle,
}

/// Which object of which kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    pub kind: Kind,
    pub namespace: Box<str>,
    /// Empty for all objects of the kind.
    pub name: Box<str>,
}

impl Reference {
    /// All ClusterTrustBundles.
    pub fn trust_bundles() -> Self {
        Self { kind: Kind::ClusterTrustBundle, namespace: "".into(), name: "".into() }
    }
}

/// Cloning is a reference count.
#[derive(Clone)]
pub struct Objects {
    shared: Arc<Shared>,
}

struct Shared {
    source: Arc<dyn ObjectSource>,
    watched: Mutex<HashMap<Reference, Watched>>,
    /// UIDs of pods whose objects have changed.
    changed: mpsc::Sender<Box<str>>,
}

struct Watched {
    state: watch::Receiver<State>,
    users: HashSet<Box<str>>,
    _task: Task<()>,
}

#[derive(Clone)]
enum State {
    /// The API has not answered yet; the reason it gave, where it gave one.
    Unknown(Option<String>),
    Known(ByName),
}

/// What a watch selects.
type ByName = BTreeMap<Box<str>, Object>;

/// How long a pod waits for the API's first answer before it tries again later.
const PATIENCE: Duration = Duration::from_secs(10);

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::ConfigMap => "configmap",
            Kind::Secret => "secret",
            Kind::ClusterTrustBundle => "clustertrustbundle",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Kind::ConfigMap => "ConfigMap",
            Kind::Secret => "Secret",
            Kind::ClusterTrustBundle => "ClusterTrustBundle",
        }
    }

    fn resource(self) -> Resource {
        let (group, plural) = match self {
            Kind::ConfigMap => ("", "configmaps"),
            Kind::Secret => ("", "secrets"),
            Kind::ClusterTrustBundle => ("certificates.k8s.io", "clustertrustbundles"),
        };
        Resource::find(group, "v1", plural).expect("built-in kinds are in the catalog")
    }
}

impl Objects {
    pub fn new(source: Arc<dyn ObjectSource>, changed: mpsc::Sender<Box<str>>) -> Self {
        Self { shared: Arc::new(Shared { source, watched: Mutex::default(), changed }) }
    }

    /// The pod needs these and no others; watches that no pod needs end.
    pub fn need(&self, uid: &str, references: HashSet<Reference>) {
        let mut watched = self.shared.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|reference, entry| {
            if !references.contains(reference) {
                entry.users.remove(uid);
            }
            !entry.users.is_empty()
        });
        for reference in references {
            let entry = watched.entry(reference.clone()).or_insert_with(|| self.watch(reference));
            entry.users.insert(uid.into());
        }
    }

    /// `data` (and `binaryData`) of an object that the pod was said to need; `None` when it does not exist.
    pub async fn data(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, Vec<u8>>>, ConfigError> {
        let reference = Reference { kind, namespace: namespace.into(), name: name.into() };
        self.selected(&reference).await?.values().next().map(|object| decode(kind, object)).transpose()
    }

    /// The objects of a reference that the pod was said to need.
    pub async fn selected(&self, reference: &Reference) -> Result<ByName, ConfigError> {
        let (kind, name) = (reference.kind.word(), &reference.name);
        let state = {
            let watched = self.shared.watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.get(reference).map(|entry| entry.state.clone())
        };
        let mut state = state.ok_or_else(|| ConfigError::Other(format!("{kind} \"{name}\" is not watched")))?;
        let known = state.wait_for(|state| matches!(state, State::Known(_)));
        let known = tokio::time::timeout(PATIENCE, known).await.map(|state| state.map(|state| state.clone()));
        if let Ok(Ok(State::Known(objects))) = known {
            return Ok(objects);
        }
        let State::Unknown(Some(reason)) = state.borrow().clone() else {
            let late = format!("failed to sync {kind} cache: timed out waiting for the condition");
            return Err(ConfigError::Other(late));
        };
        Err(ConfigError::Other(reason))
    }

    fn watch(&self, reference: Reference) -> Watched {
        let (sender, state) = watch::channel(State::Unknown(None));
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let selection = Selection {
            namespace: some(&reference.namespace),
            fields: some(&reference.name).map(|name| format!("metadata.name={name}")).unwrap_or_default(),
            ..Default::default()
        };
        let mut stream = self.shared.source.list_watch(&reference.kind.resource(), selection);
        let shared = Arc::downgrade(&self.shared);
        let task = task::spawn("object", async move {
            let mut objects = ByName::new();
            let mut is_listing = true;
            while let Some(event) = stream.next().await {
                match event {
                    Ok(ObjectEvent::Restarted) => {
                        objects.clear();
                        is_listing = true;
                    }
                    Ok(ObjectEvent::Applied(object)) => {
                        objects.insert(object.meta().name.clone(), object);
                    }
                    Ok(ObjectEvent::Deleted(object)) => {
                        objects.remove(&object.meta().name);
                    }
                    Ok(ObjectEvent::Synced(_)) => is_listing = false,
                    Err(status) => {
                        if matches!(*sender.borrow(), State::Unknown(_)) {
                            sender.send_replace(State::Unknown(Some(status.message)));
                        }
                        continue;
                    }
                }
                if is_listing {
                    continue;
                }
                let former = sender.send_replace(State::Known(objects.clone()));
                let Some(shared) = shared.upgrade() else { return };
                if matches!(former, State::Known(_)) {
                    shared.tell(&reference).await;
                }
            }
        });
        Watched { state, users: HashSet::new(), _task: task }
    }
}

impl Shared {
    async fn tell(&self, reference: &Reference) {
        let users: Vec<Box<str>> = {
            let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.get(reference).map(|entry| entry.users.iter().cloned().collect()).unwrap_or_default()
        };
        for user in users {
            let _ = self.changed.send(user).await;
        }
    }
}

fn decode(kind: Kind, object: &Object) -> Result<BTreeMap<String, Vec<u8>>, ConfigError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    #[derive(Default)]
    struct Data {
        data: BTreeMap<String, String>,
        binary_data: BTreeMap<String, String>,
    }
    let content: Data = object.decode().map_err(|status| ConfigError::Other(status.message))?;
    let decoded = |text: String| STANDARD.decode(text).map_err(|error| ConfigError::Other(error.to_string()));
    let mut result = BTreeMap::new();
    for (key, text) in content.data {
        let value = if kind == Kind::Secret { decoded(text)? } else { text.into_bytes() };
        result.insert(key, value);
    }
    for (key, text) in content.binary_data {
        result.insert(key, decoded(text)?);
    }
    Ok(result)
}
