//! Endpoints: whether they are enabled, and what waits for them.

use super::integer;
use crate::store::database::{Database, StoreError, Value};
use crate::store::outbox::{self, Endpoint};

/// How an endpoint is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointState {
    /// Unix milliseconds from which nothing is posted to it, until it is enabled again.
    pub disabled_at_ms: Option<i64>,
    /// Why nothing is.
    pub reason: Option<String>,
    /// How many deliveries wait for it.
    pub waiting: u64,
    /// Unix milliseconds of the oldest event that waits for it.
    pub oldest_waiting_ms: Option<i64>,
    /// How many deliveries to it are tried no more.
    pub dead: u64,
}

/// How endpoints are, in the order in which they are asked for.
///
/// # Errors
/// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] where a row cannot be read.
pub fn endpoint_states(database: &impl Database, endpoints: &[Endpoint<'_>]) -> Result<Vec<EndpointState>, StoreError> {
    endpoints.iter().map(|endpoint| endpoint_state(database, *endpoint)).collect()
}

fn endpoint_state(database: &impl Database, endpoint: Endpoint<'_>) -> Result<EndpointState, StoreError> {
    let statement = "SELECT p.disabled_at_ms, p.reason, w.waiting, (SELECT at_ms FROM events WHERE position = w.oldest),
            (SELECT count(*) FROM deliveries WHERE state = 'dead' AND kind = ?1 AND url = ?2)
        FROM (SELECT count(*) AS waiting, min(position) AS oldest FROM deliveries
            WHERE state = 'waiting' AND kind = ?1 AND url = ?2) AS w
        LEFT JOIN endpoints AS p ON p.kind = ?1 AND p.url = ?2";
    let rows = database.execute(statement, &[endpoint.kind.as_str().into(), endpoint.url.into()])?;
    let Some([disabled_at_ms, reason, waiting, oldest_waiting_ms, dead]) = rows.first().map(Vec::as_slice) else {
        return Err(StoreError::unreadable("endpoint"));
    };
    Ok(EndpointState {
        disabled_at_ms: disabled_at_ms.integer(),
        reason: reason.text().map(str::to_owned),
        waiting: count(waiting)?,
        oldest_waiting_ms: oldest_waiting_ms.integer(),
        dead: count(dead)?,
    })
}

/// Has an endpoint that is disabled take posts again, at once. One that is enabled stays as it is.
///
/// # Errors
/// [`StoreError`]; the endpoint is as it was.
pub fn enable(database: &impl Database, endpoint: Endpoint<'_>, now_ms: i64) -> Result<(), StoreError> {
    let key = [endpoint.kind.as_str().into(), endpoint.url.into(), now_ms.into()];
    database.transaction(|| {
        let statement = "UPDATE deliveries SET next_at_ms = ?3 WHERE state = 'waiting' AND kind = ?1 AND url = ?2 AND next_at_ms > ?3 \
                         AND EXISTS (SELECT 1 FROM endpoints WHERE kind = ?1 AND url = ?2 AND disabled_at_ms IS NOT NULL)";
        database.execute(statement, &key)?;
        outbox::enable(database, endpoint)
    })
}

/// What the deployment's outbox holds, over all endpoints that it ever knew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbox {
    /// Events that are not spread yet.
    pub unspread: u64,
    /// How many orders are in which state.
    pub orders: Vec<(String, u64)>,
}

/// Counts what the outbox holds.
///
/// # Errors
/// As [`endpoint_states`].
pub fn outbox(database: &impl Database) -> Result<Outbox, StoreError> {
    let rows = database.execute("SELECT count(*) FROM events WHERE is_spread = 0", &[])?;
    let unspread = rows.first().and_then(|row| row.first()).ok_or_else(|| StoreError::unreadable("events"))?;
    let orders = database.execute("SELECT state, count(*) FROM repurchases GROUP BY state ORDER BY state", &[])?;
    let orders = orders.iter().map(|row| match row.as_slice() {
        [Value::Text(state), number] => Ok((state.clone(), count(number)?)),
        _ => Err(StoreError::unreadable("orders")),
    });
    Ok(Outbox { unspread: count(unspread)?, orders: orders.collect::<Result<_, _>>()? })
}

fn count(value: &Value) -> Result<u64, StoreError> {
    u64::try_from(integer(value, "count")?).map_err(|_| StoreError::unreadable("count"))
}
