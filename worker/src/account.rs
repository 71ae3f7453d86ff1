//! A customer's object: its part of the ledger, alone on its storage.
//!
//! What always holds: one decision and all its statements run without an await; no answer leaves before what it says is on disk; while anything is due later
//! or is untold to the index, an alarm is set.

mod steps;

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use tollgate::book::Book;
use tollgate::control;
use tollgate::courier::{self, RunLimits};
use tollgate::store;
use worker::{DurableObject, Env, Request, Response, State, durable_object};

use crate::clock::{Busy, now_ms, sleep_ms};
use crate::message::{CallMessage, ControlAnswer, ControlMessage, IndexAnswer, IndexMessage, answer, ask_again};
use crate::outside::WorkersOutside;
use crate::settings::Settings;
use crate::sql::Sqlite;
use crate::{log, replica};

/// How long the index may be behind what calls moved. Events, and what the control API writes, are told at once.
const TELL_PAUSE_MS: i64 = 2_000;

/// After which time what could not be done or told is tried again.
const AGAIN_MS: i64 = 1_000;

/// The longest round: the courier's run and its last post.
const ROUND_MS_MAX: i64 = 90_000;

/// The most lost holds, looks and folded entries of one round.
const UPKEEP_ITEMS_MAX: usize = 500;

/// The most tellings in a row.
const TELLINGS_MAX: usize = 20;

/// What one run of the courier does: orders of this customer.
const ORDERS: RunLimits = RunLimits { items_max: 50, time_max_ms: 30_000, stay_ms: 0 };

/// One customer.
#[durable_object]
pub struct Account {
    state: State,
    env: Env,
    core: OnceCell<Rc<Core>>,
}

struct Core {
    settings: &'static Settings,
    book: Book<Sqlite>,
    env: Env,
    /// When the object wakes by itself, as far as this instance knows.
    alarm_at_ms: Cell<Option<i64>>,
    telling_later: Busy,
    busy: Busy,
    /// More became due while something was being done.
    is_more_due: Cell<bool>,
}

impl DurableObject for Account {
    fn new(state: State, env: Env) -> Self {
        Self { state, env, core: OnceCell::new() }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        let Some(core) = self.core() else { return Response::error("not ready", 500) };
        let path = request.path();
        let text = request.text().await?;
        match path.as_str() {
            "/call" => {
                let message: CallMessage = read(&text)?;
                let given = core.call(message).await;
                self.look_after(&core);
                answer(&given)
            }
            "/control" => {
                let message: ControlMessage = read(&text)?;
                let given = core.control(&message).await;
                if message.method != "GET" && message.method != "HEAD" {
                    core.arm_again();
                    // Whoever wrote finds it in the lists.
                    core.tell().await;
                    self.look_after(&core);
                }
                answer(&given)
            }
            "/tell" => {
                core.tell().await;
                answer(&IndexAnswer::Done)
            }
            _ => Response::error("not found", 404),
        }
    }

    async fn alarm(&self) -> worker::Result<Response> {
        if let Some(core) = self.core() {
            core.alarm_at_ms.set(None);
            core.do_what_is_due().await;
        }
        Response::empty()
    }
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> worker::Result<T> {
    serde_json::from_str(text).map_err(|error| worker::Error::RustError(error.to_string()))
}

impl Account {
    /// The object's state, made at its first event; none where that fails, until the next one. No await lies in it.
    fn core(&self) -> Option<Rc<Core>> {
        if let Some(core) = self.core.get() {
            return Some(Rc::clone(core));
        }
        let settings = Settings::get(&self.env)?;
        match Core::open(settings, &self.state, &self.env) {
            Ok(core) => Some(Rc::clone(self.core.get_or_init(|| Rc::new(core)))),
            Err(error) => {
                log::line(&format!("the ledger cannot be opened: {error}"));
                None
            }
        }
    }

    /// Does beside the answers what they made due.
    fn look_after(&self, core: &Rc<Core>) {
        if core.book.take_events_written() {
            let core = Rc::clone(core);
            core.arm_again();
            self.state.wait_until(async move { core.do_what_is_due().await });
        } else if core.telling_later.begin(2 * TELL_PAUSE_MS) {
            let core = Rc::clone(core);
            self.state.wait_until(async move {
                sleep_ms(TELL_PAUSE_MS).await;
                core.telling_later.end();
                core.tell().await;
            });
        }
    }
}

impl Core {
    fn open(settings: &'static Settings, state: &State, env: &Env) -> Result<Self, store::StoreError> {
        let database = Sqlite::of(state)?;
        store::prepare_managed(&database)?;
        replica::prepare_account(&database)?;
        let book = Book::new(database, settings.config.terms());
        let core = Self {
            settings,
            book,
            env: env.clone(),
            alarm_at_ms: Cell::new(None),
            telling_later: Busy::default(),
            busy: Busy::default(),
            is_more_due: Cell::new(false),
        };
        core.book.count(tollgate::book::metrics::Meters::opened);
        // An alarm may be set from before, and nobody remembers for when.
        core.arm_again();
        Ok(core)
    }

    /// Sees to it that the object wakes by this time.
    fn arm(&self, at_ms: i64) {
        if self.alarm_at_ms.get().is_some_and(|set_ms| set_ms <= at_ms) {
            return;
        }
        match self.book.database().set_alarm(at_ms) {
            Ok(()) => self.alarm_at_ms.set(Some(at_ms)),
            Err(error) => log::line(&format!("an alarm cannot be set: {error}")),
        }
    }

    /// Sees to it that the object wakes for what is due first.
    fn arm_again(&self) -> Option<i64> {
        match replica::next_due_ms(self.book.database(), self.settings.config.gateway.keep_calls_ms) {
            Ok(Some(at_ms)) => {
                self.arm(at_ms.max(now_ms()));
                Some(at_ms)
            }
            Ok(None) => None,
            Err(error) => {
                log::line(&format!("what is due cannot be looked for: {error}"));
                Some(now_ms() + AGAIN_MS)
            }
        }
    }

    async fn control(&self, message: &ControlMessage) -> ControlAnswer {
        let request = message.request();
        control::handle(&self.book, &self.settings.account_config, &WorkersOutside, &request, now_ms()).await.into()
    }

    /// Does all that is due, one at a time, and sets the alarm for what is due next.
    async fn do_what_is_due(&self) {
        if !self.busy.begin(ROUND_MS_MAX) {
            self.is_more_due.set(true);
            return;
        }
        let is_again = loop {
            self.is_more_due.set(false);
            self.busy.go_on(ROUND_MS_MAX);
            let is_done = self.do_once().await;
            if !is_done || !self.is_more_due.get() {
                break !is_done;
            }
        };
        self.busy.end();
        match self.arm_again() {
            // What is overdue after all of this could not be done now.
            Some(at_ms) if is_again || at_ms <= now_ms() => {
                self.book.database().set_alarm(now_ms() + AGAIN_MS).unwrap_or_default()
            }
            _ if is_again => self.arm(now_ms() + AGAIN_MS),
            _ => {}
        }
    }

    /// False where something is to be tried again.
    async fn do_once(&self) -> bool {
        let mut is_done = true;
        match control::upkeep(&self.book, &self.settings.account_config, now_ms(), UPKEEP_ITEMS_MAX).await {
            Ok(report) if report.more => self.is_more_due.set(true),
            Ok(_) => {}
            Err(error) => {
                log::line(&format!("what is due cannot be done: {error}"));
                is_done = false;
            }
        }
        // The index knows an order before its hook does, so that the hook's outcome finds it.
        is_done &= self.tell().await;
        let config = &self.settings.account_config;
        if config.repurchase.is_some() && courier::is_due(&self.book, config, now_ms()).unwrap_or(true) {
            match courier::run(&self.book, config, &WorkersOutside, ORDERS).await {
                Ok(_) => {}
                Err(error) => {
                    log::line(&format!("orders cannot be posted: {error}"));
                    is_done = false;
                }
            }
            is_done &= self.tell().await;
        }
        is_done
    }

    /// Tells the index what is new; false where it does not know all of it then.
    async fn tell(&self) -> bool {
        // Counters that no commit took along are not worth one of their own more often than this.
        if self.book.has_unwritten_counts()
            && let Err(error) = self.book.flush_counts()
        {
            log::line(&format!("counters cannot be written: {error}"));
        }
        for _ in 0..TELLINGS_MAX {
            let due_at_ms = self.arm_again();
            let told = match replica::news(self.book.database(), due_at_ms, now_ms()) {
                Ok(Some(told)) => told,
                Ok(None) => return true,
                Err(error) => {
                    log::line(&format!("what is new cannot be read: {error}"));
                    return false;
                }
            };
            let message = IndexMessage::Learn(Box::new(told));
            let index = || self.settings.index(&self.env);
            let heard = ask_again::<IndexAnswer>(index, "/index", &message).await;
            let IndexMessage::Learn(told) = message else { return false };
            match heard {
                Ok(IndexAnswer::Done) => {}
                Ok(_) => return false,
                Err(error) => {
                    log::line(&format!("the index does not answer: {}", error.0));
                    self.arm(now_ms() + AGAIN_MS);
                    return false;
                }
            }
            if let Err(error) = replica::remember(self.book.database(), &told) {
                log::line(&format!("what was told cannot be remembered: {error}"));
                return false;
            }
            if !told.more {
                return true;
            }
        }
        false
    }
}
