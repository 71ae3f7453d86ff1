//! The counters of the deployment, and the holds that live now.

use super::numbers;
use crate::store::database::{Database, StoreError, Value};

/// The deployment's counters, by name as they are exposed, and how many holds live and are overdue now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Name with labels, and value.
    pub counters: Vec<(String, u64)>,
    /// Calls whose holds reserve.
    pub holds_live: u64,
    /// Of them, those whose leases have ended.
    pub holds_overdue: u64,
}

/// The most counters that are read. Products times outcomes are far fewer.
const COUNTERS_MAX: i64 = 20_000;

/// Reads the deployment's counters.
///
/// # Errors
/// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] where a row cannot be read.
pub fn counters(database: &impl Database, now_ms: i64) -> Result<Counters, StoreError> {
    // As text: what all customers were charged in sum may be more than every database's client reads exactly as a number.
    let rows =
        database.execute("SELECT name, CAST(value AS TEXT) FROM metrics ORDER BY name LIMIT ?1", &[COUNTERS_MAX.into()])?;
    let read = |row: &Vec<Value>| match row.as_slice() {
        [name, value] => Some((name.text()?.to_owned(), value.text()?.parse().ok()?)),
        _ => None,
    };
    let counters = rows.iter().map(|row| read(row).ok_or_else(|| StoreError::unreadable("counter"))).collect::<Result<_, _>>()?;
    let statement = "SELECT count(*), coalesce(sum(lease_ends_ms <= ?1), 0) FROM calls WHERE lease_ends_ms IS NOT NULL";
    let holds = numbers::<2>(&database.execute(statement, &[now_ms.into()])?)?;
    let [[live, overdue]] = holds.as_slice() else { return Err(StoreError::unreadable("holds")) };
    let count = |number: &i64| u64::try_from(*number).unwrap_or(0);
    Ok(Counters { counters, holds_live: count(live), holds_overdue: count(overdue) })
}
