//! What the node's server needs of the agent: pods, their containers, and the runtime.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_api::Object;

use crate::cgroups::Cgroups;
use crate::cri::{Cri, RuntimeError};
use crate::labels;
use crate::pods::PodStore;
use crate::proto::cri as wire;

/// Cloning is a few reference counts.
#[derive(Clone)]
pub struct NodeHandle {
    pub(crate) node: Arc<str>,
    pub(crate) cri: Cri,
    pub(crate) socket: Arc<PathBuf>,
    pub(crate) pods: PodStore,
    pub(crate) cgroups: Arc<Cgroups>,
    /// On the file system of pods' files.
    pub(crate) storage: Arc<PathBuf>,
}

/// A pod's sandbox that is ready, with its network.
#[derive(Debug, Clone)]
pub struct Sandbox {
    pub id: String,
    /// `""` for a pod on the host's network.
    pub address: String,
}

impl NodeHandle {
    pub fn node(&self) -> &str {
        &self.node
    }

    pub fn cri(&self) -> &Cri {
        &self.cri
    }

    /// The runtime's socket, for containerd's own services.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Every pod that this node should run, static ones included.
    pub fn pods(&self) -> Vec<Object> {
        self.pods.all()
    }

    pub fn pod(&self, namespace: &str, name: &str) -> Option<Object> {
        self.pods.named(namespace, name)
    }

    /// The newest container of that name in the pod, also one that has ended; `previous` asks for the one before it.
    pub async fn container(
        &self,
        pod_uid: &str,
        name: &str,
        previous: bool,
    ) -> Result<Option<wire::ContainerStatus>, RuntimeError> {
        let labels = [(labels::POD_UID, pod_uid), (labels::CONTAINER_NAME, name)];
        let mut containers = self.cri.containers(&labels).await?;
        containers.sort_by_key(|container| std::cmp::Reverse(container.created_at));
        match containers.get(usize::from(previous)) {
            Some(container) => self.cri.container_status(&container.id).await.map(Some),
            None => Ok(None),
        }
    }

    /// The pod's sandbox, for port-forward; `None` while none is ready.
    pub async fn sandbox(&self, pod_uid: &str) -> Result<Option<Sandbox>, RuntimeError> {
        let sandboxes = self.cri.pod_sandboxes(&[(labels::POD_UID, pod_uid)]).await?;
        let ready = sandboxes.into_iter().find(|sandbox| sandbox.state() == wire::PodSandboxState::SandboxReady);
        let Some(ready) = ready else { return Ok(None) };
        let status = self.cri.pod_sandbox_status(&ready.id).await?;
        Ok(Some(Sandbox { id: ready.id, address: status.network.unwrap_or_default().ip }))
    }
}
