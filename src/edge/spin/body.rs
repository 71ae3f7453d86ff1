//! Bodies on the move: read whole where the call needs them before admission, pumped chunk by chunk where something must be counted or must wait, and
//! otherwise never touched.

use std::future::Future;
use std::pin::pin;

use futures::FutureExt;
use futures::future::{Either, select};
use spin_sdk::wasip3;
use wasip3::http::types::{ErrorCode, Fields, Request};
use wasip3::wit_bindgen::{FutureReader, FutureWriter, StreamReader, StreamResult, StreamWriter};

use super::instance::sleep_ms;
use super::wire::{BodyEnding, accepted};
use crate::problem::{Code, Problem};

/// How much is read at once.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Why a body could not be taken over. The caller causes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is larger than the product allows.
    TooLarge,
    /// It paused for too long.
    Idle,
    /// It broke off.
    Cut,
}

impl BodyError {
    pub(super) fn problem(self) -> Problem {
        match self {
            Self::TooLarge => Problem::new(Code::BodyTooLarge, "The request body is larger than is accepted here."),
            Self::Idle => Problem::new(Code::RequestTimeout, "The request body paused for too long."),
            Self::Cut => Problem::new(Code::Invalid, "The request body broke off."),
        }
    }
}

/// A body that is arriving.
pub(super) struct Incoming {
    pub(super) chunks: StreamReader<u8>,
    pub(super) ending: FutureReader<BodyEnding>,
}

impl Incoming {
    pub(super) fn of(request: Request) -> Self {
        let (chunks, ending) = Request::consume_body(request, accepted());
        Self { chunks, ending }
    }

    /// The next chunk, appended to `buffer`'s emptied space; `None` at the end of the chunks.
    pub(super) async fn next(&mut self, buffer: Vec<u8>, idle_timeout_ms: i64) -> Result<Option<Vec<u8>>, BodyError> {
        within(self.read(buffer), idle_timeout_ms).await.ok_or(BodyError::Idle)
    }

    /// The next chunk, however long it takes.
    pub(super) async fn read(&mut self, buffer: Vec<u8>) -> Option<Vec<u8>> {
        match self.chunks.read(buffer).await {
            (StreamResult::Complete(_), chunk) => Some(chunk),
            (StreamResult::Dropped | StreamResult::Cancelled, chunk) => (!chunk.is_empty()).then_some(chunk),
        }
    }
}

/// Waits for something, but not longer than this. The timer is set only where it is not ready at once.
pub(super) async fn within<T>(future: impl Future<Output = T>, timeout_ms: i64) -> Option<T> {
    let mut future = pin!(future);
    if let Some(value) = future.as_mut().now_or_never() {
        return Some(value);
    }
    match select(future, pin!(sleep_ms(timeout_ms))).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(_) => None,
    }
}

/// The most pauses that a body may make while it is read whole: one that comes drop by drop is not waited for for ever.
const PAUSES_MAX: i64 = 2;

/// Reads a body to its end.
pub(super) async fn read_whole(request: Request, length_max: u64, idle_timeout_ms: i64) -> Result<Vec<u8>, BodyError> {
    // A large one takes its time on a slow line: a pause more for each 64 KiB that may come.
    let pauses = i64::try_from(length_max / (64 * 1024)).unwrap_or(i64::MAX).saturating_add(PAUSES_MAX);
    let time_max_ms = idle_timeout_ms.saturating_mul(pauses);
    within(read_chunks(Incoming::of(request), length_max, idle_timeout_ms), time_max_ms).await.unwrap_or(Err(BodyError::Idle))
}

/// Reads a body to its end, however slowly it comes.
pub(super) async fn read_chunks(mut incoming: Incoming, length_max: u64, idle_timeout_ms: i64) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    let mut buffer = Vec::with_capacity(4096);
    while let Some(mut chunk) = incoming.next(buffer, idle_timeout_ms).await? {
        if body.len().saturating_add(chunk.len()) as u64 > length_max {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
        chunk.clear();
        buffer = chunk;
    }
    whole(incoming.ending, idle_timeout_ms).await.map(|_| body)
}

/// The trailers of a body whose chunks have ended, if it ended as whole.
pub(super) async fn whole(ending: FutureReader<BodyEnding>, idle_timeout_ms: i64) -> Result<Option<Fields>, BodyError> {
    match within(ending.into_future(), idle_timeout_ms).await {
        Some(Ok(trailers)) => Ok(trailers),
        Some(Err(_)) => Err(BodyError::Cut),
        None => Err(BodyError::Idle),
    }
}

/// A body that is leaving.
pub(super) struct Outgoing {
    pub(super) chunks: StreamWriter<u8>,
    pub(super) ending: FutureWriter<BodyEnding>,
}

impl Outgoing {
    /// Ends the body as whole.
    pub(super) async fn finish(self, trailers: Option<Fields>) {
        drop(self.chunks);
        // A reader that has left needs no end.
        let _ = self.ending.write(Ok(trailers)).await;
    }

    /// Ends the body so that nobody can take it for whole.
    pub(super) async fn abort(self) {
        // The reason must be there before the end of the chunks is seen.
        let ending = self.ending.write(Err(ErrorCode::HttpResponseIncomplete));
        drop(self.chunks);
        let _ = ending.await;
    }
}

/// Moves a request's body to the backend, counting it.
pub(super) async fn upload(
    mut from: Incoming,
    mut to: Outgoing,
    first: Option<Vec<u8>>,
    length_max: u64,
    idle_timeout_ms: i64,
) -> Result<(), BodyError> {
    let mut total: u64 = 0;
    let mut chunk = first;
    loop {
        let mut buffer = match chunk.take() {
            Some(chunk) => {
                total = total.saturating_add(chunk.len() as u64);
                if total > length_max {
                    to.abort().await;
                    return Err(BodyError::TooLarge);
                }
                match within(to.chunks.write_all(chunk), idle_timeout_ms).await {
                    Some(rest) if rest.is_empty() => rest,
                    // The backend reads no further: it may have answered already, and its answer counts.
                    Some(_) => return Ok(()),
                    None => {
                        to.abort().await;
                        return Ok(());
                    }
                }
            }
            None => Vec::new(),
        };
        buffer.reserve(CHUNK_BYTES_MAX);
        match from.next(buffer, idle_timeout_ms).await {
            Ok(Some(next)) => chunk = Some(next),
            Ok(None) => break,
            Err(error) => {
                to.abort().await;
                return Err(error);
            }
        }
    }
    match whole(from.ending, idle_timeout_ms).await {
        Ok(trailers) => {
            to.finish(trailers).await;
            Ok(())
        }
        Err(error) => {
            to.abort().await;
            Err(error)
        }
    }
}

/// A body of unknown length with its first chunk; `None` where there is no body.
pub(super) async fn look_ahead(mut incoming: Incoming, idle_timeout_ms: i64) -> Result<Option<(Incoming, Vec<u8>)>, BodyError> {
    match incoming.next(Vec::with_capacity(16 * 1024), idle_timeout_ms).await? {
        Some(chunk) => Ok(Some((incoming, chunk))),
        // What broke off before its first byte is not what was never there.
        None => whole(incoming.ending, idle_timeout_ms).await.map(|_| None),
    }
}

/// Moves a reply's body to the caller. Before the end, `settle` runs and says whether the charge is durable: of a body of known length the last chunk
/// waits for it, of another the end of the message. However the body ends, the call is settled.
pub(super) async fn download(
    mut from: Incoming,
    mut to: Outgoing,
    length: Option<u64>,
    idle_timeout_ms: i64,
    settle: impl Future<Output = bool>,
) {
    let last = move_all_but_last(&mut from, &mut to, length, idle_timeout_ms).await;
    let is_settled = settle.await;
    let Ok(last) = last else { return to.abort().await };
    if !is_settled {
        return to.abort().await;
    }
    if let Some(chunk) = last {
        let is_written = within(to.chunks.write_all(chunk), idle_timeout_ms).await.is_some();
        // The runtime tells how a body ended to whoever has read its end.
        if !is_written || !matches!(from.next(Vec::with_capacity(1), idle_timeout_ms).await, Ok(None)) {
            return to.abort().await;
        }
    }
    match whole(from.ending, idle_timeout_ms).await {
        Ok(trailers) => to.finish(trailers).await,
        Err(_) => to.abort().await,
    }
}

/// A body whose rest nobody will have: the backend broke off or paused for too long, or the caller left or reads no further.
struct BrokenOff;

/// Moves chunks on until the one that completes the declared length, which is returned, or until the end.
async fn move_all_but_last(
    from: &mut Incoming,
    to: &mut Outgoing,
    length: Option<u64>,
    idle_timeout_ms: i64,
) -> Result<Option<Vec<u8>>, BrokenOff> {
    let mut moved: u64 = 0;
    let mut buffer = Vec::with_capacity(CHUNK_BYTES_MAX);
    while let Some(chunk) = from.next(buffer, idle_timeout_ms).await.map_err(|_| BrokenOff)? {
        moved = moved.saturating_add(chunk.len() as u64);
        if length.is_some_and(|length| moved >= length) {
            return Ok(Some(chunk));
        }
        match within(to.chunks.write_all(chunk), idle_timeout_ms).await {
            Some(rest) if rest.is_empty() => buffer = rest,
            _ => return Err(BrokenOff),
        }
        buffer.reserve(CHUNK_BYTES_MAX);
    }
    Ok(None)
}
