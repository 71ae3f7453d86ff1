//! The index's side: the directory, and the copies that it learns.

use tollgate::ids::{AccountKey, CustomerId};
use tollgate::store::{Database, StoreError, Value};

use super::{AccountCopy, Telling, first};

/// Which folding no account of the index is ever due for.
const NEVER_MS: i64 = 1 << 52;

/// Tables of the index beside the ledger's.
const TABLES: [&str; 5] = [
    "CREATE TABLE IF NOT EXISTS directory (account_id INTEGER PRIMARY KEY, customer_id TEXT NOT NULL, product_id TEXT NOT NULL,
        UNIQUE (customer_id, product_id)) STRICT",
    "CREATE TABLE IF NOT EXISTS claims (package_id TEXT PRIMARY KEY, account_id INTEGER NOT NULL, at_ms INTEGER NOT NULL)
        STRICT, WITHOUT ROWID",
    // The newest telling of each customer, and when something is due there.
    "CREATE TABLE IF NOT EXISTS tellings (customer_id TEXT PRIMARY KEY, number INTEGER NOT NULL, due_at_ms INTEGER) STRICT, WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS tellings_due ON tellings (due_at_ms) WHERE due_at_ms IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS told_counters (customer_id TEXT NOT NULL, name TEXT NOT NULL, value INTEGER NOT NULL,
        PRIMARY KEY (customer_id, name)) STRICT, WITHOUT ROWID",
];

pub(crate) fn prepare(database: &impl Database) -> Result<(), StoreError> {
    TABLES.iter().try_for_each(|statement| database.execute(statement, &[]).map(drop))
}

/// Puts an account into the directory, if it is not there, and answers its number.
pub(crate) fn enter(database: &impl Database, key: &AccountKey) -> Result<i64, StoreError> {
    let key = [key.customer_id.as_str().into(), key.product_id.as_str().into()];
    database.execute("INSERT INTO directory (customer_id, product_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING", &key)?;
    let rows = database.execute("SELECT account_id FROM directory WHERE customer_id = ?1 AND product_id = ?2", &key)?;
    first(&rows).and_then(Value::integer).ok_or_else(|| StoreError::Corrupt("an account is not in the directory".to_owned()))
}

/// Takes over what a customer's object tells, unless a newer telling is known. Answers the number of the newest.
pub(crate) fn learn(database: &impl Database, telling: &Telling) -> Result<i64, StoreError> {
    let customer_id: Value = telling.customer_id.as_str().into();
    database.transaction(|| {
        let statement = "INSERT INTO tellings VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET number = excluded.number,
            due_at_ms = excluded.due_at_ms WHERE excluded.number >= number RETURNING number";
        let parameters = [customer_id.clone(), telling.number.into(), telling.due_at_ms.into()];
        if database.execute(statement, &parameters)?.is_empty() {
            let rows =
                database.execute("SELECT number FROM tellings WHERE customer_id = ?1", std::slice::from_ref(&customer_id))?;
            return first(&rows).and_then(Value::integer).ok_or_else(|| StoreError::Corrupt("unreadable telling".to_owned()));
        }
        for account in &telling.accounts {
            learn_account(database, &telling.customer_id, account)?;
        }
        database.execute(
            "INSERT INTO events (event_id, account_id, type, at_ms, data)
            SELECT v.value ->> 0, d.account_id, v.value ->> 2, v.value ->> 3, v.value ->> 4 FROM json_each(?2) AS v
            CROSS JOIN directory AS d ON d.customer_id = ?1 AND d.product_id = v.value ->> 1 WHERE TRUE ORDER BY v.key
            ON CONFLICT (event_id) DO NOTHING",
            &[customer_id.clone(), telling.events.as_str().into()],
        )?;
        learn_deliveries(database, &telling.deliveries)?;
        learn_counters(database, &customer_id, &telling.counters)?;
        Ok(telling.number)
    })
}

fn learn_account(database: &impl Database, customer_id: &CustomerId, account: &AccountCopy) -> Result<(), StoreError> {
    let key = AccountKey { customer_id: customer_id.clone(), product_id: account.product_id.clone() };
    let account_id: Value = enter(database, &key)?.into();
    let learnt = database.execute(
        "INSERT INTO accounts (account_id, customer_id, product_id, version, entry_count, overrun, last_call_at_ms, unfolded_since_ms)
        VALUES (?1, ?2, ?3, ?4, ?5 ->> 0, ?5 ->> 1, ?5 ->> 2, ?6)
        ON CONFLICT (account_id) DO UPDATE SET version = excluded.version, entry_count = excluded.entry_count,
            overrun = excluded.overrun, last_call_at_ms = excluded.last_call_at_ms
        WHERE excluded.version >= version RETURNING 1",
        &[
            account_id.clone(),
            customer_id.as_str().into(),
            account.product_id.as_str().into(),
            account.version.into(),
            account.row.as_str().into(),
            NEVER_MS.into(),
        ],
    )?;
    if learnt.is_empty() {
        return Ok(());
    }
    // A package whose name another account has is only in its own account's lists. What is as it was is not written.
    database.execute(
        "INSERT INTO packages
        SELECT ?1, v.value ->> 0, v.value ->> 1, v.value ->> 2, v.value ->> 3, v.value ->> 4, v.value ->> 5, v.value ->> 6, v.value ->> 7,
            v.value ->> 8, v.value ->> 9, v.value ->> 10, v.value ->> 11, v.value ->> 12, v.value ->> 13
        FROM json_each(?2) AS v
        WHERE NOT EXISTS (SELECT 1 FROM packages AS p WHERE p.package_id = v.value ->> 1 AND p.account_id <> ?1)
        ON CONFLICT (account_id, number) DO UPDATE SET granted = excluded.granted, used = excluded.used, held = excluded.held,
            expires_at_ms = excluded.expires_at_ms, priority = excluded.priority, standing = excluded.standing, phase = excluded.phase
        WHERE (granted, used, held, expires_at_ms, priority, standing, phase) IS NOT (excluded.granted, excluded.used, excluded.held,
            excluded.expires_at_ms, excluded.priority, excluded.standing, excluded.phase)",
        &[account_id.clone(), account.packages.as_str().into()],
    )?;
    database.execute(
        "INSERT INTO claims SELECT v.value ->> 1, ?1, 0 FROM json_each(?2) AS v WHERE TRUE ON CONFLICT DO NOTHING",
        &[account_id.clone(), account.packages.as_str().into()],
    )?;
    let orders = "INSERT INTO repurchases (repurchase_id, account_id, number, state, detail)
        SELECT v.value ->> 0, ?1, v.value ->> 1, v.value ->> 2, v.value ->> 3 FROM json_each(?2) AS v WHERE TRUE ORDER BY v.value ->> 1
        ON CONFLICT (account_id, number) DO UPDATE SET state = excluded.state, detail = excluded.detail
        WHERE (state, detail) IS NOT (excluded.state, excluded.detail)";
    database.execute(orders, &[account_id, account.orders.as_str().into()]).map(drop)
}

fn learn_deliveries(database: &impl Database, deliveries: &str) -> Result<(), StoreError> {
    let statement = "INSERT INTO deliveries (position, kind, url, state, attempts, next_at_ms, last_status, last_error, ended_at_ms)
        SELECT e.position, v.value ->> 1, v.value ->> 2, v.value ->> 3, v.value ->> 4, v.value ->> 5, v.value ->> 6, v.value ->> 7,
            v.value ->> 8
        FROM json_each(?1) AS v CROSS JOIN events AS e ON e.event_id = v.value ->> 0 WHERE TRUE
        ON CONFLICT (position, kind, url) DO UPDATE SET state = excluded.state, attempts = excluded.attempts,
            next_at_ms = excluded.next_at_ms, last_status = excluded.last_status, last_error = excluded.last_error,
            ended_at_ms = excluded.ended_at_ms";
    database.execute(statement, &[deliveries.into()]).map(drop)
}

/// Adds what counters moved since they were told last.
fn learn_counters(database: &impl Database, customer_id: &Value, counters: &str) -> Result<(), StoreError> {
    let parameters = [customer_id.clone(), counters.into()];
    database.execute(
        "INSERT INTO metrics SELECT v.value ->> 0, (v.value ->> 1) - coalesce(t.value, 0) FROM json_each(?2) AS v
        LEFT JOIN told_counters AS t ON t.customer_id = ?1 AND t.name = v.value ->> 0
        WHERE (v.value ->> 1) > coalesce(t.value, 0)
        ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        &parameters,
    )?;
    let statement = "INSERT INTO told_counters SELECT ?1, v.value ->> 0, v.value ->> 1 FROM json_each(?2) AS v WHERE TRUE
        ON CONFLICT DO UPDATE SET value = excluded.value WHERE excluded.value > value";
    database.execute(statement, &parameters).map(drop)
}
