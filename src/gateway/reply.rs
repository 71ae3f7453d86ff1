//! What a reply's head decides: what the reply costs, or what has to be read for that, and which part of it waits for its charge (contract sections 2 and 3).

use std::fmt;

use super::headers::end_to_end_bytes;
use super::outcome::{Metering, Outcome, call_outcome, usage_outcome};
use super::{HEAD_BYTES_MAX, Head, Headers};
use crate::config::LostHold;
use crate::ledger::Admission;
use crate::meter::{Ending, ReplyMeter};
use crate::problem::{Code, Problem};

/// Up to this length a declared reply is over almost with its headers (contract section 2).
const SHORT_REPLY_BYTES_MAX: u64 = 64 * 1024;

/// A reply's head as the backend sent it, which its caller can be given.
#[derive(Clone, Debug)]
pub struct ReplyHead {
    /// From 200 to 599.
    pub status: u16,
    /// The headers, with lower-case names.
    pub headers: Headers,
    /// What it says about the body.
    pub shape: ReplyShape,
}

/// Why no caller can be given a reply. The backend is at fault, and may answer otherwise next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsendableReply {
    /// The status is none of a final reply (RFC 9110, 15).
    Status,
    /// The headers are larger than the runtime is sure to carry.
    HeadersTooLarge,
    /// Content-Length is not one number: who passes it on may be read differently than meant (RFC 9112, 6.3).
    Length,
}

impl ReplyHead {
    /// Of the reply to a request.
    ///
    /// # Errors
    /// Where it cannot be passed on.
    pub fn new(request: &Head, status: u16, mut headers: Headers) -> Result<Self, UnsendableReply> {
        if !(200..600).contains(&status) {
            return Err(UnsendableReply::Status);
        }
        if end_to_end_bytes(&headers) > HEAD_BYTES_MAX {
            return Err(UnsendableReply::HeadersTooLarge);
        }
        // Chunks are as long as they are (RFC 9112, 6.3). Some runtimes tell of them, others have dropped the length themselves.
        if headers.iter().any(|(name, _)| name == "transfer-encoding") {
            headers.retain(|(name, _)| name != "content-length");
        }
        let length = content_length(&headers).ok_or(UnsendableReply::Length)?;
        let has_body = request.method != "HEAD" && !matches!(status, 204 | 205 | 304) && length != Some(0);
        Ok(Self { status, headers, shape: ReplyShape { length, has_body } })
    }
}

/// The declared length, where there is one. None where it is repeated or no number.
fn content_length(headers: &Headers) -> Option<Option<u64>> {
    let mut values = headers.iter().filter(|(name, _)| name == "content-length");
    match (values.next(), values.next()) {
        (None, _) => Some(None),
        (Some((_, digits)), None) if digits.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(digits).ok()?.parse().ok().map(Some)
        }
        _ => None,
    }
}

impl UnsendableReply {
    /// What the caller is told: less than the log.
    #[must_use]
    pub fn problem(self) -> Problem {
        Problem::new(Code::BackendUnreachable, "The backend's reply cannot be passed on. Nothing was charged.")
    }
}

impl fmt::Display for UnsendableReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status => "its status is not that of a final reply",
            Self::HeadersTooLarge => "its headers have more than 60 KiB",
            Self::Length => "its Content-Length is not one number",
        })
    }
}

/// What a reply's head says about its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyShape {
    /// The declared length, in bytes.
    pub length: Option<u64>,
    /// Whether there is a body at all.
    pub has_body: bool,
}

impl ReplyShape {
    fn is_short(self) -> bool {
        !self.has_body || self.length.is_some_and(|length| length <= SHORT_REPLY_BYTES_MAX)
    }
}

/// The first value of a header, where it is text.
#[must_use]
pub fn header_text<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    let (_, value) = headers.iter().find(|(other, _)| other == name)?;
    std::str::from_utf8(value).ok()
}

/// What decides what a reply costs.
#[derive(Debug)]
pub enum Tally {
    /// Its status has.
    Known(Outcome),
    /// Its body does.
    Read(Box<ReplyMeter>),
}

/// How a reply goes to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Untouched, once what it costs is durable.
    Untouched(Outcome),
    /// Read whole and settled first, so that its headers tell the charge.
    OnceRead,
    /// As it arrives, but for its end.
    AsItArrives,
}

impl Metering<'_> {
    /// What decides what a reply with this status, content type and coding costs.
    #[must_use]
    pub fn tally(self, admission: &Admission, status: u16, content_type: Option<&str>, encoding: Option<&str>) -> Tally {
        match self {
            Self::Call(charge_when) => Tally::Known(call_outcome(charge_when, admission, status)),
            Self::Usage(meter, request) => Tally::Read(Box::new(meter.read_reply(request, content_type).with_encoding(encoding))),
        }
    }
}

impl Tally {
    /// What the reply costs, where no body can change it any more.
    #[must_use]
    pub fn known(&self, admission: &Admission) -> Option<Outcome> {
        match self {
            Self::Known(outcome) => Some(*outcome),
            Self::Read(_) => matches!(admission, Admission::Replay).then_some(Outcome::Replayed),
        }
    }

    /// What the reply costs that has ended.
    #[must_use]
    pub fn outcome(&self, admission: &Admission, status: u16, ending: Ending) -> Outcome {
        match self {
            Self::Known(outcome) => *outcome,
            Self::Read(meter) => usage_outcome(admission, status, ending, meter.usage()),
        }
    }

    /// Whether a crash right now would leave what the reply costs as it is, so that its settle may follow.
    #[must_use]
    pub fn is_durable_with_hold(&self, lost_hold: LostHold) -> bool {
        matches!(self, Self::Known(outcome) if outcome.is_durable_with_hold(lost_hold))
    }

    /// Whether the caller may get less than the backend sent.
    #[must_use]
    pub fn is_gated(&self) -> bool {
        matches!(self, Self::Read(meter) if meter.is_gated())
    }

    /// How the reply goes to the caller. A body that the edge decodes where it looks at it goes on unseen where it need not be read; where it must, its length
    /// is not the declared one.
    #[must_use]
    pub fn way(&self, admission: &Admission, status: u16, shape: ReplyShape, lost_hold: LostHold, is_decoded: bool) -> Way {
        match self {
            Self::Known(outcome) if is_decoded => Way::Untouched(*outcome),
            Self::Known(outcome) if shape.is_short() && outcome.is_durable_with_hold(lost_hold) => Way::Untouched(*outcome),
            _ if !shape.has_body => Way::Untouched(self.outcome(admission, status, Ending::Complete)),
            Self::Read(_) if shape.is_short() && !is_decoded => Way::OnceRead,
            _ => Way::AsItArrives,
        }
    }

    /// Reads a chunk, and leaves in it what goes on to the caller now.
    pub(crate) fn pass(&mut self, chunk: &mut Vec<u8>) {
        if let Self::Read(meter) = self {
            meter.pass(chunk);
        }
    }

    /// Adds what is held back of a body that has ended.
    pub(crate) fn release(&mut self, chunk: &mut Vec<u8>) {
        if let Self::Read(meter) = self {
            meter.release(chunk);
        }
    }

    /// Reads a chunk that the caller does not get.
    pub(crate) fn feed(&mut self, chunk: &[u8]) {
        if let Self::Read(meter) = self {
            meter.feed(chunk);
        }
    }
}
