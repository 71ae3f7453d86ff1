//! The reply on its way to the caller, and the settle that its end waits for (contract section 2).

use spin_sdk::wasip3;
use wasip3::http::types::{ErrorCode, Fields, Response};

use super::body::{Clock, Incoming, Outgoing};
use super::call::Admitted;
use super::instance::Instance;
use super::settle::Unsettled;
use super::wire::{self, accepted, internal};
use crate::gateway::{Identified, Metering, Outcome, ReplyHead, Way, forget_bytes, header_text, reply_headers};
use crate::meter::Ending;
use crate::relay::{Limits, Passed, ReplyRelay};

/// A reply whose charge is not durable in time is aborted.
const UNSETTLED: ErrorCode = ErrorCode::InternalError(None);

/// A reply with a body that is looked at, and the call that it ends.
struct Answering {
    relay: ReplyRelay,
    unsettled: Unsettled,
    status: u16,
    is_durable: bool,
    idle_timeout_ms: i64,
}

/// The backend's reply for the caller. However it fares on the way, the backend has answered and is paid.
pub(super) async fn answer(
    instance: &'static Instance,
    identified: &Identified<'_>,
    admitted: Admitted,
    metering: Metering<'_>,
    (head, reply): (ReplyHead, Response),
) -> Result<Response, ErrorCode> {
    let ReplyHead { status, headers: mut from_backend, shape } = head;
    let (content_type, encoding) = (header_text(&from_backend, "content-type"), header_text(&from_backend, "content-encoding"));
    let tally = metering.tally(&admitted.admission, status, content_type, encoding);
    let lost_hold = instance.config.gateway.lost_hold;
    let way = tally.way(&admitted.admission, status, shape, lost_hold, false);
    let (known, is_durable) = (tally.known(&admitted.admission), tally.is_durable_with_hold(lost_hold));
    let is_gated = tally.is_gated();
    if is_gated && shape.has_body {
        // The caller may get less.
        forget_bytes(&mut from_backend);
    }
    let rate_limit = admitted.rate_limit.clone();
    let headers = |outcome| wire::fields(&reply_headers(from_backend, identified, outcome, rate_limit));
    let (length, idle_timeout_ms) = (shape.length.filter(|_| !is_gated), identified.product.idle_timeout_ms);
    let relay = ReplyRelay::new(tally, Limits { length, idle_timeout_ms, drain: identified.product.drain });
    let unsettled = Unsettled::new(instance, identified, admitted);
    let answering = Answering { relay, unsettled, status, is_durable, idle_timeout_ms };
    let response = match way {
        Way::Untouched(outcome) => {
            let outcome = answering.unsettled.end(outcome, status, is_durable).await.ok_or(UNSETTLED)?;
            let (chunks, ending) = Response::consume_body(reply, accepted());
            Response::new(headers(Some(outcome))?, Some(chunks), ending).0
        }
        Way::OnceRead => {
            let (outcome, passed) = answering.read_whole(Incoming::of_reply(reply)).await?;
            let headers = headers(Some(outcome))?;
            let (to, chunks, ending) = Outgoing::of_reply();
            wasip3::spawn(passed.finish::<Clock>(to, true, idle_timeout_ms));
            Response::new(headers, Some(chunks), ending).0
        }
        Way::AsItArrives => match headers(known) {
            Ok(headers) => {
                let (to, chunks, ending) = Outgoing::of_reply();
                wasip3::spawn(answering.pass(Incoming::of_reply(reply), to));
                Response::new(headers, Some(chunks), ending).0
            }
            Err(error) => {
                answering.drain(Incoming::of_reply(reply)).await;
                return Err(error);
            }
        },
    };
    response.set_status_code(status).map_err(|()| internal("the backend's status cannot be sent"))?;
    Ok(response)
}

impl Answering {
    async fn end(self, ending: Ending) -> Option<Outcome> {
        let outcome = self.relay.outcome(self.unsettled.admission(), self.status, ending);
        self.unsettled.end(outcome, self.status, self.is_durable).await
    }

    /// Reads and settles, before anything is sent.
    async fn read_whole(mut self, from: Incoming) -> Result<(Outcome, Passed<Fields>), ErrorCode> {
        let passed = self.relay.read_whole::<Clock, _>(from).await;
        let outcome = self.end(passed.ending).await.ok_or(UNSETTLED)?;
        Ok((outcome, passed))
    }

    /// Moves a body to the caller while it is read, and settles before its end.
    async fn pass(mut self, from: Incoming, mut to: Outgoing) {
        let idle_timeout_ms = self.idle_timeout_ms;
        let passed = self.relay.pass::<Clock, _>(from, &mut to).await;
        let is_settled = self.end(passed.ending).await.is_some();
        passed.finish::<Clock>(to, is_settled, idle_timeout_ms).await;
    }

    /// Reads what cannot be passed on, and settles.
    async fn drain(mut self, from: Incoming) {
        let ending = self.relay.drain::<Clock>(from).await;
        // Where the charge is not durable in time, it is left to the background, and to the hold's lease after it.
        let _ = self.end(ending).await;
    }
}
