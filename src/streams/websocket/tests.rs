//! Frames of any form end a connection or are messages; nothing panics, and nothing waits for what cannot come.

use std::convert::Infallible;
use std::sync::Mutex;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::oneshot;

use super::*;

const HANDSHAKE: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Answers one handshake on `io`, then reads messages until the end.
async fn receive(io: DuplexStream, framing: Framing) -> Vec<(u8, Bytes)> {
    let (tell, told) = oneshot::channel();
    let tell = Mutex::new(Some(tell));
    let service = service_fn(|mut request: Request<Incoming>| {
        let (head, accepted) = accept(&mut request, "v5.channel.k8s.io").expect("a handshake");
        let tell = tell.lock().expect("one task").take().expect("one request");
        assert!(tell.send(accepted).is_ok(), "the test waits for it");
        async { Ok::<Response<Empty<Bytes>>, Infallible>(head.map(|()| Empty::new())) }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service);
    let messages = async {
        let socket = told.await.expect("the handshake is sent").socket().await.expect("it becomes a WebSocket");
        let (_sender, mut receiver) = channels(socket, framing);
        let mut messages = Vec::new();
        while let Some(message) = receiver.next().await {
            messages.push(message);
        }
        messages
    };
    let (served, messages) = tokio::join!(connection.with_upgrades(), messages);
    served.expect("the handshake is answered");
    messages
}

/// What the server receives of these bytes.
fn received(bytes: &[u8], framing: Framing) -> Vec<(u8, Bytes)> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(64 << 10);
        let send = async {
            client.write_all(HANDSHAKE).await.expect("the server reads");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.expect("the server answers"));
            }
            // The server may have hung up on what came first.
            let _ = client.write_all(bytes).await;
            let _ = client.shutdown().await;
            let _ = client.read_to_end(&mut head).await;
        };
        tokio::join!(receive(server, framing), send).0
    })
}

/// A frame as a client sends it, masked with zeros; `length` may not be that of the payload.
fn frame(head: u8, length: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![head];
    match length {
        0..126 => frame.push(0x80 | length as u8),
        126..65536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop::collection::vec(any::<u8>(), 0..140);
    let head = prop_oneof![3 => prop::sample::select(vec![0x82_u8, 0x02, 0x80, 0x00, 0x81, 0x88, 0x89, 0x8a]), 1 => any::<u8>()];
    (head, payload, prop_oneof![6 => Just(None), 1 => any::<u64>().prop_map(Some)])
        .prop_map(|(head, payload, length)| frame(head, length.unwrap_or(payload.len() as u64), &payload))
}

#[test]
fn binary_messages_are_channel_and_data() {
    let bytes =
        [frame(0x82, 3, b"\x00ab"), frame(0x82, 0, b""), frame(0x02, 2, b"\x04c"), frame(0x80, 1, b"d")].concat();
    assert_eq!(received(&bytes, Framing::Binary), [(0, Bytes::from_static(b"ab")), (4, Bytes::from_static(b"cd"))]);
}

#[test]
fn text_messages_are_a_digit_and_base64() {
    let bytes = [frame(0x81, 5, b"0YWI="), frame(0x81, 1, b"4"), frame(0x81, 3, b"0??")].concat();
    assert_eq!(received(&bytes, Framing::Base64), [(0, Bytes::from_static(b"ab")), (4, Bytes::new())]);
}

#[test]
fn the_clients_order_decides_among_what_is_known() {
    let known = [("", 0), ("a", 1), ("b", 2)];
    let asked = |offer: Option<&'static str>| {
        let headers = offer.map(|offer| (http::HeaderName::from_static(PROTOCOL), HeaderValue::from_static(offer)));
        negotiate(&headers.into_iter().collect(), &known).map(|(_, chosen)| *chosen)
    };
    assert_eq!([asked(None), asked(Some("c, b, a")), asked(Some("c"))], [Some(0), Some(2), None]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn frames_of_any_form(frames in prop::collection::vec(any_frame(), 0..6)) {
        received(&frames.concat(), Framing::Binary);
        received(&frames.concat(), Framing::Base64);
    }

    #[test]
    fn bytes_of_any_form(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        received(&bytes, Framing::Binary);
    }
}
