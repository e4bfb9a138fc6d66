//! What a request is about, read from its method, path and query alone.
//!
//! Upstream: k8s.io/apiserver pkg/endpoints/request/requestinfo.go.

use coracle_base::url::{self, Query};
use http::Method;

/// A request's target in Kubernetes' terms; empty strings where a part is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Below `/api` or `/apis` with a version: `verb` is an API verb; otherwise the method in lower case.
    pub is_resource: bool,
    pub verb: &'static str,
    pub group: String,
    pub version: String,
    pub namespace: String,
    /// Plural.
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// What follows the subresource, without the leading slash: the path of a proxied request.
    pub rest: String,
}

/// Resources of a namespace itself, not within it.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// `path` is percent-decoded by segment; an error is a path that no resource can have.
    pub fn parse(method: &Method, path: &str, query: &Query) -> RequestInfo {
        let mut info = RequestInfo { verb: method_verb(method), ..RequestInfo::default() };
        let mut parts: Vec<String> = path.trim_matches('/').split('/').map(url::decode).collect();
        let group = match parts.first().map(String::as_str) {
            Some("api") => String::new(),
            Some("apis") if parts.len() >= 2 => parts.remove(1),
            _ => return info,
        };
        if parts.len() < 3 {
            return info;
        }
        info.is_resource = true;
        info.group = group;
        info.version = std::mem::take(&mut parts[1]);
        parts.drain(..2);
        info.verb = resource_verb(method);
        if parts[0] == "watch" || parts[0] == "proxy" {
            // The old prefix form of watches; proxying by prefix is long gone upstream, too.
            if parts.len() < 2 {
                info.is_resource = false;
                return info;
            }
            info.verb = if parts[0] == "watch" { "watch" } else { "proxy" };
            parts.remove(0);
        }
        if parts[0] == "namespaces" && parts.len() > 1 {
            info.namespace = parts[1].clone();
            if parts.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&parts[2].as_str()) {
                parts.drain(..2);
            }
        }
        let mut parts = parts.into_iter();
        info.resource = parts.next().unwrap_or_default();
        info.name = parts.next().unwrap_or_default();
        info.subresource = parts.next().unwrap_or_default();
        info.rest = parts.collect::<Vec<_>>().join("/");
        if info.resource == "namespaces" && info.name.is_empty() {
            info.namespace.clear();
        }
        if info.name.is_empty() && info.verb == "get" {
            info.verb = if query.flag("watch") { "watch" } else { "list" };
            // A list of the one object of a name is authorized as that name, so that RBAC's resourceNames can allow it.
            if let Some(name) = query.get("fieldSelector").and_then(name_selector) {
                info.name = name;
            }
        }
        if info.name.is_empty() && info.verb == "delete" {
            info.verb = "deletecollection";
        }
        info
    }

    /// Whether this is a list, watch or deletecollection: `name` may then come from a field selector, not the path.
    pub fn is_collection(&self) -> bool {
        matches!(self.verb, "list" | "watch" | "deletecollection" | "create") && self.subresource.is_empty()
    }
}

fn resource_verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "post",
        Method::GET => "get",
        Method::HEAD => "head",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

/// `NAME` of the selector `metadata.name=NAME`, alone or beside others.
fn name_selector(selector: &str) -> Option<String> {
    let name = selector.split(',').find_map(|term| {
        let value = term.trim().strip_prefix("metadata.name=")?;
        Some(value.strip_prefix('=').unwrap_or(value).to_owned())
    })?;
    // Names that no path segment can be are not authorized by name.
    (!name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%', '\\'])).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_their_targets() {
        // method path?query -> verb group/version namespace resource/subresource name rest
        for (request, expected) in [
            ("GET /api/v1/namespaces", "list /v1 - namespaces/ - -"),
            ("GET /api/v1/namespaces/a", "get /v1 a namespaces/ a -"),
            ("PUT /api/v1/namespaces/a/finalize", "update /v1 a namespaces/finalize a -"),
            ("GET /api/v1/namespaces/a/pods", "list /v1 a pods/ - -"),
            ("GET /api/v1/namespaces/a/pods?watch=true", "watch /v1 a pods/ - -"),
            ("GET /api/v1/watch/namespaces/a/pods", "watch /v1 a pods/ - -"),
            ("GET /api/v1/pods?fieldSelector=metadata.name%3Dx", "list /v1 - pods/ x -"),
            ("POST /api/v1/namespaces/a/pods/b/exec?command=ls", "create /v1 a pods/exec b -"),
            ("GET /api/v1/namespaces/a/services/b:80/proxy/c/d", "get /v1 a services/proxy b:80 c/d"),
            ("DELETE /apis/apps/v1/namespaces/a/deployments", "deletecollection apps/v1 a deployments/ - -"),
            ("PATCH /apis/apps/v1/namespaces/a/deployments/x/status", "patch apps/v1 a deployments/status x -"),
            (
                "GET /apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "get rbac.authorization.k8s.io/v1 - clusterroles/ system:node -",
            ),
        ] {
            let (method, target) = request.split_once(' ').unwrap();
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let info = RequestInfo::parse(&method.parse().unwrap(), path, &Query::parse(query));
            assert!(info.is_resource, "{request}");
            let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            let found = format!(
                "{} {}/{} {} {}/{} {} {}",
                info.verb,
                info.group,
                info.version,
                dash(&info.namespace),
                info.resource,
                info.subresource,
                dash(&info.name),
                dash(&info.rest)
            );
            assert_eq!(found, expected, "{request}");
        }
        for path in ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz/ping", "/openapi/v2"] {
            let info = RequestInfo::parse(&Method::GET, path, &Query::default());
            assert!(!info.is_resource && info.verb == "get", "{path}");
        }
    }
}
