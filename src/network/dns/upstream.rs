//! The forwarder: relays queries as they are to the host's own name servers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How a client asked; it is passed on the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// Each server has so long; clients give up after five seconds.
const TIMEOUT: Duration = Duration::from_secs(2);
const HEADER: usize = 12;
/// resolv.conf(5): MAXNS.
const SERVERS: usize = 3;

/// The servers that resolv.conf names, read again when the file has changed.
pub struct Upstream {
    file: PathBuf,
    /// Our own addresses: a host that asks us must not be asked back.
    own: Vec<IpAddr>,
    known: Mutex<Known>,
}

#[derive(Default, Clone)]
struct Known {
    modified: Option<SystemTime>,
    servers: Arc<[SocketAddr]>,
}

impl Upstream {
    pub fn new(file: &Path, own: &[IpAddr]) -> Self {
        Self { file: file.to_owned(), own: own.to_owned(), known: Mutex::default() }
    }

    fn servers(&self) -> Arc<[SocketAddr]> {
        let modified = std::fs::metadata(&self.file).and_then(|metadata| metadata.modified()).ok();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.modified != modified || modified.is_none() {
            let text = std::fs::read_to_string(&self.file).unwrap_or_default();
            known.servers = name_servers(&text, &self.own);
            known.modified = modified;
        }
        known.servers.clone()
    }

    /// The answer to `query` (a whole message) with its own id; `None` when no server gave one.
    pub async fn ask(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let question = question(query)?;
        for server in self.servers().iter() {
            let id: [u8; 2] = coracle_base::crypto::random_bytes();
            let mut packet = query.to_vec();
            packet[..2].copy_from_slice(&id);
            let exchange = async {
                match transport {
                    Transport::Udp => over_udp(*server, &packet, question).await,
                    Transport::Tcp => over_tcp(*server, &packet, question).await,
                }
            };
            match timeout(TIMEOUT, exchange).await {
                Ok(Ok(mut answer)) => {
                    answer[..2].copy_from_slice(&query[..2]);
                    return Some(answer);
                }
                Ok(Err(error)) => tracing::debug!(%server, %error, "name server failed"),
                Err(_) => tracing::debug!(%server, "name server does not answer"),
            }
        }
        None
    }
}

async fn over_udp(server: SocketAddr, packet: &[u8], question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(packet).await?;
    let mut buffer = vec![0; 65535];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answers(&buffer[..length], packet, question) {
            buffer.truncate(length);
            buffer.shrink_to_fit();
            return Ok(buffer);
        }
    }
}

async fn over_tcp(server: SocketAddr, packet: &[u8], question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(packet.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), packet].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if answers(&answer, packet, question) { Ok(answer) } else { Err(io::Error::other("answer to another question")) }
}

/// A response with the query's id and question: anything else was not asked for.
fn answers(response: &[u8], query: &[u8], asked: &[u8]) -> bool {
    let is_response = response.len() >= HEADER && response[2] & 0x80 != 0 && response[..2] == query[..2];
    is_response
        && (question(response).is_some_and(|answered| answered.eq_ignore_ascii_case(asked))
            // Servers that cannot read a query answer without its question.
            || response[4..6] == [0, 0])
}

/// The bytes of the one question.
fn question(message: &[u8]) -> Option<&[u8]> {
    if message.get(4..6)? != [0, 1] {
        return None;
    }
    let mut position = HEADER;
    loop {
        match *message.get(position)? {
            0 => return message.get(HEADER..position + 5),
            length @ 1..=63 => position += 1 + usize::from(length),
            _ => return None,
        }
    }
}

fn name_servers(text: &str, own: &[IpAddr]) -> Arc<[SocketAddr]> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        // A zone (fe80::1%eth0) is not supported by IpAddr; such servers are left out.
        address.parse::<IpAddr>().ok()
    });
    servers.filter(|address| !own.contains(address)).take(SERVERS).map(|address| SocketAddr::new(address, 53)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_those_of_resolv_conf_but_us() {
        let text = "# a comment\nsearch example.com\nnameserver 10.43.0.10\nnameserver  192.0.2.53 # here\nnameserver fe80::1%eth0\nnameserver 2001:db8::53\n";
        let servers = name_servers(text, &["10.43.0.10".parse().expect("an address")]);
        let texts: Vec<String> = servers.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["192.0.2.53:53", "[2001:db8::53]:53"]);
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x02to\x00\x00\x01\x00\x01";
        let asked = question(query).expect("a question");
        let mut response = query.to_vec();
        assert!(!answers(&response, query, asked), "not a response");
        response[2] |= 0x80;
        assert!(answers(&response, query, asked));
        response[13] = b'W';
        assert!(answers(&response, query, asked), "case does not matter");
        response[13] = b'x';
        assert!(!answers(&response, query, asked));
        for end in 0..query.len() {
            assert!(question(&query[..end]).is_none());
        }
    }
}
