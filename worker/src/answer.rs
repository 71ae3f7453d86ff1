//! The reply on its way to the caller, and the settle that its end waits for (contract section 2).

use std::convert::Infallible;
use std::rc::Rc;

use tollgate::gateway::{
    Headers, Identified, Metering, Outcome, RateLimit, ReplyHead, Way, forget_bytes, header_text, reply_headers,
};
use tollgate::meter::Ending;
use tollgate::relay::{Limits, Passed, ReplyRelay};

use crate::body::{Incoming, Outgoing};
use crate::call::{Gateway, stop};
use crate::clock::Clock;
use crate::log;
use crate::settle::Hold;
use crate::wire::{self, Body};

/// A reply with a body that is looked at, and the call that it ends.
struct Answering {
    relay: ReplyRelay,
    hold: Hold,
    status: u16,
    idle_timeout_ms: i64,
}

/// Whether the runtime decodes a body that is read here, and encodes what is sent in its place.
fn is_recoded(headers: &Headers) -> bool {
    header_text(headers, "content-encoding")
        .is_some_and(|coding| matches!(coding.trim().to_ascii_lowercase().as_str(), "gzip" | "br"))
}

/// The backend's reply for the caller. However it fares on the way, the backend has answered and is paid.
pub(crate) async fn answer(
    gateway: &Rc<Gateway>,
    identified: &Identified<'_>,
    (hold, rate_limit): (Hold, Option<RateLimit>),
    metering: Metering<'_>,
    (head, reply): (ReplyHead, web_sys::Response),
) -> web_sys::Response {
    let ReplyHead { status, headers: mut from_backend, shape } = head;
    // The backend was asked for a body as the meter reads it. Of one that compresses all the same, the runtime decodes what it can.
    let is_recoded = is_recoded(&from_backend);
    let encoding = header_text(&from_backend, "content-encoding").filter(|_| !is_recoded);
    let tally = metering.tally(hold.admission(), status, header_text(&from_backend, "content-type"), encoding);
    let lost_hold = gateway.settings.config.gateway.lost_hold;
    let way = tally.way(hold.admission(), status, shape, lost_hold, is_recoded);
    let (known, is_durable) = (tally.known(hold.admission()), tally.is_durable_with_hold(lost_hold));
    // A body that is not passed on as it came is of another length.
    let is_changed = !matches!(way, Way::Untouched(_)) && (tally.is_gated() || is_recoded);
    if is_changed && shape.has_body {
        forget_bytes(&mut from_backend);
    }
    let (length, idle_timeout_ms) = (shape.length.filter(|_| !is_changed), identified.product.idle_timeout_ms);
    let relay = ReplyRelay::new(tally, Limits { length, idle_timeout_ms, drain: identified.product.drain });
    let headers = |outcome| reply_headers(from_backend, identified, outcome, rate_limit);
    let failed = || stop(identified, wire::internal().into());
    let body = reply.body().filter(|_| shape.has_body);
    let answering = Answering { relay, hold, status, idle_timeout_ms };
    match (way, body) {
        (Way::Untouched(outcome), body) => {
            let mut outcome = outcome;
            if is_durable {
                gateway.context.wait_until(async move {
                    answering.hold.settle(outcome, status).await;
                });
            } else {
                match answering.hold.settle(outcome, status).await {
                    Some(settled) => outcome = settled,
                    None => return failed(),
                }
            }
            wire::reply(status, &headers(Some(outcome)), &body.map_or(Body::None, Body::Stream))
        }
        (Way::OnceRead | Way::AsItArrives, None) => match answering.end(Ending::Complete).await {
            Some(outcome) => wire::reply(status, &headers(Some(outcome)), &Body::None),
            None => failed(),
        },
        (Way::OnceRead, Some(stream)) => match answering.read_whole(Incoming::of(&stream)).await {
            Some((outcome, passed)) => send(gateway, (status, length, idle_timeout_ms), &headers(Some(outcome)), passed),
            None => failed(),
        },
        (Way::AsItArrives, Some(stream)) => match Outgoing::new(length) {
            Ok((to, readable)) => {
                gateway.context.wait_until(answering.pass(Incoming::of(&stream), to));
                wire::reply(status, &headers(known), &Body::Stream(readable))
            }
            Err(error) => {
                log::line(&format!("a reply cannot be streamed: {}", log::describe(&error)));
                answering.drain(Incoming::of(&stream)).await;
                failed()
            }
        },
    }
}

/// A reply that was read and settled first.
fn send(
    gateway: &Rc<Gateway>,
    (status, length, idle_timeout_ms): (u16, Option<u64>, i64),
    headers: &Headers,
    passed: Passed<Infallible>,
) -> web_sys::Response {
    match Outgoing::new(length) {
        Ok((to, readable)) => {
            gateway.context.wait_until(passed.finish::<Clock>(to, true, idle_timeout_ms));
            wire::reply(status, headers, &Body::Stream(readable))
        }
        Err(error) => {
            log::line(&format!("a reply cannot be sent: {}", log::describe(&error)));
            wire::problem(&wire::internal(), None, Vec::new())
        }
    }
}

impl Answering {
    async fn end(self, ending: Ending) -> Option<Outcome> {
        let outcome = self.relay.outcome(self.hold.admission(), self.status, ending);
        self.hold.settle(outcome, self.status).await
    }

    /// Reads and settles, before anything is sent.
    async fn read_whole(mut self, from: Incoming) -> Option<(Outcome, Passed<Infallible>)> {
        let passed = self.hold.kept_during(self.relay.read_whole::<Clock, _>(from)).await;
        let outcome = self.end(passed.ending).await?;
        Some((outcome, passed))
    }

    /// Moves a body to the caller while it is read, and settles before its end.
    async fn pass(mut self, from: Incoming, mut to: Outgoing) {
        let idle_timeout_ms = self.idle_timeout_ms;
        let passed = self.hold.kept_during(self.relay.pass::<Clock, _>(from, &mut to)).await;
        let is_settled = self.end(passed.ending).await.is_some();
        passed.finish::<Clock>(to, is_settled, idle_timeout_ms).await;
    }

    /// Reads what cannot be passed on, and settles.
    async fn drain(mut self, from: Incoming) {
        let ending = self.hold.kept_during(self.relay.drain::<Clock>(from)).await;
        self.end(ending).await;
    }
}
