//! `proxy` of nodes, Services and pods: the request goes on to the other side as it is.

use coracle_api::{Resource, Status};
use http::{Method, Request, Response, StatusCode, header};
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
    let path = request.uri().path();
    let Some(rest) = below(path, &info.namespace) else {
        // So that a page's relative links stay below the proxy.
        if matches!(*request.method(), Method::GET | Method::HEAD) && !is_upgrade(&request) {
            let moved = Response::builder().status(StatusCode::MOVED_PERMANENTLY);
            let moved = moved.header(header::LOCATION, format!("{path}/{query}")).body(Body::Empty);
            return moved.map_err(Status::internal);
        }
        return proxy::pass(stream, &format!("/{query}"), request).await;
    };
    let target = format!("/{rest}{query}");
    proxy::pass(stream, &target, request).await
}

/// What stands behind `/proxy/` in the raw path, so that escapes reach the other side as they came; `None` without that slash.
fn below<'a>(path: &'a str, namespace: &str) -> Option<&'a str> {
    // /api/v1/namespaces/NAMESPACE/RESOURCE/NAME/proxy or /api/v1/RESOURCE/NAME/proxy: names may begin with "proxy" too.
    let above = if namespace.is_empty() { 5 } else { 7 };
    path.splitn(above + 2, '/').nth(above + 1)
}

fn is_upgrade(request: &Request<Body>) -> bool {
    request.headers().contains_key(header::UPGRADE)
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

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn paths_go_on_as_they_are() {
        for (path, namespace, rest) in [
            ("/api/v1/namespaces/proxy-1/pods/proxy-2/proxy/a%2Fb//c/", "proxy-1", Some("a%2Fb//c/")),
            ("/api/v1/namespaces/default/services/a:b/proxy/", "default", Some("")),
            ("/api/v1/namespaces/default/services/a:b/proxy", "default", None),
            ("/api/v1/nodes/n/proxy/pods", "", Some("pods")),
            ("/api/v1/nodes/n/proxy", "", None),
        ] {
            assert_eq!(below(path, namespace), rest, "{path}");
        }
    }
}
