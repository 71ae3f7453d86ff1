//! The merchant's backend: records every request that reaches it and answers as the request's script says.
//!
//! It records a request when its head has arrived, so "the backend was not reached" can be trusted; the body is added while it
//! arrives. It is a real server on a real socket and keeps connections alive, as a backend behind a gateway does.

use super::script::{HEADER, Script, Step};
use super::stage::{Gate, Next, Stage};
use super::wire::{Framing, Headers, Wire, WireError};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// Enough to compare small bodies byte by byte; larger ones are compared by hash.
const KEPT_BODY_BYTES: usize = 64 * 1024;

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
}

#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    stage: Stage,
    shared: Arc<Shared>,
}

impl Backend {
    pub(crate) async fn listen(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let backend = Self { address: listener.local_addr().unwrap(), stage: Stage::default(), shared: Arc::default() };
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
        self.stage.gate()
    }

    /// Keeps bytes, to be sent in pieces of a size.
    pub(crate) fn keep(&self, bytes: impl AsRef<[u8]>, piece: usize) -> Step {
        self.stage.keep(bytes.as_ref(), piece)
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
        let next = self.stage.answer(wire, &script, is_head).await;
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
}
