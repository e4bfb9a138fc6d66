//! How the API server reaches nodes, pods and Services from this process.
//!
//! The node of this process is reached by a pipe in memory, others through their tunnels; pods and endpoints through the tunnel of their
//! node where it has one, else by TCP, for the host routes to them.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use coracle_api::{Resource, Status};
use coracle_apiserver::{ByteStream, Dialer};
use coracle_base::task;
use coracle_client::Error;
use futures::future::BoxFuture;
use serde::Deserialize;
use tokio::io::DuplexStream;
use tokio::net::TcpStream;

use crate::api::Api;
use crate::tunnel::{self, Tunnels};

/// Serves the kubelet's API to the API server on one stream.
pub type NodeServer = Arc<dyn Fn(DuplexStream) -> BoxFuture<'static, ()> + Send + Sync>;

/// Bytes in flight each way between API server and node.
const PIPE: usize = 64 * 1024;
const CONNECT: Duration = Duration::from_secs(10);

pub struct LocalDialer {
    api: Api,
    node: OnceLock<(String, NodeServer)>,
    tunnels: Tunnels,
}

impl LocalDialer {
    /// `api` must be the API server's own: whether the caller may was decided before.
    pub fn new(api: Api, tunnels: Tunnels) -> Self {
        Self { api, node: OnceLock::new(), tunnels }
    }

    /// The node in this process; once.
    pub fn set_node(&self, name: String, server: NodeServer) {
        let _ = self.node.set((name, server));
    }

    async fn find<T: for<'de> Deserialize<'de>>(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<T, Status> {
        let resource = Resource::find(group, "v1", plural).ok_or_else(Status::no_such_path)?;
        let found = self.api.get(&resource, namespace, name).await.map_err(failed)?;
        let found = found.ok_or_else(|| Status::not_found(&resource, name))?;
        T::deserialize(found).map_err(Status::internal)
    }

    /// A ready address of the Service and the port's number there.
    async fn endpoint(&self, namespace: &str, name: &str, port: &str) -> Result<(Endpoint, u16), Status> {
        let service: Service = self.find("", "services", namespace, name).await?;
        let only = service.spec.ports.len() == 1 && port.is_empty();
        let wanted = service.spec.ports.iter().find(|own| only || own.name == port || own.port.to_string() == port);
        let wanted = wanted.ok_or_else(|| {
            Status::service_unavailable(format!("no service port {port:?} found for service {name:?}"))
        })?;
        let slices = Resource::find("discovery.k8s.io", "v1", "endpointslices").ok_or_else(Status::no_such_path)?;
        let label = format!("kubernetes.io/service-name={name}");
        for slice in self.api.select(&slices, namespace, &label).await.map_err(failed)? {
            let slice = Slice::deserialize(slice).map_err(Status::internal)?;
            let target = slice.ports.iter().find(|own| own.name == wanted.name).and_then(|own| own.port);
            let ready = slice.endpoints.into_iter().find(|endpoint| endpoint.conditions.ready.unwrap_or(true));
            if let (Some(port), Some(endpoint)) = (target, ready) {
                return Ok((endpoint, port));
            }
        }
        Err(Status::service_unavailable(format!("no endpoints available for service {name:?}")))
    }
}

#[async_trait]
impl Dialer for LocalDialer {
    async fn node(&self, name: &str) -> Result<Box<dyn ByteStream>, Status> {
        match self.node.get() {
            Some((own, server)) if own == name => {
                let (near, far) = tokio::io::duplex(PIPE);
                task::spawn("node stream", server(far)).detach();
                Ok(Box::new(near))
            }
            _ => self.tunnels.open(name, tunnel::NODE).await,
        }
    }

    async fn service(&self, namespace: &str, name: &str, port: &str) -> Result<Box<dyn ByteStream>, Status> {
        let (endpoint, port) = self.endpoint(namespace, name, port).await?;
        let address = endpoint.addresses.first().cloned().unwrap_or_default();
        self.reach(&endpoint.node_name, &address, port).await
    }

    async fn pod(&self, namespace: &str, name: &str, port: u16) -> Result<Box<dyn ByteStream>, Status> {
        let pod: Pod = self.find("", "pods", namespace, name).await?;
        let (node, address) = (pod.spec.node_name, pod.status.unwrap_or_default().pod_ip);
        if address.is_empty() {
            return Err(Status::service_unavailable(format!("pod {name:?} has no address yet")));
        }
        self.reach(&node, &address, port).await
    }
}

impl LocalDialer {
    async fn reach(&self, node: &str, address: &str, port: u16) -> Result<Box<dyn ByteStream>, Status> {
        match (self.tunnels.has(node), address.parse::<IpAddr>()) {
            (true, Ok(address)) => self.tunnels.open(node, &SocketAddr::new(address, port).to_string()).await,
            _ => connect(address, port).await,
        }
    }
}

async fn connect(address: &str, port: u16) -> Result<Box<dyn ByteStream>, Status> {
    let unreachable =
        |why: String| Status::service_unavailable(format!("error trying to reach {address}:{port}: {why}"));
    match tokio::time::timeout(CONNECT, TcpStream::connect((address, port))).await {
        Ok(Ok(stream)) => {
            let _ = stream.set_nodelay(true);
            Ok(Box::new(stream))
        }
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Err(_) => Err(unreachable("no answer".to_owned())),
    }
}

fn failed(error: Error) -> Status {
    Status::internal(error)
}

#[derive(Deserialize)]
struct Service {
    spec: ServiceSpec,
}

#[derive(Deserialize)]
struct ServiceSpec {
    #[serde(default)]
    ports: Vec<ServicePort>,
}

#[derive(Deserialize)]
struct ServicePort {
    #[serde(default)]
    name: String,
    port: u16,
}

#[derive(Deserialize)]
struct Slice {
    #[serde(default)]
    endpoints: Vec<Endpoint>,
    #[serde(default)]
    ports: Vec<SlicePort>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    addresses: Vec<String>,
    #[serde(default)]
    node_name: String,
    #[serde(default)]
    conditions: Conditions,
}

#[derive(Deserialize, Default)]
struct Conditions {
    ready: Option<bool>,
}

#[derive(Deserialize)]
struct SlicePort {
    #[serde(default)]
    name: String,
    port: Option<u16>,
}

#[derive(Deserialize)]
struct Pod {
    spec: PodSpec,
    status: Option<PodStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    node_name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct PodStatus {
    #[serde(default, rename = "podIP")]
    pod_ip: String,
}
