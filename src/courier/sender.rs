//! One try of one delivery: what is posted, and what comes of it.

use std::pin::pin;

use futures::future::{Either, select};
use serde::Deserialize;

use super::order_answer::{self, Answer};
use super::verdict::{self, Failure, Verdict};
use super::{Outside, POST_TIMEOUT_MS, Post, Reply, Unreached, schedule, sign};
use crate::book::{Book, LedgerError};
use crate::config::{Config, EventFilter, HookUrl, SigningSecret};
use crate::ids::{AccountKey, RepurchaseId};
use crate::ledger::{Command, Conclusion, EventKind, FailureReason, Grant, Order, OrderState};
use crate::store::outbox::{DeliveryState, Due, Endpoint, EndpointKind};
use crate::store::{Database, queries};
use crate::timestamp::format_ms;

/// How receivers may know us.
const USER_AGENT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));

/// Why a delivery of an order ends that has not arrived, or not for long.
const ORDER_ENDED: &str = "the order ended before the hook answered";

/// An endpoint of the configuration.
pub(super) struct Target<'a> {
    pub(super) endpoint: Endpoint<'a>,
    url: &'a HookUrl,
    secrets: &'a [SigningSecret],
    events: Option<&'a EventFilter>,
}

impl Target<'_> {
    /// Whether events of this type are delivered here.
    pub(super) fn is_told(&self, event_type: &str) -> bool {
        match self.events {
            Some(events) => events.matches(event_type),
            None => event_type == EventKind::RepurchaseRequested.as_str(),
        }
    }
}

/// Every endpoint of a configuration.
pub(super) fn targets(config: &Config) -> Vec<Target<'_>> {
    let webhooks = config.webhooks.iter().map(|webhook| Target {
        endpoint: Endpoint { kind: EndpointKind::Webhook, url: webhook.url.as_str() },
        url: &webhook.url,
        secrets: &webhook.secrets,
        events: Some(&webhook.events),
    });
    let orders = config.repurchase.iter().map(|hook| Target {
        endpoint: Endpoint { kind: EndpointKind::Order, url: hook.url.as_str() },
        url: &hook.url,
        secrets: &hook.secrets,
        events: None,
    });
    webhooks.chain(orders).collect()
}

/// What came of a try.
pub(super) struct Ended {
    pub(super) state: DeliveryState,
    /// Whether something was posted, so that the try counts as one.
    pub(super) was_posted: bool,
    pub(super) status: Option<u16>,
    pub(super) error: Option<String>,
    /// The receiver is gone.
    pub(super) is_gone: bool,
}

impl Ended {
    fn posted(state: DeliveryState, replied: &Result<Reply, Unreached>, error: Option<String>) -> Self {
        let status = replied.as_ref().ok().map(|reply| reply.status);
        Self { state, was_posted: true, status, error, is_gone: false }
    }

    fn unposted(state: DeliveryState, error: Option<String>) -> Self {
        Self { state, was_posted: false, status: None, error, is_gone: false }
    }
}

/// Tries a delivery.
pub(super) async fn send<D: Database>(book: &Book<D>, outside: &impl Outside, target: &Target<'_>, due: &Due) -> Ended {
    match target.endpoint.kind {
        EndpointKind::Webhook => send_event(outside, target, due).await,
        EndpointKind::Order => send_order(book, outside, target, due).await.unwrap_or_else(|_| {
            // What became of the order is not durable, so it is posted again, under the same name.
            let delay_ms = schedule::order_delay_ms(&due.event_id, due.attempts.saturating_add(1), None);
            let state = DeliveryState::Waiting(outside.now_ms().saturating_add(delay_ms));
            Ended { was_posted: true, ..Ended::unposted(state, Some("the ledger could not be written".to_owned())) }
        }),
    }
}

async fn send_event(outside: &impl Outside, target: &Target<'_>, due: &Due) -> Ended {
    let replied = post(outside, target, due).await;
    let now_ms = outside.now_ms();
    match verdict::of_event(&replied, now_ms) {
        Verdict::Delivered => Ended::posted(DeliveryState::Delivered, &replied, None),
        // It waits until somebody enables the endpoint.
        Verdict::Gone => {
            let error = Some("status 410".to_owned());
            Ended { is_gone: true, ..Ended::posted(DeliveryState::Waiting(now_ms), &replied, error) }
        }
        Verdict::Failed(failure) => {
            let delay_ms = schedule::event_delay_ms(&due.event_id, due.attempts.saturating_add(1), failure.retry_after_ms);
            let state = delay_ms.map_or(DeliveryState::Dead, |delay_ms| DeliveryState::Waiting(now_ms.saturating_add(delay_ms)));
            Ended::posted(state, &replied, Some(failure.error))
        }
    }
}

async fn send_order<D: Database>(
    book: &Book<D>,
    outside: &impl Outside,
    target: &Target<'_>,
    due: &Due,
) -> Result<Ended, LedgerError> {
    let Some((repurchase_id, key, order)) = find_order(book, due)? else {
        return Ok(Ended::unposted(DeliveryState::Dead, Some("there is no such order".to_owned())));
    };
    if let Some(ended) = end_without_posting(book, &key, &order, outside.now_ms()).await? {
        return Ok(ended);
    }
    let replied = post(outside, target, due).await;
    let now_ms = outside.now_ms();
    let failure = match order_answer::read(&replied, &key, &repurchase_id, &order, now_ms) {
        Answer::Concluded(conclusion, package) => match conclude(book, &key, &order, conclusion, package, now_ms).await? {
            Ok(()) => return Ok(Ended::posted(DeliveryState::Delivered, &replied, None)),
            Err(failure) => failure,
        },
        Answer::Refused(failure) => {
            let conclusion = Conclusion::Failed(FailureReason::HookFailed);
            // Where it has another outcome by now, that one stands.
            let _ = conclude(book, &key, &order, conclusion, None, now_ms).await?;
            return Ok(Ended::posted(DeliveryState::Dead, &replied, Some(failure.error)));
        }
        Answer::None(failure) => failure,
    };
    let delay_ms = schedule::order_delay_ms(&due.event_id, due.attempts.saturating_add(1), failure.retry_after_ms);
    // At its time-out the order ends, and its delivery with it.
    let next_at_ms = now_ms.saturating_add(delay_ms).min(order.times_out_at_ms.max(now_ms));
    Ok(Ended::posted(DeliveryState::Waiting(next_at_ms), &replied, Some(failure.error)))
}

/// The order that an event requests.
fn find_order<D: Database>(book: &Book<D>, due: &Due) -> Result<Option<(RepurchaseId, AccountKey, Order)>, LedgerError> {
    #[derive(Deserialize)]
    struct Requested {
        repurchase_id: RepurchaseId,
    }

    let Ok(Requested { repurchase_id }) = serde_json::from_str(&due.data) else { return Ok(None) };
    let found = queries::order_by_id(book.database(), &repurchase_id)?;
    Ok(found.map(|(key, order)| (repurchase_id, key, order)))
}

/// An order that has ended is not posted again, and one whose time is over ends now.
async fn end_without_posting<D: Database>(
    book: &Book<D>,
    key: &AccountKey,
    order: &Order,
    now_ms: i64,
) -> Result<Option<Ended>, LedgerError> {
    match order.state {
        OrderState::Succeeded => Ok(Some(Ended::unposted(DeliveryState::Delivered, None))),
        OrderState::Failed => Ok(Some(Ended::unposted(DeliveryState::Dead, Some(ORDER_ENDED.to_owned())))),
        OrderState::Requested | OrderState::Pending if order.times_out_at_ms <= now_ms => {
            book.submit(key, Command::Look, now_ms).await?;
            Ok(Some(Ended::unposted(DeliveryState::Dead, Some(ORDER_ENDED.to_owned()))))
        }
        OrderState::Requested | OrderState::Pending => Ok(None),
    }
}

/// Makes durable what became of an order. A failure where the ledger cannot accept it: an answer that contradicts what is there is as good as none.
async fn conclude<D: Database>(
    book: &Book<D>,
    key: &AccountKey,
    order: &Order,
    conclusion: Conclusion,
    package: Option<Box<Grant>>,
    now_ms: i64,
) -> Result<Result<(), Failure>, LedgerError> {
    let command = Command::ConcludeOrder { number: order.number, conclusion, package };
    let reply = book.submit(key, command, now_ms).await?;
    Ok(reply.result.map(drop).map_err(|refusal| Failure::of(format!("the answer is not possible: {refusal:?}"))))
}

async fn post(outside: &impl Outside, target: &Target<'_>, due: &Due) -> Result<Reply, Unreached> {
    // The data was written with the event, so that every try says the same.
    let body = format!(r#"{{"type":"{}","timestamp":"{}","data":{}}}"#, due.event_type, format_ms(due.at_ms), due.data);
    let mut headers = sign::headers(&due.event_id, outside.now_ms(), &body, target.secrets);
    headers.push(("user-agent", USER_AGENT.to_owned()));
    let (authority, path) = (target.url.authority().to_owned(), target.url.target().to_owned());
    let post = Post { https: target.url.is_https(), authority, target: path, headers, body };
    let (posting, patience) = (pin!(outside.post(&post)), pin!(outside.pause_ms(POST_TIMEOUT_MS)));
    match select(posting, patience).await {
        Either::Left((replied, _)) => replied,
        Either::Right(_) => Err(Unreached::TimedOut),
    }
}
