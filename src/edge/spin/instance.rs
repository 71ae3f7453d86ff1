//! What one instance keeps between requests: the checked configuration and the book. Both are read-only or caches; the instance is one of several.

use std::cell::{Cell, OnceCell};
use std::time::{SystemTime, UNIX_EPOCH};

use spin_sdk::{variables, wasip3};

use super::log;
use super::sqlite::Sqlite;
use crate::book::Book;
use crate::config::{self, Config};
use crate::store;

/// How long the body of a control request may pause.
pub(super) const CONTROL_IDLE_TIMEOUT_MS: i64 = 10_000;

/// The configuration's file, as the manifest's `files` mounts it.
const CONFIG_FILE: &str = "/tollgate.toml";

/// How long what calls do not wait for stays away from a ledger that has failed.
const LEDGER_REST_NS: u64 = 2_000_000_000;

/// One instance's state.
pub(super) struct Instance {
    pub(super) config: Config,
    pub(super) book: Book<Sqlite>,
    pub(super) leases: super::background::Leases,
    pub(super) is_looked_after: Cell<bool>,
    pub(super) is_courier_running: Cell<bool>,
    pub(super) upkeep_due_ns: Cell<u64>,
    /// Until when nothing but calls asks the ledger.
    ledger_alone_until_ns: Cell<u64>,
}

/// Why an instance cannot serve.
#[derive(Clone, Copy)]
pub(super) enum NotReady {
    /// The configuration is wrong. The operator causes it; the log says it once an instance.
    Config,
    /// The database cannot be opened now. Retry later.
    Ledger,
}

thread_local! {
    // Leaked on purpose: an instance's memory goes with the instance, and its tasks may outlive any owner.
    static REFUSED: OnceCell<NotReady> = const { OnceCell::new() };
    static INSTANCE: OnceCell<&'static Instance> = const { OnceCell::new() };
}

impl Instance {
    /// The instance's state, made at the first request.
    pub(super) async fn get() -> Result<&'static Self, NotReady> {
        if let Some(instance) = INSTANCE.with(|cell| cell.get().copied()) {
            return Ok(instance);
        }
        if let Some(reason) = REFUSED.with(|cell| cell.get().copied()) {
            return Err(reason);
        }
        let (text, secrets) = read_config().await;
        // From here on nothing waits, so of several first requests one makes the instance.
        if let Some(instance) = INSTANCE.with(|cell| cell.get().copied()) {
            return Ok(instance);
        }
        let lookup = |name: &str| secrets.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        let config = config::check(&text, &lookup).map_err(|error| refuse_config(&error.to_string()))?;
        let database = Sqlite::open().and_then(|database| {
            store::prepare(&database, config.gateway.durability)?;
            Ok(database)
        });
        let database = database.map_err(|error| {
            log::line(format!("the ledger cannot be opened: {error}"));
            NotReady::Ledger
        })?;
        let terms = config.terms();
        let instance: &'static Self = Box::leak(Box::new(Self {
            config,
            book: Book::new(database, terms),
            leases: super::background::Leases::default(),
            is_looked_after: Cell::new(false),
            is_courier_running: Cell::new(false),
            upkeep_due_ns: Cell::new(0),
            ledger_alone_until_ns: Cell::new(0),
        }));
        INSTANCE.with(|cell| {
            // Nobody else can have set it: nothing waited since it was seen empty.
            let _ = cell.set(instance);
        });
        Ok(instance)
    }

    /// After a failure. A statement waits seconds for a locked database, and all of the instance with it: what calls do not wait for stays away for a while, so
    /// that a settle waits for one such statement at most before its own.
    pub(super) fn leave_ledger_alone(&self) {
        self.ledger_alone_until_ns.set(monotonic_ns().saturating_add(LEDGER_REST_NS));
    }

    pub(super) fn is_ledger_left_alone(&self) -> bool {
        monotonic_ns() < self.ledger_alone_until_ns.get()
    }
}

fn refuse_config(reason: &str) -> NotReady {
    REFUSED.with(|cell| {
        if cell.set(NotReady::Config).is_ok() {
            log::line(format!("the configuration is not valid: {reason}"));
        }
    });
    NotReady::Config
}

/// The configuration's text, and the values of the secrets it names.
async fn read_config() -> (String, Vec<(String, String)>) {
    let text = match variables::get("config").await {
        Ok(text) if !text.is_empty() => text,
        _ => std::fs::read_to_string(CONFIG_FILE).unwrap_or_default(),
    };
    let mut secrets = Vec::new();
    for name in config::secret_names(&text) {
        // A variable that the manifest does not declare is a secret that is absent; the check says which key wanted it.
        if let Ok(value) = variables::get(&name).await {
            secrets.push((name, value));
        }
    }
    (text, secrets)
}

/// Unix milliseconds.
pub(super) fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// Microseconds on a clock that only goes forward.
pub(super) fn elapsed_us(since_ns: u64) -> u64 {
    monotonic_ns().saturating_sub(since_ns) / 1000
}

/// Nanoseconds on a clock that only goes forward.
pub(super) fn monotonic_ns() -> u64 {
    wasip3::clocks::monotonic_clock::now()
}

/// Waits.
pub(super) async fn sleep_ms(duration_ms: i64) {
    let duration_ns = u64::try_from(duration_ms).unwrap_or(0).saturating_mul(1_000_000);
    wasip3::clocks::monotonic_clock::wait_for(duration_ns).await;
}
