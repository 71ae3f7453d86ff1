//! A customer's object beside its answers: what is due is done, what is new is told to the index, and orders are posted.
//!
//! What always holds: the index knows an order before its hook does, so that the hook's outcome finds it.

use tollgate::book::LedgerError;
use tollgate::control;
use tollgate::courier::{self, Outside, Post, Reply, RunLimits, Unreached};
use tollgate::relay::within;
use tollgate::store::{Database, StoreError, Value, outbox};

use super::Core;
use crate::clock::{Clock, now_ms};
use crate::log;
use crate::message::{IndexAnswer, IndexMessage, Unanswered, ask_again};
use crate::outside::WorkersOutside;
use crate::replica::originals;

/// After which time what cannot be looked for is looked for again.
const AGAIN_MS: i64 = 1_000;

/// The most lost holds, looks and folded entries at once, and how often at most in one round.
const UPKEEP_ITEMS_MAX: usize = 500;
const UPKEEPS_MAX: usize = 20;

/// The most tellings in a row, and how long the index has for each.
const TELLINGS_MAX: usize = 20;
const TELLING_MS_MAX: i64 = 5_000;

/// What one run of the courier does: orders of this customer.
const ORDERS: RunLimits = RunLimits { items_max: 50, time_max_ms: 10_000, stay_ms: 0 };

/// The courier's world where it posts orders.
pub(super) struct Hook<'a>(pub(super) &'a Core);

impl Outside for Hook<'_> {
    async fn post(&self, post: &Post) -> Result<Reply, Unreached> {
        if !self.0.tell().await {
            return Err(Unreached::Failed("the index cannot be told of the order".to_owned()));
        }
        WorkersOutside.post(post).await
    }

    fn now_ms(&self) -> i64 {
        WorkersOutside.now_ms()
    }

    fn pause_ms(&self, ms: i64) -> impl Future<Output = ()> {
        WorkersOutside.pause_ms(ms)
    }
}

impl Core {
    /// Does what is due and tells what is new, and sets the alarm for what is due next.
    pub(super) async fn round(&self) {
        let done = self.do_what_is_due().await;
        if let Err(error) = &done {
            log::line(&format!("what is due cannot be done: {error}"));
        }
        // What happened is spread once it is told: orders that the index does not know would be tried in vain.
        let mut is_told = self.tell().await;
        let mut posted = Ok(());
        if is_told {
            posted = self.post_orders().await;
            if let Err(error) = &posted {
                log::line(&format!("orders cannot be posted: {error}"));
            }
            is_told = self.tell().await;
        }
        let has_failed = done.is_err() || !is_told || posted.is_err();
        self.alarm.ring_again(self.book.database(), self.wake_at_ms(), has_failed);
    }

    async fn do_what_is_due(&self) -> Result<(), LedgerError> {
        for _ in 0..UPKEEPS_MAX {
            let report = control::upkeep(&self.book, &self.settings.account_config, now_ms(), UPKEEP_ITEMS_MAX).await?;
            if !report.more {
                break;
            }
        }
        Ok(())
    }

    async fn post_orders(&self) -> Result<(), LedgerError> {
        let config = &self.settings.account_config;
        if courier::is_due(&self.book, config, now_ms())? {
            courier::run(&self.book, config, &Hook(self), ORDERS).await?;
        }
        Ok(())
    }

    /// When something is to be done or told first: the past or the present where that is so now.
    pub(super) fn wake_at_ms(&self) -> Option<i64> {
        let now_ms = now_ms();
        let look = || {
            let database = self.book.tables()?;
            let due_at_ms = self.due_at_ms(database)?;
            let is_unspread = outbox::has_unspread(database)?;
            if is_unspread { Ok(Some(now_ms)) } else { originals::wake_at_ms(database, due_at_ms, now_ms) }
        };
        look().unwrap_or_else(|error: StoreError| {
            log::line(&format!("what is due cannot be looked for: {error}"));
            Some(now_ms.saturating_add(AGAIN_MS))
        })
    }

    /// When something is due first: a lease ends, the clock changes an account, an order is to be posted, entries are old.
    fn due_at_ms(&self, database: &impl Database) -> Result<Option<i64>, StoreError> {
        let rows = database.execute(
            "SELECT min(at_ms) FROM (
                SELECT min(lease_ends_ms) + 1 AS at_ms FROM calls WHERE lease_ends_ms IS NOT NULL
                UNION ALL SELECT min(due_at_ms) FROM accounts WHERE due_at_ms IS NOT NULL
                UNION ALL SELECT min(unfolded_since_ms) + ?1 + 1 FROM accounts
                UNION ALL SELECT min(d.next_at_ms) FROM deliveries AS d WHERE d.state = 'waiting' AND NOT EXISTS
                    (SELECT 1 FROM endpoints AS e WHERE e.kind = d.kind AND e.url = d.url AND e.disabled_at_ms IS NOT NULL))",
            &[self.settings.config.gateway.keep_calls_ms.into()],
        )?;
        Ok(rows.first().and_then(|row| row.first()).and_then(Value::integer))
    }

    /// Tells the index what is new; false where it does not know all of it then.
    pub(super) async fn tell(&self) -> bool {
        // Counters that no commit took along are not worth one of their own more often than this.
        if self.book.has_unwritten_counts()
            && let Err(error) = self.book.flush_counts()
        {
            log::line(&format!("counters cannot be written: {error}"));
        }
        for _ in 0..TELLINGS_MAX {
            match self.tell_once().await {
                Ok(true) => {}
                Ok(false) => return true,
                Err(reason) => {
                    log::line(&format!("the index cannot be told what is new: {reason}"));
                    return false;
                }
            }
        }
        false
    }

    /// One telling. Answers whether there is more to tell.
    async fn tell_once(&self) -> Result<bool, String> {
        let database = self.book.tables().map_err(|error| error.to_string())?;
        let due_at_ms = self.due_at_ms(database).map_err(|error| error.to_string())?;
        let number = now_ms().max(self.last_telling.get().saturating_add(1));
        let next = originals::next_telling(database, due_at_ms, (number, now_ms())).map_err(|error| error.to_string())?;
        let Some(telling) = next else { return Ok(false) };
        self.last_telling.set(telling.number);
        let message = IndexMessage::Learn(Box::new(telling));
        let known = self.send(&message).await.map_err(|error| error.0)?;
        let IndexMessage::Learn(telling) = message else { return Ok(false) };
        if known > telling.number {
            // Another telling was faster, and the next one has a higher number than it.
            self.last_telling.set(known.max(self.last_telling.get()));
            return Ok(true);
        }
        originals::remember(database, &telling).map_err(|error| error.to_string())?;
        Ok(telling.more)
    }

    /// Answers the number of the newest telling that the index knows.
    async fn send(&self, message: &IndexMessage) -> Result<i64, Unanswered> {
        let index = || self.settings.index(&self.env);
        let asked = within::<Clock, _>(ask_again::<IndexAnswer>(index, "/index", message), TELLING_MS_MAX).await;
        match asked.unwrap_or_else(|| Err(Unanswered("no answer in time".to_owned())))? {
            IndexAnswer::Learnt { number } => Ok(number),
            _ => Err(Unanswered("the index failed".to_owned())),
        }
    }
}
