//! Where a node's pods come from: the API, files, and (later) its own record, merged into one stream.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_api::{Object, Resource};
use coracle_client::{ObjectEvent, ObjectSource, Selection};
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::pod::CONFIG_MIRROR;

pub mod files;

/// One step of a source.
#[derive(Clone)]
pub enum PodEvent {
    /// The pod should run, in this form.
    Set(Object),
    /// The source does not have the pod any more; its last form.
    Gone(Object),
    /// The API's picture of a static pod, which is no pod to run.
    Mirror(Object),
    MirrorGone(Object),
    /// Everything that the source has at its start has come.
    Synced,
}

/// A source tells of its pods without end; it reconnects by itself.
pub trait PodSource: Send + Sync + 'static {
    fn pods(&self) -> BoxStream<'static, PodEvent>;
}

/// The pods that the scheduler has bound to this node.
pub struct ApiPods {
    pub source: Arc<dyn ObjectSource>,
    pub node: String,
}

impl PodSource for ApiPods {
    fn pods(&self) -> BoxStream<'static, PodEvent> {
        let pods = Resource::find("", "v1", "pods").expect("core/v1 is in the catalog");
        let selection = Selection { fields: format!("spec.nodeName={}", self.node), ..Selection::default() };
        let mut known = Known::default();
        let stream = self.source.list_watch(&pods, selection).filter_map(|event| async {
            event.inspect_err(|error| tracing::warn!(%error, "pods cannot be read")).ok()
        });
        stream.flat_map(move |event| futures::stream::iter(known.step(event))).boxed()
    }
}

/// Names and UIDs of what has been told, so that what vanished unseen is told too.
#[derive(Default)]
struct Known {
    pods: HashMap<Box<str>, Object>,
    unseen: Option<Vec<Box<str>>>,
}

impl Known {
    fn step(&mut self, event: ObjectEvent) -> Vec<PodEvent> {
        match event {
            ObjectEvent::Restarted => {
                self.unseen = Some(self.pods.keys().cloned().collect());
                Vec::new()
            }
            ObjectEvent::Applied(pod) => {
                let key = key(&pod);
                if let Some(unseen) = &mut self.unseen {
                    unseen.retain(|name| *name != key);
                }
                let former = self.pods.insert(key, pod.clone()).filter(|former| former.meta().uid != pod.meta().uid);
                former.map(gone).into_iter().chain([set(pod)]).collect()
            }
            ObjectEvent::Deleted(pod) => self.pods.remove(&key(&pod)).map(|_| gone(pod)).into_iter().collect(),
            ObjectEvent::Synced(_) => {
                let gone = self.unseen.take().unwrap_or_default();
                let gone = gone.iter().filter_map(|key| self.pods.remove(key)).map(self::gone);
                gone.chain([PodEvent::Synced]).collect()
            }
        }
    }
}

fn set(pod: Object) -> PodEvent {
    if is_mirror(&pod) { PodEvent::Mirror(pod) } else { PodEvent::Set(pod) }
}

fn gone(pod: Object) -> PodEvent {
    if is_mirror(&pod) { PodEvent::MirrorGone(pod) } else { PodEvent::Gone(pod) }
}

fn key(pod: &Object) -> Box<str> {
    format!("{}/{}", pod.meta().namespace, pod.meta().name).into()
}

fn is_mirror(pod: &Object) -> bool {
    #[derive(serde::Deserialize)]
    struct Partial {
        metadata: Metadata,
    }
    #[derive(serde::Deserialize)]
    struct Metadata {
        #[serde(default)]
        annotations: HashMap<String, String>,
    }
    pod.decode::<Partial>().is_ok_and(|pod| pod.metadata.annotations.contains_key(CONFIG_MIRROR))
}
