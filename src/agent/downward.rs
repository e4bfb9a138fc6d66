//! What a pod may learn of itself: fields and resources (upstream: pkg/fieldpath, pkg/api/v1/resource ExtractContainerResourceValue).

use coracle_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::pod::PodExt;
use crate::qos;

/// What the node can give; limits that are not set read as this.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allocatable {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
}

/// The value of a field path such as `metadata.labels['app']`; `None` for a path that is not offered.
pub fn field(pod: &Pod, path: &str, pod_addresses: &[String], node_addresses: &[String]) -> Option<String> {
    let own = if pod.uses_host_network() { node_addresses } else { pod_addresses };
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    Some(match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().to_owned(),
        "metadata.labels" => lines(pod.metadata.labels.as_ref()),
        "metadata.annotations" => lines(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => pod.spec().node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => pod.spec().service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => first(node_addresses),
        "status.hostIPs" => node_addresses.join(","),
        "status.podIP" => first(own),
        "status.podIPs" => own.join(","),
        _ => {
            let (map, key) = path.strip_suffix("']")?.split_once("['")?;
            let map = match map {
                "metadata.labels" => pod.metadata.labels.as_ref(),
                "metadata.annotations" => pod.metadata.annotations.as_ref(),
                _ => return None,
            };
            map.and_then(|map| map.get(key)).cloned().unwrap_or_default()
        }
    })
}

/// `key="value"` lines, sorted.
fn lines(map: Option<&std::collections::BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// A request or limit in units of the divisor, rounded up.
pub fn resource(
    container: &Container,
    path: &str,
    divisor: Option<&Text>,
    allocatable: &Allocatable,
) -> Option<String> {
    let (kind, name) = path.split_once('.')?;
    let amount = match kind {
        "limits" => qos::limit(container, name),
        "requests" => qos::request(container, name),
        _ => return None,
    };
    let divisor = divisor.and_then(|text| Quantity::parse(&text.0).ok()).filter(|divisor| !divisor.is_zero());
    let (value, unit) = match name {
        "cpu" => {
            let whole = if kind == "limits" { allocatable.milli_cpu } else { 0 };
            (amount.map_or(whole, |amount| amount.milli_value()), divisor.map_or(1000, |divisor| divisor.milli_value()))
        }
        "memory" | "ephemeral-storage" => {
            let all = if name == "memory" { allocatable.memory } else { allocatable.ephemeral_storage };
            let whole = if kind == "limits" { all } else { 0 };
            (amount.map_or(whole, |amount| amount.value()), divisor.map_or(1, |divisor| divisor.value()))
        }
        _ => return None,
    };
    let unit = unit.max(1);
    Some(((value + unit - 1) / unit).to_string())
}
