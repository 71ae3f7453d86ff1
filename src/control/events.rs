//! Events and what became of their deliveries.

use serde::Serialize;
use serde_json::value::RawValue;

use super::body;
use super::failure::Failure;
use super::query::{PathIds, Query, write_cursor};
use super::time::format_ms;
use super::webhooks::shown_url;
use super::{Access, Context, Response, json};
use crate::config::{Config, EVENT_TYPES};
use crate::ids::{CustomerId, EventId};
use crate::store::queries::{self, EventFilter, ListedDelivery, ListedEvent};
use crate::store::{Database, outbox};

const LIST: &str = "events";

#[derive(Serialize)]
struct EventView<'a> {
    event_id: &'a EventId,
    #[serde(rename = "type")]
    event_type: &'a str,
    timestamp: String,
    data: &'a RawValue,
    deliveries: Vec<DeliveryView<'a>>,
}

#[derive(Serialize)]
struct DeliveryView<'a> {
    webhook: Option<EndpointName>,
    url: &'a str,
    state: &'a str,
    attempts: u32,
    next_at: Option<String>,
    last_status: Option<u16>,
    last_error: Option<&'a str>,
    delivered_at: Option<String>,
}

/// Which endpoint of the configuration.
#[derive(Serialize)]
#[serde(untagged)]
enum EndpointName {
    Webhook(usize),
    Repurchase(&'static str),
}

impl<'a> EventView<'a> {
    fn new(event: &'a ListedEvent, config: &Config, access: Access) -> Result<Self, Failure> {
        let data = serde_json::from_str(&event.data).map_err(|_| Failure::Internal("an event's data is no JSON"))?;
        Ok(Self {
            event_id: &event.event_id,
            event_type: &event.event_type,
            timestamp: format_ms(event.at_ms),
            data,
            deliveries: event.deliveries.iter().map(|delivery| DeliveryView::new(delivery, config, access)).collect(),
        })
    }
}

impl<'a> DeliveryView<'a> {
    fn new(delivery: &'a ListedDelivery, config: &Config, access: Access) -> Self {
        let has_arrived = delivery.state == "delivered";
        Self {
            webhook: endpoint_name(delivery, config),
            url: shown_url(&delivery.url, access),
            state: &delivery.state,
            attempts: delivery.attempts,
            next_at: delivery.next_at_ms.map(format_ms),
            last_status: delivery.last_status,
            last_error: delivery.last_error.as_deref(),
            delivered_at: delivery.ended_at_ms.filter(|_| has_arrived).map(format_ms),
        }
    }
}

/// None where the endpoint is not configured any more.
fn endpoint_name(delivery: &ListedDelivery, config: &Config) -> Option<EndpointName> {
    if delivery.kind == "order" {
        let hook = config.repurchase.as_ref().filter(|hook| hook.url.as_str() == delivery.url);
        return hook.map(|_| EndpointName::Repurchase("repurchase"));
    }
    let place = config.webhooks.iter().position(|webhook| webhook.url.as_str() == delivery.url);
    place.map(|place| EndpointName::Webhook(place + 1))
}

pub(super) fn list<D: Database>(context: &Context<'_, D>, query: Query<'_>) -> Result<Response, Failure> {
    #[derive(Serialize)]
    struct List<'a> {
        events: Vec<EventView<'a>>,
        next_cursor: Option<String>,
    }

    let query = query.read(&["customer_id", "type", "delivery", "limit", "cursor"])?;
    let customer_id = query.id("customer_id", CustomerId::new)?;
    let filter = EventFilter {
        customer_id: customer_id.as_ref(),
        event_type: query.one_of("type", &EVENT_TYPES)?,
        delivery: query.word("delivery", "waiting, delivered, dead, none")?,
    };
    let page = queries::events(context.tables()?, &filter, query.position(LIST)?, query.limit()?)?;
    let view = |event| EventView::new(event, context.config, context.access);
    let events = page.items.iter().map(view).collect::<Result<_, _>>()?;
    let next_cursor = page.next.map(|position| write_cursor(LIST, &position.to_string()));
    json::response(200, &List { events, next_cursor })
}

pub(super) fn redeliver<D: Database>(
    context: &Context<'_, D>,
    ids: &PathIds,
    query: Query<'_>,
    body: &[u8],
) -> Result<Response, Failure> {
    query.read(&[])?;
    let event_id = ids.id(0, "event_id", EventId::new)?;
    body::read_nothing(body)?;
    if !outbox::redeliver(context.tables()?, &event_id, context.now_ms)? {
        return Err(Failure::not_found("event"));
    }
    let event = queries::event(context.tables()?, &event_id)?.ok_or_else(|| Failure::not_found("event"))?;
    json::response(200, &EventView::new(&event, context.config, context.access)?)
}
