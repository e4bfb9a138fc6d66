//! Static pods in the API: each has a mirror there that carries its status (upstream: pkg/kubelet/pod/mirror_client.go,
//! kubelet.go tryReconcileMirrorPods). A node whose API is away runs its static pods all the same.

use coracle_api::Object;
use coracle_client::Error;
use http::Request;
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use serde_json::{Value, json};

use super::Syncer;
use crate::pod::{CONFIG_HASH, CONFIG_MIRROR, PodExt};
use crate::status::writer;

impl Syncer {
    /// The pod with the status that its mirror has; what is decided by a status goes by that of a static pod too.
    pub(super) fn with_mirrored_status(&self, mut pod: Pod) -> Pod {
        if pod.is_static()
            && let Some(mirror) = self.pods.mirror(pod.namespace(), pod.name())
            && let Ok(mirror) = mirror.decode::<Pod>()
            && is_of(&mirror, &pod)
        {
            pod.status = mirror.status;
        }
        pod
    }

    /// Brings the status of a static pod to its mirror, which is made where it is missing and made anew where it is of another pod, or is being
    /// deleted.
    pub(super) async fn write_mirror(&self, object: &Object, pod: &Pod, new: &PodStatus) -> Result<(), Error> {
        let known = self.pods.mirror(pod.namespace(), pod.name());
        let known = match known {
            Some(mirror) if mirror.decode::<Pod>().is_ok_and(|decoded| is_of(&decoded, pod)) => Some(mirror),
            Some(other) => {
                self.delete_mirror(&other).await?;
                None
            }
            None => None,
        };
        let mirror = match known {
            Some(mirror) => mirror,
            None if pod.metadata.deletion_timestamp.is_some() => return Ok(()),
            None => self.create_mirror(object).await?,
        };
        let present: Pod = mirror.decode()?;
        let old = present.status.clone().unwrap_or_default();
        if let Some(patch) = writer::patch(present.uid(), &old, new)? {
            self.pods.put_mirror(writer::write(&self.client, &mirror, &patch).await?);
        }
        Ok(())
    }

    /// Gone already, or replaced by another, is as good.
    pub(crate) async fn delete_mirror(&self, mirror: &Object) -> Result<(), Error> {
        let meta = mirror.meta();
        writer::delete(&self.client, &meta.namespace, &meta.name, &meta.uid).await?;
        self.pods.remove_mirror(mirror);
        Ok(())
    }

    async fn create_mirror(&self, object: &Object) -> Result<Object, Error> {
        let mut mirror: Value = object.decode()?;
        let node: String = mirror["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        let owner = kube::Api::<Node>::all(self.client.clone()).get(&node).await?;
        let metadata = &mut mirror["metadata"];
        metadata["annotations"][CONFIG_MIRROR] = metadata["annotations"][CONFIG_HASH].clone();
        metadata["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "Node", "name": node, "uid": owner.metadata.uid, "controller": true,
        }]);
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.remove("uid");
        }
        let meta = object.meta();
        let request = Request::post(format!("/api/v1/namespaces/{}/pods", meta.namespace));
        let request = request.header("content-type", "application/json").body(serde_json::to_vec(&mirror)?);
        let answer = self.client.request_text(request.map_err(kube::Error::HttpError)?).await?;
        let created: Pod = serde_json::from_str(&answer)?;
        let revision =
            created.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0);
        let meta = coracle_api::object::Meta { uid: created.uid().into(), ..meta.clone() };
        let mirror = Object::new(object.resource().clone(), revision, answer.into(), meta);
        self.pods.put_mirror(mirror.clone());
        Ok(mirror)
    }
}

/// Whether the mirror is of this very form of the pod, and is to stay.
fn is_of(mirror: &Pod, pod: &Pod) -> bool {
    let annotation = |pod: &Pod, name: &str| pod.metadata.annotations.as_ref().and_then(|all| all.get(name)).cloned();
    mirror.metadata.deletion_timestamp.is_none() && annotation(mirror, CONFIG_MIRROR) == annotation(pod, CONFIG_HASH)
}
