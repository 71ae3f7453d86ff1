//! Folding: entries of calls that ended long ago are summed by day, and their calls forgotten.
//!
//! An account is folded from its oldest entry upwards, a bounded piece at a time, each piece one transaction. What always holds, after every piece:
//! the sums over entries and days are what they were, and a call that is there has all its entries. A call that is live or ended lately holds
//! its account's folding up until it is old itself, so that no entry is ever passed over. Entries that no call made stay for ever. The counters of
//! the deployment are not touched. A folded call's request id is as new. Old events are no part of an account's folding; they are pruned when no
//! account is due.

use super::database::{Database, StoreError, Value};
use super::{log, pruning};

/// What a piece did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// How many entries or events were looked at.
    pub scanned: usize,
    /// How many of them were entries that were folded.
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
const MOVES: [&str; 5] = [
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
    "DELETE FROM entries WHERE account_id = ?1 AND seq > ?2 AND seq <= ?3 AND request_id IS NOT NULL",
    "UPDATE accounts SET folded_seq = max(?2, ?3), version = version + 1 WHERE account_id = ?1",
];

/// Folds a piece of the account that waited longest, or where none is due forgets old events, of so many entries or events at most.
///
/// # Errors
/// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] where a row cannot be read; nothing was folded or forgotten then.
pub fn fold(database: &impl Database, now_ms: i64, keep_calls_ms: i64, entries_max: usize) -> Result<Folded, StoreError> {
    let cutoff_ms = now_ms.saturating_sub(keep_calls_ms);
    if next_due(database, cutoff_ms)?.is_none() {
        let pruned = pruning::prune(database, now_ms, cutoff_ms, entries_max)?;
        return Ok(Folded { scanned: pruned.scanned, folded: 0, more: pruned.more });
    }
    database.transaction(|| fold_next(database, now_ms, cutoff_ms, entries_max))
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
    log::apply(database)?;
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
        log::append_changed(database, account_id)?;
    }
    let statement = "UPDATE accounts SET unfolded_since_ms = ?2 WHERE account_id = ?1";
    database.execute(statement, &[account_id.into(), reach.unfolded_since_ms.into()])?;
    let more = next_due(database, cutoff_ms)?.is_some() || pruning::is_due(database, now_ms)?;
    Ok(Folded { scanned: reach.scanned, folded, more })
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{Folded, fold};
    use crate::book::Book;
    use crate::book::tests::block_on;
    use crate::ids::{AccountKey, CorrectionId, CustomerId, PackageId, ProductId, RequestId};
    use crate::ledger::{Claim, Command, Fingerprint, Grant, PackageKind, Settlement};
    use crate::quantity::Quantity;
    use crate::store::database::{Database, Value};
    use crate::store::reports::{audit, audited_accounts};
    use crate::store::testing::{Sqlite, memory};
    use crate::store::{create_account, load};

    const DAY_MS: i64 = 86_400_000;
    const KEEP_MS: i64 = 30 * DAY_MS;
    const CUSTOMERS: [&str; 3] = ["a", "b", "c"];

    struct Ledger {
        book: Book<Sqlite>,
        now_ms: i64,
        random: u64,
    }

    impl Ledger {
        fn new() -> Self {
            let mut ledger = Self { book: Book::new(memory(), HashMap::new()), now_ms: 1_000 * DAY_MS, random: 7 };
            for customer_id in CUSTOMERS {
                create_account(ledger.book.database(), &key(customer_id), ledger.now_ms).unwrap();
                for number in 0..3 {
                    ledger.grant(customer_id, number);
                }
            }
            ledger
        }

        fn grant(&mut self, customer_id: &str, number: u64) {
            let grant = Grant {
                package_id: PackageId::new(&format!("{customer_id}-{number}")).unwrap(),
                kind: PackageKind::Prepaid,
                quantity: Quantity::from_parts(150).unwrap(),
                starts_at_ms: None,
                expires_at_ms: None,
                priority: 0,
                order_id: None,
                repurchase: None,
            };
            self.submit(customer_id, Command::Grant(Box::new(grant)));
        }

        /// Refusals are part of the game.
        fn submit(&mut self, customer_id: &str, command: Command) {
            block_on(self.book.submit(&key(customer_id), command, self.now_ms)).unwrap();
        }

        fn below(&mut self, bound: u64) -> u64 {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.random >> 33) % bound
        }

        fn parts(&mut self, bound: u64) -> Quantity {
            Quantity::from_parts(i64::try_from(self.below(bound)).unwrap()).unwrap()
        }

        /// Something happens to one of a few request ids of a customer.
        fn happen(&mut self) {
            let customer_id = CUSTOMERS[usize::try_from(self.below(3)).unwrap()];
            let request_id = RequestId::new(&format!("r{}", self.below(12))).unwrap();
            let name = CorrectionId::new(&format!("x{}", self.below(1_000_000))).unwrap();
            let command = match self.below(8) {
                0..=2 => Command::Admit(Claim {
                    request_id,
                    fingerprint: Fingerprint::of("GET", "/", None),
                    hold: self.parts(8).max(Quantity::from_parts(1).unwrap()),
                    lease_ends_ms: self.now_ms + 1,
                    replay_limit: 1,
                    idempotency_key: None,
                }),
                3 | 4 => Command::Settle(Settlement {
                    request_id,
                    attempt: u32::try_from(1 + self.below(2)).unwrap(),
                    charge: self.parts(40),
                    status: Some(200),
                    usage_missing: false,
                }),
                5 => Command::LoseHold { request_id, charge: true },
                6 => Command::Refund { request_id, refund_id: name, quantity: None, reason: "slow".into() },
                _ => Command::Adjust {
                    package_id: PackageId::new(&format!("{customer_id}-{}", self.below(3))).unwrap(),
                    adjustment_id: name,
                    quantity: Quantity::from_parts(5).unwrap().up(),
                    reason: "more".into(),
                },
            };
            self.submit(customer_id, command);
            self.now_ms += i64::try_from(self.below(u64::try_from(DAY_MS).unwrap())).unwrap();
        }

        /// Every balance and every counter, after an audit that finds nothing.
        fn balances(&self) -> Vec<String> {
            let database = self.book.tables().unwrap();
            for account in audited_accounts(database, None, "", 10).unwrap().0 {
                assert_eq!(audit(database, &account).unwrap().differences, [], "{account:?}");
            }
            let request = |customer_id| crate::store::LoadRequest::new(key(customer_id));
            let mut accounts = load(database, &CUSTOMERS.map(request), 0).unwrap();
            accounts.sort_by(|one, other| one.key.cmp(&other.key));
            accounts.iter().map(|stored| format!("{:?}", (stored.account.packages(), stored.account.overrun()))).collect()
        }

        fn count(&self, query: &str) -> i64 {
            self.book.tables().unwrap().execute(query, &[]).unwrap()[0][0].integer().unwrap()
        }

        /// Folds all that is due, piece by piece.
        fn fold_all(&self, entries_max: usize) -> usize {
            let before = self.balances();
            let mut folded = 0;
            for _ in 0..100_000 {
                let piece = fold(self.book.database(), self.now_ms, KEEP_MS, entries_max).unwrap();
                assert!(piece.scanned <= entries_max);
                assert_eq!(self.balances(), before);
                folded += piece.folded;
                if !piece.more {
                    return folded;
                }
            }
            panic!("folding does not end");
        }
    }

    fn key(customer_id: &str) -> AccountKey {
        AccountKey { customer_id: CustomerId::new(customer_id).unwrap(), product_id: ProductId::new("translate").unwrap() }
    }

    #[test]
    fn the_audit_balances_after_every_piece_whatever_happened_before() {
        for entries_max in [1, 7, 500] {
            let mut ledger = Ledger::new();
            let mut folded = 0;
            for _ in 0..20 {
                for _ in 0..60 {
                    ledger.happen();
                }
                folded += ledger.fold_all(entries_max);
            }
            assert!(folded > 100, "{folded} entries folded");
        }
    }

    #[test]
    fn in_the_end_only_sums_and_what_no_call_made_are_left() {
        let mut ledger = Ledger::new();
        for _ in 0..200 {
            ledger.happen();
        }
        for customer_id in CUSTOMERS {
            for number in 0..12 {
                let request_id = RequestId::new(&format!("r{number}")).unwrap();
                ledger.submit(customer_id, Command::LoseHold { request_id, charge: true });
            }
        }
        ledger.now_ms += KEEP_MS + 1;
        assert!(ledger.fold_all(10) > 0);
        for query in [
            "SELECT count(*) FROM entries WHERE request_id IS NOT NULL",
            "SELECT count(*) FROM calls",
            "SELECT count(*) FROM corrections WHERE target_kind = 'call'",
        ] {
            assert_eq!(ledger.count(query), 0, "{query}");
        }
        assert!(ledger.count("SELECT count(*) FROM entries WHERE request_id IS NULL") >= 9);
        assert!(ledger.count("SELECT count(*) FROM corrections") > 0);
        assert_eq!(fold(ledger.book.database(), ledger.now_ms, KEEP_MS, 10).unwrap(), Folded::default());
    }

    #[test]
    fn a_live_call_keeps_its_entries_and_those_behind_it() {
        let mut ledger = Ledger::new();
        let admit = |request_id: &str| {
            Command::Admit(Claim {
                request_id: RequestId::new(request_id).unwrap(),
                fingerprint: Fingerprint::of("GET", "/", None),
                hold: Quantity::from_parts(1).unwrap(),
                lease_ends_ms: i64::MAX,
                replay_limit: 1,
                idempotency_key: None,
            })
        };
        let settle = |request_id: &str| {
            let request_id = RequestId::new(request_id).unwrap();
            let charge = Quantity::from_parts(1).unwrap();
            Command::Settle(Settlement { request_id, attempt: 1, charge, status: None, usage_missing: false })
        };
        for command in [admit("before"), settle("before"), admit("long"), admit("behind"), settle("behind")] {
            ledger.submit("a", command);
        }
        ledger.now_ms += 2 * KEEP_MS;
        assert_eq!(ledger.fold_all(500), 2);
        assert_eq!(ledger.count("SELECT count(*) FROM calls"), 2);
        ledger.submit("a", settle("long"));
        ledger.now_ms += KEEP_MS;
        assert_eq!(ledger.fold_all(500), 0);
        ledger.now_ms += 1;
        assert_eq!(ledger.fold_all(500), 4);
    }

    #[test]
    fn a_days_entries_are_summed_by_package_and_kind() {
        let mut ledger = Ledger::new();
        for number in 0..5 {
            let request_id = RequestId::new(&format!("r{number}")).unwrap();
            let (fingerprint, hold) = (Fingerprint::of("GET", "/", None), Quantity::from_parts(3).unwrap());
            ledger.submit(
                "b",
                Command::Admit(Claim {
                    request_id,
                    fingerprint,
                    hold,
                    lease_ends_ms: i64::MAX,
                    replay_limit: 1,
                    idempotency_key: None,
                }),
            );
        }
        for number in 0..5 {
            let request_id = RequestId::new(&format!("r{number}")).unwrap();
            let charge = Quantity::from_parts(2).unwrap();
            ledger
                .submit("b", Command::Settle(Settlement { request_id, attempt: 1, charge, status: None, usage_missing: false }));
        }
        ledger.now_ms += KEEP_MS + 1;
        assert_eq!(ledger.fold_all(4), 15);
        let rows =
            ledger.book.database().execute("SELECT day, package_number, kind, quantity, entries FROM daily ORDER BY kind", &[]);
        let row = |kind: i64, quantity: i64| [1_000, 1, kind, quantity, 5].map(Value::Integer).to_vec();
        assert_eq!(rows.unwrap(), [row(4, 15), row(5, 10), row(7, 5)]);
    }
}
