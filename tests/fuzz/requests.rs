//! HTTP requests: what a target names, and the whole chain over a store in memory.

use std::cell::RefCell;
use std::sync::Arc;

use coracle_apiserver::authn::{MASTERS, TokenIssuer, User};
use coracle_apiserver::verbs::continuation::Continuation;
use coracle_apiserver::{ApiServer, Body, Networks, Options, Peer, RequestInfo};
use coracle_base::crypto::SigningKey;
use coracle_base::url::{self, Query};
use coracle_store::memory::Memory;
use coracle_store::{Options as StoreOptions, Store};
use futures::FutureExt;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use tokio::runtime::Runtime;

use crate::{joined, parts};

/// Path, query and continue tokens.
pub fn targets(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let query = Query::parse(query);
    for method in [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS] {
        let info = RequestInfo::parse(&method, path, &query);
        if !info.is_resource {
            assert!(info.name.is_empty() && info.namespace.is_empty(), "{info:?}");
        }
    }
    assert_eq!(url::decode(&url::encode(text)), text);
    match Continuation::decode(query.get("continue").unwrap_or(text)) {
        Ok(token) => assert_eq!(Continuation::decode(&token.encode()).expect("it is ours"), token),
        Err(refused) => assert_eq!(refused.code, 400),
    }
}

pub fn target_seeds() -> Vec<Vec<u8>> {
    let token = Continuation { revision: Some(7), after: "default/web".to_owned() }.encode();
    let page = format!("/api/v1/namespaces/a/pods?limit=5&continue={token}");
    let seeds = [
        &page,
        "/apis/apps/v1/namespaces/a/deployments/b/scale?dryRun=All",
        "/api/v1/watch/namespaces/a/pods?fieldSelector=metadata.name%3Db",
        "/api/v1/namespaces/a/services/b:80/proxy/%2e%2e/c?watch=1",
        &token,
    ];
    seeds.map(|seed| seed.as_bytes().to_vec()).into()
}

struct Fixture {
    runtime: Runtime,
    server: ApiServer,
    peer: Peer,
    /// Inputs until the server is made anew, so that what was written stays little.
    left: usize,
}

const INPUTS: usize = 2000;

impl Fixture {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let issuer = TokenIssuer::new(SigningKey::generate(), "https://kubernetes.default.svc.cluster.local");
        let server = runtime.block_on(async {
            let store = Store::open(Box::new(Memory::new()), StoreOptions::default()).expect("memory opens");
            ApiServer::new(Options { store, issuer, networks: Networks::default(), join_secret: "join".to_owned() })
        });
        let peer = Peer::component(Arc::new(User::new("admin", &[MASTERS])));
        let fixture = Self { runtime, server, peer, left: INPUTS };
        for (target, name) in [("namespaces", "default"), ("namespaces/default/serviceaccounts", "default")] {
            let body = format!("{{\"metadata\":{{\"name\":\"{name}\"}}}}");
            fixture.send(&Method::POST, &format!("/api/v1/{target}"), ["application/json", ""], body.as_bytes());
        }
        fixture
    }

    /// Reads of the answer what is there at once: a watch goes on.
    fn send(&self, method: &Method, target: &str, [content_type, accept]: [&str; 2], body: &[u8]) {
        let mut request = Request::builder().method(method).uri(target);
        if !content_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        if !accept.is_empty() {
            request = request.header(header::ACCEPT, accept);
        }
        let body = if body.is_empty() { Body::Empty } else { body.to_vec().into() };
        // hyper refuses what is no request.
        let Ok(request) = request.body(body) else { return };
        self.runtime.block_on(async {
            let mut answer = self.server.handle(request, &self.peer).await;
            let mut text = String::new();
            while let Some(Some(Ok(frame))) = answer.body_mut().frame().now_or_never() {
                text.extend(frame.data_ref().map(|data| String::from_utf8_lossy(data)));
            }
            // Upstream has other reasons for 500, too.
            let panicked = answer.status() == 500 && text.contains("panic");
            assert!(!panicked, "{method} {target}: {text}");
        });
    }
}

/// Method, target, content type, what is accepted, and body.
pub fn requests(data: &[u8]) {
    thread_local!(static FIXTURE: RefCell<Option<Fixture>> = const { RefCell::new(None) });
    let [method, target, content_type, accept, body] = parts(data);
    let Ok(method) = Method::from_bytes(method) else { return };
    let text = |part| std::str::from_utf8(part).ok();
    let (Some(target), Some(content_type), Some(accept)) = (text(target), text(content_type), text(accept)) else {
        return;
    };
    FIXTURE.with_borrow_mut(|fixture| {
        let server = fixture.get_or_insert_with(Fixture::new);
        server.send(&method, target, [content_type, accept], body);
        server.left -= 1;
        if server.left == 0 {
            *fixture = None;
        }
    });
}

/// The corpus that is sent to upstream's server, too.
pub fn request_seeds() -> Vec<Vec<u8>> {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../differential/corpus");
    let files = std::fs::read_dir(corpus).into_iter().flatten().flatten();
    let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    let mut seeds: Vec<Vec<u8>> =
        texts.flat_map(|text| text.split("### ").skip(1).map(seed).collect::<Vec<_>>()).collect();
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    seeds.push(joined(&["GET", "/api/v1/pods?watch=true&limit=1&labelSelector=a%3Db", "", table, ""]));
    seeds
}

/// A block of the corpus: title, `METHOD path`, headers, an empty line, body.
fn seed(block: &str) -> Vec<u8> {
    let (head, body) = block.split_once("\n\n").unwrap_or((block, ""));
    let mut lines = head.lines().skip(1);
    let (method, target) = lines.next().and_then(|line| line.split_once(' ')).unwrap_or_default();
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    let header =
        |name: &str| headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value);
    let content_type = match (header("content-type"), body.starts_with('{')) {
        ("", true) => "application/json",
        ("", false) if !body.is_empty() => "application/yaml",
        (given, _) => given,
    };
    joined(&[method, target, content_type, header("accept"), body])
}
