//! HTTP/1.1 on the wire, for both ends of the suite.
//!
//! The backend and the caller of this suite are themselves the measuring instrument: they must see every byte as it was sent and
//! be able to send what no HTTP library would. So heads are parsed strictly with `httparse`, and bodies are read here, telling a
//! body that ended from one that was cut. Nothing in this module knows about Tollgate.

use std::fmt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Larger than any head a case sends.
const HEAD_LIMIT_BYTES: usize = 1 << 20;
const HEADER_LIMIT: usize = 256;

/// Why a message could not be read to its end.
#[derive(Debug)]
pub(crate) enum WireError {
    /// The peer closed or reset the connection where more had to come.
    Cut,
    /// The peer sent something that is not HTTP/1.1.
    Malformed(String),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("the connection was cut"),
            Self::Malformed(what) => write!(f, "malformed: {what}"),
        }
    }
}

/// Header fields in the order they were sent, values as bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Headers(pub(crate) Vec<(String, Vec<u8>)>);

impl Headers {
    /// Every value of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let fields = self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// The value of a field that must not be repeated.
    pub(crate) fn one(&self, name: &str) -> Option<String> {
        let mut values = self.all(name);
        assert!(values.len() <= 1, "{name} is repeated: {values:?}");
        values.pop()
    }

    pub(crate) fn bytes(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        fields.next().map(|(_, value)| value.as_slice())
    }
}

/// How the rest of a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Ended,
    Length(u64),
    /// Bytes left in the current chunk.
    Chunked(u64),
    UntilClose,
}

/// The head of a request or a reply.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// Method and target of a request; empty for a reply.
    pub(crate) method: String,
    pub(crate) target: String,
    /// Status of a reply; 0 for a request.
    pub(crate) status: u16,
    pub(crate) headers: Headers,
}

impl Head {
    fn declared(&self) -> Result<Option<Framing>, WireError> {
        let codings = self.headers.all("transfer-encoding");
        let lengths = self.headers.all("content-length");
        match (codings.as_slice(), lengths.as_slice()) {
            ([], []) => Ok(None),
            ([coding], []) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked(0))),
            ([], [length]) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
                length.parse().map(|n| Some(Framing::Length(n))).map_err(|_| WireError::Malformed(format!("length {length}")))
            }
            _ => Err(WireError::Malformed(format!("framing by {codings:?} and {lengths:?}"))),
        }
    }

    pub(crate) fn request_framing(&self) -> Result<Framing, WireError> {
        Ok(self.declared()?.unwrap_or(Framing::Ended))
    }

    pub(crate) fn reply_framing(&self, request_method: &str) -> Result<Framing, WireError> {
        if request_method == "HEAD" || matches!(self.status, 100..=199 | 204 | 304) {
            return Ok(Framing::Ended);
        }
        Ok(self.declared()?.unwrap_or(Framing::UntilClose))
    }
}

/// One connection, with what was read of it and not yet used.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    pub(crate) trailers: Headers,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        // Delays of the kernel must not be mistaken for delays of the gateway.
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new(), trailers: Headers::default() }
    }

    async fn fill(&mut self) -> Result<usize, WireError> {
        self.buffer.reserve(64 * 1024);
        self.stream.read_buf(&mut self.buffer).await.map_err(|_| WireError::Cut)
    }

    /// Bytes up to and including `end`; `None` when the peer closed before the first byte.
    async fn until(&mut self, end: &[u8]) -> Result<Option<Vec<u8>>, WireError> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Ok(Some(self.buffer.drain(..at + end.len()).collect()));
            }
            if self.buffer.len() > HEAD_LIMIT_BYTES {
                return Err(WireError::Malformed("a head without end".into()));
            }
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(WireError::Cut) };
            }
        }
    }

    /// The next request, or `None` when the peer is done with the connection.
    pub(crate) async fn request_head(&mut self) -> Result<Option<Head>, WireError> {
        let Some(bytes) = self.until(b"\r\n\r\n").await? else { return Ok(None) };
        let mut fields = [httparse::EMPTY_HEADER; HEADER_LIMIT];
        let mut request = httparse::Request::new(&mut fields);
        request.parse(&bytes).map_err(|error| WireError::Malformed(error.to_string()))?;
        Ok(Some(Head {
            method: request.method.unwrap_or_default().into(),
            target: request.path.unwrap_or_default().into(),
            status: 0,
            headers: owned(request.headers),
        }))
    }

    /// The next reply, interim ones included.
    pub(crate) async fn reply_head(&mut self) -> Result<Head, WireError> {
        let bytes = self.until(b"\r\n\r\n").await?.ok_or(WireError::Cut)?;
        let mut fields = [httparse::EMPTY_HEADER; HEADER_LIMIT];
        let mut reply = httparse::Response::new(&mut fields);
        reply.parse(&bytes).map_err(|error| WireError::Malformed(error.to_string()))?;
        let status = reply.code.unwrap_or_default();
        Ok(Head { method: String::new(), target: String::new(), status, headers: owned(reply.headers) })
    }

    /// The next bytes of the body as they arrive; `None` at its proper end.
    pub(crate) async fn piece(&mut self, framing: &mut Framing) -> Result<Option<Vec<u8>>, WireError> {
        if let Framing::Chunked(0) = framing {
            *framing = self.next_chunk().await?;
        }
        let limit = match *framing {
            Framing::Ended | Framing::Length(0) => return Ok(None),
            Framing::Length(left) | Framing::Chunked(left) => left,
            Framing::UntilClose => u64::MAX,
        };
        if self.buffer.is_empty() && self.fill().await? == 0 {
            return if *framing == Framing::UntilClose { Ok(None) } else { Err(WireError::Cut) };
        }
        let take = self.buffer.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        let piece: Vec<u8> = self.buffer.drain(..take).collect();
        match framing {
            Framing::Length(left) => *left -= take as u64,
            Framing::Chunked(left) => {
                *left -= take as u64;
                if *left == 0 {
                    self.expect_line_end().await?;
                }
            }
            Framing::Ended | Framing::UntilClose => {}
        }
        Ok(Some(piece))
    }

    async fn next_chunk(&mut self) -> Result<Framing, WireError> {
        let line = self.until(b"\r\n").await?.ok_or(WireError::Cut)?;
        match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, 0))) => {
                self.read_trailers().await?;
                Ok(Framing::Ended)
            }
            Ok(httparse::Status::Complete((_, size))) => Ok(Framing::Chunked(size)),
            _ => Err(WireError::Malformed(format!("chunk size {line:?}"))),
        }
    }

    async fn read_trailers(&mut self) -> Result<(), WireError> {
        loop {
            let line = self.until(b"\r\n").await?.ok_or(WireError::Cut)?;
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let Some((name, value)) = line.split_once(':') else { return Ok(()) };
            self.trailers.0.push((name.to_owned(), value.trim().into()));
        }
    }

    async fn expect_line_end(&mut self) -> Result<(), WireError> {
        match self.until(b"\r\n").await?.as_deref() {
            Some(b"\r\n") => Ok(()),
            Some(other) => Err(WireError::Malformed(format!("after a chunk: {other:?}"))),
            None => Err(WireError::Cut),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.stream.write_all(bytes).await.map_err(|_| WireError::Cut)
    }

    /// Whether the peer has closed or reset the connection; waits until it does.
    pub(crate) async fn closed(&mut self) {
        while matches!(self.fill().await, Ok(1..)) {
            self.buffer.clear();
        }
    }

    /// Closes with a reset instead of an orderly end.
    pub(crate) fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }
}

fn owned(fields: &[httparse::Header<'_>]) -> Headers {
    Headers(fields.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect())
}

/// One chunk of a chunked body.
pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
    framed.extend_from_slice(bytes);
    framed.extend_from_slice(b"\r\n");
    framed
}
