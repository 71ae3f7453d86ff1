//! Work that is due: lost holds, accounts that the clock alone changes, folding, and, in a tick, deliveries. It runs by itself after calls; `tick` is the
//! safety net that a clock calls.

use futures::future::join_all;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::query::Query;
use super::{Context, Response, body, json};
use crate::book::{Book, LedgerError};
use crate::config::{Config, LostHold};
use crate::courier::{self, Outside, RunLimits};
use crate::ledger::{Command, Outcome};
use crate::step_aside::step_aside;
use crate::store::queries::{OverdueHold, due_accounts, overdue_holds};
use crate::store::{Database, fold};

/// The most work of one tick: so many lost holds, so many accounts, and so many entries folded.
const TICK_ITEMS_MAX: usize = 5_000;

/// The most lost holds at once.
const LOST_HOLDS_MAX: usize = 500;

/// The most accounts that are looked at at once.
const LOOKS_MAX: usize = 500;

/// The most of them that one commit writes: calls wait for it.
const LOOKS_AT_ONCE: usize = 32;

/// How much a tick delivers. Whoever asked for it waits for the answer.
const TICK_DELIVERIES: RunLimits = RunLimits { items_max: 500, time_max_ms: 10_000, stay_ms: 0 };

/// The most entries that one transaction folds: calls wait for it.
const FOLDED_PIECE_MAX: usize = 500;

/// What a piece of folding costs whatever it finds, in entries.
const FOLDED_PIECE_COST: usize = 50;

/// What was due and was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpkeepReport {
    /// Holds whose leases had ended.
    pub lost_holds: u64,
    /// Messages that arrived, where this delivered.
    pub delivered: u64,
    /// Posts that did not arrive, where this delivered.
    pub failed: u64,
    /// Usage records pushed to a marketplace: there are none in this version.
    pub pushed: u64,
    /// Entries folded into days.
    pub folded: u64,
    /// Whether more is due now.
    pub more: bool,
}

impl UpkeepReport {
    /// Adds what was done elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.lost_holds += other.lost_holds;
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.pushed += other.pushed;
        self.folded += other.folded;
        self.more |= other.more;
    }
}

/// Does what is due but deliveries, about `items_max` lost holds, accounts and folded entries at most. Others' calls go on in between.
///
/// # Errors
/// [`LedgerError`]; what was done before it stays done. An account that the ledger cannot read keeps no other from its turn.
pub async fn upkeep<D: Database>(
    book: &Book<D>,
    config: &Config,
    now_ms: i64,
    items_max: usize,
) -> Result<UpkeepReport, LedgerError> {
    let mut report = UpkeepReport::default();
    let lost = end_lost_holds(book, config, now_ms, items_max.min(LOST_HOLDS_MAX), &mut report).await?;
    let unlooked = look(book, now_ms, items_max.min(LOOKS_MAX), &mut report).await?;
    let mut items_left = items_max;
    while items_left > 0 {
        let piece = fold(book.database(), now_ms, config.gateway.keep_calls_ms, items_left.min(FOLDED_PIECE_MAX))?;
        report.folded += u64::try_from(piece.folded).unwrap_or(0);
        items_left = if piece.more { items_left.saturating_sub(piece.scanned.max(FOLDED_PIECE_COST)) } else { 0 };
        report.more |= piece.more && items_left == 0;
        step_aside().await;
    }
    lost.or(unlooked).map_or(Ok(report), Err)
}

/// Ends the holds whose leases ended first. Answers the first error of those that only their own account is to blame for.
async fn end_lost_holds<D: Database>(
    book: &Book<D>,
    config: &Config,
    now_ms: i64,
    holds_max: usize,
    report: &mut UpkeepReport,
) -> Result<Option<LedgerError>, LedgerError> {
    let charge = config.gateway.lost_hold == LostHold::Charge;
    let holds = overdue_holds(book.tables()?, holds_max, now_ms)?;
    report.more = holds.len() == holds_max;
    let mut corrupt = None;
    for OverdueHold { key, request_id } in holds {
        match book.submit(&key, Command::LoseHold { request_id, charge }, now_ms).await {
            Ok(reply) if matches!(reply.result, Ok(Outcome::Settled { .. })) => {
                report.lost_holds += 1;
                book.count(|meters| {
                    meters.lost_holds(1);
                    meters.call(&key.product_id, "lost");
                });
            }
            // Its call ended it, renewed it, or was folded meanwhile.
            Ok(_) => {}
            Err(error @ LedgerError::Corrupt(_)) => {
                corrupt.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    if report.lost_holds > 0 {
        book.flush_counts()?;
    }
    Ok(corrupt)
}

/// Looks at the accounts that the clock alone changes. Answers the first error that only its own account is to blame for.
async fn look<D: Database>(
    book: &Book<D>,
    now_ms: i64,
    looks_max: usize,
    report: &mut UpkeepReport,
) -> Result<Option<LedgerError>, LedgerError> {
    let keys = due_accounts(book.database(), now_ms, looks_max)?;
    report.more |= keys.len() == looks_max;
    let mut corrupt = None;
    for keys in keys.chunks(LOOKS_AT_ONCE) {
        let looks = keys.iter().map(|key| book.submit(key, Command::Look, now_ms));
        for error in join_all(looks).await.into_iter().filter_map(Result::err) {
            match error {
                LedgerError::Corrupt(_) => _ = corrupt.get_or_insert(error),
                LedgerError::Unavailable(_) => return Err(error),
            }
        }
    }
    Ok(corrupt)
}

pub(super) async fn tick<D: Database>(
    context: &Context<'_, D>,
    outside: &impl Outside,
    query: Query<'_>,
    body: &[u8],
) -> Result<Response, Failure> {
    query.read(&[])?;
    body::read_nothing(body)?;
    // An account that cannot be read keeps nobody from being told either.
    let upkept = upkeep(context.book, context.config, context.now_ms, TICK_ITEMS_MAX).await;
    let run = courier::run(context.book, context.config, outside, TICK_DELIVERIES).await?;
    let report = upkept?;
    let more = report.more || run.more;
    let report = UpkeepReport { delivered: run.delivered, failed: run.failed, more, ..report };
    json::response(200, &report)
}

/// Whether the ledger can be written.
pub(super) fn ready<D: Database>(context: &Context<'_, D>) -> Result<Response, Failure> {
    context.book.check_writable(context.now_ms)?;
    Ok(Response::ok(json::CONTENT_TYPE, r#"{"status":"ready"}"#.to_owned()))
}
