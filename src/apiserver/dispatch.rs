//! From the request's target to the code that answers it.

use coracle_api::{Resource, Status};
use http::{Method, Request, Response, header};

use crate::body::Body;
use crate::call::Call;
use crate::server::ApiServer;
use crate::{failure, negotiate, paths, verbs};

pub async fn dispatch(server: &ApiServer, call: &mut Call, request: Request<Body>) -> Result<Response<Body>, Status> {
    if !call.info.is_resource {
        return paths::answer(server, call).await;
    }
    let info = &call.info;
    let Some(resource) = Resource::find(&info.group, &info.version, &info.resource) else {
        let known = Resource::all().any(|row| row.group == info.group);
        return if known { Err(Status::no_such_path()) } else { Ok(failure::no_such_page()) };
    };
    // What is proxied knows its own methods.
    if info.verb.is_empty() || (call.method == Method::HEAD && info.subresource != "proxy") {
        return Err(failure::method_not_allowed());
    }
    negotiate::check(call.header(header::ACCEPT), info.is_collection())?;
    let deprecated = match (&*resource.group, &*resource.plural) {
        ("", "componentstatuses") => "v1 ComponentStatus is deprecated in v1.19+",
        ("", "endpoints") => "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
        _ => "",
    };
    if !deprecated.is_empty() {
        call.warn(deprecated);
    }
    let info = &call.info;
    let in_namespace = !info.namespace.is_empty();
    let is_namespace = resource.plural == "namespaces" && resource.group.is_empty();
    if in_namespace && !resource.namespaced && !is_namespace {
        return Err(Status::no_such_path());
    }
    if !info.subresource.is_empty() {
        return verbs::subresource::answer(server, call, &resource, request).await;
    }
    // Across all namespaces one can only read.
    let across = resource.namespaced && !in_namespace;
    if across && !matches!(info.verb, "list" | "watch") {
        return Err(failure::method_not_allowed());
    }
    let misplaced = match info.verb {
        "create" => !info.name.is_empty(),
        "update" | "patch" => info.name.is_empty(),
        _ => false,
    };
    if misplaced || !resource.has_verb(info.verb) {
        return Err(failure::method_not_allowed());
    }
    match call.info.verb {
        "get" => verbs::get::get(server, call, &resource).await,
        "list" => verbs::list::list(server, call, &resource).await,
        "watch" => verbs::watch::watch(server, call, &resource).await,
        "create" => verbs::create::create(server, call, &resource, request).await,
        "update" => verbs::update::update(server, call, &resource, request).await,
        "patch" => verbs::patch::patch(server, call, &resource, request).await,
        "delete" => verbs::delete::delete(server, call, &resource, request).await,
        "deletecollection" => verbs::deletecollection::delete_collection(server, call, &resource, request).await,
        _ => Err(failure::method_not_allowed()),
    }
}
