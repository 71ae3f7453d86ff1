//! Endpoints of the configuration: whether they are enabled, and what waits for them.

use serde::Serialize;

use super::failure::Failure;
use super::query::{PathIds, Query, write_cursor};
use super::time::format_ms;
use super::{Access, Context, Response, body, json};
use crate::config::Webhook;
use crate::store::Database;
use crate::store::outbox::{Endpoint, EndpointKind};
use crate::store::queries::{self, EndpointState};

const LIST: &str = "webhooks";

#[derive(Serialize)]
struct WebhookView<'a> {
    n: usize,
    url: &'a str,
    events: &'a [String],
    state: &'static str,
    reason: Option<String>,
    disabled_at: Option<String>,
    backlog: u64,
    oldest_waiting_at: Option<String>,
    dead: u64,
}

impl<'a> WebhookView<'a> {
    fn new(n: usize, webhook: &'a Webhook, state: EndpointState, access: Access) -> Self {
        Self {
            n,
            url: shown_url(webhook.url.as_str(), access),
            events: webhook.events.patterns(),
            state: if state.disabled_at_ms.is_some() { "disabled" } else { "enabled" },
            reason: state.reason,
            disabled_at: state.disabled_at_ms.map(format_ms),
            backlog: state.waiting,
            oldest_waiting_at: state.oldest_waiting_ms.map(format_ms),
            dead: state.dead,
        }
    }
}

/// An endpoint's URL as a token's holder may see it. Path and query may be all that keeps others from posting there: whoever may only read sees the
/// host alone.
pub(super) fn shown_url(url: &str, access: Access) -> &str {
    let authority_start = url.find("://").map_or(0, |place| place + "://".len());
    let is_after = |(place, character): &(usize, char)| *place >= authority_start && matches!(character, '/' | '?');
    match url.char_indices().find(is_after) {
        Some((end, _)) if access == Access::Read => url.get(..end).unwrap_or_default(),
        _ => url,
    }
}

pub(super) fn webhook_endpoint(webhook: &Webhook) -> Endpoint<'_> {
    Endpoint { kind: EndpointKind::Webhook, url: webhook.url.as_str() }
}

pub(super) fn list<D: Database>(context: &Context<'_, D>, query: Query<'_>) -> Result<Response, Failure> {
    #[derive(Serialize)]
    struct List<'a> {
        webhooks: Vec<WebhookView<'a>>,
        next_cursor: Option<String>,
    }

    let query = query.read(&["limit", "cursor"])?;
    let after: usize = query.position(LIST)?.unwrap_or(0);
    let limit = query.limit()?;
    let configured = &context.config.webhooks;
    let page: Vec<(&Webhook, usize)> = configured.iter().zip(1..).skip(after).take(limit).collect();
    let endpoints: Vec<_> = page.iter().map(|(webhook, _)| webhook_endpoint(webhook)).collect();
    let states = queries::endpoint_states(context.tables()?, &endpoints)?;
    let webhooks = page.iter().zip(states).map(|((webhook, n), state)| WebhookView::new(*n, webhook, state, context.access));
    let last = page.last().filter(|(_, n)| *n < configured.len());
    let next_cursor = last.map(|(_, n)| write_cursor(LIST, &n.to_string()));
    json::response(200, &List { webhooks: webhooks.collect(), next_cursor })
}

pub(super) fn enable<D: Database>(
    context: &Context<'_, D>,
    ids: &PathIds,
    query: Query<'_>,
    body: &[u8],
) -> Result<Response, Failure> {
    query.read(&[])?;
    let n = ids.number(0, "n")?;
    body::read_nothing(body)?;
    let webhook = n.checked_sub(1).and_then(|place| context.config.webhooks.get(place));
    let webhook = webhook.ok_or_else(|| Failure::not_found("webhook"))?;
    queries::enable(context.tables()?, webhook_endpoint(webhook), context.now_ms)?;
    let state = queries::endpoint_states(context.tables()?, &[webhook_endpoint(webhook)])?.pop().unwrap_or_default();
    json::response(200, &WebhookView::new(n, webhook, state, context.access))
}
