//! The reply of a per-call product on its way to the caller.

use std::rc::Rc;

use tollgate::config::{ChargeWhen, LostHold};
use tollgate::gateway::{Head, Headers, Identified, Outcome, RateLimit, call_outcome, reply_headers};

use crate::body::{Incoming, Outgoing, download};
use crate::call::{Gateway, stop};
use crate::log;
use crate::settle::Hold;
use crate::wire::{self, Body};

/// Up to this length a declared reply is over almost with its headers.
const SHORT_REPLY_BYTES_MAX: u64 = 64 * 1024;

/// What a reply's head says of its body.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) has_body: bool,
    pub(crate) length: Option<u64>,
}

impl Shape {
    pub(crate) fn of(head: &Head, status: u16, headers: &Headers) -> Self {
        let length = header_text(headers, "content-length").and_then(|text| text.parse().ok());
        Self { has_body: head.method != "HEAD" && !matches!(status, 204 | 205 | 304) && length != Some(0), length }
    }

    pub(crate) fn is_declared_short(self) -> bool {
        self.length.is_some_and(|length| length <= SHORT_REPLY_BYTES_MAX)
    }
}

pub(crate) fn header_text<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().find(|(other, _)| other == name)?;
    std::str::from_utf8(value).ok()
}

/// The reply's headers, without those of its connection.
pub(crate) fn read_headers(reply: &web_sys::Response) -> Headers {
    let mut headers = wire::read_headers(&reply.headers());
    let nominated = wire::nominated(&headers);
    headers.retain(|(name, _)| !nominated.contains(name));
    headers
}

/// Whether the runtime decodes a body that is read here, and encodes what is sent in its place.
pub(crate) fn is_recoded(headers: &Headers) -> bool {
    header_text(headers, "content-encoding")
        .is_some_and(|coding| matches!(coding.trim().to_ascii_lowercase().as_str(), "gzip" | "br"))
}

/// The backend's reply for the caller. A short one, whose charge is durable with its hold, is handed through untouched and settled soon after; of every
/// other one the end is seen here, and waits until the charge is durable.
pub(crate) async fn answer(
    gateway: &Rc<Gateway>,
    head: &Head,
    identified: &Identified<'_>,
    (hold, rate_limit): (Hold, Option<RateLimit>),
    charge_when: ChargeWhen,
    reply: &web_sys::Response,
) -> web_sys::Response {
    let status = reply.status();
    let outcome = call_outcome(charge_when, hold.admission(), status);
    let from_backend = read_headers(reply);
    let shape = Shape::of(head, status, &from_backend);
    // The runtime decodes what passes through here, so that nothing of it would reach the caller as it was sent.
    let is_recoded = is_recoded(&from_backend);
    let headers = reply_headers(from_backend, identified, Some(outcome), rate_limit);
    let is_durable_already = match outcome {
        Outcome::Replayed => true,
        Outcome::Charged { .. } => gateway.settings.config.gateway.lost_hold == LostHold::Charge,
        Outcome::Released => false,
    };
    let stream = match reply.body().filter(|_| shape.has_body) {
        Some(stream) if !(is_recoded || shape.is_declared_short() && is_durable_already) => stream,
        untouched => {
            if is_durable_already {
                gateway.context.wait_until(async move {
                    hold.settle(outcome, status).await;
                });
            } else if !hold.settle(outcome, status).await {
                return stop(identified, wire::internal().into());
            }
            return wire::reply(status, &headers, &untouched.map_or(Body::None, Body::Stream));
        }
    };
    match Outgoing::new(shape.length) {
        Ok((to, readable)) => {
            let (from, idle_timeout_ms) = (Incoming::of(&stream), identified.product.idle_timeout_ms);
            gateway.context.wait_until(async move {
                let (moved, to) = hold.kept_during(download(from, to, shape.length, idle_timeout_ms)).await;
                let is_settled = hold.settle(outcome, status).await;
                moved.finish(to, is_settled, idle_timeout_ms).await;
            });
            wire::reply(status, &headers, &Body::Stream(readable))
        }
        Err(error) => {
            log::line(&format!("a reply cannot be streamed: {}", log::describe(&error)));
            // The backend has answered and is paid, even if its answer cannot be passed on.
            hold.settle(outcome, status).await;
            stop(identified, wire::internal().into())
        }
    }
}
