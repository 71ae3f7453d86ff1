//! The schema and its versions. Each migration runs once, in one transaction, by whichever instance comes first.

use super::database::{Database, StoreError, Value};
use crate::config::Durability;

/// Statements that bring the schema from the version of their place to the next. Never edited once released; appended to.
const MIGRATIONS: [&[&str]; 1] = [&[
    // One customer's packages of one product. `version` goes up whenever the row is written for what became of the account. `due_at_ms` is when the clock
    // alone changes something of it.
    "CREATE TABLE accounts (
        account_id INTEGER PRIMARY KEY,
        customer_id TEXT NOT NULL,
        product_id TEXT NOT NULL,
        version INTEGER NOT NULL DEFAULT 0,
        entry_count INTEGER NOT NULL DEFAULT 0,
        overrun INTEGER NOT NULL DEFAULT 0 CHECK (overrun >= 0),
        last_call_at_ms INTEGER,
        folded_seq INTEGER NOT NULL DEFAULT 0,
        unfolded_since_ms INTEGER NOT NULL,
        due_at_ms INTEGER,
        UNIQUE (customer_id, product_id)
    ) STRICT",
    "CREATE INDEX accounts_unfolded ON accounts (unfolded_since_ms)",
    "CREATE INDEX accounts_due ON accounts (due_at_ms) WHERE due_at_ms IS NOT NULL",
    // What an account remembers beside its rows, as JSON; no row where that is nothing. Apart from the account, whose row every call writes.
    "CREATE TABLE watches (account_id INTEGER PRIMARY KEY, watch TEXT NOT NULL) STRICT",
    // Quantities are in 1/10000 units everywhere.
    "CREATE TABLE packages (
        account_id INTEGER NOT NULL REFERENCES accounts,
        number INTEGER NOT NULL,
        package_id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL CHECK (kind IN ('prepaid', 'unmetered')),
        granted INTEGER NOT NULL CHECK (granted >= 0),
        used INTEGER NOT NULL CHECK (used >= 0),
        held INTEGER NOT NULL CHECK (held >= 0),
        starts_at_ms INTEGER NOT NULL,
        expires_at_ms INTEGER,
        priority INTEGER NOT NULL,
        created_at_ms INTEGER NOT NULL,
        order_id TEXT,
        standing TEXT NOT NULL CHECK (standing IN ('open', 'frozen', 'released')),
        phase TEXT NOT NULL CHECK (phase IN ('scheduled', 'running', 'over')),
        grant_digest TEXT NOT NULL,
        PRIMARY KEY (account_id, number)
    ) STRICT, WITHOUT ROWID",
    // What a call writes names its account without a foreign key: accounts are never deleted, and the check would make every commit keep a journal.
    // A row is the claim on a request id. `lease_ends_ms` is set while the call's hold is live; `detail` is the rest of the call.
    // Rows are in the order of their claims, so that calls of many accounts that come or end together are on few pages.
    "CREATE TABLE calls (
        account_id INTEGER NOT NULL,
        request_id TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('held', 'settled', 'released')),
        lease_ends_ms INTEGER,
        hold_seq INTEGER NOT NULL,
        detail TEXT NOT NULL,
        PRIMARY KEY (account_id, request_id)
    ) STRICT",
    "CREATE INDEX calls_live ON calls (lease_ends_ms) WHERE lease_ends_ms IS NOT NULL",
    // What moved, why, and for which call. Never changed; folded into `daily` when old.
    "CREATE TABLE entries (
        account_id INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        package_number INTEGER NOT NULL,
        quantity INTEGER NOT NULL CHECK (quantity >= 0),
        request_id TEXT,
        correction_id TEXT,
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (account_id, seq)
    ) STRICT, WITHOUT ROWID",
    // Entries of calls that ended long ago, summed by day.
    "CREATE TABLE daily (
        account_id INTEGER NOT NULL REFERENCES accounts,
        day INTEGER NOT NULL,
        package_number INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        quantity INTEGER NOT NULL,
        entries INTEGER NOT NULL,
        PRIMARY KEY (account_id, day, package_number, kind)
    ) STRICT, WITHOUT ROWID",
    // What each kind of entry moves, for sums over entries.
    "CREATE TABLE entry_kinds (
        kind INTEGER PRIMARY KEY,
        granted INTEGER NOT NULL,
        held INTEGER NOT NULL,
        used INTEGER NOT NULL,
        overrun INTEGER NOT NULL
    ) STRICT",
    "INSERT INTO entry_kinds VALUES
        (1, 1, 0, 0, 0), (2, 1, 0, 0, 0), (3, -1, 0, 0, 0), (4, 0, 1, 0, 0), (5, 0, -1, 1, 0), (6, 0, 0, 1, 0), (7, 0, -1, 0, 0),
        (8, 0, 0, -1, 0), (9, 0, 0, -1, 0), (10, 0, 0, 0, 1), (11, 0, 0, 0, -1), (12, 0, 0, 0, 0), (13, 0, 0, 0, 0),
        (14, 0, 0, 0, 0), (15, 0, 0, 0, 0)",
    // Refunds and adjustments as they were asked for.
    "CREATE TABLE corrections (
        account_id INTEGER NOT NULL REFERENCES accounts,
        target_kind TEXT NOT NULL CHECK (target_kind IN ('call', 'package')),
        target TEXT NOT NULL,
        correction_id TEXT NOT NULL,
        quantity INTEGER,
        reason TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (account_id, target_kind, target, correction_id)
    ) STRICT, WITHOUT ROWID",
    // What people and systems are to be told: written with the decision that caused it. `data` is JSON, as they get it. The newest row is never deleted, so
    // that positions only go up.
    "CREATE TABLE events (
        position INTEGER PRIMARY KEY,
        event_id TEXT NOT NULL UNIQUE,
        account_id INTEGER NOT NULL,
        type TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        data TEXT NOT NULL,
        is_spread INTEGER NOT NULL DEFAULT 0
    ) STRICT",
    "CREATE INDEX events_by_account ON events (account_id, position)",
    "CREATE INDEX events_to_spread ON events (position) WHERE is_spread = 0",
    // Each event on its way to each endpoint that is told of it, once the event is spread.
    "CREATE TABLE deliveries (
        position INTEGER NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('webhook', 'order')),
        url TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('waiting', 'delivered', 'dead')),
        attempts INTEGER NOT NULL,
        next_at_ms INTEGER,
        last_status INTEGER,
        last_error TEXT,
        ended_at_ms INTEGER,
        PRIMARY KEY (position, kind, url)
    ) STRICT, WITHOUT ROWID",
    "CREATE INDEX deliveries_due ON deliveries (kind, url, next_at_ms) WHERE state = 'waiting'",
    "CREATE INDEX deliveries_dead ON deliveries (kind, url) WHERE state = 'dead'",
    // Endpoints that were disabled once; every other one is enabled.
    "CREATE TABLE endpoints (
        kind TEXT NOT NULL,
        url TEXT NOT NULL,
        disabled_at_ms INTEGER,
        reason TEXT,
        PRIMARY KEY (kind, url)
    ) STRICT, WITHOUT ROWID",
    // Work that one instance does for all, and until when it has it.
    "CREATE TABLE leases (name TEXT PRIMARY KEY, holder TEXT NOT NULL, until_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    // How far old events have been looked through, and until when that rests.
    "CREATE TABLE pruning (position INTEGER NOT NULL, rests_until_ms INTEGER NOT NULL) STRICT",
    "INSERT INTO pruning VALUES (0, 0)",
    // Orders of packages. `detail` is JSON of the order, `state` is a part of it.
    "CREATE TABLE repurchases (
        position INTEGER PRIMARY KEY,
        repurchase_id TEXT NOT NULL UNIQUE,
        account_id INTEGER NOT NULL,
        number INTEGER NOT NULL,
        state TEXT NOT NULL,
        detail TEXT NOT NULL,
        UNIQUE (account_id, number)
    ) STRICT",
    "CREATE INDEX repurchases_by_state ON repurchases (state)",
    // Counters of the whole deployment.
    "CREATE TABLE metrics (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    // Packages with the JSON in which they are read (`rows::PackageRow`), and since when one is spent for good: nothing is held of it, and neither calls nor the clock that goes on change it.
    "CREATE VIEW package_rows AS SELECT *,
        json_array(number, package_id, kind, granted, used, held, starts_at_ms, expires_at_ms, priority, created_at_ms, order_id, standing,
            phase, grant_digest) AS row,
        CASE WHEN held <> 0 THEN NULL WHEN standing = 'released' THEN 0 WHEN phase = 'over' THEN expires_at_ms
            WHEN phase = 'running' AND standing = 'open' AND kind = 'prepaid' AND used >= granted AND expires_at_ms IS NULL
            THEN starts_at_ms END AS spent_at_ms
        FROM packages",
    "CREATE VIEW operations AS SELECT NULL AS op, NULL AS account_id, NULL AS seq, NULL AS request_id, NULL AS package_number,
        NULL AS quantity, NULL AS at_ms, NULL AS number_1, NULL AS number_2, NULL AS word, NULL AS detail",
    include_str!("apply_operations.sql"),
    "CREATE VIEW notices AS SELECT NULL AS op, NULL AS account_id, NULL AS number, NULL AS id, NULL AS word, NULL AS at_ms, NULL AS detail",
    include_str!("apply_notices.sql"),
    // The log of all commits, in their order. What a step is, `log.rs` says. The tables follow it a thousand steps at a time; a step without a place in them
    // says only that an account was changed otherwise.
    "CREATE TABLE steps (
        position INTEGER PRIMARY KEY,
        kind INTEGER NOT NULL,
        account_id INTEGER,
        seq INTEGER,
        request_id TEXT,
        package_number INTEGER,
        quantity INTEGER,
        used INTEGER,
        held INTEGER,
        at_ms INTEGER,
        state TEXT,
        lease_ends_ms INTEGER,
        hold_seq INTEGER,
        detail TEXT
    ) STRICT",
    // Up to where the tables follow.
    "CREATE TABLE log (applied INTEGER NOT NULL) STRICT",
    "INSERT INTO log VALUES (0)",
    include_str!("apply_steps.sql"),
]];

/// How often a new connection tries to migrate.
const MIGRATION_ATTEMPTS_MAX: u32 = 5;

/// Makes a new connection ready: sets how durable its commits are, and migrates the schema where it is older than this version.
///
/// # Errors
/// [`StoreError::Corrupt`] where the schema is newer than this version, [`StoreError::Unavailable`] where the database cannot be opened or stays locked.
pub fn prepare(database: &impl Database, durability: Durability) -> Result<(), StoreError> {
    for attempt in 1.. {
        if schema_version(database)? == MIGRATIONS.len() {
            break;
        }
        match migrate(database) {
            // Another instance is at it: the mode cannot be changed meanwhile, and that lock is not waited for.
            Err(StoreError::Unavailable(_)) if attempt < MIGRATION_ATTEMPTS_MAX => wait_for_writer(database)?,
            migrated => migrated?,
        }
    }
    // The log is copied into the database when it has some 40 MB: pages that many commits wrote are copied once, and few commits wait for it.
    database.execute("PRAGMA wal_autocheckpoint = 10000", &[])?;
    let level = match durability {
        Durability::Power => "PRAGMA synchronous = FULL",
        Durability::Process => "PRAGMA synchronous = NORMAL",
    };
    database.execute(level, &[]).map(drop)
}

/// Makes a database ready whose engine sees to locks, durability and the version pragma itself, or forbids them: the version is a row.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_managed(database: &impl Database) -> Result<(), StoreError> {
    database.transaction(|| {
        database.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL) STRICT", &[])?;
        let rows = database.execute("SELECT version FROM schema_version", &[])?;
        let version = if rows.is_empty() { Some(0) } else { read_version(&rows) };
        let version = known_version(version)?;
        if version == MIGRATIONS.len() {
            return Ok(());
        }
        for statement in MIGRATIONS.iter().skip(version).copied().flatten() {
            database.execute(statement, &[])?;
        }
        database.execute("DELETE FROM schema_version", &[])?;
        database.execute(&format!("INSERT INTO schema_version VALUES ({})", MIGRATIONS.len()), &[]).map(drop)
    })
}

/// Whether [`prepare_managed`] was ever at work here.
///
/// # Errors
/// As [`prepare`].
pub fn is_prepared(database: &impl Database) -> Result<bool, StoreError> {
    let rows = database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'schema_version'", &[])?;
    Ok(!rows.is_empty())
}

/// Waits, within the connection's own patience, until nobody else writes.
fn wait_for_writer(database: &impl Database) -> Result<(), StoreError> {
    database.transaction(|| Ok(()))
}

fn schema_version(database: &impl Database) -> Result<usize, StoreError> {
    known_version(read_version(&database.execute("PRAGMA user_version", &[])?))
}

fn read_version(rows: &[Vec<Value>]) -> Option<usize> {
    let version = rows.first().and_then(|row| row.first()).and_then(Value::integer);
    version.and_then(|number| usize::try_from(number).ok())
}

/// The version that is stored, where this gateway knows it.
fn known_version(version: Option<usize>) -> Result<usize, StoreError> {
    let version = version.ok_or_else(|| StoreError::unreadable("schema version"))?;
    if version > MIGRATIONS.len() {
        return Err(StoreError::Corrupt(format!("schema version {version} is newer than this gateway's {}", MIGRATIONS.len())));
    }
    Ok(version)
}

fn migrate(database: &impl Database) -> Result<(), StoreError> {
    // The mode is kept in the file, and cannot be changed inside a transaction.
    let mode = database.execute("PRAGMA journal_mode = WAL", &[])?;
    if mode.first().and_then(|row| row.first()).and_then(Value::text) != Some("wal") {
        return Err(StoreError::Unavailable("the database cannot use a write-ahead log".to_owned()));
    }
    database.transaction(|| run_migrations(database))
}

pub(super) fn run_migrations(database: &impl Database) -> Result<(), StoreError> {
    // Read again under the lock: another instance may have migrated meanwhile.
    for (version, statements) in MIGRATIONS.iter().enumerate().skip(schema_version(database)?) {
        for statement in *statements {
            database.execute(statement, &[])?;
        }
        database.execute(&format!("PRAGMA user_version = {}", version + 1), &[])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::ledger::EntryKind;
    use crate::store::database::{Database, Value};
    use crate::store::testing::memory;

    #[test]
    fn the_table_of_entry_kinds_says_what_the_ledger_says() {
        let database = memory();
        let rows = database.execute("SELECT granted, held, used, overrun FROM entry_kinds ORDER BY kind", &[]).unwrap();
        let expected: Vec<Vec<Value>> = EntryKind::ALL
            .iter()
            .map(|kind| kind.effect().iter().map(|effect| Value::Integer(i64::from(*effect))).collect())
            .collect();
        assert_eq!(rows, expected);
    }
}
