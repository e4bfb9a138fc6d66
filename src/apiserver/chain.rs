//! What every request passes, in this order, from whichever client it comes.
//!
//! Upstream: k8s.io/apiserver pkg/server/config.go DefaultBuildHandlerChain.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use coracle_api::Status;
use coracle_base::crypto;
use futures::FutureExt;
use http::{HeaderName, HeaderValue, Method, Request, Response, header};

use crate::authz::{Attributes, ResourceTarget, Target};
use crate::body::Body;
use crate::call::{Call, read_body};
use crate::peer::Peer;
use crate::request_info::RequestInfo;
use crate::server::ApiServer;
use crate::{compress, dispatch, failure, flight, impersonate};
use coracle_base::url::Query;

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

impl ApiServer {
    /// The answer to a request. Never fails: a failure is an answer, and a panic is that request's 500.
    pub async fn handle(&self, request: Request<Body>, peer: &Peer) -> Response<Body> {
        let head = request.method() == Method::HEAD;
        // On the heap, and only until the answer begins: a connection that follows a watch for hours need not keep room for it.
        let chain = Box::pin(self.chain(request, peer));
        let response = match AssertUnwindSafe(chain).catch_unwind().await {
            Ok(response) => response,
            Err(_) => {
                let status = Status::internal("This request caused apiserver to panic. Look in the logs.");
                failure::response(&status, "")
            }
        };
        if head { response.map(|_| Body::Empty) } else { response }
    }

    async fn chain(&self, request: Request<Body>, peer: &Peer) -> Response<Body> {
        self.inner.load.count();
        let started = Instant::now();
        let mut call = match self.begin(&request, peer) {
            Ok(call) => call,
            Err(status) => {
                let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
                return failure::response(&status, accept.unwrap_or_default());
            }
        };
        let outcome = self.admitted(&mut call, request).await;
        let mut response = outcome.unwrap_or_else(|status| failure::response(&status, call.header(header::ACCEPT)));
        self.inner.metrics.record(&call, response.status(), started.elapsed());
        for warning in &call.warnings {
            if let Ok(value) = HeaderValue::from_str(&format!("299 - {warning:?}")) {
                response.headers_mut().append(header::WARNING, value);
            }
        }
        let headers = response.headers_mut();
        headers.entry(AUDIT_ID).or_insert_with(|| audit_id(&call));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
        if call.local || flight::is_long_running(&call) {
            return response;
        }
        compress::compress(response, call.header(header::ACCEPT_ENCODING))
    }

    /// Request info and authentication: who asks, and about what.
    fn begin(&self, request: &Request<Body>, peer: &Peer) -> Result<Call, Status> {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let path = request.uri().path();
        let info = RequestInfo::parse(request.method(), path, &query);
        let headers = request.headers();
        let authorization = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let user = self.inner.authenticator.authenticate(&peer.identity, authorization, path)?;
        Ok(Call {
            method: request.method().clone(),
            path: path.to_owned(),
            info,
            query,
            headers: headers.clone(),
            user,
            component: peer.is_component(),
            local: peer.is_local(),
            warnings: Vec::new(),
        })
    }

    /// Impersonation, limits of load, authorization; then the verb.
    async fn admitted(&self, call: &mut Call, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        call.user = impersonate::impersonate(&self.inner.authorizer, call.user.clone(), &call.headers)?;
        let _permit = self.inner.flight.enter(call)?;
        let allowed = self.authorize(call);
        if !flight::is_long_running(call) {
            // Read to its end whatever becomes of it: some clients take an answer before that for a broken connection.
            let body = read_body(&mut request).await?;
            *request.body_mut() = Body::from(body);
        }
        allowed?;
        dispatch::dispatch(self, call, request).await
    }

    fn authorize(&self, call: &Call) -> Result<(), Status> {
        let info = &call.info;
        let target = match info.is_resource {
            true => Target::Resource(ResourceTarget {
                group: &info.group,
                resource: &info.resource,
                subresource: &info.subresource,
                namespace: &info.namespace,
                name: &info.name,
                fields: call.query.get("fieldSelector").unwrap_or_default(),
            }),
            false => Target::Path(&call.path),
        };
        self.inner.authorizer.check(&Attributes { user: &call.user, verb: info.verb, target })
    }
}

fn audit_id(call: &Call) -> HeaderValue {
    let given = call.headers.get(&AUDIT_ID).filter(|id| id.len() <= 64);
    given.cloned().unwrap_or_else(|| HeaderValue::from_str(&crypto::uuid()).expect("a UUID is ASCII"))
}
