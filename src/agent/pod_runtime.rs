//! What the runtime holds of one pod: read anew for every decision, never remembered.

use crate::cri::{Cri, RuntimeError};
use crate::labels;
use crate::proto::cri as wire;

/// A pod's sandboxes and containers, the newest first.
#[derive(Debug, Clone, Default)]
pub struct PodRuntime {
    pub sandboxes: Vec<wire::PodSandboxStatus>,
    pub containers: Vec<Container>,
}

/// A container with the sandbox it belongs to.
#[derive(Debug, Clone, Default)]
pub struct Container {
    pub sandbox: String,
    pub name: String,
    pub status: wire::ContainerStatus,
}

impl PodRuntime {
    pub async fn read(cri: &Cri, uid: &str) -> Result<Self, RuntimeError> {
        let selector = [(labels::POD_UID, uid)];
        let mut runtime = Self::default();
        for sandbox in cri.pod_sandboxes(&selector).await? {
            match cri.pod_sandbox_status(&sandbox.id).await {
                Ok(status) => runtime.sandboxes.push(status),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        for container in cri.containers(&selector).await? {
            match cri.container_status(&container.id).await {
                Ok(status) => runtime.containers.push(Container {
                    sandbox: container.pod_sandbox_id,
                    name: status.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default(),
                    status,
                }),
                // Removed between the two calls.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        runtime.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse(sandbox.created_at));
        runtime.containers.sort_by_key(|container| std::cmp::Reverse(container.status.created_at));
        Ok(runtime)
    }

    /// The newest container of that name, of any sandbox.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The newest container of that name in the newest sandbox.
    pub fn active(&self, name: &str) -> Option<&Container> {
        let sandbox = &self.sandboxes.first()?.id;
        self.containers.iter().find(|container| container.name == name && container.sandbox == *sandbox)
    }

    /// The newest sandbox, if it is ready.
    pub fn ready_sandbox(&self) -> Option<&wire::PodSandboxStatus> {
        self.sandboxes.first().filter(|sandbox| sandbox.state() == wire::PodSandboxState::SandboxReady)
    }

    /// The pod's addresses, the first of its family order first; none on the host's network.
    pub fn addresses(&self) -> Vec<String> {
        let network = self.ready_sandbox().and_then(|sandbox| sandbox.network.clone()).unwrap_or_default();
        let more = network.additional_ips.into_iter().map(|address| address.ip);
        std::iter::once(network.ip).chain(more).filter(|address| !address.is_empty()).collect()
    }

    pub fn has_running(&self) -> bool {
        self.containers.iter().any(|container| container.status.state() == wire::ContainerState::ContainerRunning)
    }
}

impl Container {
    pub fn state(&self) -> wire::ContainerState {
        self.status.state()
    }

    pub fn is_running(&self) -> bool {
        self.state() == wire::ContainerState::ContainerRunning
    }

    pub fn restart_count(&self) -> i32 {
        self.status.annotations.get(labels::RESTART_COUNT).and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}
