//! The client of the container runtime interface over a unix socket, and the errors it gives.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::proto::cri as wire;
use crate::proto::cri::image_service_client::ImageServiceClient;
use crate::proto::cri::runtime_service_client::RuntimeServiceClient;

/// The largest message that is taken: a list of every container of a full node.
const MESSAGE_LIMIT: usize = 16 << 20;

/// What the runtime answered instead of doing it.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("{call}: {}", .status.message())]
    Refused { call: &'static str, status: tonic::Status },
    #[error("{call}: the runtime's answer lacks {what}")]
    Incomplete { call: &'static str, what: &'static str },
}

impl RuntimeError {
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code() == tonic::Code::NotFound)
    }

    pub fn is_unimplemented(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code() == tonic::Code::Unimplemented)
    }

    /// The runtime's socket cannot be reached at the moment.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code() == tonic::Code::Unavailable)
    }

    /// The call took longer than its time limit.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code() == tonic::Code::DeadlineExceeded)
    }
}

/// A connection to a runtime's socket that is made on first use and again after the runtime was restarted. Cloning is a reference count.
#[derive(Clone)]
pub struct Cri {
    channel: Channel,
}

/// A channel over the unix socket at `socket`; nothing is connected before the first call.
pub fn channel(socket: &Path) -> Channel {
    let path: PathBuf = socket.to_owned();
    // The authority is never resolved: the connector ignores it.
    Endpoint::from_static("http://runtime").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    }))
}

/// Calls one method and names it in the error.
macro_rules! call {
    ($self:ident . $client:ident . $method:ident ($request:expr)) => {
        $self.$client().$method($request).await.map(tonic::Response::into_inner).map_err(refused(stringify!($method)))
    };
}

fn refused(call: &'static str) -> impl FnOnce(tonic::Status) -> RuntimeError {
    move |status| RuntimeError::Refused { call, status }
}

impl Cri {
    pub fn new(socket: &Path) -> Self {
        Self { channel: channel(socket) }
    }

    /// The generated client, for calls that have no method here.
    pub fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    pub fn image(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    pub async fn version(&self) -> Result<wire::VersionResponse, RuntimeError> {
        call!(self.runtime.version(wire::VersionRequest { version: "v1".to_owned() }))
    }

    /// RuntimeReady and NetworkReady.
    pub async fn conditions(&self) -> Result<Vec<wire::RuntimeCondition>, RuntimeError> {
        let answer = call!(self.runtime.status(wire::StatusRequest { verbose: false }))?;
        Ok(answer.status.unwrap_or_default().conditions)
    }

    /// `handler` is the runtime's name for a way to run; `""` is its default.
    pub async fn run_pod_sandbox(
        &self,
        config: wire::PodSandboxConfig,
        handler: String,
    ) -> Result<String, RuntimeError> {
        let request = wire::RunPodSandboxRequest { config: Some(config), runtime_handler: handler };
        Ok(call!(self.runtime.run_pod_sandbox(request))?.pod_sandbox_id)
    }

    /// Stops what is left in the sandbox and takes its network down; without effect on a stopped one.
    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        call!(self.runtime.stop_pod_sandbox(wire::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() })).map(drop)
    }

    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        call!(self.runtime.remove_pod_sandbox(wire::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() }))
            .map(drop)
    }

    pub async fn pod_sandbox_status(&self, id: &str) -> Result<wire::PodSandboxStatus, RuntimeError> {
        let request = wire::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let answer = call!(self.runtime.pod_sandbox_status(request))?;
        answer.status.ok_or(RuntimeError::Incomplete { call: "pod_sandbox_status", what: "a status" })
    }

    /// The sandboxes that carry all of `labels`.
    pub async fn pod_sandboxes(&self, labels: &[(&str, &str)]) -> Result<Vec<wire::PodSandbox>, RuntimeError> {
        let filter = wire::PodSandboxFilter { label_selector: map(labels), ..Default::default() };
        Ok(call!(self.runtime.list_pod_sandbox(wire::ListPodSandboxRequest { filter: Some(filter) }))?.items)
    }

    pub async fn create_container(
        &self,
        sandbox: &str,
        config: wire::ContainerConfig,
        sandbox_config: wire::PodSandboxConfig,
    ) -> Result<String, RuntimeError> {
        let request = wire::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        Ok(call!(self.runtime.create_container(request))?.container_id)
    }

    pub async fn start_container(&self, id: &str) -> Result<(), RuntimeError> {
        call!(self.runtime.start_container(wire::StartContainerRequest { container_id: id.to_owned() })).map(drop)
    }

    /// Gives a running container other resources.
    pub async fn update_container(&self, id: &str, linux: wire::LinuxContainerResources) -> Result<(), RuntimeError> {
        let request = wire::UpdateContainerResourcesRequest { container_id: id.to_owned(), linux: Some(linux) };
        call!(self.runtime.update_container_resources(request)).map(drop)
    }

    /// Sends the stop signal and, after `grace`, SIGKILL; returns when the container has ended.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let request = wire::StopContainerRequest {
            container_id: id.to_owned(),
            timeout: grace.as_secs().min(i64::MAX as u64) as i64,
        };
        call!(self.runtime.stop_container(request)).map(drop)
    }

    /// The log has been put aside: the runtime goes on in a new one.
    pub async fn reopen_log(&self, id: &str) -> Result<(), RuntimeError> {
        let request = wire::ReopenContainerLogRequest { container_id: id.to_owned() };
        call!(self.runtime.reopen_container_log(request)).map(drop)
    }

    pub async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        call!(self.runtime.remove_container(wire::RemoveContainerRequest { container_id: id.to_owned() })).map(drop)
    }

    /// The containers that carry all of `labels`, whatever their state.
    pub async fn containers(&self, labels: &[(&str, &str)]) -> Result<Vec<wire::Container>, RuntimeError> {
        let filter = wire::ContainerFilter { label_selector: map(labels), ..Default::default() };
        Ok(call!(self.runtime.list_containers(wire::ListContainersRequest { filter: Some(filter) }))?.containers)
    }

    pub async fn container_status(&self, id: &str) -> Result<wire::ContainerStatus, RuntimeError> {
        let request = wire::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let answer = call!(self.runtime.container_status(request))?;
        answer.status.ok_or(RuntimeError::Incomplete { call: "container_status", what: "a status" })
    }

    /// Runs a command to its end; `limit` is rounded up to whole seconds, zero means none.
    pub async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        limit: Duration,
    ) -> Result<wire::ExecSyncResponse, RuntimeError> {
        let seconds = limit.as_secs() as i64 + i64::from(limit.subsec_nanos() > 0);
        let request = wire::ExecSyncRequest { container_id: id.to_owned(), cmd: command, timeout: seconds };
        call!(self.runtime.exec_sync(request))
    }

    /// `None` when the image is not on this node.
    pub async fn image_status(&self, image: &str) -> Result<Option<wire::Image>, RuntimeError> {
        let request = wire::ImageStatusRequest { image: Some(spec(image)), verbose: false };
        Ok(call!(self.image.image_status(request))?.image)
    }

    pub async fn images(&self) -> Result<Vec<wire::Image>, RuntimeError> {
        Ok(call!(self.image.list_images(wire::ListImagesRequest { filter: None }))?.images)
    }

    pub async fn remove_image(&self, image: &str) -> Result<(), RuntimeError> {
        call!(self.image.remove_image(wire::RemoveImageRequest { image: Some(spec(image)) })).map(drop)
    }

    /// The reference of the image that was pulled.
    pub async fn pull_image(
        &self,
        image: &str,
        auth: Option<wire::AuthConfig>,
        sandbox_config: Option<wire::PodSandboxConfig>,
    ) -> Result<String, RuntimeError> {
        let request = wire::PullImageRequest { image: Some(spec(image)), auth, sandbox_config };
        Ok(call!(self.image.pull_image(request))?.image_ref)
    }
}

fn map(labels: &[(&str, &str)]) -> std::collections::HashMap<String, String> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn spec(image: &str) -> wire::ImageSpec {
    wire::ImageSpec { image: image.to_owned(), ..Default::default() }
}
