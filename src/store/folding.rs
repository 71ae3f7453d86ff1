//! Folding: entries of calls that ended long ago are summed by day, and their calls forgotten.
//!
//! An account is folded from its oldest entry upwards, a bounded piece at a time, each piece one transaction. What always holds, after every piece:
//! the sums over entries and days are what they were, and a call that is there has all its entries. A call that is live or ended lately holds
//! its account's folding up until it is old itself, so that no entry is ever passed over. Entries that no call made stay for ever. The counters of
//! the deployment are not touched. A folded call's request id is as new.

use super::database::{Database, StoreError, Value};

/// What a piece did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// How many entries were looked at.
    pub scanned: usize,
    /// How many of them were folded.
    pub folded: usize,
    /// Whether more is due.
    pub more: bool,
}

/// How far a piece goes.
#[derive(Debug, PartialEq, Eq)]
struct Reach {
    scanned: usize,
    /// The last entry of the piece.
    last_seq: i64,
    /// When the account is due again: `keep_calls` after this time.
    unfolded_since_ms: i64,
}

// The time of an entry, and the end of its call: of the call's current attempt, since what an earlier one moved is settled among its own entries.
// A call that still lives ends now at the earliest (?4).
const PIECE: &str = "
SELECT e.seq, e.at_ms, iif(c.state = 'held', ?4, c.detail ->> '$.settled_at_ms')
FROM entries AS e LEFT JOIN calls AS c ON c.account_id = e.account_id AND c.request_id = e.request_id AND c.hold_seq <= e.seq
WHERE e.account_id = ?1 AND e.seq > ?2 ORDER BY e.seq LIMIT ?3";

/// Each of them takes the account, the last entry folded before, and the last entry of this piece.
const MOVES: [&str; 6] = [
    "INSERT INTO daily (account_id, day, package_number, kind, quantity, entries)
    SELECT account_id, at_ms / 86400000, package_number, kind, sum(quantity), count(*) FROM entries
    WHERE account_id = ?1 AND seq > ?2 AND seq <= ?3 AND request_id IS NOT NULL GROUP BY 2, 3, 4
    ON CONFLICT DO UPDATE SET quantity = quantity + excluded.quantity, entries = entries + excluded.entries",
    "DELETE FROM calls WHERE account_id = ?1 AND request_id IN (
        SELECT e.request_id FROM entries AS e
        JOIN calls AS c ON c.account_id = e.account_id AND c.request_id = e.request_id AND c.hold_seq <= e.seq
        WHERE e.account_id = ?1 AND e.seq > ?2 AND e.seq <= ?3)",
    "DELETE FROM corrections WHERE account_id = ?1 AND target_kind = 'call' AND target IN (
        SELECT request_id FROM entries AS e WHERE e.account_id = ?1 AND e.seq > ?2 AND e.seq <= ?3
            AND NOT EXISTS (SELECT 1 FROM calls AS c WHERE c.account_id = ?1 AND c.request_id = e.request_id))",
    "DELETE FROM events WHERE account_id = ?1 AND seq > ?2 AND seq <= ?3 AND request_id IS NOT NULL",
    "DELETE FROM entries WHERE account_id = ?1 AND seq > ?2 AND seq <= ?3 AND request_id IS NOT NULL",
    "UPDATE accounts SET folded_seq = max(?2, ?3), version = version + 1 WHERE account_id = ?1",
];

/// Folds a piece of the account that waited longest, of so many entries at most.
///
/// # Errors
/// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] where a row cannot be read; nothing was folded then.
pub fn fold(database: &impl Database, now_ms: i64, keep_calls_ms: i64, entries_max: usize) -> Result<Folded, StoreError> {
    let cutoff_ms = now_ms.saturating_sub(keep_calls_ms);
    if next_due(database, cutoff_ms)?.is_none() {
        return Ok(Folded::default());
    }
    database.execute("BEGIN IMMEDIATE", &[])?;
    let folded =
        fold_next(database, now_ms, cutoff_ms, entries_max).and_then(|folded| database.execute("COMMIT", &[]).map(|_| folded));
    if folded.is_err() {
        // The first error is the one to report; a connection whose rollback fails too is replaced by its owner.
        let _ = database.execute("ROLLBACK", &[]);
    }
    folded
}

fn next_due(database: &impl Database, cutoff_ms: i64) -> Result<Option<(i64, i64)>, StoreError> {
    let statement = "SELECT account_id, folded_seq FROM accounts WHERE unfolded_since_ms < ?1 ORDER BY unfolded_since_ms LIMIT 1";
    let rows = database.execute(statement, &[cutoff_ms.into()])?;
    match rows.first().map(Vec::as_slice) {
        None => Ok(None),
        Some([Value::Integer(account_id), Value::Integer(folded_seq)]) => Ok(Some((*account_id, *folded_seq))),
        Some(_) => Err(StoreError::unreadable("account")),
    }
}

fn fold_next(database: &impl Database, now_ms: i64, cutoff_ms: i64, entries_max: usize) -> Result<Folded, StoreError> {
    // Asked again under the lock: another instance may have folded it meanwhile.
    let Some((account_id, folded_seq)) = next_due(database, cutoff_ms)? else { return Ok(Folded::default()) };
    let one_more = i64::try_from(entries_max).unwrap_or(i64::MAX - 1).saturating_add(1);
    let rows = database.execute(PIECE, &[account_id.into(), folded_seq.into(), one_more.into(), now_ms.into()])?;
    let start = Reach { scanned: 0, last_seq: folded_seq, unfolded_since_ms: now_ms };
    let reach = walk(&rows, start, cutoff_ms, entries_max)?;
    let mut folded = 0;
    if reach.scanned > 0 {
        let span = [account_id.into(), folded_seq.into(), reach.last_seq.into()];
        let count = "SELECT count(*) FROM entries WHERE account_id = ?1 AND seq > ?2 AND seq <= ?3 AND request_id IS NOT NULL";
        let rows = database.execute(count, &span)?;
        let number = rows.first().and_then(|row| row.first()).and_then(Value::integer);
        folded = number.and_then(|number| usize::try_from(number).ok()).ok_or_else(|| StoreError::unreadable("count"))?;
        for statement in MOVES {
            database.execute(statement, &span)?;
        }
    }
    let statement = "UPDATE accounts SET unfolded_since_ms = ?2 WHERE account_id = ?1";
    database.execute(statement, &[account_id.into(), reach.unfolded_since_ms.into()])?;
    Ok(Folded { scanned: reach.scanned, folded, more: next_due(database, cutoff_ms)?.is_some() })
}

/// Walks the entries up to the first that must stay: one that is young itself, or whose call is live or ended lately.
fn walk(rows: &[Vec<Value>], start: Reach, cutoff_ms: i64, entries_max: usize) -> Result<Reach, StoreError> {
    let mut reach = start;
    for row in rows {
        let [Value::Integer(seq), Value::Integer(at_ms), ended_at_ms] = row.as_slice() else {
            return Err(StoreError::unreadable("entry"));
        };
        let age_from_ms = ended_at_ms.integer().map_or(*at_ms, |ended_at_ms| ended_at_ms.max(*at_ms));
        if age_from_ms >= cutoff_ms || reach.scanned == entries_max {
            reach.unfolded_since_ms = age_from_ms;
            break;
        }
        reach.scanned += 1;
        reach.last_seq = *seq;
    }
    Ok(reach)
}
