//! The reply of a usage-metered product on its way to the caller: what its body says was used is read while it passes, and its end waits for the charge.
//!
//! What always holds: however the reply ends, the call is settled, by what was read until then (contract section 3, *Usage*). The border: what bytes
//! mean is known in `tollgate::meter`.

use std::rc::Rc;

use js_sys::Uint8Array;
use tollgate::config::Drain;
use tollgate::gateway::{Head, Headers, Identified, Outcome, RateLimit, reply_headers, usage_outcome};
use tollgate::ledger::Admission;
use tollgate::meter::{Ending, ReplyMeter, RequestReading, UsageMeter};

use crate::answer::{Shape, header_text, is_recoded, read_headers};
use crate::body::{BodyError, Incoming, Outgoing};
use crate::call::{Gateway, stop};
use crate::clock::{now_ms, within};
use crate::log;
use crate::settle::Hold;
use crate::wire::{self, Body};

/// A reply that is being read.
struct Reading {
    meter: ReplyMeter,
    /// The declared length of what the caller gets.
    length: Option<u64>,
    idle_timeout_ms: i64,
    drain: Drain,
}

/// A body that was read to whatever end it has, and of which the caller has all but this.
struct Read {
    ending: Ending,
    rest: Vec<u8>,
    has_caller_left: bool,
}

/// The backend's reply for the caller. One that declares that it is short is read first, so that its headers tell the charge; every other one passes
/// chunk by chunk.
pub(crate) async fn answer(
    gateway: &Rc<Gateway>,
    head: &Head,
    identified: &Identified<'_>,
    (hold, rate_limit): (Hold, Option<RateLimit>),
    (meter, request): (&UsageMeter, RequestReading),
    reply: &web_sys::Response,
) -> web_sys::Response {
    let status = reply.status();
    let mut from_backend = read_headers(reply);
    let shape = Shape::of(head, status, &from_backend);
    // The backend was asked for a body as the meter reads it. Of one that compresses all the same, the runtime decodes what it can.
    let is_recoded = is_recoded(&from_backend);
    let encoding = header_text(&from_backend, "content-encoding").filter(|_| !is_recoded);
    let meter = meter.read_reply(request, header_text(&from_backend, "content-type")).with_encoding(encoding);
    let is_gated = meter.is_gated();
    let mut reading = Reading {
        meter,
        // A body that the runtime decodes on the way is of another length, and encoded again.
        length: shape.length.filter(|_| !is_gated && !is_recoded),
        idle_timeout_ms: identified.product.idle_timeout_ms,
        drain: identified.product.drain,
    };
    if (is_gated || is_recoded) && shape.has_body {
        from_backend.retain(|(name, _)| name != "content-length");
    }
    let Some(stream) = reply.body().filter(|_| shape.has_body) else {
        let outcome = usage_outcome(hold.admission(), status, Ending::Complete, reading.meter.usage());
        if !hold.settle(outcome, status).await {
            return stop(identified, wire::internal().into());
        }
        return wire::reply(status, &reply_headers(from_backend, identified, Some(outcome), rate_limit), &Body::None);
    };
    let from = Incoming::of(&stream);
    if shape.is_declared_short() {
        let read = hold.kept_during(reading.read_first(&from)).await;
        let outcome = usage_outcome(hold.admission(), status, read.ending, reading.meter.usage());
        if !hold.settle(outcome, status).await {
            return stop(identified, wire::internal().into());
        }
        let headers = reply_headers(from_backend, identified, Some(outcome), rate_limit);
        return send(gateway, status, &headers, read, &reading);
    }
    let known = matches!(hold.admission(), Admission::Replay).then_some(Outcome::Replayed);
    match Outgoing::new(reading.length) {
        Ok((to, readable)) => {
            gateway.context.wait_until(async move {
                let mut read = hold.kept_during(reading.pass_all_but_last(&from, &to)).await;
                let outcome = usage_outcome(hold.admission(), status, read.ending, reading.meter.usage());
                read.has_caller_left |= !hold.settle(outcome, status).await;
                read.finish(to, reading.idle_timeout_ms).await;
            });
            wire::reply(status, &reply_headers(from_backend, identified, known, rate_limit), &Body::Stream(readable))
        }
        Err(error) => {
            log::line(&format!("a reply cannot be streamed: {}", log::describe(&error)));
            // The backend has answered and is paid, even if its answer cannot be passed on.
            let ending = reading.read_on(&from).await;
            let outcome = usage_outcome(hold.admission(), status, ending, reading.meter.usage());
            hold.settle(outcome, status).await;
            stop(identified, wire::internal().into())
        }
    }
}

/// A reply that was read and settled first.
fn send(gateway: &Rc<Gateway>, status: u16, headers: &Headers, read: Read, reading: &Reading) -> web_sys::Response {
    let idle_timeout_ms = reading.idle_timeout_ms;
    match Outgoing::new(reading.length) {
        Ok((to, readable)) => {
            gateway.context.wait_until(async move { read.finish(to, idle_timeout_ms).await });
            wire::reply(status, headers, &Body::Stream(readable))
        }
        Err(error) => {
            log::line(&format!("a reply cannot be sent: {}", log::describe(&error)));
            wire::problem(&wire::internal(), None, Vec::new())
        }
    }
}

impl Reading {
    /// Reads a short body whole, before anything is sent.
    async fn read_first(&mut self, from: &Incoming) -> Read {
        let mut rest = Vec::new();
        let ending = loop {
            match from.next(self.idle_timeout_ms).await {
                Ok(Some(chunk)) => {
                    let mut chunk = chunk.to_vec();
                    self.meter.pass(&mut chunk);
                    rest.append(&mut chunk);
                }
                Ok(None) => break Ending::Complete,
                Err(error) => break broken_off(error),
            }
        };
        self.meter.release(&mut rest);
        let is_short = self.length.is_some_and(|length| (rest.len() as u64) < length);
        Read { ending: if is_short { Ending::BrokenOff } else { ending }, rest, has_caller_left: false }
    }

    /// Moves chunks on until the one that completes the declared length, or until the end.
    async fn pass_all_but_last(&mut self, from: &Incoming, to: &Outgoing) -> Read {
        let (mut moved, mut rest) = (0_u64, Vec::new());
        let ending = loop {
            let mut chunk = match from.next(self.idle_timeout_ms).await {
                Ok(Some(chunk)) => chunk.to_vec(),
                Ok(None) if self.length.is_some_and(|length| moved < length) => break Ending::BrokenOff,
                Ok(None) => break Ending::Complete,
                Err(error) => break broken_off(error),
            };
            moved = moved.saturating_add(chunk.len() as u64);
            self.meter.pass(&mut chunk);
            if self.length.is_some_and(|length| moved >= length) {
                rest = chunk;
                break match from.next(self.idle_timeout_ms).await {
                    Ok(_) => Ending::Complete,
                    Err(error) => broken_off(error),
                };
            }
            if !chunk.is_empty() && !to.write(&Uint8Array::from(chunk.as_slice()), self.idle_timeout_ms).await {
                let ending = self.read_on(from).await;
                return Read { ending, rest, has_caller_left: true };
            }
        };
        self.meter.release(&mut rest);
        Read { ending, rest, has_caller_left: false }
    }

    /// Reads on after the caller has left, within the product's bounds, to learn what was used.
    async fn read_on(&mut self, from: &Incoming) -> Ending {
        let started_ms = now_ms();
        let mut bytes_left = self.drain.bytes_max;
        loop {
            let time_left_ms = self.drain.time_max_ms.saturating_sub(now_ms() - started_ms);
            if bytes_left == 0 || time_left_ms <= 0 {
                from.cancel();
                return Ending::Abandoned;
            }
            // A backend that falls silent has broken off, unless the time is over first.
            match within(from.next(self.idle_timeout_ms), time_left_ms).await {
                Some(Ok(Some(chunk))) => {
                    self.meter.feed(&chunk.to_vec());
                    bytes_left = bytes_left.saturating_sub(u64::from(chunk.length()));
                }
                Some(Ok(None)) => return Ending::Complete,
                Some(Err(error)) => return broken_off(error),
                None => {}
            }
        }
    }
}

/// Whatever is wrong with a backend's body, it ends there.
fn broken_off(_: BodyError) -> Ending {
    Ending::BrokenOff
}

impl Read {
    /// Sends the rest of a settled reply, and its end: as whole only if it is.
    async fn finish(self, to: Outgoing, idle_timeout_ms: i64) {
        if self.has_caller_left {
            return to.abort();
        }
        if !self.rest.is_empty() && !to.write(&Uint8Array::from(self.rest.as_slice()), idle_timeout_ms).await {
            return to.abort();
        }
        match self.ending {
            Ending::Complete => to.finish().await,
            Ending::BrokenOff | Ending::Abandoned => to.abort(),
        }
    }
}
