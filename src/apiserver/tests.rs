//! Black-box tests: requests into `ApiServer::handle`, answers out.

use std::sync::Arc;

use coracle_base::crypto::SigningKey;
use coracle_store::memory::Memory;
use coracle_store::{Options as StoreOptions, Store};
use http::{Request, Response, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::authn::{MASTERS, TokenIssuer, User};
use crate::{ApiServer, Body, Networks, Options, Peer};

mod lists;
mod robustness;
mod watches;
mod writes;

/// A server in memory and a caller who may do everything.
struct Fixture {
    server: ApiServer,
    peer: Peer,
}

/// An answer, read to its end.
#[derive(Debug)]
struct Answer {
    code: u16,
    headers: http::HeaderMap,
    body: Value,
    text: String,
}

impl Fixture {
    async fn new() -> Self {
        let store = Store::open(Box::new(Memory::new()), StoreOptions::default()).unwrap();
        let issuer = TokenIssuer::new(SigningKey::generate(), "https://kubernetes.default.svc.cluster.local");
        let server =
            ApiServer::new(Options { store, issuer, networks: Networks::default(), join_secret: "join".to_owned() });
        let peer = Peer::component(Arc::new(User::new("admin", &[MASTERS])));
        let fixture = Self { server, peer };
        for name in ["default", "kube-system"] {
            fixture.create("/api/v1/namespaces", json!({"metadata": {"name": name}})).await;
        }
        let accounts = "/api/v1/namespaces/default/serviceaccounts";
        fixture.create(accounts, json!({"metadata": {"name": "default"}})).await;
        fixture
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.server.handle(request, &self.peer).await
    }

    /// `METHOD target`, with a body where one is given.
    async fn ask(&self, line: &str, content_type: &str, body: impl Into<Body>) -> Answer {
        let (method, target) = line.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(target).header(header::CONTENT_TYPE, content_type);
        read(self.send(request.body(body.into()).unwrap()).await).await
    }

    async fn get(&self, target: &str) -> Answer {
        self.ask(&format!("GET {target}"), "", Body::Empty).await
    }

    async fn accept(&self, target: &str, accept: &str) -> Answer {
        let request = Request::get(target).header(header::ACCEPT, accept).body(Body::Empty).unwrap();
        read(self.send(request).await).await
    }

    async fn json(&self, line: &str, body: Value) -> Answer {
        self.ask(line, "application/json", body.to_string()).await
    }

    async fn create(&self, target: &str, body: Value) -> Value {
        let answer = self.json(&format!("POST {target}"), body).await;
        assert_eq!(answer.code, 201, "{}", answer.text);
        answer.body
    }

    async fn configmap(&self, name: &str) -> Value {
        let target = "/api/v1/namespaces/default/configmaps";
        self.create(target, json!({"metadata": {"name": name, "labels": {"app": name}}, "data": {"a": "1"}})).await
    }
}

async fn read(response: Response<Body>) -> Answer {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    Answer { code: head.status.as_u16(), headers: head.headers, body, text }
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn paths_without_resources_answer() {
    let fixture = Fixture::new().await;
    for (target, code, part) in [
        ("/healthz", 200, "ok"),
        ("/readyz?verbose", 200, "[+]ping ok"),
        ("/version", 200, "\"minor\":\"37\""),
        ("/api", 200, "APIVersions"),
        ("/apis", 200, "\"groupVersion\":\"apps/v1\""),
        ("/api/v1", 200, "\"pods/status\""),
        ("/apis/apps/v1", 200, "deployments/scale"),
        ("/apis/nothing", 404, "404 page not found"),
        ("/api/v1/nothing", 404, "could not find the requested resource"),
        ("/metrics", 200, "apiserver_request_total"),
        ("/openid/v1/jwks", 200, "keys"),
        ("/openapi/v2", 200, "io.k8s.api.core.v1.Pod"),
        ("/openapi/v3", 200, "apis/apps/v1"),
        ("/openapi/v3/apis/apps/v1", 200, "fieldValidation"),
        ("/openapi/v3/apis/nothing/v1", 404, ""),
        ("/", 200, "paths"),
        ("/nowhere", 404, "404 page not found"),
    ] {
        let answer = fixture.get(target).await;
        assert_eq!(answer.code, code, "{target}: {}", answer.text);
        assert!(answer.text.contains(part), "{target}: {}", answer.text);
    }
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let answer = fixture.accept("/apis", aggregated).await;
    assert_eq!(
        (answer.headers["content-type"].to_str().unwrap(), &answer.body["kind"]),
        (aggregated, &json!("APIGroupDiscoveryList"))
    );
}

#[tokio::test]
async fn foreigners_and_the_powerless_are_refused() {
    let fixture = Fixture::new().await;
    let ask = |peer: Peer| {
        let server = fixture.server.clone();
        async move { read(server.handle(Request::get("/api/v1/pods").body(Body::Empty).unwrap(), &peer).await).await }
    };
    let answer = ask(Peer { address: Some("10.0.0.1:1".parse().unwrap()), ..Peer::default() }).await;
    assert_eq!((answer.code, &answer.body["reason"]), (401, &json!("Unauthorized")));
    let answer = ask(Peer::component(Arc::new(User::new("jane", &[])))).await;
    let message =
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" at the cluster scope";
    assert_eq!((answer.code, &answer.body["message"]), (403, &json!(message)));
    let request = Request::get("/api/v1/pods").header("Impersonate-User", "jane").body(Body::Empty).unwrap();
    assert_eq!(read(fixture.send(request).await).await.code, 403);
}

#[tokio::test]
async fn what_makes_no_sense_has_its_code() {
    let fixture = Fixture::new().await;
    fixture.configmap("a").await;
    for (line, body, code, reason) in [
        ("POST /api/v1/configmaps", "{}", 405, "MethodNotAllowed"),
        ("PUT /api/v1/namespaces/default/configmaps", "{}", 405, "MethodNotAllowed"),
        ("OPTIONS /api/v1/namespaces/default/configmaps", "", 405, "MethodNotAllowed"),
        ("POST /api/v1/namespaces/default/configmaps", "{", 400, "BadRequest"),
        ("POST /api/v1/namespaces/default/configmaps", "[]", 400, "BadRequest"),
        ("POST /api/v1/namespaces/default/configmaps", "{\"kind\":\"Pod\",\"apiVersion\":\"v1\"}", 400, "BadRequest"),
        ("POST /api/v1/namespaces/default/configmaps", "{\"metadata\":{\"name\":\"a\"}}", 409, "AlreadyExists"),
        ("POST /api/v1/namespaces/default/configmaps", "{\"metadata\":{}}", 422, "Invalid"),
        ("POST /api/v1/namespaces/none/configmaps", "{\"metadata\":{\"name\":\"a\"}}", 404, "NotFound"),
        (
            "POST /api/v1/namespaces/default/configmaps",
            "{\"metadata\":{\"name\":\"b\",\"namespace\":\"x\"}}",
            400,
            "BadRequest",
        ),
        ("POST /api/v1/namespaces/default/configmaps?dryRun=x", "{\"metadata\":{\"name\":\"b\"}}", 422, "Invalid"),
        ("PUT /api/v1/namespaces/default/configmaps/a", "{\"metadata\":{\"name\":\"b\"}}", 400, "BadRequest"),
        ("PUT /api/v1/namespaces/default/configmaps/b", "{\"metadata\":{\"name\":\"b\"}}", 404, "NotFound"),
        ("GET /api/v1/namespaces/default/configmaps/b", "", 404, "NotFound"),
        ("GET /api/v1/namespaces/default/configmaps?labelSelector=a%3D%3D%3Db", "", 400, "BadRequest"),
        ("GET /api/v1/namespaces/default/configmaps?fieldSelector=spec.x%3Db", "", 400, "BadRequest"),
        ("GET /api/v1/namespaces/default/configmaps?resourceVersion=x", "", 400, "BadRequest"),
        ("GET /api/v1/namespaces/default/configmaps?continue=x", "", 400, "BadRequest"),
        (
            "GET /api/v1/namespaces/default/configmaps?resourceVersion=999999999&resourceVersionMatch=NotOlderThan",
            "",
            504,
            "Timeout",
        ),
        ("DELETE /api/v1/namespaces/default", "", 403, "Forbidden"),
        ("DELETE /api/v1/namespaces/default/configmaps/b", "", 404, "NotFound"),
        (
            "POST /apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
            "{\"metadata\":{\"name\":\"b\"}}",
            403,
            "Forbidden",
        ),
    ] {
        let answer = fixture.ask(line, "application/json", body).await;
        assert_eq!((answer.code, answer.body["reason"].as_str()), (code, Some(reason)), "{line}: {}", answer.text);
        assert_eq!(answer.body["kind"], "Status", "{line}");
    }
    let line = format!("POST {CONFIGMAPS}");
    assert_eq!(fixture.ask(&line, "text/plain", "{}").await.code, 415);
    assert_eq!(fixture.ask(&line, "application/json", vec![b'x'; 3 * 1024 * 1024 + 1]).await.code, 413);
    assert_eq!(fixture.accept(CONFIGMAPS, "text/html").await.code, 406);
    assert_eq!(fixture.accept(&format!("{CONFIGMAPS}?watch=1"), "application/yaml").await.code, 406);
}
