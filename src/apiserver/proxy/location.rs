//! Where on its node a pod's subresource is answered: the node's name, and path and query of the node server.

use coracle_api::{Object, Status};
use coracle_base::url::{self, Query};
use serde::Deserialize;

/// What is read of a pod.
#[derive(Deserialize)]
struct Pod {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    node_name: String,
    #[serde(default)]
    containers: Vec<Container>,
    #[serde(default)]
    init_containers: Vec<Container>,
    #[serde(default)]
    ephemeral_containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
}

/// Query keys of the API and what the node server calls them; the value is passed on, flags as `1`.
const LOG: &[&str] =
    &["follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"];
const STREAMS: &[(&str, &str)] = &[("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];

/// Node and target of a log; `None` for a pod without a node.
pub(super) fn log_request(object: &Object, query: &Query) -> Result<Option<(String, String)>, Status> {
    asked(object, "log", query)
}

/// Node and target of what only a pod on a node has.
pub(super) fn node_request(object: &Object, subresource: &str, query: &Query) -> Result<(String, String), Status> {
    let name = &object.meta().name;
    asked(object, subresource, query)?
        .ok_or_else(|| Status::bad_request(format!("pod {name} does not have a host assigned")))
}

fn asked(object: &Object, subresource: &str, query: &Query) -> Result<Option<(String, String)>, Status> {
    let pod: Pod = object.decode()?;
    let meta = object.meta();
    let container = match subresource {
        "portforward" => None,
        _ => Some(choose_container(&pod.spec, &meta.name, query.get("container"))?),
    };
    if pod.spec.node_name.is_empty() {
        return Ok(None);
    }
    let mut target = node_path(subresource, &meta.namespace, &meta.name, container.as_deref());
    let mut separator = '?';
    let mut add = |key: &str, value: &str| {
        target.push(separator);
        separator = '&';
        target.push_str(key);
        target.push('=');
        target.push_str(&url::encode(value));
    };
    match subresource {
        "log" => {
            let mut given = LOG.iter().filter_map(|key| Some((key, query.get(key)?)));
            given.by_ref().for_each(|(key, value)| add(key, value));
        }
        "portforward" => query.all("ports").for_each(|port| add("port", port)),
        _ => {
            STREAMS.iter().filter(|(asked, _)| query.flag(asked)).for_each(|(_, name)| add(name, "1"));
            query.all("command").for_each(|word| add("command", word));
        }
    }
    Ok(Some((pod.spec.node_name, target)))
}

/// The node server's path of a pod's subresource.
pub fn node_path(subresource: &str, namespace: &str, name: &str, container: Option<&str>) -> String {
    let verb = match subresource {
        "log" => "containerLogs",
        "portforward" => "portForward",
        other => other,
    };
    let container = container.map(|container| format!("/{container}")).unwrap_or_default();
    format!("/{verb}/{namespace}/{name}{container}")
}

fn choose_container(spec: &Spec, pod: &str, asked: Option<&str>) -> Result<String, Status> {
    let all = || spec.init_containers.iter().chain(&spec.containers).chain(&spec.ephemeral_containers);
    if let Some(asked) = asked {
        if all().any(|container| container.name == asked) {
            return Ok(asked.to_owned());
        }
        return Err(Status::bad_request(format!("container {asked} is not valid for pod {pod}")));
    }
    match &spec.containers[..] {
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {pod}"))),
        [only] => Ok(only.name.clone()),
        _ => {
            let names: Vec<&str> = all().map(|container| container.name.as_str()).collect();
            let names = names.join(" ");
            Err(Status::bad_request(format!(
                "a container name must be specified for pod {pod}, choose one of: [{names}]"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use coracle_api::Resource;
    use coracle_api::object::Meta;

    fn pod(node: &str, containers: &[&str]) -> Object {
        let containers: Vec<_> = containers.iter().map(|name| serde_json::json!({"name": name})).collect();
        let tree = serde_json::json!({"spec": {"nodeName": node, "containers": containers}});
        let meta = Meta { namespace: "ns".into(), name: "p".into(), ..Meta::default() };
        let resource = Resource::find("", "v1", "pods").expect("pods are in the catalog");
        Object::new(resource, 1, Bytes::from(tree.to_string()), meta)
    }

    #[test]
    fn subresources_are_found_on_the_node() {
        let query = Query::parse("stdin=true&tty=true&stderr=false&command=sh&command=-c&command=a%20b%26c");
        let found = node_request(&pod("n1", &["main"]), "exec", &query).expect("it is valid");
        let target = "/exec/ns/p/main?input=1&tty=1&command=sh&command=-c&command=a%20b%26c";
        assert_eq!(found, ("n1".to_owned(), target.to_owned()));
        let found = log_request(&pod("n1", &["a", "b"]), &Query::parse("container=b&tailLines=5&follow=true"));
        assert_eq!(
            found.expect("it is valid").expect("it has a node").1,
            "/containerLogs/ns/p/b?follow=true&tailLines=5"
        );
        assert_eq!(log_request(&pod("", &["a"]), &Query::default()).expect("it is valid"), None);
    }

    #[test]
    fn wrong_containers_are_named() {
        let refused = |containers: &[&str], query| {
            node_request(&pod("n", containers), "exec", &Query::parse(query)).expect_err("it is refused").message
        };
        assert_eq!(refused(&["a", "b"], ""), "a container name must be specified for pod p, choose one of: [a b]");
        assert_eq!(refused(&["a"], "container=z"), "container z is not valid for pod p");
    }
}
