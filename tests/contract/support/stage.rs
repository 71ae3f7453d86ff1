//! Where scripts are performed: what a server of the suite sends, and when, is the same for the backend and for the receiver.

use super::script::{Script, Step};
use super::wire::{Wire, WireError, chunk};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

const PIECE_BYTES: usize = 16 * 1024;

/// Performs scripts; clones share their gates and what they keep.
#[derive(Clone, Default)]
pub(crate) struct Stage {
    kept: Arc<Mutex<HashMap<String, Arc<[u8]>>>>,
    gates: Arc<Mutex<HashMap<String, watch::Sender<bool>>>>,
}

/// Holds back a server at a [`Step::Gate`] until it is opened.
pub(crate) struct Gate {
    name: String,
    stage: Stage,
}

impl Gate {
    pub(crate) fn step(&self) -> Step {
        Step::Gate(self.name.clone())
    }

    pub(crate) fn open(&self) {
        self.stage.gate_state(&self.name).send_replace(true);
    }
}

/// What becomes of a connection after an exchange.
pub(crate) enum Next {
    Request,
    Close,
    Reset,
    Abandoned,
}

impl Stage {
    pub(crate) fn gate(&self) -> Gate {
        Gate { name: super::fresh("gate"), stage: self.clone() }
    }

    /// Keeps bytes, to be sent in pieces of a size.
    pub(crate) fn keep(&self, bytes: &[u8], piece: usize) -> Step {
        let name = super::fresh("kept");
        self.kept.lock().unwrap().insert(name.clone(), bytes.into());
        Step::Kept { name, length: bytes.len(), piece }
    }

    fn gate_state(&self, name: &str) -> watch::Sender<bool> {
        self.gates.lock().unwrap().entry(name.to_owned()).or_insert_with(|| watch::Sender::new(false)).clone()
    }

    pub(crate) async fn answer(&self, wire: &mut Wire, script: &Script, is_head: bool) -> Result<Next, WireError> {
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
            Step::Repeat(text, times) => repeat(wire, text, *times, chunked).await?,
            Step::Kept { name, piece, .. } => {
                let bytes = Arc::clone(&self.kept.lock().unwrap()[name]);
                for piece in bytes.chunks(*piece) {
                    send_piece(wire, piece, chunked).await?;
                }
            }
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

async fn fill(wire: &mut Wire, bytes: usize, chunked: bool) -> Result<(), WireError> {
    let mut at = 0;
    while at < bytes {
        let piece = filling(at, PIECE_BYTES.min(bytes - at));
        at += piece.len();
        send_piece(wire, &piece, chunked).await?;
    }
    Ok(())
}

async fn repeat(wire: &mut Wire, text: &str, times: usize, chunked: bool) -> Result<(), WireError> {
    let at_once = (PIECE_BYTES / text.len()).max(1);
    let piece = text.repeat(at_once);
    for _ in 0..times / at_once {
        send_piece(wire, piece.as_bytes(), chunked).await?;
    }
    send_piece(wire, text.repeat(times % at_once).as_bytes(), chunked).await
}

/// An empty piece would end a chunked body.
async fn send_piece(wire: &mut Wire, piece: &[u8], chunked: bool) -> Result<(), WireError> {
    match (piece, chunked) {
        ([], _) => Ok(()),
        (_, true) => wire.send(&chunk(piece)).await,
        (_, false) => wire.send(piece).await,
    }
}

/// The bytes a [`Step::Fill`] sends from an offset on: not periodic within a piece, so a lost or doubled piece shows.
pub(crate) fn filling(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}
