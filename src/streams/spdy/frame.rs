//! SPDY/3.1 frames: what exec, attach and port-forward use of them, read and written.

use bytes::{Buf, Bytes};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::dictionary::dictionary;

/// No peer sends larger frames; a larger one is an attack or a broken peer.
const LARGEST: usize = 16 << 20;
const LARGEST_HEADERS: usize = 256 << 10;

pub(crate) type Headers = Vec<(String, String)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Data {
        stream: u32,
        fin: bool,
        data: Bytes,
    },
    SynStream {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    SynReply {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Settings, window updates and late headers: nothing here depends on them.
    Other,
}

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("malformed SPDY frame: {0}")]
    Malformed(&'static str),
}

/// Reads frames; holds the decompression state of the connection's headers.
pub(crate) struct Reader {
    inflate: Decompress,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { inflate: Decompress::new(true) }
    }

    /// The next frame; `None` when the peer closed between frames.
    pub(crate) async fn read<R: AsyncRead + Unpin>(&mut self, io: &mut R) -> Result<Option<Frame>, FrameError> {
        let mut head = [0; 8];
        if io.read(&mut head[..1]).await? == 0 {
            return Ok(None);
        }
        io.read_exact(&mut head[1..]).await?;
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        if length > LARGEST {
            return Err(FrameError::Malformed("too large"));
        }
        let mut body = vec![0; length];
        io.read_exact(&mut body).await?;
        self.decode(head, Bytes::from(body)).map(Some)
    }

    fn decode(&mut self, head: [u8; 8], mut body: Bytes) -> Result<Frame, FrameError> {
        let word = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let fin = head[4] & 1 != 0;
        if word >> 31 == 0 {
            return Ok(Frame::Data { stream: word, fin, data: body });
        }
        if (word >> 16) & 0x7fff != 3 {
            return Err(FrameError::Malformed("not version 3"));
        }
        Ok(match word & 0xffff {
            1 => {
                let stream = stream_id(&mut body)?;
                if body.len() < 6 {
                    return Err(FrameError::Malformed("short SYN_STREAM"));
                }
                body.advance(6);
                Frame::SynStream { stream, fin, headers: self.headers(&body)? }
            }
            2 => Frame::SynReply { stream: stream_id(&mut body)?, fin, headers: self.headers(&body)? },
            3 => Frame::Reset { stream: stream_id(&mut body)?, status: stream_id(&mut body)? },
            6 => Frame::Ping { id: stream_id(&mut body)? },
            7 => Frame::GoAway,
            8 => {
                stream_id(&mut body)?;
                self.headers(&body)?; // Read for the sake of the shared compression state.
                Frame::Other
            }
            _ => Frame::Other,
        })
    }

    fn headers(&mut self, compressed: &[u8]) -> Result<Headers, FrameError> {
        let mut plain = Vec::with_capacity(1024);
        let mut rest = compressed;
        loop {
            let (read, wrote) = (self.inflate.total_in(), plain.len());
            plain.reserve(1024);
            if let Err(error) = self.inflate.decompress_vec(rest, &mut plain, FlushDecompress::Sync) {
                error.needs_dictionary().ok_or(FrameError::Malformed("bad compression"))?;
                self.inflate.set_dictionary(&dictionary()).map_err(|_| FrameError::Malformed("another dictionary"))?;
            }
            rest = &rest[(self.inflate.total_in() - read) as usize..];
            if plain.len() > LARGEST_HEADERS {
                return Err(FrameError::Malformed("headers too large"));
            }
            let stuck = self.inflate.total_in() == read && plain.len() == wrote;
            if rest.is_empty() && plain.len() < plain.capacity() || stuck {
                break;
            }
        }
        parse_headers(Bytes::from(plain)).ok_or(FrameError::Malformed("bad header block"))
    }
}

fn stream_id(body: &mut Bytes) -> Result<u32, FrameError> {
    if body.len() < 4 { Err(FrameError::Malformed("short frame")) } else { Ok(body.get_u32() & 0x7fff_ffff) }
}

fn parse_headers(mut plain: Bytes) -> Option<Headers> {
    let text = |plain: &mut Bytes| {
        let length = plain.try_get_u32().ok()? as usize;
        (length <= plain.len()).then(|| String::from_utf8_lossy(&plain.split_to(length)).into_owned())
    };
    let count = plain.try_get_u32().ok()?;
    let mut headers = Vec::new();
    for _ in 0..count {
        headers.push((text(&mut plain)?, text(&mut plain)?));
    }
    Some(headers)
}

/// Writes frames; holds the compression state of the connection's headers.
pub(crate) struct Writer {
    deflate: Compress,
}

impl Writer {
    pub(crate) fn new() -> Self {
        let mut deflate = Compress::new(Compression::fast(), true);
        deflate.set_dictionary(&dictionary()).expect("a fresh compressor takes a dictionary");
        Self { deflate }
    }

    /// Appends the frame's bytes to `out`.
    pub(crate) fn encode(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        match frame {
            Frame::Data { stream, fin, data } => {
                out.extend_from_slice(&stream.to_be_bytes());
                put_length(out, *fin, data.len());
                out.extend_from_slice(data);
            }
            Frame::SynStream { stream, fin, headers } => {
                let block = self.header_block(headers);
                put_control(out, 1, *fin, 10 + block.len());
                out.extend_from_slice(&stream.to_be_bytes());
                out.extend_from_slice(&[0; 6]);
                out.extend_from_slice(&block);
            }
            Frame::SynReply { stream, fin, headers } => {
                let block = self.header_block(headers);
                put_control(out, 2, *fin, 4 + block.len());
                out.extend_from_slice(&stream.to_be_bytes());
                out.extend_from_slice(&block);
            }
            Frame::Reset { stream, status } => {
                put_control(out, 3, false, 8);
                out.extend_from_slice(&stream.to_be_bytes());
                out.extend_from_slice(&status.to_be_bytes());
            }
            Frame::Ping { id } => {
                put_control(out, 6, false, 4);
                out.extend_from_slice(&id.to_be_bytes());
            }
            Frame::GoAway => {
                put_control(out, 7, false, 8);
                out.extend_from_slice(&[0; 8]);
            }
            Frame::Other => {}
        }
    }

    fn header_block(&mut self, headers: &Headers) -> Vec<u8> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let mut rest = &plain[..];
        loop {
            let read = self.deflate.total_in();
            block.reserve(plain.len() + 64);
            self.deflate.compress_vec(rest, &mut block, FlushCompress::Sync).expect("compressing memory cannot fail");
            rest = &rest[(self.deflate.total_in() - read) as usize..];
            if rest.is_empty() && block.len() < block.capacity() {
                return block;
            }
        }
    }
}

fn put_control(out: &mut Vec<u8>, kind: u16, fin: bool, length: usize) {
    out.extend_from_slice(&0x8003_u16.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    put_length(out, fin, length);
}

fn put_length(out: &mut Vec<u8>, fin: bool, length: usize) {
    out.extend_from_slice(&((u32::from(fin) << 24) | length as u32).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[tokio::test]
    async fn frames_survive_the_wire() {
        let long = "x".repeat(5000);
        let frames = [
            Frame::SynStream { stream: 1, fin: false, headers: headers(&[("streamtype", "error"), ("host", "a")]) },
            Frame::SynReply { stream: 1, fin: false, headers: headers(&[]) },
            Frame::SynStream { stream: 3, fin: true, headers: headers(&[("streamtype", "stdin"), ("long", &long)]) },
            Frame::Data { stream: 3, fin: true, data: Bytes::from_static(b"aboard") },
            Frame::Ping { id: 1 },
            Frame::Reset { stream: 3, status: 5 },
            Frame::GoAway,
        ];
        let (mut writer, mut bytes) = (Writer::new(), Vec::new());
        for frame in &frames {
            writer.encode(frame, &mut bytes);
        }
        let (mut reader, mut io) = (Reader::new(), &bytes[..]);
        for frame in frames {
            assert_eq!(reader.read(&mut io).await.expect("it is well-formed"), Some(frame));
        }
        assert!(reader.read(&mut io).await.expect("the end is no error").is_none());
    }

    proptest::proptest! {
        #[test]
        fn hostile_bytes_are_errors_and_no_panic(bytes: Vec<u8>) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async {
                let (mut reader, mut io) = (Reader::new(), &bytes[..]);
                while let Ok(Some(_)) = reader.read(&mut io).await {}
            });
        }
    }
}
