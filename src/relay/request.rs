//! A request's body: read whole where the call needs it before admission, else on its way to the backend.

use super::{Incoming, Next, Outgoing, Timer, within};
use crate::problem::{Code, Problem};

/// The most pauses that a body may make while it is read whole: one that comes drop by drop is not waited for for ever.
const PAUSES_MAX: i64 = 2;

/// A large body takes its time on a slow line: a pause more for so many bytes that may come.
const PAUSE_BYTES: u64 = 64 * 1024;

/// Why a body could not be taken over. The caller causes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is larger than the product allows. Not to be retried.
    TooLarge,
    /// It paused for too long. May be retried.
    Idle,
    /// It broke off. May be retried.
    Cut,
}

impl BodyError {
    /// What the caller is told.
    #[must_use]
    pub fn problem(self) -> Problem {
        match self {
            Self::TooLarge => Problem::new(Code::BodyTooLarge, "The request body is larger than is accepted here."),
            Self::Idle => Problem::new(Code::RequestTimeout, "The request body paused for too long."),
            Self::Cut => Problem::new(Code::Invalid, "The request body broke off."),
        }
    }
}

async fn next_within<C: Timer, I: Incoming>(
    from: &mut I,
    buffer: Vec<u8>,
    idle_timeout_ms: i64,
) -> Result<Next<I::Trailers>, BodyError> {
    match within::<C, _>(from.next(buffer), idle_timeout_ms).await {
        Some(Next::BrokenOff) => Err(BodyError::Cut),
        Some(next) => Ok(next),
        None => Err(BodyError::Idle),
    }
}

/// Reads a body of so many bytes at most to its end.
///
/// # Errors
/// Too large, too slow, or not whole.
pub async fn read_whole<C: Timer>(from: impl Incoming, length_max: u64, idle_timeout_ms: i64) -> Result<Vec<u8>, BodyError> {
    let pauses = i64::try_from(length_max / PAUSE_BYTES).unwrap_or(i64::MAX).saturating_add(PAUSES_MAX);
    let time_max_ms = idle_timeout_ms.saturating_mul(pauses);
    within::<C, _>(read_chunks::<C>(from, length_max, idle_timeout_ms), time_max_ms).await.unwrap_or(Err(BodyError::Idle))
}

async fn read_chunks<C: Timer>(mut from: impl Incoming, length_max: u64, idle_timeout_ms: i64) -> Result<Vec<u8>, BodyError> {
    let (mut body, mut buffer) = (Vec::new(), Vec::new());
    while let Next::Chunk(mut chunk) = next_within::<C, _>(&mut from, buffer, idle_timeout_ms).await? {
        if body.len().saturating_add(chunk.len()) as u64 > length_max {
            return Err(BodyError::TooLarge);
        }
        body.append(&mut chunk);
        buffer = chunk;
    }
    Ok(body)
}

/// The first chunk of a body of unknown length; none where there is no body.
///
/// # Errors
/// It paused for too long. What broke off before its first byte is not what was never there.
pub async fn look_ahead<C: Timer>(from: &mut impl Incoming, idle_timeout_ms: i64) -> Result<Option<Vec<u8>>, BodyError> {
    match next_within::<C, _>(from, Vec::new(), idle_timeout_ms).await? {
        Next::Chunk(chunk) => Ok(Some(chunk)),
        Next::End(_) | Next::BrokenOff => Ok(None),
    }
}

/// Moves a body to the backend, counting it.
///
/// # Errors
/// The body is at fault: it was cut for the backend, too. A backend that reads no further is none: it may have answered already, and its answer counts.
pub async fn upload<C: Timer, I: Incoming, O: Outgoing<Trailers = I::Trailers>>(
    mut from: I,
    mut to: O,
    first: Option<Vec<u8>>,
    length_max: u64,
    idle_timeout_ms: i64,
) -> Result<(), BodyError> {
    let mut bytes: u64 = 0;
    let mut chunk = first.unwrap_or_default();
    loop {
        bytes = bytes.saturating_add(chunk.len() as u64);
        if bytes > length_max {
            to.abort().await;
            return Err(BodyError::TooLarge);
        }
        let buffer =
            if chunk.is_empty() { Some(chunk) } else { within::<C, _>(to.write(chunk), idle_timeout_ms).await.flatten() };
        let Some(buffer) = buffer else {
            to.abort().await;
            return Ok(());
        };
        match next_within::<C, _>(&mut from, buffer, idle_timeout_ms).await {
            Ok(Next::Chunk(next)) => chunk = next,
            Ok(Next::End(trailers)) => {
                to.finish(trailers).await;
                return Ok(());
            }
            Ok(Next::BrokenOff) => {
                to.abort().await;
                return Err(BodyError::Cut);
            }
            Err(error) => {
                to.abort().await;
                return Err(error);
            }
        }
    }
}
