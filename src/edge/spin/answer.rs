//! The reply of a per-call product on its way to the caller: its charge is known with its status, and nothing of its body is looked at.

use spin_sdk::wasip3;
use wasip3::http::types::{ErrorCode, Response};
use wasip3::{wit_future, wit_stream};

use super::body::{Incoming, Outgoing, download};
use super::call::Admitted;
use super::instance::Instance;
use super::settle::Unsettled;
use super::wire::{self, BodyEnding, accepted, internal};
use crate::config::{ChargeWhen, LostHold};
use crate::gateway::{Head, Headers, Identified, Outcome, call_outcome, reply_headers};

/// Up to this length a declared reply is over almost with its headers.
pub(super) const SHORT_REPLY_BYTES_MAX: u64 = 64 * 1024;

/// What a reply's headers say about its body.
pub(super) struct Shape {
    /// The declared length.
    pub(super) length: Option<u64>,
    /// Whether there is a body at all.
    pub(super) has_body: bool,
}

impl Shape {
    pub(super) fn of(head: &Head, status: u16, headers: &Headers) -> Self {
        let length = header_text(headers, "content-length").and_then(|text| text.parse().ok());
        let has_body = head.method != "HEAD" && !matches!(status, 204 | 304) && length != Some(0);
        Self { length, has_body }
    }

    pub(super) fn is_declared_short(&self) -> bool {
        self.length.is_some_and(|length| length <= SHORT_REPLY_BYTES_MAX)
    }
}

/// The first value of a header, where it is text.
pub(super) fn header_text<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    let (_, value) = headers.iter().find(|(other, _)| other == name)?;
    std::str::from_utf8(value).ok()
}

/// The backend's reply for the caller. A short one, whose charge is durable with its hold, is handed through untouched and settled soon after; of every
/// other one the end is seen here, and waits until the charge is durable.
pub(super) async fn answer(
    instance: &'static Instance,
    head: &Head,
    identified: &Identified<'_>,
    admitted: Admitted,
    charge_when: ChargeWhen,
    reply: Response,
) -> Result<Response, ErrorCode> {
    let status = reply.get_status_code();
    let outcome = call_outcome(charge_when, &admitted.admission, status);
    instance.book.count(|meters| meters.call(&identified.product.id, outcome.label()));
    let from_backend = reply.get_headers().copy_all();
    let shape = Shape::of(head, status, &from_backend);
    let headers = reply_headers(from_backend, identified, Some(outcome), admitted.rate_limit.clone());
    let unsettled = Unsettled::new(instance, identified, admitted);
    let headers = match wire::fields(&headers) {
        Ok(headers) => headers,
        Err(error) => {
            // The backend has answered and is paid, even if its answer cannot be passed on. Where that fails too, the hold's lease decides.
            let _ = settle(unsettled, outcome, status).await;
            return Err(error);
        }
    };
    let (chunks, trailers) = Response::consume_body(reply, accepted());
    let is_short = !shape.has_body || shape.is_declared_short();
    let response = if !shape.has_body || (is_short && is_durable_already(instance, outcome)) {
        if !settle(unsettled, outcome, status).await {
            return Err(ErrorCode::InternalError(None));
        }
        Response::new(headers, Some(chunks), trailers).0
    } else {
        let (ending_writer, ending_reader) = wit_future::new::<BodyEnding>(|| Err(ErrorCode::HttpResponseIncomplete));
        let (chunk_writer, chunk_reader) = wit_stream::new();
        let to = Outgoing { chunks: chunk_writer, ending: ending_writer };
        let from = Incoming { chunks, ending: trailers };
        let idle_timeout_ms = identified.product.idle_timeout_ms;
        wasip3::spawn(download(from, to, shape.length, idle_timeout_ms, settle(unsettled, outcome, status)));
        Response::new(headers, Some(chunk_reader), ending_reader).0
    };
    response.set_status_code(status).map_err(|()| internal("the backend's status cannot be sent"))?;
    Ok(response)
}

/// Settles: soon where a crash right now would leave what is charged, else at once. False where the charge is not durable in time.
async fn settle(unsettled: Unsettled, outcome: Outcome, status: u16) -> bool {
    if is_durable_already(unsettled.instance(), outcome) {
        unsettled.settle_later(outcome, Some(status));
        return true;
    }
    unsettled.settle(outcome, Some(status)).await
}

/// A hold is charged as it is even if it is lost, and a per-call product charges its hold.
fn is_durable_already(instance: &Instance, outcome: Outcome) -> bool {
    match outcome {
        Outcome::Replayed => true,
        Outcome::Charged { .. } => instance.config.gateway.lost_hold == LostHold::Charge,
        Outcome::Released => false,
    }
}
