//! The index: what is not per customer. It lists what customers' objects tell it, keeps the directory of all accounts and the names of packages, and carries
//! events to webhooks.
//!
//! What always holds: an account is in the directory before its first write, and a package's name belongs to one account.

use std::cell::OnceCell;
use std::rc::Rc;

use tollgate::book::Book;
use tollgate::control;
use tollgate::courier::{self, RunLimits};
use tollgate::ids::{AccountKey, CustomerId, PackageId};
use tollgate::store::{self, Database, StoreError, Value};
use worker::{DurableObject, Env, Request, Response, State, durable_object};

use crate::clock::{Busy, now_ms};
use crate::message::{ControlAnswer, ControlMessage, IndexAnswer, IndexMessage, answer};
use crate::outside::WorkersOutside;
use crate::settings::Settings;
use crate::sql::Sqlite;
use crate::{log, replica};

/// What one run of the courier does. While a retry is near it stays.
const LIMITS: RunLimits = RunLimits { items_max: 500, time_max_ms: 30_000, stay_ms: 6_000 };

/// The longest run: with its last post, and the pause after it.
const RUN_MS_MAX: i64 = 60_000;

/// After which time what could not be done is tried again.
const AGAIN_MS: i64 = 1_000;

/// After which time a claim's grant has been decided, one way or the other.
const CLAIM_SETTLED_MS: i64 = 60_000;

/// The most old events forgotten at once.
const UPKEEP_ITEMS_MAX: usize = 500;

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
    carrying: Busy,
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
                let message: IndexMessage =
                    serde_json::from_str(&text).map_err(|error| worker::Error::RustError(error.to_string()))?;
                let is_news = matches!(message, IndexMessage::Learn(_));
                let given = core.index(message).unwrap_or_else(|error| {
                    log::line(&format!("the index fails: {error}"));
                    IndexAnswer::Failed
                });
                if is_news {
                    self.carry(&core);
                }
                answer(&given)
            }
            "/control" => {
                let message: ControlMessage =
                    serde_json::from_str(&text).map_err(|error| worker::Error::RustError(error.to_string()))?;
                let is_tick = message.path.ends_with("/tick");
                let config = if is_tick { &core.settings.index_config } else { &core.settings.config };
                let response = control::handle(&core.book, config, &WorkersOutside, &message.request(), now_ms()).await;
                if message.method != "GET" && message.method != "HEAD" {
                    self.carry(&core);
                }
                answer(&ControlAnswer::from(response))
            }
            _ => Response::error("not found", 404),
        }
    }

    async fn alarm(&self) -> worker::Result<Response> {
        if let Some(core) = self.core() {
            if let Err(error) = control::upkeep(&core.book, &core.settings.index_config, now_ms(), UPKEEP_ITEMS_MAX).await {
                log::line(&format!("old events cannot be forgotten: {error}"));
            }
            core.carry().await;
        }
        Response::empty()
    }
}

impl Index {
    fn core(&self) -> Option<Rc<Core>> {
        if let Some(core) = self.core.get() {
            return Some(Rc::clone(core));
        }
        let settings = Settings::get(&self.env)?;
        let open = || -> Result<Core, StoreError> {
            let database = Sqlite::of(&self.state)?;
            store::prepare_managed(&database)?;
            replica::prepare_index(&database)?;
            let book = Book::new(database, settings.config.terms());
            Ok(Core { settings, book, carrying: Busy::default() })
        };
        match open() {
            Ok(core) => Some(Rc::clone(self.core.get_or_init(|| Rc::new(core)))),
            Err(error) => {
                log::line(&format!("the index cannot be opened: {error}"));
                None
            }
        }
    }

    /// Carries events beside the answers.
    fn carry(&self, core: &Rc<Core>) {
        if courier::is_due(&core.book, &core.settings.index_config, now_ms()).unwrap_or(true) {
            // Whatever becomes of this instance.
            core.alarm_at(now_ms() + LIMITS.time_max_ms);
            let core = Rc::clone(core);
            self.state.wait_until(async move { core.carry().await });
        }
    }
}

impl Core {
    fn alarm_at(&self, at_ms: i64) {
        if let Err(error) = self.book.database().set_alarm(at_ms) {
            log::line(&format!("an alarm cannot be set: {error}"));
        }
    }

    /// Runs until nothing is to be sent now, and sets the alarm for what is to be sent next. No await lies between the last look and the end, so that what is
    /// learnt after it starts the courier anew.
    async fn carry(&self) {
        if !self.carrying.begin(RUN_MS_MAX) {
            return;
        }
        let next_ms = loop {
            self.carrying.go_on(RUN_MS_MAX);
            match courier::run(&self.book, &self.settings.index_config, &WorkersOutside, LIMITS).await {
                Ok(report) if report.more => {}
                Ok(report) => break report.next_due_ms,
                Err(error) => {
                    log::line(&format!("deliveries cannot be made: {error}"));
                    break Some(now_ms() + AGAIN_MS);
                }
            }
            crate::clock::sleep_ms(AGAIN_MS).await;
        };
        self.carrying.end();
        if let Some(next_ms) = next_ms {
            self.alarm_at(next_ms.max(now_ms()));
        }
    }

    fn index(&self, message: IndexMessage) -> Result<IndexAnswer, StoreError> {
        let database = self.book.database();
        Ok(match message {
            IndexMessage::Enter(key) => {
                database.transaction(|| replica::enter(database, &key.into()))?;
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
                let statement = "SELECT customer_id FROM due WHERE at_ms <= ?1 ORDER BY at_ms LIMIT ?2";
                page(&database.execute(statement, &[now_ms.into(), one_more(limit)])?, limit)
            }
            IndexMessage::Customers { after, limit } => {
                let statement = "SELECT DISTINCT customer_id FROM directory WHERE customer_id > ?1 ORDER BY customer_id LIMIT ?2";
                page(&database.execute(statement, &[after.into(), one_more(limit)])?, limit)
            }
            IndexMessage::Learn(told) => {
                replica::learn(database, &told)?;
                IndexAnswer::Done
            }
        })
    }
}

fn claim(database: &impl Database, package_id: &PackageId, key: &AccountKey) -> Result<IndexAnswer, StoreError> {
    let account_id = replica::enter(database, key)?;
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
