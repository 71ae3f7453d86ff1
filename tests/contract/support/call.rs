//! A caller: builds one request, sends it on a connection of its own, and sees the reply as it arrived.

use super::gateway::is_workerd;
use super::script::{HEADER, Script};
use super::wire::{Framing, Head, Headers, Wire, WireError, chunk};
use serde_json::Value;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// A request to be sent.
#[derive(Clone)]
pub(crate) struct Call {
    to: SocketAddr,
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    chunked: bool,
}

/// A whole reply, or what came of it.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Headers,
    /// The body ended as its framing said, rather than being cut.
    pub(crate) whole: bool,
}

/// A reply whose head has arrived and whose body is still to be read.
pub(crate) struct Exchange {
    pub(crate) wire: Wire,
    pub(crate) head: Head,
    framing: Framing,
}

impl Call {
    pub(crate) fn new(to: SocketAddr, method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self { to, method, target, headers: vec![], body: vec![], chunked: false }
    }

    /// Adds a field; one that was there stays.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Takes a field away.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self
    }

    /// Sets a field, whatever was there.
    pub(crate) fn replacing(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.without(name).header(name, value)
    }

    pub(crate) fn customer(self, customer_id: &str) -> Self {
        self.replacing("x-customer-id", customer_id)
    }

    pub(crate) fn id(self, request_id: &str) -> Self {
        self.replacing("x-request-id", request_id)
    }

    pub(crate) fn script(self, script: &Script) -> Self {
        self.replacing(HEADER, script.to_header())
    }

    pub(crate) fn method(mut self, method: &str) -> Self {
        self.method = method.to_owned();
        self
    }

    pub(crate) fn target(mut self, target: &str) -> Self {
        self.target = target.to_owned();
        self
    }

    /// A body with Content-Length.
    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Sends the body as chunks instead.
    pub(crate) fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// The request id this call will carry.
    pub(crate) fn request_id(&self) -> String {
        let field = self.headers.iter().find(|(name, _)| name == "x-request-id");
        String::from_utf8(field.unwrap().1.clone()).unwrap()
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", self.method, self.target, self.to).into_bytes();
        for (name, value) in &self.headers {
            head.extend_from_slice(format!("{name}: ").as_bytes());
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        let frames = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if self.chunked {
            head.extend_from_slice(b"transfer-encoding: chunked\r\n");
        } else if !frames && (!self.body.is_empty() || !matches!(self.method.as_str(), "GET" | "HEAD")) {
            head.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// Connects and sends the head only.
    pub(crate) async fn start(&self) -> Wire {
        self.try_start().await.unwrap()
    }

    async fn try_start(&self) -> Result<Wire, WireError> {
        let stream = TcpStream::connect(self.to).await.map_err(|_| WireError::Cut)?;
        let mut wire = Wire::new(stream);
        wire.send(&self.head()).await?;
        Ok(wire)
    }

    /// Sends the whole request and reads the reply's head.
    pub(crate) async fn open(&self) -> Result<Exchange, WireError> {
        let mut wire = self.try_start().await?;
        if self.chunked {
            let mut framed = Vec::new();
            for piece in self.body.chunks(16 * 1024) {
                framed.extend(chunk(piece));
            }
            framed.extend_from_slice(b"0\r\n\r\n");
            self.send_body(&mut wire, &framed).await?;
        } else {
            self.send_body(&mut wire, &self.body).await?;
        }
        Exchange::read(wire, &self.method).await
    }

    async fn send_body(&self, wire: &mut Wire, body: &[u8]) -> Result<(), WireError> {
        // A gateway may refuse before it has read everything; its answer is then what counts.
        match wire.send(body).await {
            Err(WireError::Cut) if !body.is_empty() => Ok(()),
            sent => sent,
        }
    }

    /// Sends the request and reads the reply.
    pub(crate) async fn send(&self) -> Reply {
        self.try_send().await.unwrap_or_else(|error| panic!("no reply to {} {}: {error}", self.method, self.target))
    }

    /// As [`Call::send`], for calls that may be left without any reply.
    pub(crate) async fn try_send(&self) -> Result<Reply, WireError> {
        self.open().await?.rest().await
    }
}

/// A connection to the gateway, for what no [`Call`] can say.
pub(crate) async fn connect(to: SocketAddr) -> Wire {
    Wire::new(TcpStream::connect(to).await.unwrap())
}

impl Exchange {
    /// Reads the final reply's head, interim ones skipped.
    pub(crate) async fn read(mut wire: Wire, method: &str) -> Result<Self, WireError> {
        loop {
            let head = wire.reply_head().await?;
            if !(100..=199).contains(&head.status) {
                let framing = head.reply_framing(method)?;
                return Ok(Self { wire, head, framing });
            }
        }
    }

    /// The next bytes of the body as they arrive.
    pub(crate) async fn piece(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        self.wire.piece(&mut self.framing).await
    }

    /// Reads until the body is at least this text long.
    pub(crate) async fn expect_text(&mut self, text: &str) {
        let mut seen = Vec::new();
        while seen.len() < text.len() {
            seen.extend(self.piece().await.unwrap().unwrap());
        }
        assert_eq!(String::from_utf8_lossy(&seen), text);
    }

    /// Reads to the end, be it proper or not.
    pub(crate) async fn rest(mut self) -> Result<Reply, WireError> {
        let mut body = Vec::new();
        let whole = loop {
            match self.piece().await {
                Ok(Some(piece)) => body.extend(piece),
                Ok(None) => break true,
                Err(WireError::Cut) => break false,
                Err(malformed) => return Err(malformed),
            }
        };
        let Head { status, headers, .. } = self.head;
        Ok(Reply { status, headers, body, trailers: self.wire.trailers, whole })
    }
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Header of the reply that must be there once.
    pub(crate) fn header(&self, name: &str) -> String {
        self.headers.one(name).unwrap_or_else(|| panic!("no {name} in {} {:?}", self.status, self.headers))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {} {:?}", self.status, self.text()))
    }

    pub(crate) fn assert_ok(&self) {
        assert!(self.status == 200 && self.whole, "{} {:?} whole: {}", self.status, self.text(), self.whole);
    }

    /// Checks that nobody takes the reply for whole. workerd's own server ends a chunked body as whole, whatever became of it: there, nobody can tell.
    pub(crate) fn assert_cut(&self) {
        let is_untellable = is_workerd() && self.headers.one("content-length").is_none();
        assert!(!self.whole || is_untellable, "a broken reply was ended as if it were whole: {} {}", self.status, self.text());
    }

    /// Checks that the control API called a request invalid.
    pub(crate) fn assert_invalid(&self) {
        assert!(matches!(self.status, 400 | 422), "{} {:?}", self.status, self.text());
        self.problem(self.status, "invalid");
    }

    /// Checks a refusal against every rule that all refusals obey, and returns it.
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "expected {code}, got {:?}", self.text());
        assert!(self.whole, "a refusal was cut");
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["type"], format!("urn:tollgate:problem:{code}"));
        assert_eq!(problem["status"], status);
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{problem}");
        assert!(problem["detail"].is_string(), "{problem}");
        problem
    }
}
