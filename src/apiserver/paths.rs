//! The paths that are no resource: discovery, OpenAPI, version, health, metrics, the token issuer's keys.

use coracle_api::Status;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::body::Body;
use crate::call::Call;
use crate::server::ApiServer;
use crate::{discovery, failure};

/// The API level that this executable serves.
const VERSION: [(&str, &str); 5] = [
    ("major", "1"),
    ("minor", "37"),
    ("gitVersion", concat!("v1.37.2+coracle-", env!("CARGO_PKG_VERSION"))),
    ("gitTreeState", "clean"),
    ("compiler", "rustc"),
];

/// What `/` lists.
const PATHS: [&str; 13] = [
    "/.well-known/openid-configuration",
    "/api",
    "/api/v1",
    "/apis",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/openid/v1/jwks",
    "/readyz",
    "/version",
    "/apis/apps/v1",
];

pub async fn answer(server: &ApiServer, call: &mut Call) -> Result<Response<Body>, Status> {
    let path = call.path.clone();
    let path = path.trim_end_matches('/');
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    // The rest answers any method, as upstream's plain handlers do.
    let routed = matches!(parts[..], ["version"] | ["api" | "apis", _, ..]);
    if routed && call.method != Method::GET {
        return Err(failure::method_not_allowed());
    }
    match parts[0] {
        "" => Ok(json_answer(&json!({ "paths": PATHS }))),
        "healthz" | "livez" | "readyz" => {
            let answer = server.inner.health.answer(path, &call.query);
            Ok(answer.unwrap_or_else(failure::no_such_page))
        }
        "version" if parts.len() == 1 => Ok(json_answer(&version())),
        "metrics" if parts.len() == 1 => {
            let text = coracle_base::metrics::registry().text();
            Ok(typed(text, "text/plain; version=0.0.4; charset=utf-8"))
        }
        "api" | "apis" => discovery::answer(call, &parts),
        "openapi" => crate::openapi::answer(call, &parts).await,
        ".well-known" if path == "/.well-known/openid-configuration" => {
            Ok(typed(server.inner.issuer.discovery(), "application/json"))
        }
        "openid" if path == "/openid/v1/jwks" => Ok(typed(server.inner.issuer.key_set(), "application/jwk-set+json")),
        _ => Ok(failure::no_such_page()),
    }
}

fn version() -> Value {
    let mut version: Value =
        VERSION.iter().map(|&(name, value)| (name.to_owned(), json!(value))).collect::<serde_json::Map<_, _>>().into();
    version["platform"] = json!(format!("{}/{}", std::env::consts::OS, go_architecture()));
    version["gitCommit"] = json!("");
    version["buildDate"] = json!("1970-01-01T00:00:00Z");
    version["goVersion"] = json!("none");
    for (name, value) in [
        ("emulationMajor", "1"),
        ("emulationMinor", "37"),
        ("minCompatibilityMajor", "1"),
        ("minCompatibilityMinor", "36"),
    ] {
        version[name] = json!(value);
    }
    version
}

/// The machine as Go names it.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn json_answer(value: &Value) -> Response<Body> {
    typed(value.to_string(), "application/json")
}

pub fn typed(body: impl Into<Body>, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
