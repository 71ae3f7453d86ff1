//! The merchant's backend: records every request that reaches it and answers as the request's script says.
//!
//! It records a request when its head has arrived, so "the backend was not reached" can be trusted; the body is added while it
//! arrives. It is a real server on a real socket and keeps connections alive, as a backend behind a gateway does.

use super::script::{HEADER, Script, Step};
use super::wire::{Framing, Headers, Wire, WireError, chunk};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Enough to compare small bodies byte by byte; larger ones are compared by hash.
const KEPT_BODY_BYTES: usize = 64 * 1024;
const PIECE_BYTES: usize = 16 * 1024;

/// A request that reached the backend.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) method: String,
    /// Path and query as they were on the wire.
    pub(crate) target: String,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) body_bytes: u64,
    pub(crate) body_sha256: Option<[u8; 32]>,
    /// The gateway went away before the reply was written.
    pub(crate) abandoned: bool,
}

#[derive(Default)]
struct Shared {
    received: Mutex<Vec<Received>>,
    malformed: Mutex<Vec<String>>,
    gates: Mutex<HashMap<String, watch::Sender<bool>>>,
}

#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

/// Holds back the backend at a [`Step::Gate`] until it is opened.
pub(crate) struct Gate {
    name: String,
    backend: Backend,
}

impl Gate {
    pub(crate) fn step(&self) -> Step {
        Step::Gate(self.name.clone())
    }

    pub(crate) fn open(&self) {
        self.backend.gate_state(&self.name).send_replace(true);
    }
}

impl Backend {
    pub(crate) async fn listen(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let backend = Self { address: listener.local_addr().unwrap(), shared: Arc::default() };
        let accepting = backend.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let backend = accepting.clone();
                tokio::spawn(async move { backend.serve(Wire::new(stream)).await });
            }
        });
        backend
    }

    pub(crate) fn gate(&self) -> Gate {
        Gate { name: super::fresh("gate"), backend: self.clone() }
    }

    fn gate_state(&self, name: &str) -> watch::Sender<bool> {
        self.shared.gates.lock().unwrap().entry(name.to_owned()).or_insert_with(|| watch::Sender::new(false)).clone()
    }

    /// Requests in the name of this customer, in order of arrival.
    pub(crate) fn of(&self, customer_id: &str) -> Vec<Received> {
        let received = self.shared.received.lock().unwrap();
        let theirs = received.iter().filter(|r| r.headers.bytes("x-customer-id") == Some(customer_id.as_bytes()));
        theirs.cloned().collect()
    }

    /// Requests whose target contains this text, whoever sent them.
    pub(crate) fn with_target(&self, text: &str) -> Vec<Received> {
        let received = self.shared.received.lock().unwrap();
        received.iter().filter(|r| r.target.contains(text)).cloned().collect()
    }

    /// What arrived here and was not HTTP.
    pub(crate) fn malformed(&self) -> Vec<String> {
        self.shared.malformed.lock().unwrap().clone()
    }

    async fn serve(&self, mut wire: Wire) {
        loop {
            match self.exchange(&mut wire).await {
                Ok(Next::Request) => {}
                Ok(Next::Close | Next::Abandoned) | Err(WireError::Cut) => return,
                Ok(Next::Reset) => return wire.reset(),
                Err(WireError::Malformed(what)) => {
                    self.shared.malformed.lock().unwrap().push(what);
                    return;
                }
            }
        }
    }

    async fn exchange(&self, wire: &mut Wire) -> Result<Next, WireError> {
        let Some(head) = wire.request_head().await? else { return Ok(Next::Close) };
        let mut framing = head.request_framing()?;
        let script = head.headers.bytes(HEADER).and_then(Script::from_header);
        let is_head = head.method == "HEAD";
        let expects = head.headers.bytes("expect").is_some();
        let index = {
            let mut received = self.shared.received.lock().unwrap();
            received.push(Received {
                method: head.method,
                target: head.target,
                headers: head.headers,
                body: Vec::new(),
                body_bytes: 0,
                body_sha256: None,
                abandoned: false,
            });
            received.len() - 1
        };
        if expects {
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if !script.as_ref().is_some_and(Script::answers_early) {
            self.read_body(wire, &mut framing, index).await?;
        }
        let script = script.unwrap_or_else(|| Script::text("ok").header("content-type", "text/plain"));
        let next = self.answer(wire, &script, is_head).await;
        if next.is_err() || matches!(next, Ok(Next::Abandoned)) {
            self.update(index, |received| received.abandoned = true);
            return Ok(Next::Close);
        }
        self.read_body(wire, &mut framing, index).await?;
        next
    }

    async fn read_body(&self, wire: &mut Wire, framing: &mut Framing, index: usize) -> Result<(), WireError> {
        let mut hasher = Sha256::new();
        if self.shared.received.lock().unwrap()[index].body_sha256.is_some() {
            return Ok(());
        }
        while let Some(piece) = wire.piece(framing).await? {
            hasher.update(&piece);
            self.update(index, |received| {
                received.body_bytes += piece.len() as u64;
                let room = KEPT_BODY_BYTES.saturating_sub(received.body.len());
                received.body.extend_from_slice(&piece[..piece.len().min(room)]);
            });
        }
        let hash = hasher.finalize().into();
        self.update(index, |received| received.body_sha256 = Some(hash));
        Ok(())
    }

    fn update(&self, index: usize, change: impl FnOnce(&mut Received)) {
        change(&mut self.shared.received.lock().unwrap()[index]);
    }

    async fn answer(&self, wire: &mut Wire, script: &Script, is_head: bool) -> Result<Next, WireError> {
        for step in script.before() {
            if let Some(next) = self.perform(wire, step, false).await? {
                return Ok(next);
            }
        }
        wire.send(&script.head()).await?;
        if is_head {
            return Ok(Next::Request);
        }
        for step in script.body() {
            if let Some(next) = self.perform(wire, step, script.is_chunked()).await? {
                return Ok(next);
            }
        }
        wire.send(&script.tail()).await?;
        Ok(if script.closes() { Next::Close } else { Next::Request })
    }

    async fn perform(&self, wire: &mut Wire, step: &Step, chunked: bool) -> Result<Option<Next>, WireError> {
        match step {
            Step::Text(text) if chunked => wire.send(&chunk(text.as_bytes())).await?,
            Step::Text(text) | Step::Raw(text) => wire.send(text.as_bytes()).await?,
            Step::Fill(bytes) => fill(wire, *bytes, chunked).await?,
            Step::Gate(name) => {
                let mut state = self.gate_state(name).subscribe();
                let _ = state.wait_for(|open| *open).await;
            }
            Step::PauseMs(pause) => tokio::time::sleep(Duration::from_millis(*pause)).await,
            Step::Hang => {
                wire.closed().await;
                return Ok(Some(Next::Abandoned));
            }
            Step::Cut => return Ok(Some(Next::Close)),
            Step::Reset => return Ok(Some(Next::Reset)),
        }
        Ok(None)
    }
}

/// What becomes of a connection after an exchange.
enum Next {
    Request,
    Close,
    Reset,
    Abandoned,
}

async fn fill(wire: &mut Wire, bytes: usize, chunked: bool) -> Result<(), WireError> {
    let mut at = 0;
    while at < bytes {
        let piece = filling(at, PIECE_BYTES.min(bytes - at));
        at += piece.len();
        wire.send(&if chunked { chunk(&piece) } else { piece }).await?;
    }
    Ok(())
}

/// The bytes a [`Step::Fill`] sends from an offset on: not periodic within a piece, so a lost or doubled piece shows.
pub(crate) fn filling(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}
