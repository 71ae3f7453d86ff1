//! What a case asks of the backend: a script, carried to it through the gateway in the header `x-script`.

use serde::{Deserialize, Serialize};

/// The header that carries a script; an end-to-end header like any other for the gateway.
pub(crate) const HEADER: &str = "x-script";

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Framed {
    /// Content-Length; the true one unless another is declared.
    Length(Option<u64>),
    Chunked,
    /// Neither: the body ends with the connection.
    Close,
    /// A reply that has no body by its status.
    Bodiless,
}

/// One thing the backend does, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Step {
    /// Sends this text, as one chunk where the reply is chunked.
    Text(String),
    /// Sends that many bytes, in pieces of at most 16 KiB.
    Fill(usize),
    /// Sends this text so many times.
    Repeat(String, usize),
    /// Sends bytes that the backend keeps, in pieces of a size: what is no text, or too long for a header.
    Kept { name: String, length: usize, piece: usize },
    /// Waits until the case opens the gate.
    Gate(String),
    /// Waits for a time, to be slow; no case relies on it being exact.
    PauseMs(u64),
    /// Waits until the gateway closes the connection.
    Hang,
    /// Closes the connection.
    Cut,
    /// Resets the connection.
    Reset,
    /// Sends bytes as they are, to be malformed.
    Raw(String),
}

/// How the backend answers one request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Script {
    status: u16,
    headers: Vec<(String, String)>,
    framing: Framed,
    /// Before the head, after the request was read.
    before: Vec<Step>,
    body: Vec<Step>,
    trailers: Vec<(String, String)>,
    /// Answer before the request's body is read.
    early: bool,
}

impl Script {
    pub(crate) fn status(status: u16) -> Self {
        let framing = if matches!(status, 204 | 304) { Framed::Bodiless } else { Framed::Length(None) };
        Self { status, headers: vec![], framing, before: vec![], body: vec![], trailers: vec![], early: false }
    }

    pub(crate) fn text(text: &str) -> Self {
        Self::status(200).then(Step::Text(text.to_owned()))
    }

    pub(crate) fn chunked() -> Self {
        Self { framing: Framed::Chunked, ..Self::status(200) }
    }

    pub(crate) fn until_close() -> Self {
        Self { framing: Framed::Close, ..Self::status(200) }
    }

    /// Promises a length that its steps may not keep.
    pub(crate) fn declaring(length: u64) -> Self {
        Self { framing: Framed::Length(Some(length)), ..Self::status(200) }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn first(mut self, step: Step) -> Self {
        self.before.push(step);
        self
    }

    pub(crate) fn then(mut self, step: Step) -> Self {
        self.body.push(step);
        self
    }

    pub(crate) fn early(mut self) -> Self {
        self.early = true;
        self
    }

    pub(crate) fn to_header(&self) -> String {
        serde_json::to_string(self).unwrap()
    }

    pub(crate) fn from_header(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }

    pub(crate) fn answers_early(&self) -> bool {
        self.early
    }

    pub(crate) fn before(&self) -> &[Step] {
        &self.before
    }

    pub(crate) fn body(&self) -> &[Step] {
        &self.body
    }

    pub(crate) fn is_chunked(&self) -> bool {
        matches!(self.framing, Framed::Chunked)
    }

    pub(crate) fn closes(&self) -> bool {
        matches!(self.framing, Framed::Close)
    }

    pub(crate) fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.framing {
            Framed::Length(declared) => {
                let length = declared.unwrap_or_else(|| self.body.iter().map(Step::length).sum());
                head.push_str(&format!("content-length: {length}\r\n"));
            }
            Framed::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
            Framed::Close => head.push_str("connection: close\r\n"),
            Framed::Bodiless => {}
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// What ends the body when every step was done.
    pub(crate) fn tail(&self) -> Vec<u8> {
        if !self.is_chunked() {
            return Vec::new();
        }
        let fields: String = self.trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("0\r\n{fields}\r\n").into_bytes()
    }
}

impl Step {
    fn length(&self) -> u64 {
        match self {
            Self::Text(text) | Self::Raw(text) => text.len() as u64,
            Self::Fill(bytes) => *bytes as u64,
            Self::Repeat(text, times) => (text.len() * times) as u64,
            Self::Kept { length, .. } => *length as u64,
            Self::Gate(_) | Self::PauseMs(_) | Self::Hang | Self::Cut | Self::Reset => 0,
        }
    }
}
