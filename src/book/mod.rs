//! The book: where commands on accounts wait for each other and are made durable together.
//!
//! It owns the queue, the cache of accounts and the counters that ride along with commits. Whoever submits a command puts it into the queue and
//! steps aside a few times; the first to come back decides and writes for all that queued meanwhile, and what was deferred, in one commit (natural batching). An instance's accounts are a cache
//! that follows the log of all commits. A commit goes behind the last one that was followed, and where another instance was faster it is decided anew under the
//! database's write lock. While others commit, a batch takes the lock and follows before it decides.
//!
//! What always holds: a reply to a command is given only after what it decided is durable; a refusal is given only on an account that is as the
//! database has it. No await lies between a decision and its commit.
//!
//! The border: accounts and commands in, outcomes out. What a call is, and when, is not known here.

mod batch;
mod contention;
mod follower;
pub mod metrics;
#[cfg(test)]
pub(crate) mod tests;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::ids::{AccountKey, ProductId};
use crate::ledger::{Balance, Command, Outcome, Refusal, Terms};
use crate::step_aside::step_aside;
use crate::store::{self, Database, StoreError, Stored};
use contention::Contention;
use follower::Follower;
use metrics::Meters;

/// The most commands that wait in one instance. An instance has at most as many calls at once as its host allows, each with one command.
const QUEUE_LENGTH_MAX: usize = 4096;

/// How often whoever submits a command steps aside. Each time others that became ready meanwhile queue too, and a larger batch costs each of its commands less.
const STEPS_ASIDE: usize = 4;

/// So many deferred commands are written before a batch that they cannot ride along with.
const DEFERRED_MANY: usize = 32;

/// The most deferred commands that are written at once.
const FLUSHED_MAX: usize = 256;

/// The most accounts an instance remembers.
const CACHED_ACCOUNTS_MAX: usize = if cfg!(test) { 3 } else { 1024 };

/// For how long a ledger that was written can be written, as far as those know who ask for nothing else.
const CHECK_VALID_MS: i64 = 1000;

/// An answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What the account decided.
    pub result: Result<Outcome, Refusal>,
    /// What the account has after it.
    pub balance: Balance,
}

/// Why there is no answer. Nothing was decided, or nothing of it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerError {
    /// The database cannot be used now, or too much waits for it. Retry later. The text is for the log.
    Unavailable(String),
    /// The database holds what it cannot hold. The operator causes it; no retry helps. The text is for the log.
    Corrupt(String),
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(reason) => write!(f, "ledger unavailable: {reason}"),
            Self::Corrupt(reason) => write!(f, "ledger corrupt: {reason}"),
        }
    }
}

impl std::error::Error for LedgerError {}

impl From<StoreError> for LedgerError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt(reason) => Self::Corrupt(reason),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// A command that waits, and the place where its answer goes.
struct Waiting {
    key: AccountKey,
    command: Command,
    now_ms: i64,
    answer: Rc<RefCell<Option<Result<Reply, LedgerError>>>>,
}

/// One instance's way to the ledger.
pub struct Book<D> {
    database: D,
    terms: HashMap<ProductId, Arc<Terms>>,
    queue: RefCell<VecDeque<Waiting>>,
    deferred: RefCell<VecDeque<Waiting>>,
    accounts: RefCell<HashMap<AccountKey, Stored>>,
    meters: RefCell<Meters>,
    contention: Contention,
    follower: Follower,
    /// The commit in hand has the counters.
    are_counts_written: Cell<bool>,
    /// A commit since the last [`Book::take_events_written`] wrote events.
    are_events_written: Cell<bool>,
    /// How deferred commands fared with a batch since the last [`Book::take_riders`].
    riders: RefCell<Option<Result<(), LedgerError>>>,
    /// The ledger was unavailable, and the deferred commands were not flushed since.
    is_failing: Cell<bool>,
    /// While it was failing, something was written again.
    is_writing_again: Cell<bool>,
    /// When it was written last to find out whether it can be, in unix milliseconds.
    checked_ms: Cell<Option<i64>>,
}

impl<D: Database> Book<D> {
    /// A book over a connection that [`crate::store::prepare`] has made ready, with what the configuration says of each product.
    pub fn new(database: D, terms: HashMap<ProductId, Arc<Terms>>) -> Self {
        Self {
            database,
            terms,
            queue: RefCell::default(),
            deferred: RefCell::default(),
            accounts: RefCell::default(),
            meters: RefCell::default(),
            contention: Contention::default(),
            follower: Follower::default(),
            are_counts_written: Cell::new(false),
            are_events_written: Cell::new(false),
            riders: RefCell::default(),
            is_failing: Cell::new(false),
            is_writing_again: Cell::new(false),
            checked_ms: Cell::new(None),
        }
    }

    /// The connection. What it finds of accounts, packages, calls, entries and counters may be older than the log.
    pub fn database(&self) -> &D {
        &self.database
    }

    /// The connection, for reading: all commits so far are in the tables.
    ///
    /// # Errors
    /// As [`store::log::apply`] and [`store::log::ends`].
    pub fn tables(&self) -> Result<&D, StoreError> {
        // Whoever reads need not wait for those who write.
        let (last, applied) = store::log::ends(&self.database)?;
        if applied < last {
            store::log::apply(&self.database)?;
        }
        Ok(&self.database)
    }

    /// Whether this instance wrote events since the last time this was asked: there is something to deliver then.
    pub fn take_events_written(&self) -> bool {
        self.are_events_written.take()
    }

    /// How deferred commands fared that rode along with a batch since the last time this was asked, where any did. Of an error nobody else is told.
    pub fn take_riders(&self) -> Option<Result<(), LedgerError>> {
        self.riders.borrow_mut().take()
    }

    /// Counts something; it is written with a later commit.
    pub fn count(&self, update: impl FnOnce(&mut Meters)) {
        update(&mut self.meters.borrow_mut());
    }

    /// Decides a command on an account as of now (unix milliseconds). What it decided is durable when this returns.
    ///
    /// # Errors
    /// [`LedgerError`]; nothing was decided then.
    pub async fn submit(&self, key: &AccountKey, command: Command, now_ms: i64) -> Result<Reply, LedgerError> {
        let answer = Rc::default();
        {
            let mut queue = self.queue.borrow_mut();
            if queue.len() >= QUEUE_LENGTH_MAX {
                return Err(LedgerError::Unavailable("too many commands wait".to_owned()));
            }
            queue.push_back(Waiting { key: key.clone(), command, now_ms, answer: Rc::clone(&answer) });
        }
        for _ in 0..STEPS_ASIDE {
            step_aside().await;
            if let Some(reply) = answer.borrow_mut().take() {
                return reply;
            }
        }
        loop {
            // Nobody else came first: decide and write for all who wait.
            self.run_batch();
            if let Some(reply) = answer.borrow_mut().take() {
                return reply;
            }
        }
    }

    /// Whether a [`Command::Probe`] or [`Command::Admit`] would be refused by the account as it is remembered: a hint, to be confirmed by submitting it.
    pub fn looks_refused(&self, key: &AccountKey, command: &Command, now_ms: i64) -> bool {
        let accounts = self.accounts.borrow();
        accounts.get(key).is_some_and(|stored| stored.account.would_refuse(command, now_ms))
    }

    /// Takes a command whose outcome nobody waits for, not to be decided as of before now (unix milliseconds). It is written with the next batch that it can ride along
    /// with, by [`Book::flush_deferred`] where none comes, or lost with the process.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] where too many wait already: the ledger has not been writable for long.
    pub fn defer(&self, key: &AccountKey, command: Command, now_ms: i64) -> Result<(), LedgerError> {
        let mut deferred = self.deferred.borrow_mut();
        if deferred.len() >= QUEUE_LENGTH_MAX {
            return Err(LedgerError::Unavailable("too many commands wait".to_owned()));
        }
        deferred.push_back(Waiting { key: key.clone(), command, now_ms, answer: Rc::default() });
        Ok(())
    }

    /// How many deferred commands wait.
    pub fn deferred_count(&self) -> usize {
        self.deferred.borrow().len()
    }

    /// True where counters wait for a commit to ride along with.
    pub fn has_unwritten_counts(&self) -> bool {
        !self.meters.borrow().is_empty()
    }

    /// Decides and writes the deferred commands, with the counters that wait.
    ///
    /// # Errors
    /// [`LedgerError`]; the commands wait for the next time.
    pub fn flush_deferred(&self, now_ms: i64) -> Result<(), LedgerError> {
        let waiting = self.take_deferred(now_ms);
        self.meters.borrow_mut().make_due();
        self.is_failing.set(false);
        let result = self.decide_and_write(&waiting);
        self.put_back_deferred(waiting);
        result
    }

    /// As of now: what follows from a settle, an order for one, begins when it is decided, however long it had to wait.
    fn take_deferred(&self, now_ms: i64) -> Vec<Waiting> {
        let mut deferred = self.deferred.borrow_mut();
        let count = deferred.len().min(FLUSHED_MAX);
        deferred.drain(..count).map(|one| Waiting { now_ms: one.now_ms.max(now_ms), ..one }).collect()
    }

    /// Deferred commands that could not be written wait for the next time.
    fn put_back_deferred(&self, taken: Vec<Waiting>) {
        // What is corrupt stays corrupt; its hold ends with its lease, as far as it can.
        let is_to_try_again = |one: &Waiting| matches!(one.answer.take(), Some(Err(LedgerError::Unavailable(_))));
        self.deferred.borrow_mut().extend(taken.into_iter().filter(is_to_try_again));
    }

    /// Writes the counters that wait, alone: for an instance that refuses everything and so commits nothing.
    ///
    /// # Errors
    /// [`LedgerError`]; the counters wait for the next time.
    pub fn flush_counts(&self) -> Result<(), LedgerError> {
        if self.deferred_count() == 0 {
            self.is_failing.set(false);
        }
        self.decide_and_write(&[])
    }

    /// Finds out whether the ledger can be written, as of now (unix milliseconds), by writing. Asked often, it writes now and then: anybody may ask.
    ///
    /// # Errors
    /// [`LedgerError`], where it cannot.
    pub fn check_writable(&self, now_ms: i64) -> Result<(), LedgerError> {
        let is_known = self.checked_ms.get().is_some_and(|checked_ms| (0..CHECK_VALID_MS).contains(&(now_ms - checked_ms)));
        if is_known && !self.is_failing.get() {
            return Ok(());
        }
        self.count(Meters::writability_check);
        self.flush_counts()?;
        self.checked_ms.set(Some(now_ms));
        Ok(())
    }

    /// Decides and writes for all who wait. Deferred commands ride along, before the others: a repeat of a call whose settle waits finds it ended.
    fn run_batch(&self) {
        let mut waiting = self.riders_along();
        let rider_count = waiting.len();
        waiting.extend(self.queue.borrow_mut().drain(..));
        // Every command of the batch has its answer or its error in its own place.
        let _ = self.decide_and_write(&waiting);
        waiting.truncate(rider_count);
        if let Some(last) = waiting.last() {
            let is_corrupt = |one: &&Waiting| matches!(*one.answer.borrow(), Some(Err(LedgerError::Corrupt(_))));
            let told = waiting.iter().find(is_corrupt).unwrap_or(last).answer.borrow().clone();
            self.tell_of_riders(told.map(|answer| answer.map(drop)));
        }
        self.put_back_deferred(waiting);
    }

    fn tell_of_riders(&self, fate: Option<Result<(), LedgerError>>) {
        let mut riders = self.riders.borrow_mut();
        // What is unavailable is tried again. An error that nobody has read yet is kept.
        if !matches!(fate, None | Some(Err(LedgerError::Unavailable(_)))) && !matches!(*riders, Some(Err(_))) {
            *riders = fate;
        }
    }

    /// The deferred commands that ride along with the batch in the queue. None where it is seen to refuse anyone, who would have to wait for the write lock and for what
    /// the riders need. And none while the ledger fails, which may still refuse, or write what others want.
    fn riders_along(&self) -> Vec<Waiting> {
        if self.deferred_count() == 0 {
            return Vec::new();
        }
        let (is_failing, now_ms) = (self.is_failing.get(), self.latest_ms());
        if !is_failing && !self.is_anyone_refused() {
            return self.take_deferred(now_ms);
        }
        let is_to_be_tried = !is_failing || self.is_writing_again.take();
        if is_to_be_tried && (self.deferred_count() >= DEFERRED_MANY || self.is_deferred_call_named()) {
            // What could not be written waits on; the batch finds out for itself.
            self.tell_of_riders(self.flush_deferred(now_ms).err().map(Err));
        }
        Vec::new()
    }

    fn latest_ms(&self) -> i64 {
        self.queue.borrow().iter().map(|one| one.now_ms).max().unwrap_or_default()
    }

    fn is_anyone_refused(&self) -> bool {
        self.queue.borrow().iter().any(|one| self.looks_refused(&one.key, &one.command, one.now_ms))
    }

    /// True where a command names a call whose settle waits.
    fn is_deferred_call_named(&self) -> bool {
        let deferred = self.deferred.borrow();
        let names = |one: &Waiting| {
            deferred.iter().any(|other| other.command.request_id() == one.command.request_id() && other.key == one.key)
        };
        self.queue.borrow().iter().filter(|one| one.command.request_id().is_some()).any(names)
    }
}
