//! What passes between the plugin and the agent, and the shapes of the CNI specification (0.3.1 to 1.1.0).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Versions of the specification that results can be given in.
pub const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The plugin's request: one JSON document, with the sandbox's network namespace as a descriptor beside it where there is one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// CNI_COMMAND.
    pub command: Box<str>,
    /// CNI_CONTAINERID.
    pub container: Box<str>,
    /// CNI_IFNAME.
    pub interface: Box<str>,
    /// CNI_NETNS, for the result only.
    pub namespace: Box<str>,
    /// CNI_ARGS: `K8S_POD_NAME=...;K8S_POD_NAMESPACE=...`.
    pub arguments: Box<str>,
    /// Standard input.
    pub configuration: Value,
}

impl Request {
    pub fn version(&self) -> &str {
        self.configuration.get("cniVersion").and_then(Value::as_str).unwrap_or("0.3.1")
    }

    /// A value of CNI_ARGS.
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.arguments
            .split(';')
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, value)| value)
    }
}

/// `null` output for commands without result.
#[derive(Debug, Serialize, Deserialize)]
pub enum Response {
    Done(Value),
    Failed(CniError),
}

/// An error as the specification wants it. Codes below 100 are the specification's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct CniError {
    pub code: u32,
    pub message: String,
}

impl CniError {
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    pub const INVALID_ENVIRONMENT: u32 = 4;
    pub const INPUT_OUTPUT: u32 = 5;
    pub const INVALID_CONFIGURATION: u32 = 7;
    /// The runtime should try again.
    pub const TRY_AGAIN: u32 = 11;
    /// STATUS: the plugin cannot serve ADD.
    pub const NOT_AVAILABLE: u32 = 50;
    pub const FAILED: u32 = 100;

    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub fn json(&self, version: &str) -> Value {
        json!({"cniVersion": version, "code": self.code, "msg": self.message})
    }
}

/// A port mapping of `runtimeConfig.portMappings`. containerd writes its fields as Go names them, and CNI's own decoder does not
/// look at case.
#[derive(Debug, Clone, Deserialize)]
pub struct PortMapping {
    #[serde(rename = "hostPort", alias = "HostPort")]
    pub host_port: u16,
    #[serde(rename = "containerPort", alias = "ContainerPort")]
    pub container_port: u16,
    #[serde(default, alias = "Protocol")]
    pub protocol: String,
    #[serde(default, rename = "hostIP", alias = "HostIP")]
    pub host_ip: String,
}

/// The result of ADD.
pub fn result(version: &str, host: (&str, &str), pod: (&str, &str, &str), addresses: &[(IpAddr, IpAddr)]) -> Value {
    let ips: Vec<Value> = addresses
        .iter()
        .map(|(address, gateway)| {
            let length = if address.is_ipv4() { 32 } else { 128 };
            let mut ip = json!({"address": format!("{address}/{length}"), "gateway": gateway, "interface": 1});
            if version.starts_with("0.") {
                ip["version"] = json!(if address.is_ipv4() { "4" } else { "6" });
            }
            ip
        })
        .collect();
    let routes: Vec<Value> = addresses
        .iter()
        .map(|(_, gateway)| json!({"dst": if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" }, "gw": gateway}))
        .collect();
    json!({
        "cniVersion": version,
        "interfaces": [{"name": host.0, "mac": host.1}, {"name": pod.0, "mac": pod.1, "sandbox": pod.2}],
        "ips": ips,
        "routes": routes,
        "dns": {},
    })
}
