//! The agent's side of the plugin: gives addresses, makes links, maps host ports.

use std::fs;
use std::io::{self, IoSliceMut, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_base::shutdown::Shutdown;
use coracle_base::task;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::Value;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};

use super::addresses::{AddressError, Addresses, Attachment, identifier};
use super::link::{self, Plan};
use super::protocol::{CniError, PortMapping, Request, Response, result};
use crate::services::plan;
use crate::services::{HostPort, Owner, Prefix, Table};

/// What the server works with.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    pub instance: Box<str>,
    /// Where it listens; the directory is made.
    pub socket: PathBuf,
    /// Where the address file is.
    pub directory: PathBuf,
    /// The node's ranges of pod addresses, IPv4 and IPv6 alike.
    pub ranges: Vec<Prefix>,
    pub mtu: u32,
}

/// Listening since it exists.
pub struct Server {
    worker: Arc<Worker>,
    listener: UnixListener,
}

struct Worker {
    config: ServerConfig,
    addresses: Mutex<Addresses>,
    table: Arc<Table>,
    installed: watch::Receiver<bool>,
}

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("CNI socket {path}")]
    Socket { path: PathBuf, source: io::Error },
    #[error("pod addresses")]
    Addresses(#[from] AddressError),
    #[error("pod links")]
    Links(#[from] crate::netlink::KernelError),
}

/// A request is a few kilobytes.
const REQUEST_LIMIT: u64 = 1 << 20;
/// How long a pod with host ports waits for the table after a restart.
const TABLE_WAIT: Duration = Duration::from_secs(10);
/// Calls are served on few threads at a time.
const CONCURRENCY: usize = 4;

impl Server {
    /// Reads the addresses, forgets those whose link is gone, claims the host ports of the others, and listens.
    pub fn start(
        config: ServerConfig,
        table: Arc<Table>,
        installed: watch::Receiver<bool>,
    ) -> Result<Self, ServerError> {
        let mut addresses = Addresses::open(&config.directory, config.ranges.clone())?;
        let present = link::host_ends(&config.instance)?;
        let (alive, gone): (Vec<Attachment>, Vec<Attachment>) = addresses
            .all()
            .cloned()
            .partition(|attachment| present.iter().any(|link| link.name == attachment.host_interface));
        for attachment in gone {
            addresses.release(&attachment.id())?;
        }
        for attachment in alive.iter().filter(|attachment| !attachment.host_ports.is_empty()) {
            table.change(|ledger| claim(ledger, attachment))?;
        }
        let socket = |source| ServerError::Socket { path: config.socket.clone(), source };
        let listener = listen(&config.socket).map_err(socket)?;
        tracing::info!(pods = alive.len(), socket = %config.socket.display(), "cni server listens");
        let worker = Worker { addresses: Mutex::new(addresses), table, installed, config };
        Ok(Self { worker: Arc::new(worker), listener })
    }

    /// Serves until shutdown; links and addresses stay.
    pub async fn run(self, shutdown: Shutdown) {
        let permits = Arc::new(Semaphore::new(CONCURRENCY));
        let serve = async {
            loop {
                let Ok((stream, _)) = self.listener.accept().await else {
                    // Out of descriptors, most likely.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let Ok(permit) = permits.clone().acquire_owned().await else { return };
                let worker = self.worker.clone();
                let call = async move {
                    let _permit = permit;
                    let Ok(stream) = stream.into_std() else { return };
                    if let Err(error) = task::blocking(move || worker.serve(stream)).await {
                        tracing::error!(%error, "cni call failed");
                    }
                };
                task::spawn("cni call", call).detach();
            }
        };
        shutdown.bound(serve).await;
        let _ = fs::remove_file(&self.worker.config.socket);
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => (),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn claim(ledger: &mut crate::services::Ledger, attachment: &Attachment) {
    let owner = Owner::Sandbox(attachment.id().into());
    ledger.plan(&owner, |groups| plan::host_ports(&attachment.host_ports, groups));
}

impl Worker {
    fn serve(&self, mut stream: UnixStream) {
        let response = match receive(&mut stream) {
            Ok((request, namespace)) => match self.call(&request, namespace.as_ref()) {
                Ok(output) => Response::Done(output),
                Err(error) => {
                    tracing::warn!(command = %request.command, container = %request.container, %error, "cni call is refused");
                    Response::Failed(error)
                }
            },
            Err(error) => Response::Failed(CniError::new(CniError::INVALID_CONFIGURATION, error.to_string())),
        };
        // The plugin may be gone; it will be called again.
        let _ = serde_json::to_vec(&response).map(|bytes| stream.write_all(&bytes));
    }

    fn call(&self, request: &Request, namespace: Option<&OwnedFd>) -> Result<Value, CniError> {
        let id = identifier(&request.container, &request.interface);
        match &*request.command {
            "ADD" => self.add(request, &id, need(namespace)?),
            "DEL" => self.delete(&id).map(|()| Value::Null),
            "CHECK" => {
                let attachment = self.lock().get(&id).cloned();
                let attachment =
                    attachment.ok_or_else(|| CniError::new(CniError::FAILED, "the sandbox has no address here"))?;
                link::check(&request.interface, &attachment.addresses, need(namespace)?.as_fd())?;
                Ok(Value::Null)
            }
            "STATUS" if self.config.ranges.is_empty() => {
                Err(CniError::new(CniError::NOT_AVAILABLE, AddressError::NoRange.to_string()))
            }
            "STATUS" => Ok(Value::Null),
            "GC" => self.collect(&request.configuration),
            command => Err(CniError::new(CniError::INVALID_ENVIRONMENT, format!("unknown CNI_COMMAND {command:?}"))),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Addresses> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, request: &Request, id: &str, namespace: &OwnedFd) -> Result<Value, CniError> {
        let mappings = mappings(&request.configuration)?;
        // A repeated ADD starts anew.
        self.delete(id)?;
        let host_name = link::host_name(&self.config.instance, id);
        let attachment = self
            .lock()
            .allocate(&request.container, &request.interface, &host_name, |addresses| host_ports(&mappings, addresses))
            .map_err(|error| CniError::new(CniError::TRY_AGAIN, error.to_string()))?;
        let plan = Plan {
            instance: &self.config.instance,
            host_name: &host_name,
            pod_name: &request.interface,
            addresses: &attachment.addresses,
            mtu: self.config.mtu,
        };
        let added = link::create(&plan, namespace.as_fd()).and_then(|()| self.map_ports(&attachment));
        if let Err(error) = added {
            if let Err(error) = self.delete(id) {
                tracing::warn!(%error, id, "half a link is left");
            }
            return Err(error);
        }
        tracing::debug!(
            ns = request.argument("K8S_POD_NAMESPACE"),
            name = request.argument("K8S_POD_NAME"),
            addresses = ?attachment.addresses,
            "pod has its network"
        );
        let addresses: Vec<(IpAddr, IpAddr)> =
            attachment.addresses.iter().map(|address| (*address, link::gateway(*address))).collect();
        let macs = (link::mac_text(link::HOST_MAC), link::mac_text(link::pod_mac(&attachment.addresses)));
        Ok(result(
            request.version(),
            (&host_name, &macs.0),
            (&request.interface, &macs.1, &request.namespace),
            &addresses,
        ))
    }

    fn map_ports(&self, attachment: &Attachment) -> Result<(), CniError> {
        if attachment.host_ports.is_empty() {
            return Ok(());
        }
        // Before the first complete table, claims are noted only.
        let mut installed = self.installed.clone();
        let wait = tokio::time::timeout(TABLE_WAIT, installed.wait_for(|installed| *installed));
        if !matches!(tokio::runtime::Handle::current().block_on(wait), Ok(Ok(_))) {
            return Err(CniError::new(
                CniError::TRY_AGAIN,
                "services are not known yet, so host ports cannot be mapped",
            ));
        }
        self.table.change(|ledger| claim(ledger, attachment)).map_err(|error| kernel(&error))
    }

    /// Fine for what is not there. The address is free again last.
    fn delete(&self, id: &str) -> Result<(), CniError> {
        let Some(attachment) = self.lock().get(id).cloned() else { return Ok(()) };
        if !attachment.host_ports.is_empty() {
            let owner = Owner::Sandbox(id.into());
            self.table.change(|ledger| ledger.set(&owner, plan::Fragment::new())).map_err(|error| kernel(&error))?;
        }
        link::delete(&attachment.host_interface)?;
        self.lock().release(id).map_err(|error| CniError::new(CniError::INPUT_OUTPUT, error.to_string()))?;
        Ok(())
    }

    /// Deletes attachments that the runtime does not name as valid.
    fn collect(&self, configuration: &Value) -> Result<Value, CniError> {
        let Some(valid) = configuration.get("cni.dev/valid-attachments").and_then(Value::as_array) else {
            return Err(CniError::new(CniError::INVALID_CONFIGURATION, "no cni.dev/valid-attachments"));
        };
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let valid: Vec<String> =
            valid.iter().map(|value| identifier(&text(value, "containerID"), &text(value, "ifname"))).collect();
        let stale: Vec<String> = self.lock().all().map(Attachment::id).filter(|id| !valid.contains(id)).collect();
        for id in stale {
            self.delete(&id)?;
        }
        Ok(Value::Null)
    }
}

/// The document and the descriptor that comes with its first byte.
fn receive(stream: &mut UnixStream) -> io::Result<(Request, Option<OwnedFd>)> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut first = [0; 1];
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let mut slices = [IoSliceMut::new(&mut first)];
    let received = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut namespace = None;
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = message {
            namespace = descriptors.into_iter().map(crate::sys::own).next_back();
        }
    }
    let mut document = Vec::new();
    stream.take(REQUEST_LIMIT).read_to_end(&mut document)?;
    Ok((serde_json::from_slice(&document)?, namespace))
}

fn need(namespace: Option<&OwnedFd>) -> Result<&OwnedFd, CniError> {
    namespace.ok_or_else(|| CniError::new(CniError::INVALID_ENVIRONMENT, "no network namespace came with the call"))
}

fn kernel(error: &crate::netlink::KernelError) -> CniError {
    CniError::new(CniError::TRY_AGAIN, format!("nf_tables: {error}"))
}

fn mappings(configuration: &Value) -> Result<Vec<PortMapping>, CniError> {
    match configuration.pointer("/runtimeConfig/portMappings") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(mappings) => serde::Deserialize::deserialize(mappings)
            .map_err(|error| CniError::new(CniError::INVALID_CONFIGURATION, format!("portMappings: {error}"))),
    }
}

/// Each mapping leads to the pod's address of either family, unless it names a host address of one.
fn host_ports(mappings: &[PortMapping], addresses: &[IpAddr]) -> Vec<HostPort> {
    let mut ports = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.host_port != 0) {
        let host: Option<IpAddr> = mapping.host_ip.parse().ok().filter(|address: &IpAddr| !address.is_unspecified());
        for address in addresses.iter().filter(|address| host.is_none_or(|host| host.is_ipv4() == address.is_ipv4())) {
            ports.push(HostPort {
                address: host,
                protocol: mapping.protocol.to_lowercase().into(),
                port: mapping.host_port,
                pod: (*address, mapping.container_port).into(),
            });
        }
    }
    ports
}
