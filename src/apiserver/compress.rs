//! gzip for large answers, where it pays: only when asked for, above 128 KB, and never over loopback.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt;
use http::{HeaderValue, Response, header};

use crate::body::Body;

const THRESHOLD: usize = 128 * 1024;

/// Compresses `response` where the client accepts that. Streams here are lists above 1 MiB; watches never come here.
pub fn compress(response: Response<Body>, accept_encoding: &str) -> Response<Body> {
    let accepts =
        accept_encoding.split(',').any(|coding| coding.split(';').next().unwrap_or_default().trim() == "gzip");
    if !accepts || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let body = match body {
        Body::Full(bytes) if bytes.len() > THRESHOLD => {
            let mut encoder = encoder();
            // Writing into a Vec cannot fail.
            let _ = encoder.write_all(&bytes);
            Body::from(encoder.finish().unwrap_or_default())
        }
        Body::Stream(stream) => {
            let pieces = stream.map(Some).chain(futures::stream::iter([None]));
            Body::Stream(
                pieces
                    .scan(encoder(), |encoder, piece| {
                        let output = match piece {
                            Some(Ok(bytes)) => encoder.write_all(&bytes).map_err(Into::into),
                            Some(Err(error)) => Err(error),
                            None => encoder.try_finish().map_err(Into::into),
                        };
                        let output = output.map(|()| Bytes::from(std::mem::take(encoder.get_mut())));
                        futures::future::ready(Some(output))
                    })
                    .boxed(),
            )
        }
        other => return Response::from_parts(parts, other),
    };
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, body)
}

fn encoder() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::new(), Compression::fast())
}
