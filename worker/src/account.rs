//! A customer's object: its part of the ledger, alone on its storage.
//!
//! What always holds: one decision and all its statements run without an await; no answer leaves before what it says is on disk; while anything is due later
//! or is untold to the index, an alarm is set.

mod rounds;
mod steps;

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use rounds::Hook;
use tollgate::book::Book;
use tollgate::control;
use tollgate::store;
use worker::{DurableObject, Env, Request, Response, State, durable_object};

use crate::alarm::Alarm;
use crate::clock::now_ms;
use crate::log;
use crate::message::{CallAnswer, CallMessage, ControlAnswer, ControlMessage, IndexAnswer, Verdict, answer, read};
use crate::replica::originals;
use crate::settings::Settings;
use crate::sql::Sqlite;

/// How long the index may be behind what calls moved. Events, and what the control API writes, are told at once.
const TELL_PAUSE_MS: i64 = 2_000;

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
    alarm: Alarm,
    /// The number of the last telling that was sent, or that the index knows.
    last_telling: Cell<i64>,
}

impl DurableObject for Account {
    fn new(state: State, env: Env) -> Self {
        Self { state, env, core: OnceCell::new() }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        let path = request.path();
        let text = request.text().await?;
        if path == "/call" && !self.is_known() {
            return answer(&CallAnswer::of(Verdict::NoPackage));
        }
        let Some(core) = self.core() else { return Response::error("not ready", 500) };
        match path.as_str() {
            "/call" => {
                let message: CallMessage = read(&text)?;
                core.expect_news();
                let given = core.call(message).await;
                self.tell_events(&core);
                answer(&given)
            }
            "/control" => {
                let message: ControlMessage = read(&text)?;
                let given = if message.is_write() {
                    core.expect_news();
                    let given = core.control(&message).await;
                    // Whoever wrote finds it in the lists.
                    core.tell().await;
                    core.wake_again();
                    given
                } else {
                    core.control(&message).await
                };
                answer(&given)
            }
            "/tell" => answer(&if core.tell().await { IndexAnswer::Done } else { IndexAnswer::Failed }),
            _ => Response::error("not found", 404),
        }
    }

    async fn alarm(&self) -> worker::Result<Response> {
        // The runtime rings again after an error.
        let core = self.core().ok_or_else(|| worker::Error::RustError("not ready".to_owned()))?;
        core.alarm.rings();
        core.round().await;
        Response::empty()
    }
}

impl Account {
    /// Whether the customer was ever granted or told anything. No ledger is made for who calls with a name that nobody knows.
    fn is_known(&self) -> bool {
        // Where it cannot be looked, the ledger's own error tells.
        self.core.get().is_some() || Sqlite::of(&self.state).and_then(|database| store::is_prepared(&database)).unwrap_or(true)
    }

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

    /// Tells of new events beside the answers, and then has done what follows of them.
    fn tell_events(&self, core: &Rc<Core>) {
        if core.book.take_events_written() {
            let core = Rc::clone(core);
            self.state.wait_until(async move {
                core.tell().await;
                core.wake_again();
            });
        }
    }
}

impl Core {
    fn open(settings: &'static Settings, state: &State, env: &Env) -> Result<Self, store::StoreError> {
        let database = Sqlite::of(state)?;
        store::prepare_managed(&database)?;
        originals::prepare(&database)?;
        let book = Book::new(database, settings.config.terms());
        let (alarm, last_telling) = (Alarm::default(), Cell::new(0));
        let core = Self { settings, book, env: env.clone(), alarm, last_telling };
        core.book.count(tollgate::book::metrics::Meters::opened);
        // An alarm may be set from before, and nobody remembers for when.
        core.wake_again();
        Ok(core)
    }

    /// Sees to it that the object wakes by this time.
    fn arm(&self, at_ms: i64) {
        self.alarm.ring_by(self.book.database(), at_ms);
    }

    /// Before anything is written: what will be is told by then, and what will be due is looked for.
    fn expect_news(&self) {
        self.arm(now_ms().saturating_add(TELL_PAUSE_MS));
    }

    /// Sees to it that the object wakes for what is due or to be told first.
    fn wake_again(&self) {
        if let Some(at_ms) = self.wake_at_ms() {
            self.arm(at_ms.max(now_ms()));
        }
    }

    async fn control(&self, message: &ControlMessage) -> ControlAnswer {
        control::handle(&self.book, &self.settings.account_config, &Hook(self), &message.request(), now_ms()).await.into()
    }
}
