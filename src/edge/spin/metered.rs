//! The reply of a usage-metered product on its way to the caller: what its body says was used is read while it passes, and its end waits for the charge.
//!
//! What always holds: however the reply ends, the call is settled, by what was read until then (contract section 3, *Usage*). The border: what bytes
//! mean is known in `meter`.

use std::future::Future;
use std::pin::pin;

use spin_sdk::wasip3;
use wasip3::http::types::{ErrorCode, Fields, Response};
use wasip3::wit_bindgen::StreamResult;
use wasip3::{wit_future, wit_stream};

use super::answer::{Shape, header_text};
use super::body::{BodyError, Incoming, Outgoing, whole, within};
use super::call::Admitted;
use super::instance::{Instance, elapsed_us, monotonic_ns};
use super::settle::Unsettled;
use super::wire::{self, BodyEnding, accepted, internal};
use crate::config::Drain;
use crate::gateway::{Head, Identified, Outcome, reply_headers, usage_outcome};
use crate::ids::ProductId;
use crate::ledger::Admission;
use crate::meter::{Ending, ReplyMeter, RequestReading, UsageMeter};

/// How much is read at once.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// How often a silent backend gives a look at whether the caller is still there.
const CALLER_LOOK_MS: i64 = 1000;

/// A reply that is being read.
struct Reading {
    meter: ReplyMeter,
    unsettled: Unsettled,
    product_id: ProductId,
    status: u16,
    limits: Limits,
}

/// How long and how far a reply is read.
#[derive(Clone, Copy)]
struct Limits {
    /// The declared length of what the caller gets.
    length: Option<u64>,
    idle_timeout_ms: i64,
    drain: Drain,
}

/// A body that was read to whatever end it has, and of which the caller has all but this.
struct Read {
    ending: Ending,
    rest: Vec<u8>,
    trailers: Option<Fields>,
    has_caller_left: bool,
}

/// What came while a chunk was waited for.
enum Arrived {
    /// The next chunk, the end of all chunks, or none for too long.
    Next(Result<Option<Vec<u8>>, BodyError>),
    /// The caller has left. The wait went on as the first of a drain.
    CallerLeft(DrainLeft, Drained),
}

/// How far is still read on after the caller has left.
struct DrainLeft {
    started_ns: u64,
    time_max_ms: i64,
    bytes: u64,
}

/// One chunk of a drain: an empty buffer for the next one, none after the last, or how the body ended without one.
type Drained = Result<Option<Vec<u8>>, Ending>;

impl DrainLeft {
    fn of(drain: Drain) -> Self {
        Self { started_ns: monotonic_ns(), time_max_ms: drain.time_max_ms, bytes: drain.bytes_max }
    }

    /// None where nothing is left.
    fn time_ms(&self) -> Option<i64> {
        let waited_ms = i64::try_from(elapsed_us(self.started_ns) / 1000).unwrap_or(i64::MAX);
        let time_ms = self.time_max_ms.saturating_sub(waited_ms);
        (self.bytes > 0 && time_ms > 0).then_some(time_ms)
    }
}

/// The backend's reply for the caller. One that declares that it is short is read first, so that its headers tell the charge; every other one passes
/// chunk by chunk.
pub(super) async fn answer(
    instance: &'static Instance,
    head: &Head,
    identified: &Identified<'_>,
    admitted: Admitted,
    (meter, request): (&UsageMeter, RequestReading),
    reply: Response,
) -> Result<Response, ErrorCode> {
    let status = reply.get_status_code();
    let mut from_backend = reply.get_headers().copy_all();
    let shape = Shape::of(head, status, &from_backend);
    let (content_type, encoding) = (header_text(&from_backend, "content-type"), header_text(&from_backend, "content-encoding"));
    let meter = meter.read_reply(request, content_type).with_encoding(encoding);
    let rate_limit = admitted.rate_limit.clone();
    let (chunks, ending) = Response::consume_body(reply, accepted());
    let from = Incoming { chunks, ending };
    let is_gated = meter.is_gated();
    let limits = Limits {
        length: shape.length.filter(|_| !is_gated),
        idle_timeout_ms: identified.product.idle_timeout_ms,
        drain: identified.product.drain,
    };
    let product_id = identified.product.id.clone();
    let reading = Reading { meter, unsettled: Unsettled::new(instance, identified, admitted), product_id, status, limits };
    if is_gated && shape.has_body {
        // What is taken out was counted.
        from_backend.retain(|(name, _)| name != "content-length");
    }
    let response = if !shape.has_body {
        let outcome = reading.settle(Ending::Complete).await.ok_or(ErrorCode::InternalError(None))?;
        let headers = wire::fields(&reply_headers(from_backend, identified, Some(outcome), rate_limit))?;
        Response::new(headers, Some(from.chunks), from.ending).0
    } else if shape.is_declared_short() {
        let (outcome, read) = reading.read_first(from).await.ok_or(ErrorCode::InternalError(None))?;
        let headers = wire::fields(&reply_headers(from_backend, identified, Some(outcome), rate_limit))?;
        let (to, chunks, ending) = outgoing();
        wasip3::spawn(finish(read, to, limits.idle_timeout_ms));
        Response::new(headers, Some(chunks), ending).0
    } else {
        match wire::fields(&reply_headers(from_backend, identified, reading.known_outcome(), rate_limit)) {
            Ok(headers) => {
                let (to, chunks, ending) = outgoing();
                wasip3::spawn(reading.pass(from, to));
                Response::new(headers, Some(chunks), ending).0
            }
            Err(error) => {
                // The backend has answered and is paid, even if its answer cannot be passed on.
                reading.drain(from).await;
                return Err(error);
            }
        }
    };
    response.set_status_code(status).map_err(|()| internal("the backend's status cannot be sent"))?;
    Ok(response)
}

type OutgoingParts = (Outgoing, wasip3::wit_bindgen::StreamReader<u8>, wasip3::wit_bindgen::FutureReader<BodyEnding>);

fn outgoing() -> OutgoingParts {
    let (ending_writer, ending_reader) = wit_future::new::<BodyEnding>(|| Err(ErrorCode::HttpResponseIncomplete));
    let (chunk_writer, chunk_reader) = wit_stream::new();
    (Outgoing { chunks: chunk_writer, ending: ending_writer }, chunk_reader, ending_reader)
}

impl Reading {
    /// How the call ends, where no body can change it any more.
    fn known_outcome(&self) -> Option<Outcome> {
        matches!(self.unsettled.admission(), Admission::Replay).then_some(Outcome::Replayed)
    }

    /// Settles by what was read; none where the charge is not durable in time.
    async fn settle(self, ending: Ending) -> Option<Outcome> {
        let outcome = usage_outcome(self.unsettled.admission(), self.status, ending, self.meter.usage());
        let instance = self.unsettled.instance();
        instance.book.count(|meters| meters.call(&self.product_id, outcome.label()));
        self.unsettled.settle(outcome, Some(self.status)).await.then_some(outcome)
    }

    /// Reads a short body whole and settles, before anything is sent.
    async fn read_first(mut self, mut from: Incoming) -> Option<(Outcome, Read)> {
        let mut body = Vec::new();
        let mut buffer = Vec::with_capacity(CHUNK_BYTES_MAX);
        let ending = loop {
            match from.next(buffer, self.limits.idle_timeout_ms).await {
                Ok(Some(mut chunk)) => {
                    self.meter.pass(&mut chunk);
                    body.append(&mut chunk);
                    buffer = chunk;
                    buffer.reserve(CHUNK_BYTES_MAX);
                }
                Ok(None) => break whole(from.ending, self.limits.idle_timeout_ms).await,
                Err(error) => break Err(error),
            }
        };
        self.meter.release(&mut body);
        let (ending, trailers) = ended(ending);
        let outcome = self.settle(ending).await?;
        Some((outcome, Read { ending, rest: body, trailers, has_caller_left: false }))
    }

    /// Moves a body to the caller while it is read, and settles before its end.
    async fn pass(mut self, from: Incoming, mut to: Outgoing) {
        let idle_timeout_ms = self.limits.idle_timeout_ms;
        let mut read = self.move_all_but_last(from, &mut to).await;
        if self.settle(read.ending).await.is_none() {
            read.has_caller_left = true;
        }
        finish(read, to, idle_timeout_ms).await;
    }

    /// Moves chunks on until the one that completes the declared length, or until the end.
    async fn move_all_but_last(&mut self, mut from: Incoming, to: &mut Outgoing) -> Read {
        let idle_timeout_ms = self.limits.idle_timeout_ms;
        let (mut moved, mut rest) = (0_u64, Vec::new());
        let mut buffer = Vec::with_capacity(CHUNK_BYTES_MAX);
        let ending = loop {
            let mut chunk = match self.next_for_caller(&mut from, to, buffer).await {
                Arrived::Next(Ok(Some(chunk))) => chunk,
                Arrived::Next(Ok(None)) => break whole(from.ending, idle_timeout_ms).await,
                Arrived::Next(Err(error)) => break Err(error),
                Arrived::CallerLeft(left, first) => return self.read_for_nobody(from, left, first).await,
            };
            moved = moved.saturating_add(chunk.len() as u64);
            self.meter.pass(&mut chunk);
            if self.limits.length.is_some_and(|length| moved >= length) {
                // The runtime tells how a body ended to whoever has read its end.
                rest.append(&mut chunk);
                buffer = chunk;
                buffer.reserve(1);
                continue;
            }
            if chunk.is_empty() {
                // All of it waits until it is known what it is.
                buffer = chunk;
                buffer.reserve(CHUNK_BYTES_MAX);
                continue;
            }
            // What a reader of a stream takes is taken in its own time, but not for ever.
            match within(to.chunks.write_all(chunk), idle_timeout_ms).await {
                Some(left) if left.is_empty() => buffer = left,
                _ => {
                    let left = DrainLeft::of(self.limits.drain);
                    return self.read_for_nobody(from, left, Ok(Some(Vec::with_capacity(CHUNK_BYTES_MAX)))).await;
                }
            }
            buffer.reserve(CHUNK_BYTES_MAX);
        };
        self.meter.release(&mut rest);
        let (ending, trailers) = ended(ending);
        Read { ending, rest, trailers, has_caller_left: false }
    }

    /// The next chunk for the caller. While the backend is silent, nothing is written that would tell that the caller has left: it is looked after.
    async fn next_for_caller(&mut self, from: &mut Incoming, to: &mut Outgoing, buffer: Vec<u8>) -> Arrived {
        let mut next = pin!(from.read(buffer));
        let mut patience_ms = self.limits.idle_timeout_ms;
        loop {
            let pause_ms = patience_ms.min(CALLER_LOOK_MS);
            if let Some(chunk) = within(next.as_mut(), pause_ms).await {
                return Arrived::Next(Ok(chunk));
            }
            patience_ms -= pause_ms;
            if patience_ms <= 0 {
                return Arrived::Next(Err(BodyError::Idle));
            }
            // A write of nothing says whether anyone would read something. A caller that has not read all there is yet is there.
            match within(to.chunks.write(Vec::new()), pause_ms).await {
                Some((StreamResult::Dropped, _)) => {
                    let mut left = DrainLeft::of(self.limits.drain);
                    let next = async { within(next, patience_ms).await.ok_or(BodyError::Idle) };
                    let first = self.drain_one(&mut left, next).await;
                    return Arrived::CallerLeft(left, first);
                }
                Some(_) => {}
                None => patience_ms -= pause_ms,
            }
        }
    }

    /// Reads what nobody gets, to learn what was used, and settles.
    async fn drain(mut self, from: Incoming) {
        let left = DrainLeft::of(self.limits.drain);
        let read = self.read_for_nobody(from, left, Ok(Some(Vec::with_capacity(CHUNK_BYTES_MAX)))).await;
        // Where the charge is not durable in time, it is left to the background, and to the hold's lease after it.
        let _ = self.settle(read.ending).await;
    }

    /// Reads on after the caller has left, within the product's bounds.
    async fn read_for_nobody(&mut self, mut from: Incoming, mut left: DrainLeft, first: Drained) -> Read {
        let idle_timeout_ms = self.limits.idle_timeout_ms;
        let mut drained = first;
        let ending = loop {
            match drained {
                Ok(Some(buffer)) => drained = self.drain_one(&mut left, from.next(buffer, idle_timeout_ms)).await,
                Ok(None) => break ended(whole(from.ending, idle_timeout_ms).await).0,
                Err(ending) => break ending,
            }
        };
        Read { ending, rest: Vec::new(), trailers: None, has_caller_left: true }
    }

    /// Reads a chunk that nobody gets.
    async fn drain_one(
        &mut self,
        left: &mut DrainLeft,
        next: impl Future<Output = Result<Option<Vec<u8>>, BodyError>>,
    ) -> Drained {
        let time_ms = left.time_ms().ok_or(Ending::Abandoned)?;
        // A backend that falls silent has broken off, unless the time is over first.
        let next = within(next, time_ms).await.ok_or(Ending::Abandoned)?;
        let Some(mut chunk) = next.map_err(|_| Ending::BrokenOff)? else { return Ok(None) };
        self.meter.feed(&chunk);
        left.bytes = left.bytes.saturating_sub(chunk.len() as u64);
        chunk.clear();
        chunk.reserve(CHUNK_BYTES_MAX);
        Ok(Some(chunk))
    }
}

fn ended<E>(ending: Result<Option<Fields>, E>) -> (Ending, Option<Fields>) {
    match ending {
        Ok(trailers) => (Ending::Complete, trailers),
        Err(_) => (Ending::BrokenOff, None),
    }
}

/// Sends the rest of a settled reply, and its end: as whole only if it is.
async fn finish(read: Read, mut to: Outgoing, idle_timeout_ms: i64) {
    if read.has_caller_left {
        return to.abort().await;
    }
    if !read.rest.is_empty() && within(to.chunks.write_all(read.rest), idle_timeout_ms).await.is_none() {
        return to.abort().await;
    }
    match read.ending {
        Ending::Complete => to.finish(read.trailers).await,
        Ending::BrokenOff | Ending::Abandoned => to.abort().await,
    }
}
