//! Frames of upgraded connections: SPDY from a container runtime, WebSocket messages and tunnels from clients.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Mutex;

use bytes::Bytes;
use coracle_streams::remote_command::{PROTOCOLS, Streams, V5, translate};
use coracle_streams::spdy::Connection;
use coracle_streams::upgrade::Stream;
use coracle_streams::websocket::{self, Framing, WebSocketStream};
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::oneshot;

use crate::parts;

const BUFFER: usize = 64 << 10;

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future);
}

/// What a container runtime sends on a connection with two streams open, until it hangs up.
pub fn spdy(data: &[u8]) {
    block_on(async {
        let (near, far) = tokio::io::duplex(BUFFER);
        let mut connection = Connection::new(near);
        let far = play(far, data);
        // It holds the connection: its end hangs up.
        let ours = async move {
            let Ok((stdin, mut stdout)) = connection.open(&[("streamtype", "stdout")]).await else { return };
            let Ok((_, mut stderr)) = connection.open(&[("streamtype", "stderr")]).await else { return };
            let _ = stdin.send(Bytes::from_static(b"x")).await;
            tokio::join!(async { while stdout.next().await.is_some() {} }, async {
                while stderr.next().await.is_some() {}
            });
        };
        tokio::join!(far, ours);
    });
}

/// Sends `data`, reads what comes until the other end hangs up.
async fn play(mut io: DuplexStream, data: &[u8]) {
    let _ = io.write_all(data).await;
    let _ = io.shutdown().await;
    let _ = tokio::io::copy(&mut io, &mut tokio::io::sink()).await;
}

pub fn spdy_seeds() -> Vec<Vec<u8>> {
    let data = |stream: u8, flags: u8, text: &[u8]| [&[0, 0, 0, stream, flags, 0, 0, text.len() as u8], text].concat();
    let control = |kind: u8, body: &[u8]| [&[0x80, 3, 0, kind, 0, 0, 0, body.len() as u8], body].concat();
    let headers = control(8, &[0, 0, 0, 1, 0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2]);
    let reply = control(2, &[0, 0, 0, 1, 0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2, 0x02, 0, 0, 0, 0xff, 0xff]);
    vec![
        [data(1, 0, b"hello"), data(3, 1, b""), data(1, 1, b"bye")].concat(),
        [reply, data(1, 0, b"out")].concat(),
        [control(6, &[0, 0, 0, 2]), control(3, &[0, 0, 0, 1, 0, 0, 0, 5]), control(7, &[0; 8])].concat(),
        [control(4, &[0, 0, 0, 1, 0, 0, 0, 4, 0, 1, 0, 0]), headers, control(9, &[0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff])]
            .concat(),
    ]
}

const HANDSHAKE: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A client that asks for a WebSocket, then sends `data` and hangs up; `serve` is the server's side.
async fn with_socket<F: Future<Output = ()>>(data: &[u8], serve: impl FnOnce(WebSocketStream<Stream>) -> F) {
    let (mut client, server) = tokio::io::duplex(BUFFER);
    let (tell, told) = oneshot::channel();
    let tell = Mutex::new(Some(tell));
    let service = service_fn(|mut request: Request<Incoming>| {
        let (head, accepted) = websocket::accept(&mut request, V5).expect("a handshake");
        let tell = tell.lock().expect("one task").take().expect("one request");
        assert!(tell.send(accepted).is_ok(), "it is waited for");
        async { Ok::<Response<Empty<Bytes>>, Infallible>(head.map(|()| Empty::new())) }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let serve = async { serve(told.await.expect("it is sent").socket().await.expect("it becomes a WebSocket")).await };
    let send = async {
        client.write_all(HANDSHAKE).await.expect("the server reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.expect("the server answers"));
        }
        play(client, data).await;
    };
    let (served, (), ()) = tokio::join!(connection.with_upgrades(), serve, send);
    served.expect("the handshake is answered");
}

/// Channel messages.
pub fn websocket(data: &[u8]) {
    for framing in [Framing::Binary, Framing::Base64] {
        block_on(with_socket(data, |socket| async {
            let (_sender, mut receiver) = websocket::channels(socket, framing);
            while receiver.next().await.is_some() {}
        }));
    }
}

/// SPDY in messages: what they hold reaches the far side.
pub fn tunnel(data: &[u8]) {
    block_on(async {
        let (near, far) = tokio::io::duplex(BUFFER);
        let tunnel = with_socket(data, |socket| coracle_streams::tunnel::tunnel(socket, near));
        tokio::join!(tunnel, play(far, b"answer"));
    });
}

/// exec: one part from the client, one from the runtime.
pub fn remote_command(data: &[u8]) {
    let [flags, client, runtime] = parts(data);
    let flag = |bit: u8| flags.first().is_some_and(|flags| flags & bit != 0);
    let streams = Streams { stdin: flag(1), stdout: flag(2), stderr: flag(4), tty: flag(8) };
    let (_, protocol) = PROTOCOLS[flags.first().map_or(0, |flags| usize::from(flags >> 4)) % PROTOCOLS.len()];
    block_on(async {
        let (near, far) = tokio::io::duplex(BUFFER);
        let exec = with_socket(client, |socket| translate(socket, protocol, near, streams));
        tokio::join!(exec, play(far, runtime));
    });
}

/// A frame as a client sends it, masked with ones: a zero would end the part.
fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
    let masked = payload.iter().map(|byte| byte ^ 1);
    [head, 0x80 | payload.len() as u8, 1, 1, 1, 1].into_iter().chain(masked).collect()
}

pub fn websocket_seeds() -> Vec<Vec<u8>> {
    vec![
        [frame(0x82, b"\0hello"), frame(0x82, b"\x04{\"Width\":80,\"Height\":24}"), frame(0x88, &[3, 232])].concat(),
        [frame(0x02, b"\0par"), frame(0x89, b"ping"), frame(0x80, b"t"), frame(0x82, &[255, 0])].concat(),
        [frame(0x81, b"text"), frame(0x82, b"")].concat(),
        vec![0x82, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 1, 1, 1, 1],
    ]
}

pub fn remote_command_seeds() -> Vec<Vec<u8>> {
    let client = [frame(0x82, b"\0in"), frame(0x82, &[255, 0])].concat();
    spdy_seeds().into_iter().map(|runtime| [&[15, 0], &client[..], &[0], &runtime].concat()).collect()
}
