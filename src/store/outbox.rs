//! The outbox: events on their way to endpoints, and the lease under which one courier at a time carries them.
//!
//! An event is *spread* once: it becomes a delivery to each endpoint that is told of it. What a delivery's try led to is written only where nobody else
//! wrote meanwhile. Whom an event concerns, and when a try is due, is the courier's to say.

use super::database::{Database, StoreError, Value, json};
use crate::ids::EventId;

/// What an endpoint takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointKind {
    /// Events.
    Webhook,
    /// Orders of the next package.
    Order,
}

impl EndpointKind {
    /// The word for it, in tables and lists.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Order => "order",
        }
    }
}

/// Where deliveries go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint<'a> {
    /// What it takes.
    pub kind: EndpointKind,
    /// Its URL.
    pub url: &'a str,
}

/// A delivery whose time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The event's place in the outbox.
    pub position: i64,
    /// How often it was tried.
    pub attempts: u32,
    /// The event's name.
    pub event_id: EventId,
    /// Its type.
    pub event_type: String,
    /// Unix milliseconds of what happened.
    pub at_ms: i64,
    /// What happened, as JSON.
    pub data: String,
    /// To whom.
    pub customer_id: String,
}

/// What a try led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is tried again at this time, in unix milliseconds.
    Waiting(i64),
    /// It arrived.
    Delivered,
    /// It is tried no more.
    Dead,
}

/// A try, to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried<'a> {
    /// The event's place in the outbox.
    pub position: i64,
    /// Where it was posted.
    pub endpoint: Endpoint<'a>,
    /// How often it was tried before this.
    pub attempts_before: u32,
    /// How often it was tried with this.
    pub attempts: u32,
    /// What it led to.
    pub state: DeliveryState,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// What was wrong, for people.
    pub error: Option<String>,
    /// Unix milliseconds of its end.
    pub at_ms: i64,
}

/// Whether an event waits to be spread.
///
/// # Errors
/// [`StoreError::Unavailable`].
pub fn has_unspread(database: &impl Database) -> Result<bool, StoreError> {
    Ok(!database.execute("SELECT 1 FROM events WHERE is_spread = 0 LIMIT 1", &[])?.is_empty())
}

/// Makes the oldest events that are not spread yet, so many at most, deliveries to the endpoints that `told` names for their type. Answers how many.
///
/// # Errors
/// [`StoreError`]; nothing is spread then.
pub fn spread<'a>(
    database: &impl Database,
    events_max: usize,
    now_ms: i64,
    told: impl Fn(&str) -> Vec<Endpoint<'a>>,
) -> Result<usize, StoreError> {
    let events = database
        .execute("SELECT position, type FROM events WHERE is_spread = 0 ORDER BY position LIMIT ?1", &[integer(events_max)])?;
    if events.is_empty() {
        return Ok(0);
    }
    let (mut positions, mut deliveries) = (Vec::with_capacity(events.len()), Vec::new());
    for row in &events {
        let [Value::Integer(position), Value::Text(event_type)] = &row[..] else { return Err(StoreError::unreadable("event")) };
        positions.push(position);
        deliveries.extend(told(event_type).iter().map(|endpoint| (*position, endpoint.kind.as_str(), endpoint.url)));
    }
    let run = || {
        if !deliveries.is_empty() {
            let insert = "INSERT OR IGNORE INTO deliveries (position, kind, url, state, attempts, next_at_ms) \
                          SELECT value ->> 0, value ->> 1, value ->> 2, 'waiting', 0, ?2 FROM json_each(?1)";
            database.execute(insert, &[json(&deliveries).into(), now_ms.into()])?;
        }
        let update = "UPDATE events SET is_spread = 1 WHERE position IN (SELECT value FROM json_each(?1))";
        database.execute(update, &[json(&positions).into()]).map(drop)
    };
    if deliveries.is_empty() {
        run()?
    } else {
        database.transaction(run)?
    }
    Ok(events.len())
}

/// Takes a lease, or renews it; false where another holder has it. A lease that has ended is anyone's, and so is one that ends more than its length later
/// than it could: a clock that was wrong made it.
///
/// # Errors
/// [`StoreError`]; the lease is as it was.
pub fn take_lease(database: &impl Database, name: &str, holder: &str, now_ms: i64, until_ms: i64) -> Result<bool, StoreError> {
    let statement = "INSERT INTO leases (name, holder, until_ms) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE \
                     SET holder = excluded.holder, until_ms = excluded.until_ms \
                     WHERE leases.holder = excluded.holder OR leases.until_ms <= ?4 OR leases.until_ms > ?5 RETURNING holder";
    let latest_ms = until_ms.saturating_add(until_ms.saturating_sub(now_ms));
    let parameters = [name.into(), holder.into(), until_ms.into(), now_ms.into(), latest_ms.into()];
    let rows = database.execute(statement, &parameters)?;
    Ok(!rows.is_empty())
}

/// Gives a lease back.
///
/// # Errors
/// [`StoreError`]; the lease ends by itself then.
pub fn release_lease(database: &impl Database, name: &str, holder: &str) -> Result<(), StoreError> {
    database.execute("DELETE FROM leases WHERE name = ?1 AND holder = ?2", &[name.into(), holder.into()]).map(drop)
}

/// For each endpoint when its first waiting delivery is due, in unix milliseconds: none where nothing waits, or where it is disabled.
///
/// # Errors
/// [`StoreError::Unavailable`].
pub fn first_due(database: &impl Database, endpoints: &[Endpoint<'_>]) -> Result<Vec<Option<i64>>, StoreError> {
    let statement = "SELECT CASE WHEN EXISTS (SELECT 1 FROM endpoints AS e \
                         WHERE e.kind = asked.value ->> 0 AND e.url = asked.value ->> 1 AND e.disabled_at_ms IS NOT NULL) THEN NULL \
                     ELSE (SELECT d.next_at_ms FROM deliveries AS d WHERE d.state = 'waiting' AND d.kind = asked.value ->> 0 \
                         AND d.url = asked.value ->> 1 ORDER BY d.next_at_ms LIMIT 1) END \
                     FROM json_each(?1) AS asked ORDER BY asked.key";
    let asked: Vec<_> = endpoints.iter().map(|endpoint| (endpoint.kind.as_str(), endpoint.url)).collect();
    let rows = database.execute(statement, &[json(&asked).into()])?;
    Ok(rows.iter().map(|row| row.first().and_then(Value::integer)).collect())
}

/// An endpoint's due deliveries, oldest first, so many at most, without those to customers who are busy; of so many candidates, the oldest.
///
/// # Errors
/// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] where a row cannot be read.
pub fn due(
    database: &impl Database,
    endpoint: Endpoint<'_>,
    busy: &[&str],
    (limit, candidates_max): (usize, usize),
    now_ms: i64,
) -> Result<Vec<Due>, StoreError> {
    // The rows themselves are fetched for those that are chosen alone: of the others, who may be many, only whom they concern is read.
    let statement = "SELECT t.position, t.attempts, e.event_id, e.type, e.at_ms, e.data, a.customer_id FROM \
                     (SELECT d.position FROM (SELECT position, next_at_ms FROM deliveries WHERE state = 'waiting' AND kind = ?1 AND url = ?2 \
                         AND next_at_ms <= ?3 ORDER BY next_at_ms, position LIMIT ?4) AS d \
                         CROSS JOIN events AS e ON e.position = d.position WHERE e.account_id NOT IN \
                         (SELECT account_id FROM accounts WHERE customer_id IN (SELECT value FROM json_each(?5))) \
                         ORDER BY d.next_at_ms, d.position LIMIT ?6) AS d \
                     CROSS JOIN deliveries AS t ON t.position = d.position AND t.kind = ?1 AND t.url = ?2 \
                     CROSS JOIN events AS e ON e.position = d.position CROSS JOIN accounts AS a ON a.account_id = e.account_id \
                     ORDER BY t.next_at_ms, t.position";
    let parameters = [
        endpoint.kind.as_str().into(),
        endpoint.url.into(),
        now_ms.into(),
        integer(candidates_max),
        json(&busy).into(),
        integer(limit),
    ];
    database.execute(statement, &parameters)?.into_iter().map(read_due).collect()
}

fn read_due(row: Vec<Value>) -> Result<Due, StoreError> {
    let unreadable = || StoreError::unreadable("delivery");
    let row: [Value; 7] = row.try_into().map_err(|_| unreadable())?;
    let [
        Value::Integer(position),
        Value::Integer(attempts),
        Value::Text(event_id),
        Value::Text(event_type),
        Value::Integer(at_ms),
        Value::Text(data),
        Value::Text(customer_id),
    ] = row
    else {
        return Err(unreadable());
    };
    Ok(Due {
        position,
        attempts: u32::try_from(attempts).map_err(|_| unreadable())?,
        event_id: EventId::new(&event_id).map_err(|_| unreadable())?,
        event_type,
        at_ms,
        data,
        customer_id,
    })
}

/// Writes tries down, except those of deliveries that somebody else has moved on meanwhile.
///
/// # Errors
/// [`StoreError`]; nothing is written then.
pub fn record(database: &impl Database, tries: &[Tried<'_>]) -> Result<(), StoreError> {
    if tries.is_empty() {
        return Ok(());
    }
    let rows = tries.iter().map(|tried| {
        let (state, next_at_ms, ended_at_ms) = match tried.state {
            DeliveryState::Waiting(next_at_ms) => ("waiting", Some(next_at_ms), None),
            DeliveryState::Delivered => ("delivered", None, Some(tried.at_ms)),
            DeliveryState::Dead => ("dead", None, Some(tried.at_ms)),
        };
        let (kind, url) = (tried.endpoint.kind.as_str(), tried.endpoint.url);
        let (position, before, after) = (tried.position, tried.attempts_before, tried.attempts);
        (position, kind, url, before, state, after, next_at_ms, tried.status, &tried.error, ended_at_ms)
    });
    let rows: Vec<_> = rows.collect();
    let statement = "UPDATE deliveries SET state = t.value ->> 4, attempts = t.value ->> 5, next_at_ms = t.value ->> 6, \
                     last_status = t.value ->> 7, last_error = t.value ->> 8, ended_at_ms = t.value ->> 9 FROM json_each(?1) AS t \
                     WHERE deliveries.position = t.value ->> 0 AND deliveries.kind = t.value ->> 1 AND deliveries.url = t.value ->> 2 \
                     AND deliveries.attempts = t.value ->> 3 AND deliveries.state = 'waiting'";
    database.execute(statement, &[json(&rows).into()]).map(drop)
}

/// Has nothing posted to an endpoint until it is enabled again.
///
/// # Errors
/// [`StoreError`]; the endpoint is as it was.
pub fn disable(database: &impl Database, endpoint: Endpoint<'_>, reason: &str, now_ms: i64) -> Result<(), StoreError> {
    let statement = "INSERT INTO endpoints (kind, url, disabled_at_ms, reason) VALUES (?1, ?2, ?3, ?4) \
                     ON CONFLICT (kind, url) DO UPDATE SET disabled_at_ms = excluded.disabled_at_ms, reason = excluded.reason";
    let parameters = [endpoint.kind.as_str().into(), endpoint.url.into(), now_ms.into(), reason.into()];
    database.execute(statement, &parameters).map(drop)
}

/// Has what waits for an endpoint posted again.
///
/// # Errors
/// [`StoreError`]; the endpoint is as it was.
pub fn enable(database: &impl Database, endpoint: Endpoint<'_>) -> Result<(), StoreError> {
    let statement = "UPDATE endpoints SET disabled_at_ms = NULL, reason = NULL WHERE kind = ?1 AND url = ?2";
    database.execute(statement, &[endpoint.kind.as_str().into(), endpoint.url.into()]).map(drop)
}

/// Has an event delivered again: where it has not arrived, or, if it has arrived everywhere, everywhere; and to endpoints that were not there when it was
/// spread. False where there is no such event.
///
/// # Errors
/// [`StoreError`]; nothing is changed then.
pub fn redeliver(database: &impl Database, event_id: &EventId, now_ms: i64) -> Result<bool, StoreError> {
    database.transaction(|| {
        let statement = "UPDATE events SET is_spread = 0 WHERE event_id = ?1 RETURNING position";
        let rows = database.execute(statement, &[event_id.as_str().into()])?;
        let Some(position) = rows.first().and_then(|row| row.first()).and_then(Value::integer) else { return Ok(false) };
        let statement = "UPDATE deliveries SET attempts = CASE state WHEN 'waiting' THEN attempts ELSE 0 END, state = 'waiting', \
                         next_at_ms = ?2, ended_at_ms = NULL WHERE position = ?1 AND (state <> 'delivered' \
                         OR NOT EXISTS (SELECT 1 FROM deliveries AS other WHERE other.position = ?1 AND other.state <> 'delivered'))";
        database.execute(statement, &[position.into(), now_ms.into()])?;
        Ok(true)
    })
}

fn integer(count: usize) -> Value {
    i64::try_from(count).unwrap_or(i64::MAX).into()
}
