//! A node's network by itself, without an API server, to try the CNI plugin under a container runtime:
//! `node DIRECTORY` serves, writes DIRECTORY/net.d and DIRECTORY/bin; under the plugins' names it is the plugin.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use coracle_api::{Resource, Status};
use coracle_base::shutdown::Shutdown;
use coracle_client::{ObjectEvent, ObjectSource, Selection};
use coracle_network::{NetworkConfig, cni};
use futures::StreamExt;
use futures::stream::BoxStream;

/// An API server with nothing in it.
struct Empty;

impl ObjectSource for Empty {
    fn list_watch(&self, _: &Resource, _: Selection) -> BoxStream<'static, Result<ObjectEvent, Status>> {
        futures::stream::iter([Ok(ObjectEvent::Synced(1))]).chain(futures::stream::pending()).boxed()
    }
}

fn main() -> ExitCode {
    if let Some(code) = cni::dispatch() {
        return code;
    }
    let directory = std::env::args().nth(1).expect("node DIRECTORY");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(serve(Path::new(&directory))).expect("it serves");
    ExitCode::SUCCESS
}

async fn serve(directory: &Path) -> anyhow::Result<()> {
    let socket = directory.join("cni.sock");
    cni::write_conf(&directory.join("net.d"), "example", &socket)?;
    cni::install_plugins(&directory.join("bin"), &std::env::current_exe()?)?;
    let config = NetworkConfig {
        instance: "example".into(),
        node_name: "example".into(),
        zone: "".into(),
        node_ips: Vec::new(),
        pod_ranges: vec!["10.42.0.0/24".parse()?, "fd42::/64".parse()?],
        cluster_ranges: vec!["10.42.0.0/16".parse()?, "fd42::/48".parse()?],
        service_ranges: vec!["10.43.0.0/16".parse()?],
        dns: None,
        cni_socket: Some(socket),
        state_directory: directory.join("state"),
        backend: coracle_network::Backend::None,
        services: true,
    };
    let running = coracle_network::run(config, Arc::new(Empty), Shutdown::new()).await?;
    running.ready().await;
    println!("ready");
    running.ended().await;
    Ok(())
}
