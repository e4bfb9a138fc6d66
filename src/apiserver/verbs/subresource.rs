//! What stands below an object: its status, scale, finalisation, and what a node answers for it.

use coracle_api::{Resource, Status};
use coracle_streams::websocket::is_websocket;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::create::writer;
use super::{answer, patch, update};
use crate::admission::node_restriction;
use crate::authn::token_request;
use crate::body::Body;
use crate::call::{Call, read_body};
use crate::decode::{self, Expected};
use crate::failure;
use crate::proxy;
use crate::registry::metadata;
use crate::registry::write::Edit;
use crate::server::ApiServer;

mod eviction;
mod forward;
mod scale;

pub async fn answer(
    server: &ApiServer,
    call: &mut Call,
    resource: &Resource,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let name = call.info.subresource.clone();
    if resource.subresource(&name).is_none() {
        return Err(Status::no_such_path());
    }
    match (&*resource.plural, name.as_str()) {
        (_, "log" | "exec" | "attach" | "portforward") => node(server, call, resource, &name, request).await,
        ("nodes" | "services" | "pods", "proxy") => forward::answer(server, call, resource, request).await,
        (_, "scale") => scale::answer(server, call, resource, request).await,
        ("pods", "binding") => {
            require(call, Method::POST)?;
            let (tree, dry_run) = read(call, request, "", "v1", "Binding").await?;
            bind(server, call, tree, dry_run).await
        }
        ("pods", "eviction") => eviction::answer(server, call, resource, request).await,
        ("serviceaccounts", "token") => token(server, call, request).await,
        ("namespaces", "finalize") => {
            require(call, Method::PUT)?;
            update::put(server, call, resource, &name, request).await
        }
        (_, "status" | "approval" | "resize" | "ephemeralcontainers") => match call.method {
            Method::GET => super::get::get(server, call, resource).await,
            Method::PUT => update::put(server, call, resource, &name, request).await,
            Method::PATCH => patch::part(server, call, resource, &name, request).await,
            _ => Err(failure::method_not_allowed()),
        },
        _ => Err(failure::method_not_allowed()),
    }
}

fn require(call: &Call, method: Method) -> Result<(), Status> {
    if call.method == method { Ok(()) } else { Err(failure::method_not_allowed()) }
}

async fn read(
    call: &mut Call,
    mut request: Request<Body>,
    group: &str,
    version: &str,
    kind: &str,
) -> Result<(Value, bool), Status> {
    let dry_run = call.dry_run()?;
    let body = read_body(&mut request).await?;
    Ok((decode::object(call, &body, &Expected { group, version, kind })?, dry_run))
}

/// `pods/{log,exec,attach,portforward}`: the pod's node answers.
async fn node(
    server: &ApiServer,
    call: &Call,
    resource: &Resource,
    subresource: &str,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let pod = server.inner.registry.find(resource, &call.info.namespace, &call.info.name).await?;
    let dialer = &**server.dialer()?;
    if subresource != "log" {
        return proxy::pod(dialer, &pod, subresource, &call.query, request).await;
    }
    let mut log = proxy::log(dialer, &pod, &call.query).await?;
    if call.query.flag("follow") {
        // A log that is followed has no end of its own.
        log = log.map(|body| body.until(server.inner.stopping.clone()));
    }
    if is_websocket(&request) { proxy::over_websocket(request, log) } else { Ok(log) }
}

/// Puts a pod on a node, once. Upstream: kubernetes pkg/registry/core/pod/storage BindingREST.
pub async fn bind(
    server: &ApiServer,
    call: &mut Call,
    binding: Value,
    dry_run: bool,
) -> Result<Response<Body>, Status> {
    let pods = Resource::find("", "v1", "pods").ok_or_else(Status::no_such_path)?;
    let namespace = call.info.namespace.clone();
    let name = match call.info.name.as_str() {
        "" => metadata::text(&binding, "name").to_owned(),
        name => name.to_owned(),
    };
    let node = binding["target"]["name"].as_str().unwrap_or_default().to_owned();
    let kind = binding["target"]["kind"].as_str().unwrap_or_default();
    let mut causes = coracle_api::Causes::new();
    if !matches!(kind, "" | "Node") {
        causes.not_supported("target.kind", kind, &["Node", "<empty>"]);
    }
    if node.is_empty() {
        causes.required("target.name", "");
    }
    causes.into_result(("", "Binding"), &name)?;
    let uid = metadata::text(&binding, "uid").to_owned();
    let edit = Edit { namespace: &namespace, name: &name, subresource: "binding", create: false, whole: false };
    let mut writer = writer(server, call, dry_run);
    let conflict = |why: String| Status::conflict(("", "pods/binding"), &name, why);
    let updated = writer
        .update(&pods, &edit, &mut |old| {
            let Some(old) = old else { return Err(Status::not_found(&pods, &name)) };
            let own = metadata::text(old, "uid");
            if !uid.is_empty() && uid != own {
                return Err(conflict(format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {own}"
                )));
            }
            if metadata::is_deleting(old) {
                return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
            }
            let current = old["spec"]["nodeName"].as_str().unwrap_or_default();
            if !current.is_empty() {
                return Err(conflict(format!("pod {name} is already assigned to node \"{current}\"")));
            }
            if old["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
                return Err(conflict(format!("pod {name} has non-empty .spec.schedulingGates")));
            }
            let mut new = old.clone();
            new["spec"]["nodeName"] = json!(node);
            if let Some(annotations) = binding["metadata"]["annotations"].as_object() {
                let metadata = metadata::of(&mut new);
                let own = metadata.entry("annotations").or_insert_with(|| json!({}));
                for (key, value) in annotations {
                    own[key] = value.clone();
                }
            }
            if let Some(status) = new["status"].as_object_mut() {
                status.remove("nominatedNodeName");
            }
            set_condition(&mut new, "PodScheduled");
            Ok(new)
        })
        .await;
    updated?;
    answer::done(call, &Status::success(Some(201), None), StatusCode::CREATED)
}

/// Makes a pod's condition true, with its transition now when it was not.
fn set_condition(pod: &mut Value, kind: &str) {
    let condition = json!({
        "type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": metadata::now(),
    });
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = pod["status"]["conditions"].as_array_mut() else { return };
    match conditions.iter_mut().find(|own| own["type"] == kind) {
        Some(own) if own["status"] == "True" => {}
        Some(own) => *own = condition,
        None => conditions.push(condition),
    }
}

/// A token for a service account.
async fn token(server: &ApiServer, call: &mut Call, mut request: Request<Body>) -> Result<Response<Body>, Status> {
    require(call, Method::POST)?;
    let body = read_body(&mut request).await?;
    let tree =
        decode::object(call, &body, &Expected { group: "authentication.k8s.io", version: "v1", kind: "TokenRequest" })?;
    let inner = &server.inner;
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    node_restriction::check_token(&inner.registry, &call.user, namespace, name, &tree)?;
    let token = token_request::answer(&inner.issuer, &*inner.lookup, namespace, name, tree)?;
    answer::document(call, &token, StatusCode::CREATED)
}
