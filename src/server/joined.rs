//! A node whose server is elsewhere: `coracle agent`.
//!
//! Everything it needs of the cluster comes through connections that it opens itself: the API as `system:node:NAME`, and the tunnel
//! through which the server reaches the node and its pods.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use coracle_agent::node_server::{NodeServer, Trust};
use coracle_api::Resource;
use coracle_base::backoff::{Backoff, Shape};
use coracle_base::shutdown::Shutdown;
use coracle_base::task;
use coracle_client::transport::{self, Endpoint};
use coracle_client::{RemoteSource, path, rest};
use coracle_streams::upgrade;
use http::header::{CONNECTION, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::cluster::{self, Cluster};
use crate::config::JoinConfig;
use crate::data_directory::{DataDirectory, read_optional, write_private};
use crate::join::Membership;
use crate::node::{self, Access, Instance, Setup};
use crate::tls::Tls;
use crate::{memory, notify, tunnel};

/// Often enough for a machine whose clock was wrong at boot.
const CHECK_EVERY: Duration = Duration::from_secs(12 * 3600);
const RECONNECT: Shape = Shape::doubling(Duration::from_millis(100), Duration::from_secs(10));

/// Runs a node until shutdown begins or a part of it fails.
pub async fn run(config: JoinConfig, shutdown: Shutdown) -> anyhow::Result<()> {
    let directory = DataDirectory::open(&config.data_dir)?;
    // A machine that may not join has nothing outside of the data directory.
    let agent = config.data_dir.join("agent");
    node::make(&agent)?;
    let member = Membership::open(&config, agent).await?;
    let instance = Instance::open(&config.data_dir)?;
    let member = Arc::new(member);
    let client = member.client()?;
    let cluster = facts(&client, &instance).await?;
    tracing::info!(server = config.server, node = config.node.name, "joined");

    let source = Arc::new(RemoteSource::new(client.clone()));
    let access = Access { agent: source.clone(), network: source, client };
    let addresses = config.node.addresses.clone();
    let callers = cluster.client_authority.clone();
    let setup = Setup { data_dir: config.data_dir, cluster, node: config.node, instance };
    let (keeper, stop) = (member.clone(), shutdown.clone());
    let mut tasks = Vec::new();
    let started = |server: NodeServer| {
        let tunnel = keep_tunnel(keeper.endpoint(), server.clone(), stop.child());
        tasks.push(task::spawn("tunnel", tunnel));
        tasks.push(task::spawn("node port", serve(keeper, callers, addresses, server, stop.child())));
        notify::ready();
    };
    let trimming = task::spawn("memory", memory::small_after_start(shutdown.child()));
    let outcome = node::run(setup, access, None, started, shutdown.clone()).await;
    shutdown.begin();
    drop((tasks, trimming, directory));
    outcome
}

/// The cluster's own settings, from the server, or as last known when it cannot be reached.
async fn facts(client: &kube::Client, instance: &Instance) -> anyhow::Result<Cluster> {
    let kept = instance.directory.join(cluster::KEY);
    let maps = Resource::find("", "v1", "configmaps").context("ConfigMaps are not in the catalog")?;
    let uri = path::object(&maps, cluster::NAMESPACE, cluster::NAME);
    let text = match rest::ask::<Value>(client, Method::GET, &uri, ("accept", "application/json"), None).await {
        Ok(map) => map["data"][cluster::KEY].as_str().unwrap_or_default().to_owned(),
        Err(error) => match (error.code(), read_optional(&kept)?) {
            (None, Some(text)) => {
                tracing::warn!(error = error.chain(), "the server is away: the node goes by what it knew last");
                text
            }
            _ => bail!("the cluster's settings cannot be read: {}", error.chain()),
        },
    };
    let cluster =
        Cluster::from_text(&text).context("the server's settings are not those of a coracle of this version")?;
    write_private(&kept, text.as_bytes())?;
    Ok(cluster)
}

/// The node's port with a certificate of the cluster's, and both certificates renewed, until shutdown.
async fn serve(
    member: Arc<Membership>,
    callers: String,
    addresses: Vec<IpAddr>,
    server: NodeServer,
    shutdown: Shutdown,
) {
    let mut backoff = Backoff::new(RECONNECT);
    let mut listening = Vec::new();
    let mut shown: Option<Arc<Tls>> = None;
    loop {
        let next = match renew(&member, &callers, &addresses, &mut shown).await {
            Ok(()) => {
                backoff.reset();
                if let (Some(tls), true) = (&shown, listening.is_empty()) {
                    listening = node::listen(&addresses, &server, tls, &shutdown).await;
                }
                CHECK_EVERY
            }
            Err(error) => {
                tracing::warn!("certificates are not renewed: {error:#}");
                backoff.next_delay()
            }
        };
        if shutdown.bound(tokio::time::sleep(next)).await.is_none() {
            return;
        }
    }
}

/// `callers` is the authority of those who may ask the node's port.
async fn renew(
    member: &Membership,
    callers: &str,
    addresses: &[IpAddr],
    shown: &mut Option<Arc<Tls>>,
) -> anyhow::Result<()> {
    member.renew().await?;
    let leaf = member.serving(addresses).await?;
    match shown {
        Some(tls) => tls.replace(&leaf)?,
        None => *shown = Some(Arc::new(Tls::node(&leaf, callers)?)),
    }
    Ok(())
}

/// Keeps a tunnel to the server open until shutdown.
async fn keep_tunnel(endpoint: Endpoint, server: NodeServer, shutdown: Shutdown) {
    let mut backoff = Backoff::new(RECONNECT);
    loop {
        let Some(outcome) = shutdown.bound(hold_tunnel(&endpoint, &server)).await else { return };
        match outcome {
            Ok(()) => backoff.reset(),
            Err(error) => tracing::debug!("no tunnel to the server: {error:#}"),
        }
        if shutdown.bound(tokio::time::sleep(backoff.next_delay())).await.is_none() {
            return;
        }
    }
}

/// Opens a tunnel and serves it until it ends.
async fn hold_tunnel(endpoint: &Endpoint, server: &NodeServer) -> anyhow::Result<()> {
    let connection = transport::connect(endpoint).await?;
    let host = endpoint.servers.first().map_or("coracle", String::as_str);
    let asked = Request::get(tunnel::PATH)
        .header("host", host)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, tunnel::PROTOCOL)
        .body(())?;
    let (_, stream) = upgrade::request(connection, asked).await?;
    tracing::info!("tunnel to the server open");
    let service = service_fn(|request: Request<Incoming>| {
        let server = server.clone();
        async move { Ok::<_, std::convert::Infallible>(dial(request, server).await) }
    });
    let stream = TokioIo::new(stream);
    hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await?;
    Ok(())
}

/// Answers one CONNECT: the node's own server, or a pod of the node.
async fn dial(mut request: Request<Incoming>, server: NodeServer) -> Response<String> {
    let answer = |code: StatusCode, text: String| {
        let mut response = Response::new(text);
        *response.status_mut() = code;
        response
    };
    let Some(authority) = request.uri().authority().map(ToString::to_string) else {
        return answer(StatusCode::BAD_REQUEST, "CONNECT names nothing".to_owned());
    };
    if request.method() != Method::CONNECT {
        return answer(StatusCode::METHOD_NOT_ALLOWED, "only CONNECT".to_owned());
    }
    if authority == tunnel::NODE {
        let upgraded = hyper::upgrade::on(&mut request);
        task::spawn("node stream", async move {
            if let Ok(stream) = upgraded.await {
                server.serve(TokioIo::new(stream), Trust::Full).await;
            }
        })
        .detach();
        return answer(StatusCode::OK, String::new());
    }
    let Ok(address) = authority.parse::<SocketAddr>() else {
        return answer(StatusCode::BAD_REQUEST, format!("{authority} is neither the node nor an address"));
    };
    match tokio::time::timeout(Duration::from_secs(10), TcpStream::connect(address)).await {
        Ok(Ok(mut far)) => {
            let _ = far.set_nodelay(true);
            let upgraded = hyper::upgrade::on(&mut request);
            task::spawn("tunnelled", async move {
                if let Ok(near) = upgraded.await {
                    upgrade::join(&mut TokioIo::new(near), &mut far).await;
                }
            })
            .detach();
            answer(StatusCode::OK, String::new())
        }
        Ok(Err(error)) => answer(StatusCode::BAD_GATEWAY, error.to_string()),
        Err(_) => answer(StatusCode::GATEWAY_TIMEOUT, "no answer".to_owned()),
    }
}
