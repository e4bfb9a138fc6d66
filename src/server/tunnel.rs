//! The tunnel: a connection that an agent opens to the server, over which the server opens streams to the node and its pods.
//!
//! The agent asks for an HTTP/1.1 upgrade with its node certificate; behind the 101 the roles are turned round, and the server speaks HTTP/2
//! as a client: each CONNECT is one stream, with HTTP/2's own flow control, so that a stuck stream holds up no other. The
//! authority names what is meant: `node`, or the address and port of one of its pods.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use coracle_api::Status;
use coracle_apiserver::authn::Identity;
use coracle_apiserver::authz::node::node_name;
use coracle_apiserver::{Body, ByteStream, Peer, failure};
use coracle_base::task;
use coracle_streams::upgrade;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// Where agents ask for it.
pub const PATH: &str = "/v1-coracle/tunnel";
/// The upgrade's protocol.
pub const PROTOCOL: &str = "coracle-tunnel/1";
/// The authority of the node's own server (kubelet API).
pub const NODE: &str = "node";

type Sender = SendRequest<Empty<Bytes>>;

/// The tunnels that are open, by node. Cloning is a reference count.
#[derive(Clone, Default)]
pub struct Tunnels {
    open: Arc<Mutex<HashMap<String, (u64, Sender)>>>,
}

impl Tunnels {
    /// Answers a request for `PATH`: the tunnel of the node that the connection's certificate names.
    pub fn accept(&self, mut request: Request<Body>, peer: &Peer) -> Response<Body> {
        let node = match &peer.identity {
            Identity::Known(user) => node_name(user).map(str::to_owned),
            _ => return failure::response(&Status::unauthorized("Unauthorized"), ""),
        };
        let Some(node) = node else {
            return failure::response(&Status::forbidden(("", ""), "", "only nodes open tunnels"), "");
        };
        if !upgrade::asks_for(request.headers(), PROTOCOL) {
            return failure::response(&Status::bad_request(format!("a tunnel is an upgrade to {PROTOCOL}")), "");
        }
        let upgraded = hyper::upgrade::on(&mut request);
        let tunnels = self.clone();
        task::spawn("tunnel", async move {
            match upgraded.await {
                Ok(stream) => tunnels.hold(node, stream).await,
                Err(error) => tracing::debug!(%error, "no tunnel"),
            }
        })
        .detach();
        let mut response = Response::new(Body::from(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
        response
    }

    async fn hold(&self, node: String, stream: hyper::upgrade::Upgraded) {
        let (sender, connection) = match http2::handshake(TokioExecutor::new(), stream).await {
            Ok(made) => made,
            Err(error) => return tracing::debug!(%error, node, "no tunnel"),
        };
        let number = {
            let mut open = self.lock();
            let number = open.get(&node).map_or(0, |(number, _)| number + 1);
            // A node that comes again has lost its old connection.
            open.insert(node.clone(), (number, sender));
            number
        };
        tracing::info!(node, "tunnel open");
        if let Err(error) = connection.await {
            tracing::debug!(%error, node, "tunnel broke");
        }
        let mut open = self.lock();
        if open.get(&node).is_some_and(|(current, _)| *current == number) {
            open.remove(&node);
            tracing::info!(node, "tunnel closed");
        }
    }

    pub fn has(&self, node: &str) -> bool {
        self.lock().contains_key(node)
    }

    /// A stream to `authority` on the node's side.
    pub async fn open(&self, node: &str, authority: &str) -> Result<Box<dyn ByteStream>, Status> {
        let unreachable = |why: String| Status::service_unavailable(format!("node {node:?} cannot be reached: {why}"));
        let sender = self.lock().get(node).map(|(_, sender)| sender.clone());
        let mut sender = sender.ok_or_else(|| unreachable("it is not connected to this server".to_owned()))?;
        let request = Request::connect(authority).body(Empty::new()).map_err(Status::internal)?;
        let answer = sender.send_request(request).await.map_err(|error| unreachable(error.to_string()))?;
        if answer.status() != StatusCode::OK {
            return Err(unreachable(format!("{authority}: {}", answer.status())));
        }
        let stream = hyper::upgrade::on(answer).await.map_err(|error| unreachable(error.to_string()))?;
        Ok(Box::new(TokioIo::new(stream)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (u64, Sender)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
