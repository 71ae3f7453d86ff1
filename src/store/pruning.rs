//! Pruning: old events are forgotten, with their deliveries, once every delivery has ended.
//!
//! The events are walked from the oldest upwards, a bounded piece at a time, each piece one transaction; the place where the next piece goes on is stored. What
//! always holds: an event that is not spread yet, or that an endpoint is still to get, stays, however old; the newest event stays, so that positions only
//! go up. What was due to an endpoint for as long as events are kept goes undelivered: the endpoint is disabled, or no longer configured.

use super::database::{Database, StoreError, Value};

/// How long the walk rests after it has reached the young events.
const REST_MS: i64 = 60 * 60 * 1000;

/// What a piece did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pruned {
    /// How many events were looked at.
    pub(super) scanned: usize,
    /// Whether more is due.
    pub(super) more: bool,
}

// When an event was, and whether nothing of it is still to be done.
const PIECE: &str = "
SELECT position, at_ms, is_spread = 1 AND position < (SELECT max(position) FROM events)
    AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.position = e.position AND d.state = 'waiting' AND d.next_at_ms >= ?3)
FROM events AS e WHERE position > ?1 ORDER BY position LIMIT ?2";

/// Prunes a piece, of so many events at most.
///
/// # Errors
/// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] where a row cannot be read; nothing was pruned then.
pub(super) fn prune(database: &impl Database, now_ms: i64, cutoff_ms: i64, events_max: usize) -> Result<Pruned, StoreError> {
    if !is_due(database, now_ms)? {
        return Ok(Pruned::default());
    }
    database.transaction(|| prune_next(database, now_ms, cutoff_ms, events_max))
}

/// Whether there is a piece to look at.
///
/// # Errors
/// As [`prune`].
pub(super) fn is_due(database: &impl Database, now_ms: i64) -> Result<bool, StoreError> {
    next_due(database, now_ms).map(|after| after.is_some())
}

/// The position after which the walk goes on, unless it rests. A rest that ends later than any could was made by a clock that was wrong.
fn next_due(database: &impl Database, now_ms: i64) -> Result<Option<i64>, StoreError> {
    let statement = "SELECT position FROM pruning WHERE rests_until_ms <= ?1 OR rests_until_ms > ?2";
    let rows = database.execute(statement, &[now_ms.into(), now_ms.saturating_add(REST_MS).into()])?;
    let Some(row) = rows.first() else { return Ok(None) };
    row.first().and_then(Value::integer).map(Some).ok_or_else(|| StoreError::unreadable("place of pruning"))
}

fn prune_next(database: &impl Database, now_ms: i64, cutoff_ms: i64, events_max: usize) -> Result<Pruned, StoreError> {
    // Asked again under the lock: another instance may have pruned meanwhile.
    let Some(after) = next_due(database, now_ms)? else { return Ok(Pruned::default()) };
    let limit = i64::try_from(events_max).unwrap_or(i64::MAX);
    let rows = database.execute(PIECE, &[after.into(), limit.into(), cutoff_ms.into()])?;
    let mut walked_to = after;
    let mut scanned = 0;
    let mut over = Vec::new();
    for row in &rows {
        let [Value::Integer(position), Value::Integer(at_ms), Value::Integer(is_over)] = row.as_slice() else {
            return Err(StoreError::unreadable("event"));
        };
        // One that a wrong clock put into the future is no sign that the rest is young.
        if (cutoff_ms..=now_ms).contains(at_ms) {
            break;
        }
        scanned += 1;
        walked_to = *position;
        if *is_over == 1 && *at_ms < cutoff_ms {
            over.push(*position);
        }
    }
    delete(database, &over)?;
    let more = scanned > 0 && scanned == events_max;
    let next = if more { [walked_to, 0] } else { [0, now_ms.saturating_add(REST_MS)] };
    database.execute("UPDATE pruning SET position = ?1, rests_until_ms = ?2", &next.map(Value::from))?;
    Ok(Pruned { scanned, more })
}

fn delete(database: &impl Database, positions: &[i64]) -> Result<(), StoreError> {
    if positions.is_empty() {
        return Ok(());
    }
    let positions = [Value::Text(format!("{positions:?}"))];
    for table in ["deliveries", "events"] {
        let statement = format!("DELETE FROM {table} WHERE position IN (SELECT value FROM json_each(?1))");
        database.execute(&statement, &positions)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Pruned, REST_MS, prune};
    use crate::store::database::{Database, Value};
    use crate::store::testing::{Sqlite, memory};

    const CUTOFF_MS: i64 = 1_000;

    /// So many events, of the times 1, 2, and so on, each spread and delivered to two endpoints.
    fn ledger(events: i64) -> Sqlite {
        let database = memory();
        let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)";
        for statement in [
            "INSERT INTO events SELECT i, 'evt_' || i, 1, 'call.lost', i, '{}', 1 FROM n",
            "INSERT INTO deliveries SELECT i, 'webhook', url.value, 'delivered', 1, NULL, 200, NULL, i
                FROM n, json_each('[\"http://a\", \"http://b\"]') AS url",
        ] {
            let statement = statement.replacen(" SELECT", &format!(" {numbers} SELECT"), 1);
            database.execute(&statement, &[events.into()]).unwrap();
        }
        database
    }

    fn positions(database: &Sqlite, table: &str) -> Vec<i64> {
        let rows = database.execute(&format!("SELECT DISTINCT position FROM {table} ORDER BY 1"), &[]).unwrap();
        rows.iter().map(|row| row[0].integer().unwrap()).collect()
    }

    /// Has events wait for the first endpoint until a time.
    fn wait(database: &Sqlite, positions: &[i64], next_at_ms: i64) {
        let statement = "UPDATE deliveries SET state = 'waiting', next_at_ms = ?2 \
                         WHERE position IN (SELECT value FROM json_each(?1)) AND url = 'http://a'";
        database.execute(statement, &[format!("{positions:?}").into(), next_at_ms.into()]).unwrap();
    }

    /// Prunes until nothing is due, and answers how many pieces that took.
    fn prune_all(database: &Sqlite, now_ms: i64, events_max: usize) -> usize {
        for pieces in 1..1_000 {
            let piece = prune(database, now_ms, CUTOFF_MS, events_max).unwrap();
            assert!(piece.scanned <= events_max);
            if !piece.more {
                return pieces;
            }
        }
        panic!("pruning does not end");
    }

    #[test]
    fn old_events_go_with_their_deliveries_piece_by_piece_and_young_ones_stay() {
        let database = ledger(1_010);
        assert_eq!(prune_all(&database, 5_000, 100), 10);
        assert_eq!(positions(&database, "events"), (1_000..=1_010).collect::<Vec<_>>());
        assert_eq!(positions(&database, "deliveries"), (1_000..=1_010).collect::<Vec<_>>());
    }

    #[test]
    fn what_waits_or_is_not_spread_stays_and_keeps_nothing_behind_it_from_going() {
        let database = ledger(20);
        wait(&database, &[1, 2, 7], CUTOFF_MS);
        database.execute("UPDATE events SET is_spread = 0 WHERE position IN (3, 8)", &[]).unwrap();
        prune_all(&database, 5_000, 2);
        assert_eq!(positions(&database, "events"), [1, 2, 3, 7, 8, 20]);
        assert_eq!(
            database.execute("SELECT count(*) FROM deliveries WHERE state = 'waiting'", &[]).unwrap()[0][0],
            Value::Integer(3)
        );

        // Once they have arrived, the next walk takes them.
        database.execute("UPDATE deliveries SET state = 'dead'", &[]).unwrap();
        assert_eq!(prune(&database, 5_000 + REST_MS - 1, CUTOFF_MS, 2).unwrap(), Pruned::default());
        prune_all(&database, 5_000 + REST_MS, 2);
        assert_eq!(positions(&database, "events"), [3, 8, 20]);
    }

    #[test]
    fn what_no_endpoint_takes_any_more_goes_when_it_was_due_for_so_long_and_not_before() {
        let database = ledger(20);
        wait(&database, &[1, 2], CUTOFF_MS - 1);
        wait(&database, &[3], CUTOFF_MS);
        prune_all(&database, 5_000, 2);
        assert_eq!((positions(&database, "events"), positions(&database, "deliveries")), (vec![3, 20], vec![3, 20]));
    }

    #[test]
    fn the_newest_event_stays_so_that_no_position_is_given_twice() {
        let database = ledger(5);
        prune_all(&database, 5_000, 100);
        assert_eq!(positions(&database, "events"), [5]);
    }

    #[test]
    fn an_event_from_the_future_keeps_nothing_behind_it_from_going() {
        let database = ledger(5);
        database.execute("UPDATE events SET at_ms = 1000000000000000 WHERE position = 2", &[]).unwrap();
        prune_all(&database, 5_000, 100);
        assert_eq!(positions(&database, "events"), [2, 5]);
    }

    #[test]
    fn a_rest_that_a_wrong_clock_made_is_over_at_once() {
        let database = ledger(5);
        database.execute("UPDATE pruning SET rests_until_ms = 1000000000000000", &[]).unwrap();
        assert_eq!(prune(&database, 5_000, CUTOFF_MS, 100).unwrap().scanned, 5);
    }
}
