//! A reply's body on its way to the caller: read while it passes, and kept from its end until the call is settled.
//!
//! What always holds: however a body ends, it is known what was read of it, and the caller has all of it but the end: the chunk that completes a declared
//! length, or the end of the message.

use std::pin::pin;

use super::{Incoming, Next, Outgoing, Timer, within};
use crate::config::Drain;
use crate::gateway::{Outcome, Tally};
use crate::ledger::Admission;
use crate::meter::Ending;

/// How often a silent backend gives a look at whether the caller is still there.
const CALLER_LOOK_MS: i64 = 1000;

/// How long and how far a reply is read.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The declared length of what the caller gets.
    pub length: Option<u64>,
    /// The longest pause, of the backend and of a caller who does not read.
    pub idle_timeout_ms: i64,
    /// How far it is read on after the caller has left, where there is something to learn from it.
    pub drain: Drain,
}

/// A reply on its way.
#[derive(Debug)]
pub struct ReplyRelay {
    tally: Tally,
    limits: Limits,
}

/// A body that has come to whatever end it has, and of which the caller has all but this.
#[derive(Debug)]
pub struct Passed<T> {
    /// How it ended.
    pub ending: Ending,
    rest: Vec<u8>,
    trailers: Option<T>,
    is_caller_there: bool,
}

/// How far is still read on after the caller has left.
struct DrainLeft {
    until_ms: i64,
    bytes: u64,
}

/// What came while a chunk was waited for.
enum Arrived<T> {
    /// The next of the body.
    Next(Next<T>),
    /// The caller has left. The wait went on as the first of a drain, which goes on with this buffer, or has ended.
    CallerLeft(DrainLeft, Result<Vec<u8>, Ending>),
}

impl<T> Passed<T> {
    fn to_nobody(ending: Ending) -> Self {
        Self { ending, rest: Vec::new(), trailers: None, is_caller_there: false }
    }

    /// Sends the rest of a body, and its end: as whole only if it is, and its call is settled.
    pub async fn finish<C: Timer>(self, mut to: impl Outgoing<Trailers = T>, is_settled: bool, idle_timeout_ms: i64) {
        if !self.is_caller_there || !is_settled {
            return to.abort().await;
        }
        if !self.rest.is_empty() && within::<C, _>(to.write(self.rest), idle_timeout_ms).await.flatten().is_none() {
            return to.abort().await;
        }
        match self.ending {
            Ending::Complete => to.finish(self.trailers).await,
            Ending::BrokenOff | Ending::Abandoned => to.abort().await,
        }
    }
}

impl ReplyRelay {
    /// Of a reply that costs what this says.
    #[must_use]
    pub fn new(tally: Tally, limits: Limits) -> Self {
        Self { tally, limits }
    }

    /// What the reply costs that has ended.
    #[must_use]
    pub fn outcome(&self, admission: &Admission, status: u16, ending: Ending) -> Outcome {
        self.tally.outcome(admission, status, ending)
    }

    /// Reads a short body whole, before anything is sent.
    pub async fn read_whole<C: Timer, I: Incoming>(&mut self, mut from: I) -> Passed<I::Trailers> {
        let (mut rest, mut buffer) = (Vec::new(), Vec::new());
        loop {
            match within::<C, _>(from.next(buffer), self.limits.idle_timeout_ms).await {
                Some(Next::Chunk(mut chunk)) => {
                    self.tally.pass(&mut chunk);
                    rest.append(&mut chunk);
                    buffer = chunk;
                }
                last => return self.passed(rest.len() as u64, rest, last),
            }
        }
    }

    /// Moves a body to the caller, all but its end.
    pub async fn pass<C: Timer, I: Incoming>(&mut self, mut from: I, to: &mut impl Outgoing) -> Passed<I::Trailers> {
        let (mut bytes, mut rest, mut buffer) = (0_u64, Vec::new(), Vec::new());
        loop {
            let mut chunk = match self.next_for_caller::<C, _>(&mut from, to, buffer).await {
                Arrived::Next(Next::Chunk(chunk)) => chunk,
                Arrived::Next(last) => return self.passed(bytes, rest, Some(last)),
                Arrived::CallerLeft(left, first) => return Passed::to_nobody(self.read_on::<C>(from, left, first).await),
            };
            bytes = bytes.saturating_add(chunk.len() as u64);
            self.tally.pass(&mut chunk);
            if self.limits.length.is_some_and(|length| bytes >= length) {
                // Only what comes after the last byte tells how the body ended.
                rest.append(&mut chunk);
                buffer = chunk;
            } else if chunk.is_empty() {
                // All of it waits until it is known what it is.
                buffer = chunk;
            } else {
                // What a reader of a stream takes is taken in its own time, but not for ever.
                match within::<C, _>(to.write(chunk), self.limits.idle_timeout_ms).await.flatten() {
                    Some(emptied) => buffer = emptied,
                    None => return Passed::to_nobody(self.drain::<C>(from).await),
                }
            }
        }
    }

    /// Reads what nobody gets, to learn what was used.
    pub async fn drain<C: Timer>(&mut self, from: impl Incoming) -> Ending {
        let left = self.drain_left::<C>();
        self.read_on::<C>(from, left, Ok(Vec::new())).await
    }

    /// The end that a body has come to; none where it was silent for too long.
    fn passed<T>(&mut self, bytes: u64, mut rest: Vec<u8>, last: Option<Next<T>>) -> Passed<T> {
        self.tally.release(&mut rest);
        let is_short = self.limits.length.is_some_and(|length| bytes < length);
        match last {
            Some(Next::End(trailers)) if !is_short => Passed { ending: Ending::Complete, rest, trailers, is_caller_there: true },
            _ => Passed { ending: Ending::BrokenOff, rest, trailers: None, is_caller_there: true },
        }
    }

    /// The next for the caller. While the backend is silent, nothing is written that would tell that the caller has left: it is looked after.
    async fn next_for_caller<C: Timer, I: Incoming>(
        &mut self,
        from: &mut I,
        to: &mut impl Outgoing,
        buffer: Vec<u8>,
    ) -> Arrived<I::Trailers> {
        let mut next = pin!(from.next(buffer));
        let mut patience_ms = self.limits.idle_timeout_ms;
        loop {
            let pause_ms = patience_ms.min(CALLER_LOOK_MS);
            if let Some(next) = within::<C, _>(next.as_mut(), pause_ms).await {
                return Arrived::Next(next);
            }
            patience_ms -= pause_ms;
            if patience_ms <= 0 {
                return Arrived::Next(Next::BrokenOff);
            }
            match within::<C, _>(to.has_reader_left(), pause_ms).await {
                Some(true) => {
                    let mut left = self.drain_left::<C>();
                    let first = self.drain_one::<C, _>(&mut left, next, patience_ms).await;
                    return Arrived::CallerLeft(left, first);
                }
                Some(false) => {}
                // A caller that has not read all there is yet is there.
                None => patience_ms -= pause_ms,
            }
        }
    }

    fn drain_left<C: Timer>(&self) -> DrainLeft {
        let Drain { bytes_max, time_max_ms } = self.limits.drain;
        let bytes = if matches!(self.tally, Tally::Known(_)) { 0 } else { bytes_max };
        DrainLeft { until_ms: C::elapsed_ms().saturating_add(time_max_ms), bytes }
    }

    /// Reads on after the caller has left, within the product's bounds.
    async fn read_on<C: Timer>(
        &mut self,
        mut from: impl Incoming,
        mut left: DrainLeft,
        first: Result<Vec<u8>, Ending>,
    ) -> Ending {
        let mut drained = first;
        loop {
            match drained {
                Ok(buffer) => drained = self.drain_one::<C, _>(&mut left, from.next(buffer), self.limits.idle_timeout_ms).await,
                Err(ending) => return ending,
            }
        }
    }

    /// Reads a chunk that nobody gets, and gives its buffer back, or tells how the body ended.
    async fn drain_one<C: Timer, T>(
        &mut self,
        left: &mut DrainLeft,
        next: impl Future<Output = Next<T>>,
        idle_timeout_ms: i64,
    ) -> Result<Vec<u8>, Ending> {
        let time_ms = left.until_ms.saturating_sub(C::elapsed_ms());
        if left.bytes == 0 || time_ms <= 0 {
            return Err(Ending::Abandoned);
        }
        // A backend that falls silent has broken off, unless the time is over first.
        match within::<C, _>(next, time_ms.min(idle_timeout_ms)).await {
            Some(Next::Chunk(mut chunk)) => {
                self.tally.feed(&chunk);
                left.bytes = left.bytes.saturating_sub(chunk.len() as u64);
                chunk.clear();
                Ok(chunk)
            }
            Some(Next::End(_)) => Err(Ending::Complete),
            Some(Next::BrokenOff) => Err(Ending::BrokenOff),
            None if time_ms <= idle_timeout_ms => Err(Ending::Abandoned),
            None => Err(Ending::BrokenOff),
        }
    }
}
