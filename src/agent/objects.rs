//! The ConfigMaps and Secrets that this node's pods name: one watch for each, as long as a pod needs it.
//!
//! The Node authorizer lets a node read exactly these, by name, so they cannot be watched together.

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
}

/// Which object of which kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    pub kind: Kind,
    pub namespace: Box<str>,
    pub name: Box<str>,
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
    Known(Option<Object>),
}

/// How long a pod waits for the API's first answer before it tries again later.
const PATIENCE: Duration = Duration::from_secs(10);

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::ConfigMap => "configmap",
            Kind::Secret => "secret",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Kind::ConfigMap => "ConfigMap",
            Kind::Secret => "Secret",
        }
    }

    fn resource(self) -> Resource {
        let plural = match self {
            Kind::ConfigMap => "configmaps",
            Kind::Secret => "secrets",
        };
        Resource::find("", "v1", plural).expect("core/v1 is in the catalog")
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
        let state = {
            let watched = self.shared.watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.get(&reference).map(|entry| entry.state.clone())
        };
        let mut state =
            state.ok_or_else(|| ConfigError::Other(format!("{} \"{name}\" is not watched", kind.word())))?;
        let known = state.wait_for(|state| matches!(state, State::Known(_)));
        let known = tokio::time::timeout(PATIENCE, known).await.map(|state| state.map(|state| state.clone()));
        match known {
            Ok(Ok(State::Known(Some(object)))) => decode(kind, &object).map(Some),
            Ok(Ok(State::Known(None))) => Ok(None),
            _ => {
                let State::Unknown(Some(reason)) = state.borrow().clone() else {
                    return Err(ConfigError::Other(format!(
                        "failed to sync {} cache: timed out waiting for the condition",
                        kind.word()
                    )));
                };
                Err(ConfigError::Other(reason))
            }
        }
    }

    fn watch(&self, reference: Reference) -> Watched {
        let (sender, state) = watch::channel(State::Unknown(None));
        let selection = Selection {
            namespace: Some(reference.namespace.to_string()),
            fields: format!("metadata.name={}", reference.name),
            ..Default::default()
        };
        let mut stream = self.shared.source.list_watch(&reference.kind.resource(), selection);
        let shared = Arc::downgrade(&self.shared);
        let task = task::spawn("object", async move {
            let mut listed = None;
            while let Some(event) = stream.next().await {
                let next = match event {
                    Ok(ObjectEvent::Restarted) => {
                        listed = None;
                        continue;
                    }
                    Ok(ObjectEvent::Applied(object)) if matches!(*sender.borrow(), State::Unknown(_)) => {
                        listed = Some(object);
                        continue;
                    }
                    Ok(ObjectEvent::Applied(object)) => {
                        listed = Some(object.clone());
                        State::Known(Some(object))
                    }
                    Ok(ObjectEvent::Deleted(_)) => State::Known(None),
                    Ok(ObjectEvent::Synced(_)) => State::Known(listed.take()),
                    Err(status) => {
                        if matches!(*sender.borrow(), State::Unknown(_)) {
                            sender.send_replace(State::Unknown(Some(status.message)));
                        }
                        continue;
                    }
                };
                let first = matches!(*sender.borrow(), State::Unknown(_));
                sender.send_replace(next);
                let Some(shared) = shared.upgrade() else { return };
                if !first {
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
