//! What the node, its pods and their containers use: `/stats/summary` and `/metrics/resource`, read from the kernel when asked
//! (upstream: pkg/kubelet/server/stats, pkg/kubelet/metrics/collectors/resource_metrics.go).

use std::collections::HashMap;
use std::fmt::Write;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::cgroups::Usage;
use crate::cri::RuntimeError;
use crate::handle::NodeHandle;
use crate::labels;
use crate::pod::PodExt;
use crate::proto::cri::{Container, ContainerState};

/// A pod that runs, with its running containers.
struct PodUsage {
    pod: Pod,
    usage: Usage,
    containers: Vec<ContainerUsage>,
}

struct ContainerUsage {
    name: String,
    /// Nanoseconds since the epoch.
    created_at: i64,
    usage: Usage,
}

async fn read(node: &NodeHandle) -> Result<Vec<PodUsage>, RuntimeError> {
    let mut running: HashMap<String, Vec<Container>> = HashMap::new();
    for container in node.cri.containers(&[]).await? {
        if container.state() == ContainerState::ContainerRunning
            && let Some(uid) = container.labels.get(labels::POD_UID)
        {
            running.entry(uid.clone()).or_default().push(container);
        }
    }
    let pods = node.pods().into_iter().filter_map(|object| object.decode::<Pod>().ok());
    let usage = |pod: Pod| {
        let containers = running.remove(pod.uid())?;
        let path = node.cgroups.pod_path(&pod);
        let of = |container: Container| ContainerUsage {
            name: container.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or_default(),
            created_at: container.created_at,
            usage: node.cgroups.usage(&format!("{path}/{}", container.id)),
        };
        let containers = containers.into_iter().map(of).collect();
        Some(PodUsage { usage: node.cgroups.usage(&path), pod, containers })
    };
    Ok(pods.filter_map(usage).collect())
}

/// `/stats/summary`; rates are left out, for they would need a second look.
pub(super) async fn summary(node: &NodeHandle) -> Result<Value, RuntimeError> {
    let now = Timestamp::now();
    let machine = node.cgroups.machine();
    let pods = read(node).await?.into_iter().map(|used| {
        let containers = used.containers.iter().map(|container| {
            let mut stats = stats(&container.usage, now);
            stats["name"] = container.name.as_str().into();
            stats["startTime"] = time(container.created_at).into();
            stats
        });
        let mut stats = stats(&used.usage, now);
        stats["containers"] = containers.collect();
        stats["podRef"] = json!({"name": used.pod.name(), "namespace": used.pod.namespace(), "uid": used.pod.uid()});
        let start = used.pod.status.as_ref().and_then(|status| status.start_time.as_ref());
        stats["startTime"] = json!(start);
        stats
    });
    let pods: Vec<Value> = pods.collect();
    let mut stats = stats(&machine.usage, now);
    stats["nodeName"] = node.node().into();
    stats["memory"]["availableBytes"] = machine.available_memory.into();
    stats["fs"] = file_system(node, now);
    Ok(json!({"node": stats, "pods": pods}))
}

fn stats(usage: &Usage, now: Timestamp) -> Value {
    let time = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "cpu": {"time": time, "usageCoreNanoSeconds": usage.cpu},
        "memory": {"time": time, "usageBytes": usage.memory, "workingSetBytes": usage.working_set, "rssBytes": usage.anonymous},
    })
}

#[allow(clippy::unnecessary_cast)] // Narrower on 32-bit machines.
fn file_system(node: &NodeHandle, now: Timestamp) -> Value {
    let Ok(found) = nix::sys::statvfs::statvfs(&*node.storage) else { return Value::Null };
    let block = found.fragment_size() as u64;
    let (capacity, free) = (found.blocks() as u64 * block, found.blocks_free() as u64 * block);
    json!({
        "time": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "availableBytes": found.blocks_available() as u64 * block,
        "capacityBytes": capacity,
        "usedBytes": capacity - free,
        "inodes": found.files() as u64,
        "inodesFree": found.files_free() as u64,
        "inodesUsed": (found.files() - found.files_free()) as u64,
    })
}

fn time(nanoseconds: i64) -> String {
    let time = Timestamp::from_second(nanoseconds.div_euclid(1_000_000_000)).unwrap_or_default();
    time.to_string()
}

/// `/metrics/resource`, in the text form of Prometheus.
pub(super) async fn metrics(node: &NodeHandle) -> Result<String, RuntimeError> {
    let pods = read(node).await?;
    let machine = node.cgroups.machine().usage;
    let seconds = |usage: &Usage| format!("{:.9}", usage.cpu as f64 / 1e9);
    let mut rows: [Vec<(String, String)>; 7] = Default::default();
    rows[0].push((String::new(), seconds(&machine)));
    rows[1].push((String::new(), machine.working_set.to_string()));
    for used in &pods {
        let of_pod = format!("namespace={:?},pod={:?}", used.pod.namespace(), used.pod.name());
        for container in &used.containers {
            let labels = format!("{{container={:?},{of_pod}}}", container.name);
            rows[2].push((labels.clone(), seconds(&container.usage)));
            rows[3].push((labels.clone(), container.usage.working_set.to_string()));
            rows[4].push((labels, format!("{:.3}", container.created_at as f64 / 1e9)));
        }
        let labels = format!("{{{of_pod}}}");
        rows[5].push((labels.clone(), seconds(&used.usage)));
        rows[6].push((labels, used.usage.working_set.to_string()));
    }
    let mut text = String::new();
    for ((name, kind, help), rows) in FAMILIES.into_iter().zip(rows) {
        let _ = writeln!(text, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
        for (labels, value) in rows {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    }
    text.push_str("# TYPE resource_scrape_error gauge\nresource_scrape_error 0\n");
    Ok(text)
}

const FAMILIES: [(&str, &str, &str); 7] = [
    ("node_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the node in core-seconds"),
    ("node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes"),
    ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the container in core-seconds"),
    ("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes"),
    ("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds"),
    ("pod_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the pod in core-seconds"),
    ("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes"),
];
