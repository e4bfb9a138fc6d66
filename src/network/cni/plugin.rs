//! The CNI plugin as containerd runs it: passes its call to the agent's socket. Also the `loopback` plugin, which containerd expects beside it.

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};

use super::protocol::{CniError, Request, Response, VERSIONS};
use crate::netlink::route::RouteSocket;

/// The plugin's `type`, and the name under which the executable must be in the plugin directory.
pub const PLUGIN: &str = "coracle-cni";
pub const LOOPBACK: &str = "loopback";

/// Longer than any ADD takes; the kubelet's own limit is two minutes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the plugin if this process was started under one of its names.
pub fn dispatch() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    let name = std::path::Path::new(&name).file_name()?.to_str()?;
    (name == PLUGIN || name == LOOPBACK).then(plugin_main)
}

/// The plugin's main function: environment and standard input in, a result or an error object on standard output.
pub fn plugin_main() -> ExitCode {
    let mut version = "1.0.0".to_owned();
    match run(&mut version) {
        Ok(Value::Null) => ExitCode::SUCCESS,
        Ok(output) => {
            println!("{output}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{}", error.json(&version));
            ExitCode::FAILURE
        }
    }
}

fn run(version: &mut String) -> Result<Value, CniError> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default().into_boxed_str();
    let command = variable("CNI_COMMAND");
    if &*command == "VERSION" {
        return Ok(json!({"cniVersion": "1.1.0", "supportedVersions": VERSIONS}));
    }
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).map_err(|error| io("standard input", &error))?;
    let configuration: Value = serde_json::from_str(&input)
        .map_err(|error| CniError::new(CniError::INVALID_CONFIGURATION, format!("configuration: {error}")))?;
    let request = Request {
        command,
        container: variable("CNI_CONTAINERID"),
        interface: variable("CNI_IFNAME"),
        namespace: variable("CNI_NETNS"),
        arguments: variable("CNI_ARGS"),
        configuration,
    };
    *version = request.version().to_owned();
    if !VERSIONS.contains(&request.version()) {
        return Err(CniError::new(CniError::INCOMPATIBLE_VERSION, format!("version {version} is not supported")));
    }
    if request.configuration.get("type").and_then(Value::as_str) == Some(LOOPBACK) {
        return loopback(&request);
    }
    let socket = request
        .configuration
        .get("socket")
        .and_then(Value::as_str)
        .ok_or_else(|| CniError::new(CniError::INVALID_CONFIGURATION, "configuration has no socket"))?;
    match ask(socket, &request)? {
        Response::Done(output) => Ok(output),
        Response::Failed(error) => Err(error),
    }
}

/// Sends the request with the namespace's descriptor: the agent may live in another mount namespace.
pub fn ask(socket: &str, request: &Request) -> Result<Response, CniError> {
    let unavailable = |error: &dyn std::fmt::Display| {
        let code = if &*request.command == "STATUS" { CniError::NOT_AVAILABLE } else { CniError::TRY_AGAIN };
        CniError::new(code, format!("coracle's agent at {socket}: {error}"))
    };
    let mut stream = UnixStream::connect(socket).map_err(|error| unavailable(&error))?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(|error| unavailable(&error))?;
    let namespace = match (&*request.command, &*request.namespace) {
        ("ADD" | "CHECK", path) => Some(std::fs::File::open(path).map_err(|error| io(path, &error))?),
        _ => None,
    };
    let descriptors: Vec<_> = namespace.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&descriptors)];
    let control = if descriptors.is_empty() { &control[..0] } else { &control[..] };
    // One byte carries the descriptor; the document follows.
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"\n")], control, MsgFlags::empty(), None)
        .map_err(|error| unavailable(&error))?;
    let document = serde_json::to_vec(request).map_err(|error| unavailable(&error))?;
    stream.write_all(&document).map_err(|error| unavailable(&error))?;
    stream.shutdown(std::net::Shutdown::Write).map_err(|error| unavailable(&error))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| unavailable(&error))?;
    serde_json::from_slice(&answer).map_err(|error| unavailable(&error))
}

fn loopback(request: &Request) -> Result<Value, CniError> {
    if &*request.command == "ADD" {
        let namespace = std::fs::File::open(&*request.namespace).map_err(|error| io(&request.namespace, &error))?;
        // This process has one thread and ends after its call.
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|error| io("setns", &error))?;
        RouteSocket::open().and_then(|mut socket| socket.set_up(1)).map_err(|error| io("lo", &error))?;
        if let Some(previous) = request.configuration.get("prevResult") {
            return Ok(previous.clone());
        }
        let mut ips =
            vec![json!({"address": "127.0.0.1/8", "interface": 0}), json!({"address": "::1/128", "interface": 0})];
        if request.version().starts_with("0.") {
            ips[0]["version"] = json!("4");
            ips[1]["version"] = json!("6");
        }
        let interface = json!({"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": request.namespace});
        return Ok(json!({"cniVersion": request.version(), "interfaces": [interface], "ips": ips, "dns": {}}));
    }
    Ok(Value::Null)
}

fn io(what: &str, error: &dyn std::fmt::Display) -> CniError {
    CniError::new(CniError::INPUT_OUTPUT, format!("{what}: {error}"))
}
