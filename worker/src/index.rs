//! The index: what is not per customer. It lists what customers' objects tell it, keeps the directory of all accounts and the names of packages, and carries
//! events to webhooks.
//!
//! What always holds: an account is in the directory before its first write, and a package's name belongs to one account.

use std::cell::OnceCell;
use std::rc::Rc;

use tollgate::book::Book;
use tollgate::control::{self, Scope};
use tollgate::courier::{self, RunLimits};
use tollgate::ids::{AccountKey, CustomerId, PackageId};
use tollgate::store::{self, Database, StoreError, Value};
use worker::{DurableObject, Env, Request, Response, State, durable_object};

use crate::alarm::Alarm;
use crate::clock::now_ms;
use crate::log;
use crate::message::{ControlAnswer, ControlMessage, IndexAnswer, IndexMessage, answer, read};
use crate::outside::WorkersOutside;
use crate::replica::copies;
use crate::settings::Settings;
use crate::sql::Sqlite;

/// What one run of the courier does. While a retry is near it stays.
const LIMITS: RunLimits = RunLimits { items_max: 500, time_max_ms: 30_000, stay_ms: 6_000 };

/// After which time what was written is carried where the instance that wrote it is gone.
const AGAIN_MS: i64 = 1_000;

/// After which time a claim's grant has been decided, one way or the other.
const CLAIM_SETTLED_MS: i64 = 60_000;

/// The most old events forgotten at once.
const UPKEEP_ITEMS_MAX: usize = 500;

/// Of so many customers where something is due, the longest, some are named at random: whoever cannot be helped keeps nobody else from its turn.
const DUE_CANDIDATES_MAX: usize = 1_000;

/// What is not per customer.
#[durable_object]
pub struct Index {
    state: State,
    env: Env,
    core: OnceCell<Rc<Core>>,
}

struct Core {
    settings: &'static Settings,
    book: Book<Sqlite>,
    alarm: Alarm,
}

impl DurableObject for Index {
    fn new(state: State, env: Env) -> Self {
        Self { state, env, core: OnceCell::new() }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        let Some(core) = self.core() else { return Response::error("not ready", 500) };
        let path = request.path();
        let text = request.text().await?;
        match path.as_str() {
            "/index" => {
                let given = core.index(read(&text)?).unwrap_or_else(|error| {
                    log::line(&format!("the index fails: {error}"));
                    IndexAnswer::Failed
                });
                answer(&given)
            }
            "/control" => {
                let message: ControlMessage = read(&text)?;
                answer(&core.control(&message).await)
            }
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

impl Index {
    fn core(&self) -> Option<Rc<Core>> {
        if let Some(core) = self.core.get() {
            return Some(Rc::clone(core));
        }
        let settings = Settings::get(&self.env)?;
        match Core::open(settings, &self.state) {
            Ok(core) => Some(Rc::clone(self.core.get_or_init(|| Rc::new(core)))),
            Err(error) => {
                log::line(&format!("the index cannot be opened: {error}"));
                None
            }
        }
    }
}

impl Core {
    fn open(settings: &'static Settings, state: &State) -> Result<Self, StoreError> {
        let database = Sqlite::of(state)?;
        store::prepare_managed(&database)?;
        copies::prepare(&database)?;
        let core = Self { settings, book: Book::new(database, settings.config.terms()), alarm: Alarm::default() };
        // An alarm may be set from before, and nobody remembers for when.
        core.wake_again();
        Ok(core)
    }

    /// Sees to it that the object wakes by this time.
    fn arm(&self, at_ms: i64) {
        self.alarm.ring_by(self.book.database(), at_ms);
    }

    /// Sees to it that the object wakes for what is to be sent first.
    fn wake_again(&self) {
        if let Some(at_ms) = self.wake_at_ms() {
            self.arm(at_ms.max(now_ms()));
        }
    }

    /// When something is to be sent first: the past or the present where that is so now.
    fn wake_at_ms(&self) -> Option<i64> {
        courier::next_due_ms(&self.book, &self.settings.index_config, now_ms()).unwrap_or_else(|error| {
            log::line(&format!("what is due cannot be looked for: {error}"));
            Some(now_ms().saturating_add(AGAIN_MS))
        })
    }

    /// Forgets old events and carries what is to be sent now, and sets the alarm for what is to be sent next.
    async fn round(&self) {
        let config = &self.settings.index_config;
        let upkept = control::upkeep(&self.book, config, now_ms(), UPKEEP_ITEMS_MAX).await.map(drop);
        let carried = courier::run(&self.book, config, &WorkersOutside, LIMITS).await.map(drop);
        let errors: Vec<_> = [upkept, carried].into_iter().filter_map(Result::err).collect();
        for error in &errors {
            log::line(&format!("what is due cannot be done: {error}"));
        }
        self.alarm.ring_again(self.book.database(), self.wake_at_ms(), !errors.is_empty());
    }

    async fn control(&self, message: &ControlMessage) -> ControlAnswer {
        let request = message.request();
        // A tick carries what the index carries; every list shows the order hook too.
        let is_tick = matches!(control::scope(&request), Scope::Tick);
        let config = if is_tick { &self.settings.index_config } else { &self.settings.config };
        let handle = control::handle(&self.book, config, &WorkersOutside, &request, now_ms());
        if !message.is_write() {
            return handle.await.into();
        }
        self.arm(now_ms().saturating_add(AGAIN_MS));
        let response = handle.await;
        // A tick has carried what it could.
        if !is_tick {
            self.wake_again();
        }
        response.into()
    }

    fn index(&self, message: IndexMessage) -> Result<IndexAnswer, StoreError> {
        let database = self.book.database();
        Ok(match message {
            IndexMessage::Enter(key) => {
                database.transaction(|| copies::enter(database, &key.into()))?;
                IndexAnswer::Done
            }
            IndexMessage::Claim { package_id, key } => database.transaction(|| claim(database, &package_id, &key.into()))?,
            IndexMessage::Disclaim { package_id, customer_id, claimed_at_ms } => {
                disclaim(database, &package_id, &customer_id, claimed_at_ms)?;
                IndexAnswer::Done
            }
            IndexMessage::OwnerOfPackage(package_id) => owner(database, "claims AS x", "x.package_id", package_id.as_str())?,
            IndexMessage::OwnerOfRepurchase(repurchase_id) => {
                owner(database, "repurchases AS x", "x.repurchase_id", repurchase_id.as_str())?
            }
            IndexMessage::Due { now_ms, limit } => {
                let statement = "SELECT customer_id FROM
                    (SELECT customer_id FROM tellings WHERE due_at_ms <= ?1 ORDER BY due_at_ms LIMIT ?3) ORDER BY random() LIMIT ?2";
                let parameters = [now_ms.into(), one_more(limit), one_more(DUE_CANDIDATES_MAX)];
                page(&database.execute(statement, &parameters)?, limit)
            }
            IndexMessage::Customers { after, limit } => {
                let statement = "SELECT DISTINCT customer_id FROM directory WHERE customer_id > ?1 ORDER BY customer_id LIMIT ?2";
                page(&database.execute(statement, &[after.into(), one_more(limit)])?, limit)
            }
            IndexMessage::Learn(telling) => {
                if telling.has_events() {
                    self.arm(now_ms());
                }
                IndexAnswer::Learnt { number: copies::learn(database, &telling)? }
            }
        })
    }
}

fn claim(database: &impl Database, package_id: &PackageId, key: &AccountKey) -> Result<IndexAnswer, StoreError> {
    let account_id = copies::enter(database, key)?;
    let find = || database.execute("SELECT account_id, at_ms FROM claims WHERE package_id = ?1", &[package_id.as_str().into()]);
    let is_new = find()?.is_empty();
    // Who asks again is about to grant again, so that its claim is young again. Time stands still between two waits, and must not make two claims one.
    let statement = "INSERT INTO claims VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET at_ms = max(excluded.at_ms, at_ms + 1)
        WHERE account_id = excluded.account_id";
    database.execute(statement, &[package_id.as_str().into(), account_id.into(), now_ms().into()])?;
    let rows = find()?;
    let Some([Value::Integer(owner), Value::Integer(at_ms)]) = rows.first().map(Vec::as_slice) else {
        return Err(StoreError::Corrupt("unreadable claim".to_owned()));
    };
    // A claim that is old and of a package that nobody told of may have been given up.
    let is_old = now_ms() - at_ms >= CLAIM_SETTLED_MS;
    Ok(IndexAnswer::Claimed { is_granted: *owner == account_id, is_new, is_old, at_ms: *at_ms })
}

/// A name is given back unless its package is there or its claim is another one by now.
fn disclaim(
    database: &impl Database,
    package_id: &PackageId,
    customer_id: &CustomerId,
    claimed_at_ms: i64,
) -> Result<(), StoreError> {
    let statement = "DELETE FROM claims WHERE package_id = ?1 AND at_ms = ?3
        AND account_id IN (SELECT account_id FROM directory WHERE customer_id = ?2)
        AND NOT EXISTS (SELECT 1 FROM packages AS p WHERE p.package_id = ?1)";
    let parameters = [package_id.as_str().into(), customer_id.as_str().into(), claimed_at_ms.into()];
    database.execute(statement, &parameters).map(drop)
}

fn owner(database: &impl Database, table: &str, column: &str, id: &str) -> Result<IndexAnswer, StoreError> {
    let statement = format!("SELECT d.customer_id FROM {table} JOIN directory AS d USING (account_id) WHERE {column} = ?1");
    let rows = database.execute(&statement, &[id.into()])?;
    Ok(IndexAnswer::Owner(rows.first().and_then(|row| customer(row))))
}

fn customer(row: &[Value]) -> Option<CustomerId> {
    row.first().and_then(Value::text).and_then(|text| CustomerId::new(text).ok())
}

fn one_more(limit: usize) -> Value {
    i64::try_from(limit).unwrap_or(0).saturating_add(1).into()
}

fn page(rows: &[Vec<Value>], limit: usize) -> IndexAnswer {
    let customers: Vec<CustomerId> = rows.iter().take(limit).filter_map(|row| customer(row)).collect();
    let next = customers.last().filter(|_| rows.len() > limit).map(CustomerId::to_string);
    IndexAnswer::Page { customers, next }
}
