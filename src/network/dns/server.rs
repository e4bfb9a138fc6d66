//! The listeners: UDP and TCP on an unprivileged port of the cluster's DNS addresses, to which the table leads port 53.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use coracle_base::shutdown::Shutdown;
use coracle_base::task;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::upstream::{Transport, Upstream};
use super::zone::{Answer, Reply, Zone};

/// Ports that are tried; the same one at each start keeps the redirection of a table that outlived us right.
const PORTS: std::ops::Range<u16> = 10053..10063;
/// What passes every network in one packet (DNS flag day 2020).
const PAYLOAD: u16 = 1232;
/// Queries that wait for upstream servers, and TCP connections, at a time.
const WAITING: usize = 512;
const CONNECTIONS: usize = 128;
const IDLE: Duration = Duration::from_secs(10);
/// Aliases that are followed.
const ALIASES: usize = 8;

/// The sockets, bound; queries wait in them until `run`.
pub struct Listeners {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    pub port: u16,
}

/// What answers.
pub struct Resolver {
    zone: Zone,
    upstream: Upstream,
}

impl Listeners {
    /// Binds the same free port on every address; no interface needs to have them (see `node::prepare`).
    pub fn bind(addresses: &[IpAddr]) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for port in PORTS {
            match Self::bind_port(addresses, port) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
                result => return result,
            }
        }
        Err(last)
    }

    fn bind_port(addresses: &[IpAddr], port: u16) -> io::Result<Self> {
        let mut listeners = Self { udp: Vec::new(), tcp: Vec::new(), port };
        for address in addresses {
            let address = SocketAddr::new(*address, port);
            listeners.udp.push(bind_udp(address)?);
            let socket =
                if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            setsockopt(&socket, sockopt::IpFreebind, &true)?;
            socket.bind(address)?;
            listeners.tcp.push(socket.listen(128)?);
        }
        Ok(listeners)
    }

    /// Answers until shutdown.
    pub async fn run(self, resolver: Arc<Resolver>, shutdown: Shutdown) {
        let mut tasks = Vec::new();
        let waiting = Arc::new(Semaphore::new(WAITING));
        for socket in self.udp {
            let serve = serve_udp(Arc::new(socket), resolver.clone(), waiting.clone());
            let shutdown = shutdown.clone();
            tasks.push(task::spawn("dns udp", async move { shutdown.bound(serve).await }));
        }
        for listener in self.tcp {
            let serve = serve_tcp(listener, resolver.clone(), shutdown.clone());
            let shutdown = shutdown.clone();
            tasks.push(task::spawn("dns tcp", async move { shutdown.bound(serve).await }));
        }
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "dns listener ended");
            }
        }
    }
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, socket};
    use std::os::fd::AsRawFd;
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    UdpSocket::from_std(socket.into())
}

async fn serve_udp(socket: Arc<UdpSocket>, resolver: Arc<Resolver>, waiting: Arc<Semaphore>) {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let packet = &buffer[..length];
        match resolver.read(packet, Transport::Udp) {
            Step::Ignore => (),
            Step::Reply(answer) => drop(socket.send_to(&answer, client).await),
            Step::Ask(asked) => {
                let Ok(permit) = waiting.clone().try_acquire_owned() else {
                    drop(socket.send_to(&asked.failure(), client).await);
                    continue;
                };
                let (socket, resolver, packet) = (socket.clone(), resolver.clone(), packet.to_vec());
                let ask = async move {
                    let _permit = permit;
                    let answer = resolver.ask(*asked, &packet).await;
                    let _ = socket.send_to(&answer, client).await;
                };
                task::spawn("dns query", ask).detach();
            }
        }
    }
}

async fn serve_tcp(listener: TcpListener, resolver: Arc<Resolver>, shutdown: Shutdown) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (resolver, shutdown) = (resolver.clone(), shutdown.clone());
        let connection = async move {
            let _permit = permit;
            let _ = shutdown.bound(serve_connection(stream, &resolver)).await;
        };
        task::spawn("dns connection", connection).detach();
    }
}

async fn serve_connection(mut stream: TcpStream, resolver: &Resolver) -> io::Result<()> {
    loop {
        let Ok(length) = tokio::time::timeout(IDLE, stream.read_u16()).await else { return Ok(()) };
        let mut packet = vec![0; usize::from(length?)];
        tokio::time::timeout(IDLE, stream.read_exact(&mut packet)).await.map_err(io::Error::other)??;
        let Some(answer) = resolver.answer(&packet, Transport::Tcp).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat()).await?;
    }
}

pub(super) enum Step {
    /// Not a query.
    Ignore,
    Reply(Vec<u8>),
    Ask(Box<Asked>),
}

/// What only an upstream server knows.
pub(super) struct Asked {
    /// Our answer so far: empty, or aliases.
    answer: Message,
    /// The name still to be resolved; `None` passes the query as it is.
    alias: Option<Name>,
    kind: RecordType,
    transport: Transport,
    limit: usize,
}

impl Asked {
    fn failure(&self) -> Vec<u8> {
        let mut answer = self.answer.clone();
        answer.metadata.response_code = ResponseCode::ServFail;
        emit(&answer, self.limit)
    }
}

impl Resolver {
    pub fn new(zone: Zone, upstream: Upstream) -> Self {
        Self { zone, upstream }
    }

    /// The answer to a packet, from the zone or from an upstream server; `None` when it is no query.
    pub async fn answer(&self, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        match self.read(packet, transport) {
            Step::Ignore => None,
            Step::Reply(answer) => Some(answer),
            Step::Ask(asked) => Some(self.ask(*asked, packet).await),
        }
    }

    /// Reads a packet and answers it from the zone where that can.
    pub(super) fn read(&self, packet: &[u8], transport: Transport) -> Step {
        let Ok(query) = Message::from_vec(packet) else { return malformed(packet) };
        if query.metadata.message_type != MessageType::Query {
            return Step::Ignore;
        }
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.metadata.recursion_desired = query.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_queries(query.queries.iter().cloned());
        let mut limit = 512;
        if let Some(edns) = &query.edns {
            limit = edns.max_payload().clamp(512, PAYLOAD);
            answer.set_edns(Edns::new()).edns.get_or_insert_default().set_max_payload(PAYLOAD);
        }
        let limit = if transport == Transport::Tcp { usize::from(u16::MAX) } else { usize::from(limit) };
        let refuse = |mut answer: Message, code: ResponseCode| {
            answer.metadata.response_code = code;
            Step::Reply(emit(&answer, limit))
        };
        if query.metadata.op_code != OpCode::Query {
            return refuse(answer, ResponseCode::NotImp);
        }
        let [question] = query.queries.as_slice() else { return refuse(answer, ResponseCode::FormErr) };
        if question.query_class() != DNSClass::IN {
            return refuse(answer, ResponseCode::Refused);
        }
        let kind = question.query_type();
        let alias = match self.zone.lookup(question.name(), kind) {
            Answer::Foreign => None,
            Answer::Known(_) if !self.zone.is_ready() => return refuse(answer, ResponseCode::ServFail),
            Answer::Known(reply) => match self.follow(&mut answer, reply, kind) {
                None => return Step::Reply(emit(&answer, limit)),
                alias => alias,
            },
        };
        Step::Ask(Box::new(Asked { answer, alias, kind, transport, limit }))
    }

    /// Adds the reply, and what its alias leads to within the cluster. Gives an alias that leads out of it.
    fn follow(&self, answer: &mut Message, mut reply: Reply, kind: RecordType) -> Option<Name> {
        answer.metadata.authoritative = true;
        for _ in 0..ALIASES {
            answer.metadata.response_code = reply.code;
            answer.add_answers(reply.answers);
            answer.add_additionals(reply.additionals);
            let Some(target) = reply.alias else { break };
            match self.zone.lookup(&target, kind) {
                Answer::Foreign => return Some(target),
                Answer::Known(next) => reply = next,
            }
        }
        let last_is_wanted = answer.answers.last().is_some_and(|record| record.record_type() != RecordType::CNAME);
        if !last_is_wanted && (answer.answers.is_empty() || kind != RecordType::CNAME) {
            answer.add_authority(self.zone.authority());
        }
        None
    }

    async fn ask(&self, asked: Asked, packet: &[u8]) -> Vec<u8> {
        let Some(alias) = &asked.alias else {
            let answer = self.upstream.ask(packet, asked.transport).await;
            return answer.unwrap_or_else(|| asked.failure());
        };
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(alias.clone(), asked.kind));
        let Ok(query) = query.to_vec() else { return asked.failure() };
        let answer = self.upstream.ask(&query, asked.transport).await;
        let Some(found) = answer.and_then(|answer| Message::from_vec(&answer).ok()) else { return asked.failure() };
        let Asked { mut answer, limit, .. } = asked;
        answer.metadata.response_code = found.metadata.response_code;
        answer.metadata.truncation = found.metadata.truncation;
        answer.add_answers(found.answers);
        emit(&answer, limit)
    }
}

/// What cannot be read is answered if it has an id.
fn malformed(packet: &[u8]) -> Step {
    match packet {
        [high, low, flags, _, _, _, _, _, _, _, _, _, ..] if flags & 0x80 == 0 => {
            let id = u16::from_be_bytes([*high, *low]);
            Step::Reply(emit(&Message::error_msg(id, OpCode::Query, ResponseCode::FormErr), 512))
        }
        _ => Step::Ignore,
    }
}

/// The message in at most `limit` bytes: cut to its question, with the mark that more can be had over TCP.
fn emit(message: &Message, limit: usize) -> Vec<u8> {
    let bytes = message.to_vec().unwrap_or_default();
    if bytes.len() <= limit { bytes } else { message.truncate().to_vec().unwrap_or_default() }
}
