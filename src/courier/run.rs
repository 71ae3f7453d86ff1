//! One run of the courier: spread what is new, send what is due, write down what came of it.

use std::pin::pin;

use futures::future::{Either, select};
use futures::stream::{FuturesUnordered, StreamExt};

use super::lease::Lease;
use super::sender::{Ended, Target, send, targets};
use super::{Outside, RunLimits, RunReport};
use crate::book::{Book, LedgerError};
use crate::config::Config;
use crate::step_aside::step_aside;
use crate::store::Database;
use crate::store::outbox::{self, DeliveryState, Due, Endpoint, Tried};

/// The most posts at once to one endpoint.
const POSTS_PER_ENDPOINT_MAX: usize = 8;

/// How many of an endpoint's oldest due deliveries are looked through for customers who are not being told something already.
const CANDIDATES_MAX: usize = 256;

/// How many are where those leave room, so that a customer with much to be told keeps no other waiting. Calls wait for it, some milliseconds, so it is done now and then.
const CANDIDATES_DEEP_MAX: usize = 4096;

/// How often an endpoint is looked through so deeply.
const DEEP_LOOK_INTERVAL_MS: i64 = 1_000;

/// The most events that one transaction spreads: calls wait for it.
const SPREAD_PIECE_MAX: usize = 64;

/// The most such transactions before there is a look at everything else.
const SPREAD_PIECES_MAX: usize = 8;

/// The longest pause between two looks for what is new.
const STEP_MS: i64 = 250;

/// How long further answers are waited for after one came, so that one transaction writes them all.
const GATHER_MS: i64 = 20;

/// Sends what is due, unless another courier is at it.
///
/// # Errors
/// [`LedgerError`]; what was sent and not recorded is sent again.
pub async fn run<D: Database>(
    book: &Book<D>,
    config: &Config,
    outside: &impl Outside,
    limits: RunLimits,
) -> Result<RunReport, LedgerError> {
    let targets = targets(config);
    let started_ms = outside.now_ms();
    let mut run = Run {
        book,
        outside,
        targets: &targets,
        limits,
        started_ms,
        begun: 0,
        deep_looks_ms: vec![None; targets.len()],
        report: RunReport::default(),
    };
    // Spreading needs no lease: an event that two spread becomes the same deliveries.
    run.spread().await?;
    run.look()?;
    let now_ms = outside.now_ms();
    let stays_for = |next_ms: i64| next_ms.saturating_sub(now_ms) <= limits.stay_ms;
    if !run.report.more && !run.report.next_due_ms.is_some_and(stays_for) {
        return Ok(run.report);
    }
    let Some(mut lease) = Lease::take(book.database(), now_ms)? else { return Ok(run.report) };
    let result = run.work(&mut lease).await;
    // One that is not given back ends by itself, soon. Who has just waited for the ledger in vain, and all of the instance with it, does not do so again.
    if !matches!(result, Err(LedgerError::Unavailable(_))) {
        let _ = lease.release();
    }
    result?;
    run.look()?;
    Ok(run.report)
}

/// Whether something is to be spread or sent now: a look that writes nothing.
///
/// # Errors
/// [`LedgerError`]; nobody knows then.
pub fn is_due<D: Database>(book: &Book<D>, config: &Config, now_ms: i64) -> Result<bool, LedgerError> {
    Ok(next_due_ms(book, config, now_ms)?.is_some_and(|at_ms| at_ms <= now_ms))
}

/// When something is to be spread or sent first, in unix milliseconds: a look that writes nothing.
///
/// # Errors
/// [`LedgerError`]; nobody knows then.
pub fn next_due_ms<D: Database>(book: &Book<D>, config: &Config, now_ms: i64) -> Result<Option<i64>, LedgerError> {
    if outbox::has_unspread(book.database())? {
        return Ok(Some(now_ms));
    }
    let first_due = outbox::first_due(book.database(), &endpoints(&targets(config)))?;
    Ok(first_due.into_iter().flatten().min())
}

fn endpoints<'a>(targets: &[Target<'a>]) -> Vec<Endpoint<'a>> {
    targets.iter().map(|target| target.endpoint).collect()
}

/// A run under way.
struct Run<'a, D, O> {
    book: &'a Book<D>,
    outside: &'a O,
    targets: &'a [Target<'a>],
    limits: RunLimits,
    started_ms: i64,
    begun: usize,
    /// When each endpoint was looked through deeply.
    deep_looks_ms: Vec<Option<i64>>,
    report: RunReport,
}

/// A try that has ended.
struct Sent<'a> {
    target: &'a Target<'a>,
    place: usize,
    due: Due,
    ended: Ended,
}

/// The customers to whom something is under way, for each endpoint: they are told one thing after the other.
type Busy = Vec<Vec<String>>;

impl<'a, D: Database, O: Outside> Run<'a, D, O> {
    /// Spreads and sends until nothing is left, the limits are reached, or the lease is lost: another courier may send the same then, and what is under
    /// way is dropped.
    async fn work(&mut self, lease: &mut Lease<'_, D>) -> Result<(), LedgerError> {
        let (book, outside) = (self.book, self.outside);
        let mut sending = FuturesUnordered::new();
        let mut busy: Busy = vec![Vec::new(); self.targets.len()];
        loop {
            self.spread().await?;
            let now_ms = outside.now_ms();
            // Nothing waits between this and the posts that begin here.
            if !lease.keep(now_ms)? {
                return Ok(());
            }
            let next_ms = outbox::first_due(book.database(), &endpoints(self.targets))?;
            for (place, target, due) in self.begin(&next_ms, &mut busy, now_ms)? {
                sending.push(async move {
                    let ended = send(book, outside, target, &due).await;
                    Sent { target, place, due, ended }
                });
            }
            if sending.is_empty() {
                let Some(pause_ms) = self.pause_ms(&next_ms, now_ms) else { return Ok(()) };
                outside.pause_ms(pause_ms).await;
                continue;
            }
            let sent = gather(outside, &mut sending).await;
            for one in &sent {
                if let Some(customers) = busy.get_mut(one.place) {
                    customers.retain(|customer_id| *customer_id != one.due.customer_id);
                }
            }
            self.record(&sent)?;
        }
    }

    /// Makes new events deliveries, a piece at a time: others' calls go on in between.
    async fn spread(&self) -> Result<(), LedgerError> {
        let told = |event_type: &str| {
            let told = self.targets.iter().filter(|target| target.is_told(event_type));
            told.map(|target| target.endpoint).collect()
        };
        for _ in 0..SPREAD_PIECES_MAX {
            if outbox::spread(self.book.database(), SPREAD_PIECE_MAX, self.outside.now_ms(), told)? < SPREAD_PIECE_MAX {
                break;
            }
            step_aside().await;
        }
        Ok(())
    }

    /// What may be posted now to endpoints where something is due.
    fn begin(
        &mut self,
        next_ms: &[Option<i64>],
        busy: &mut Busy,
        now_ms: i64,
    ) -> Result<Vec<(usize, &'a Target<'a>, Due)>, LedgerError> {
        let mut begun = Vec::new();
        for (place, ((target, customers), next_ms)) in self.targets.iter().zip(busy).zip(next_ms).enumerate() {
            if next_ms.is_none_or(|next_ms| next_ms > now_ms) {
                continue;
            }
            loop {
                let room = POSTS_PER_ENDPOINT_MAX.saturating_sub(customers.len()).min(self.posts_left(now_ms));
                if room == 0 {
                    break;
                }
                let found = self.find(place, customers, room, now_ms)?;
                let is_last = found.len() < room;
                for due in found {
                    if !customers.contains(&due.customer_id) {
                        customers.push(due.customer_id.clone());
                        self.begun = self.begun.saturating_add(1);
                        begun.push((place, target, due));
                    }
                }
                if is_last {
                    break;
                }
            }
        }
        Ok(begun)
    }

    /// So many due deliveries of an endpoint, of customers to whom nothing is under way; fewer where there seem to be no more.
    fn find(&mut self, place: usize, customers: &[String], room: usize, now_ms: i64) -> Result<Vec<Due>, LedgerError> {
        let Some(target) = self.targets.get(place) else { return Ok(Vec::new()) };
        let names: Vec<&str> = customers.iter().map(String::as_str).collect();
        let due = |candidates_max| outbox::due(self.book.database(), target.endpoint, &names, (room, candidates_max), now_ms);
        let found = due(CANDIDATES_MAX)?;
        let looked_ms = self.deep_looks_ms.get(place).copied().flatten();
        // A clock that went back must not keep it from being done.
        let was_just_done = looked_ms.is_some_and(|at_ms| (at_ms..at_ms.saturating_add(DEEP_LOOK_INTERVAL_MS)).contains(&now_ms));
        if found.len() >= room || names.is_empty() || was_just_done {
            return Ok(found);
        }
        let found = due(CANDIDATES_DEEP_MAX)?;
        if let Some(looked_ms) = self.deep_looks_ms.get_mut(place) {
            *looked_ms = Some(now_ms);
        }
        Ok(found)
    }

    /// How many posts may still begin.
    fn posts_left(&self, now_ms: i64) -> usize {
        let is_over = now_ms.saturating_sub(self.started_ms) >= self.limits.time_max_ms;
        if is_over { 0 } else { self.limits.items_max.saturating_sub(self.begun) }
    }

    /// How long to wait with nothing under way; `None` where the run is over.
    fn pause_ms(&self, next_ms: &[Option<i64>], now_ms: i64) -> Option<i64> {
        let wait_ms = next_ms.iter().flatten().min()?.saturating_sub(now_ms);
        let stays = wait_ms <= self.limits.stay_ms && self.posts_left(now_ms) > 0;
        stays.then(|| wait_ms.clamp(1, STEP_MS))
    }

    /// Writes down what came of tries.
    fn record(&mut self, sent: &[Sent<'_>]) -> Result<(), LedgerError> {
        let (database, now_ms) = (self.book.database(), self.outside.now_ms());
        for gone in sent.iter().filter(|one| one.ended.is_gone) {
            outbox::disable(database, gone.target.endpoint, "status 410", now_ms)?;
        }
        let tries: Vec<_> = sent.iter().map(|one| tried(one, now_ms)).collect();
        outbox::record(database, &tries)?;
        let posted = || sent.iter().filter(|one| one.ended.was_posted);
        let delivered = posted().filter(|one| one.ended.state == DeliveryState::Delivered).count();
        self.report.delivered += delivered as u64;
        self.report.failed += (posted().count() - delivered) as u64;
        Ok(())
    }

    /// Looks what is left.
    fn look(&mut self) -> Result<(), LedgerError> {
        let database = self.book.database();
        let first_due = outbox::first_due(database, &endpoints(self.targets))?;
        self.report.next_due_ms = first_due.into_iter().flatten().min();
        let is_due = self.report.next_due_ms.is_some_and(|next_ms| next_ms <= self.outside.now_ms());
        self.report.more = is_due || outbox::has_unspread(database)?;
        Ok(())
    }
}

fn tried<'a>(sent: &Sent<'a>, at_ms: i64) -> Tried<'a> {
    let Sent { target, due, ended, .. } = sent;
    Tried {
        position: due.position,
        endpoint: target.endpoint,
        attempts_before: due.attempts,
        attempts: due.attempts.saturating_add(u32::from(ended.was_posted)),
        state: ended.state,
        status: ended.status,
        error: ended.error.clone(),
        at_ms,
    }
}

/// Waits for what ends first, and a little for more; but not longer than until the next look.
async fn gather<T, F: Future<Output = T>>(outside: &impl Outside, sending: &mut FuturesUnordered<F>) -> Vec<T> {
    let mut ended = match select(sending.next(), pin!(outside.pause_ms(STEP_MS))).await {
        Either::Left((Some(first), _)) => vec![first],
        _ => return Vec::new(),
    };
    let mut pause = pin!(outside.pause_ms(GATHER_MS));
    while let Either::Left((Some(one), _)) = select(sending.next(), pause.as_mut()).await {
        ended.push(one);
    }
    ended
}
