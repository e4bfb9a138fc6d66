//! `proxy` of nodes, Services and pods: the request goes on to the other side as it is.

use coracle_api::{Resource, Status};
use http::{Request, Response};
use serde::Deserialize;

use crate::body::Body;
use crate::call::Call;
use crate::proxy;
use crate::server::ApiServer;

pub async fn answer(
    server: &ApiServer,
    call: &Call,
    resource: &Resource,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let info = &call.info;
    let dialer = server.dialer()?;
    let (name, port) = split(&info.name);
    let stream = match &*resource.plural {
        "nodes" => dialer.node(name).await?,
        "services" => dialer.service(&info.namespace, name, port).await?,
        _ => {
            let port = if port.is_empty() { Ok(first_port(server, call, resource, name).await?) } else { port.parse() };
            let port = port.map_err(|_| Status::bad_request(format!("invalid pod request {:?}", info.name)))?;
            dialer.pod(&info.namespace, name, port).await?
        }
    };
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    // The raw path, so that escapes reach the other side as they came.
    let rest = request.uri().path().split_once("/proxy").map(|(_, rest)| rest).unwrap_or_default();
    let target = if rest.is_empty() { format!("/{query}") } else { format!("{rest}{query}") };
    proxy::pass(stream, &target, request).await
}

/// The first port that a container of the pod names, else that of HTTP (upstream: pkg/registry/core/pod/strategy.go ResourceLocation).
async fn first_port(server: &ApiServer, call: &Call, resource: &Resource, name: &str) -> Result<u16, Status> {
    #[derive(Deserialize)]
    struct Pod {
        spec: Spec,
    }
    #[derive(Deserialize)]
    struct Spec {
        containers: Vec<Container>,
    }
    #[derive(Deserialize)]
    struct Container {
        #[serde(default)]
        ports: Vec<Port>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Port {
        container_port: u16,
    }
    let pod: Pod = server.inner.registry.find(resource, &call.info.namespace, name).await?.decode()?;
    let named = pod.spec.containers.iter().find_map(|container| container.ports.first());
    Ok(named.map_or(80, |port| port.container_port))
}

/// `name`, `name:port` or `scheme:name:port`.
fn split(text: &str) -> (&str, &str) {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [name, port] => (name, port),
        [_, name, port] => (name, port),
        _ => (text, ""),
    }
}
