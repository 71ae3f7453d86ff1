//! What a reply's head decides: what the reply costs, or what has to be read for that, and which part of it waits for its charge (contract sections 2 and 3).

use std::fmt;

use super::headers::{declared_length, header_bytes};
use super::outcome::{Metering, Outcome, call_outcome, usage_outcome};
use super::{Head, Headers, REPLY_HEADERS_BYTES_MAX};
use crate::config::LostHold;
use crate::ledger::Admission;
use crate::meter::{Ending, ReplyMeter};

/// Up to this length a declared reply is over almost with its headers (contract section 2).
const SHORT_REPLY_BYTES_MAX: u64 = 64 * 1024;

/// A reply's head that its caller can be given: the backend's, but for a length declared beside chunks.
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
    /// Content-Length is not one number, or the body has a transfer coding other than chunks, of which the caller would not know (RFC 9112, 6).
    Framing,
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
        if headers.iter().map(header_bytes).sum::<usize>() > REPLY_HEADERS_BYTES_MAX {
            return Err(UnsendableReply::HeadersTooLarge);
        }
        // Some runtimes tell of it; in others it is theirs to see to.
        if let Some(coding) = header_text(&headers, "transfer-encoding") {
            if !coding.trim().eq_ignore_ascii_case("chunked") {
                return Err(UnsendableReply::Framing);
            }
            headers.retain(|(name, _)| name != "content-length");
        }
        let length = declared_length(&headers).ok_or(UnsendableReply::Framing)?;
        let has_body = request.method != "HEAD" && !matches!(status, 204 | 205 | 304) && length != Some(0);
        Ok(Self { status, headers, shape: ReplyShape { length, has_body } })
    }
}

impl fmt::Display for UnsendableReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status => "its status is not that of a final reply",
            Self::HeadersTooLarge => "its headers have more than 110 KiB",
            Self::Framing => "its Content-Length is not one number, or it has a transfer coding other than chunked",
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

#[cfg(test)]
mod tests {
    use super::{Head, REPLY_HEADERS_BYTES_MAX, ReplyHead, UnsendableReply};

    fn read(status: u16, headers: &[(&str, &str)]) -> Result<Option<u64>, UnsendableReply> {
        let request = Head::new("GET".to_owned(), "/", Vec::new());
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        ReplyHead::new(&request, status, headers).map(|head| head.shape.length)
    }

    #[test]
    fn only_final_statuses_are_passed_on() {
        for (status, is_final) in [(100, false), (101, false), (199, false), (200, true), (599, true), (600, false), (999, false)]
        {
            assert_eq!(read(status, &[]), if is_final { Ok(None) } else { Err(UnsendableReply::Status) }, "{status}");
        }
    }

    #[test]
    fn a_length_is_one_number_and_none_beside_chunks() {
        assert_eq!(read(200, &[("content-length", "12")]), Ok(Some(12)));
        assert_eq!(read(200, &[("transfer-encoding", "Chunked"), ("content-length", "12")]), Ok(None));
        for length in ["", "+1", "-1", "1, 1", "1 ", "a", "18446744073709551616"] {
            assert_eq!(read(200, &[("content-length", length)]), Err(UnsendableReply::Framing), "{length:?}");
        }
        for headers in [[("content-length", "1"), ("content-length", "1")], [("transfer-encoding", "gzip, chunked"), ("a", "b")]]
        {
            assert_eq!(read(200, &headers), Err(UnsendableReply::Framing), "{headers:?}");
        }
    }

    #[test]
    fn all_headers_of_a_reply_count() {
        let value = "v".repeat(REPLY_HEADERS_BYTES_MAX - "spin-full-url".len());
        assert_eq!(read(200, &[("spin-full-url", &value)]), Ok(None));
        assert_eq!(read(200, &[("spin-full-url", &value), ("a", "")]), Err(UnsendableReply::HeadersTooLarge));
    }
}
