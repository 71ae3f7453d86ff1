//! Events from the newest to the oldest, with what became of their deliveries.
//!
//! Positions only go up, so that a page's position is that of its last event, unmoved by newer ones. A page looks at so many events of each account, or
//! of all, and the next one goes on from there.

use serde::Deserialize;

use super::{Page, Window, integer, one_more, text, window};
use crate::ids::{CustomerId, EventId};
use crate::store::database::{Database, StoreError, Value};

/// An event as the control API lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEvent {
    /// Its place in the outbox.
    pub position: i64,
    /// Its name.
    pub event_id: EventId,
    /// Its type.
    pub event_type: String,
    /// Unix milliseconds of what happened.
    pub at_ms: i64,
    /// What happened, as JSON.
    pub data: String,
    /// To whom it is told, once it is spread.
    pub deliveries: Vec<ListedDelivery>,
}

/// What became of an event on its way to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ListedDelivery {
    /// `webhook` or `order`.
    pub kind: String,
    /// Where it is posted.
    pub url: String,
    /// `waiting`, `delivered` or `dead`.
    pub state: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Unix milliseconds of the next try, while it waits.
    pub next_at_ms: Option<i64>,
    /// The last answer's HTTP status.
    pub last_status: Option<u16>,
    /// What was wrong with the last try.
    pub last_error: Option<String>,
    /// Unix milliseconds of its end.
    pub ended_at_ms: Option<i64>,
}

/// What became of an event's deliveries, for lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryFilter {
    /// One is still to arrive, or the event is not spread yet.
    Waiting,
    /// One has arrived.
    Delivered,
    /// One is tried no more.
    Dead,
    /// Nobody is told.
    None,
}

/// Which events are listed. What is not said does not matter.
#[derive(Clone, Debug, Default)]
pub struct EventFilter<'a> {
    /// Whose.
    pub customer_id: Option<&'a CustomerId>,
    /// Of which type.
    pub event_type: Option<&'a str>,
    /// With which deliveries.
    pub delivery: Option<DeliveryFilter>,
}

const COLUMNS: &str = "e.position, e.event_id, e.type, e.at_ms, e.data,
    (SELECT json_group_array(json_object('kind', kind, 'url', url, 'state', state, 'attempts', attempts, 'next_at_ms', next_at_ms,
            'last_status', last_status, 'last_error', last_error, 'ended_at_ms', ended_at_ms))
        FROM (SELECT * FROM deliveries WHERE position = e.position ORDER BY kind DESC, url))";

/// What `DeliveryFilter` asks for in SQL.
const fn delivery_condition(filter: Option<DeliveryFilter>) -> &'static str {
    match filter {
        None => "TRUE",
        Some(DeliveryFilter::Waiting) => {
            "(e.is_spread = 0 OR EXISTS (SELECT 1 FROM deliveries WHERE position = e.position AND state = 'waiting'))"
        }
        Some(DeliveryFilter::Delivered) => {
            "EXISTS (SELECT 1 FROM deliveries WHERE position = e.position AND state = 'delivered')"
        }
        Some(DeliveryFilter::Dead) => "EXISTS (SELECT 1 FROM deliveries WHERE position = e.position AND state = 'dead')",
        Some(DeliveryFilter::None) => "e.is_spread = 1 AND NOT EXISTS (SELECT 1 FROM deliveries WHERE position = e.position)",
    }
}

/// One event.
///
/// # Errors
/// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] where a row cannot be read.
pub fn event(database: &impl Database, event_id: &EventId) -> Result<Option<ListedEvent>, StoreError> {
    let statement = format!("SELECT {COLUMNS} FROM events AS e WHERE e.event_id = ?1");
    let rows = database.execute(&statement, &[event_id.as_str().into()])?;
    rows.first().map(|row| read_row(row)).transpose()
}

/// A page of events, newest first, below a position; from the newest where none is given. The next page starts below the position that is answered.
///
/// # Errors
/// As [`event`].
pub fn events(
    database: &impl Database,
    filter: &EventFilter<'_>,
    below: Option<i64>,
    limit: usize,
) -> Result<Page<ListedEvent, i64>, StoreError> {
    let below = below.unwrap_or(i64::MAX);
    let Window { tables, floor } = window(database, "events", "e", filter.customer_id, below)?;
    let statement = format!(
        "SELECT {COLUMNS} FROM {tables} WHERE e.position < ?1 AND e.position >= ?2 AND (?3 IS NULL OR e.type = ?3) \
         AND {condition} ORDER BY e.position DESC LIMIT ?4",
        condition = delivery_condition(filter.delivery),
    );
    let mut parameters = vec![below.into(), floor.unwrap_or(0).into(), filter.event_type.into(), one_more(limit)];
    parameters.extend(filter.customer_id.map(|customer_id| customer_id.as_str().into()));
    let rows = database.execute(&statement, &parameters)?;
    let items = rows.iter().take(limit).map(|row| read_row(row)).collect::<Result<Vec<_>, _>>()?;
    let next = if rows.len() > limit { items.last().map(|last| last.position) } else { floor };
    Ok(Page { items, next })
}

fn read_row(row: &[Value]) -> Result<ListedEvent, StoreError> {
    let unreadable = || StoreError::unreadable("event");
    let [position, event_id, event_type, at_ms, data, deliveries] = row else { return Err(unreadable()) };
    Ok(ListedEvent {
        position: integer(position, "event")?,
        event_id: EventId::new(text(event_id, "event")?).map_err(|_| unreadable())?,
        event_type: text(event_type, "event")?.to_owned(),
        at_ms: integer(at_ms, "event")?,
        data: text(data, "event")?.to_owned(),
        deliveries: serde_json::from_str(text(deliveries, "delivery")?).map_err(|_| StoreError::unreadable("delivery"))?,
    })
}
