//! What customers' objects tell the index, so that it can list what spans customers: copies of accounts, packages, orders, events and counters.
//!
//! A customer's object is right at once; the index is as old as the last telling. Telling the same twice changes nothing, and an older telling never replaces
//! a newer one. What of it lists show is in the same tables, so that the same statements read them.

use serde::{Deserialize, Serialize};
use tollgate::ids::{AccountKey, CustomerId, ProductId};
use tollgate::store::{Database, StoreError, Value};

/// The most events of one telling.
const EVENTS_MAX: i64 = 100;

/// The most accounts of one telling.
const ACCOUNTS_MAX: i64 = 50;

/// How many of an account's orders are told again: an older one no longer changes.
const ORDERS_MAX: i64 = 50;

/// Which folding no account of the index is ever due for.
const NEVER_MS: i64 = 1 << 52;

/// What an object has to tell. Rows are JSON arrays, as SQLite writes and reads them.
#[derive(Serialize, Deserialize)]
pub(crate) struct Told {
    customer_id: CustomerId,
    accounts: Vec<ToldAccount>,
    /// `[event_id, product_id, type, at_ms, data]`.
    events: String,
    /// `[event_id, kind, url, state, attempts, next_at_ms, last_status, last_error, ended_at_ms]`.
    deliveries: String,
    /// `[name, value]`: the object's counters as they are now.
    counters: String,
    /// When something is due next.
    due_at_ms: Option<i64>,
    /// Up to where events are told with this.
    events_to: i64,
    /// When this was written.
    at_ms: i64,
    /// More is to be told.
    pub(crate) more: bool,
}

#[derive(Serialize, Deserialize)]
struct ToldAccount {
    product_id: ProductId,
    account_id: i64,
    version: i64,
    /// `[entry_count, overrun, last_call_at_ms]`.
    row: String,
    packages: String,
    orders: String,
}

/// Tables of a customer's object beside the ledger: what the index was told.
const ACCOUNT_TABLES: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS told_accounts (account_id INTEGER PRIMARY KEY, version INTEGER NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS told (one INTEGER PRIMARY KEY CHECK (one = 1), events_to INTEGER NOT NULL, at_ms INTEGER NOT NULL) STRICT",
];

/// Tables of the index beside the ledger's.
const INDEX_TABLES: [&str; 5] = [
    "CREATE TABLE IF NOT EXISTS directory (account_id INTEGER PRIMARY KEY, customer_id TEXT NOT NULL, product_id TEXT NOT NULL,
        UNIQUE (customer_id, product_id)) STRICT",
    "CREATE TABLE IF NOT EXISTS claims (package_id TEXT PRIMARY KEY, account_id INTEGER NOT NULL, at_ms INTEGER NOT NULL)
        STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS due (customer_id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS due_first ON due (at_ms)",
    "CREATE TABLE IF NOT EXISTS told_counters (customer_id TEXT NOT NULL, name TEXT NOT NULL, value INTEGER NOT NULL,
        PRIMARY KEY (customer_id, name)) STRICT, WITHOUT ROWID",
];

pub(crate) fn prepare_account(database: &impl Database) -> Result<(), StoreError> {
    ACCOUNT_TABLES.iter().try_for_each(|statement| database.execute(statement, &[]).map(drop))
}

pub(crate) fn prepare_index(database: &impl Database) -> Result<(), StoreError> {
    INDEX_TABLES.iter().try_for_each(|statement| database.execute(statement, &[]).map(drop))
}

/// The first column of the first row.
fn first(rows: &[Vec<Value>]) -> Option<&Value> {
    rows.first()?.first()
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::text).unwrap_or("[]").to_owned()
}

/// What is new in a customer's object since the index was told; none where nothing is.
pub(crate) fn news(database: &impl Database, due_at_ms: Option<i64>, now_ms: i64) -> Result<Option<Told>, StoreError> {
    let Some(customer_id) = customer_of(database)? else { return Ok(None) };
    let told = database.execute("SELECT events_to, at_ms FROM told", &[])?;
    let (events_from, told_at_ms) = match told.first().map(Vec::as_slice) {
        Some([events_to, at_ms]) => (events_to.integer().unwrap_or(0), at_ms.integer().unwrap_or(0)),
        _ => (0, 0),
    };
    let accounts = changed_accounts(database)?;
    let rows = database.execute(
        "SELECT max(position), json_group_array(json_array(event_id, product_id, type, at_ms, data)), count(*) FROM
            (SELECT e.position, e.event_id, a.product_id, e.type, e.at_ms, e.data FROM events AS e JOIN accounts AS a USING (account_id)
            WHERE e.position > ?1 ORDER BY e.position LIMIT ?2)",
        &[events_from.into(), EVENTS_MAX.into()],
    )?;
    let row = rows.first().map(Vec::as_slice).unwrap_or_default();
    let events_to = row.first().and_then(Value::integer).unwrap_or(events_from);
    let events = row.get(2).and_then(Value::integer).unwrap_or(0);
    let deliveries = database.execute(
        "SELECT json_group_array(json_array(e.event_id, d.kind, d.url, d.state, d.attempts, d.next_at_ms, d.last_status, d.last_error,
            d.ended_at_ms)), count(*)
        FROM deliveries AS d JOIN events AS e USING (position) WHERE d.position <= ?1 AND (d.state = 'waiting' OR d.ended_at_ms >= ?2)",
        &[events_to.into(), told_at_ms.into()],
    )?;
    let has_deliveries = deliveries.first().and_then(|row| row.get(1)).and_then(Value::integer).unwrap_or(0) > 0;
    if accounts.is_empty() && events == 0 && !has_deliveries {
        return Ok(None);
    }
    let counters = database.execute("SELECT json_group_array(json_array(name, value)) FROM metrics", &[])?;
    Ok(Some(Told {
        customer_id,
        more: events == EVENTS_MAX || accounts.len() as i64 == ACCOUNTS_MAX,
        accounts,
        events: text(row.get(1)),
        deliveries: text(first(&deliveries)),
        counters: text(first(&counters)),
        due_at_ms,
        events_to,
        at_ms: now_ms,
    }))
}

fn customer_of(database: &impl Database) -> Result<Option<CustomerId>, StoreError> {
    let rows = database.execute("SELECT customer_id FROM accounts LIMIT 1", &[])?;
    Ok(first(&rows).and_then(Value::text).and_then(|text| CustomerId::new(text).ok()))
}

fn changed_accounts(database: &impl Database) -> Result<Vec<ToldAccount>, StoreError> {
    let rows = database.execute(
        "SELECT a.product_id, a.account_id, a.version, json_array(a.entry_count, a.overrun, a.last_call_at_ms),
            (SELECT json_group_array(json_array(number, package_id, kind, granted, used, held, starts_at_ms, expires_at_ms, priority,
                created_at_ms, order_id, standing, phase, grant_digest)) FROM packages WHERE account_id = a.account_id),
            (SELECT json_group_array(json_array(repurchase_id, number, state, detail)) FROM
                (SELECT * FROM repurchases WHERE account_id = a.account_id ORDER BY number DESC LIMIT ?2))
        FROM accounts AS a LEFT JOIN told_accounts AS t USING (account_id)
        WHERE t.version IS NULL OR t.version <> a.version LIMIT ?1",
        &[ACCOUNTS_MAX.into(), ORDERS_MAX.into()],
    )?;
    let read = |row: &Vec<Value>| match row.as_slice() {
        [product_id, account_id, version, row, packages, orders] => Some(ToldAccount {
            product_id: ProductId::new(product_id.text()?).ok()?,
            account_id: account_id.integer()?,
            version: version.integer()?,
            row: row.text()?.to_owned(),
            packages: packages.text()?.to_owned(),
            orders: orders.text()?.to_owned(),
        }),
        _ => None,
    };
    rows.iter().map(|row| read(row).ok_or_else(|| StoreError::Corrupt("unreadable account".to_owned()))).collect()
}

/// Remembers that the index knows this.
pub(crate) fn remember(database: &impl Database, told: &Told) -> Result<(), StoreError> {
    database.transaction(|| {
        for account in &told.accounts {
            let statement = "INSERT INTO told_accounts VALUES (?1, ?2) ON CONFLICT DO UPDATE SET version = excluded.version";
            database.execute(statement, &[account.account_id.into(), account.version.into()])?;
        }
        let statement =
            "INSERT INTO told VALUES (1, ?1, ?2) ON CONFLICT DO UPDATE SET events_to = excluded.events_to, at_ms = excluded.at_ms";
        database.execute(statement, &[told.events_to.into(), told.at_ms.into()]).map(drop)
    })
}

/// Puts an account into the directory, if it is not there, and answers its number.
pub(crate) fn enter(database: &impl Database, key: &AccountKey) -> Result<i64, StoreError> {
    let key = [key.customer_id.as_str().into(), key.product_id.as_str().into()];
    database.execute("INSERT INTO directory (customer_id, product_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING", &key)?;
    let rows = database.execute("SELECT account_id FROM directory WHERE customer_id = ?1 AND product_id = ?2", &key)?;
    first(&rows).and_then(Value::integer).ok_or_else(|| StoreError::Corrupt("an account is not in the directory".to_owned()))
}

/// Takes over what a customer's object tells. Answers whether there were events among it.
pub(crate) fn learn(database: &impl Database, told: &Told) -> Result<bool, StoreError> {
    database.transaction(|| {
        for account in &told.accounts {
            learn_account(database, &told.customer_id, account)?;
        }
        let customer_id: Value = told.customer_id.as_str().into();
        let events = database.execute(
            "INSERT INTO events (event_id, account_id, type, at_ms, data)
            SELECT v.value ->> 0, d.account_id, v.value ->> 2, v.value ->> 3, v.value ->> 4 FROM json_each(?2) AS v
            CROSS JOIN directory AS d ON d.customer_id = ?1 AND d.product_id = v.value ->> 1 WHERE TRUE ORDER BY v.key
            ON CONFLICT (event_id) DO NOTHING RETURNING 1",
            &[customer_id.clone(), told.events.as_str().into()],
        )?;
        database.execute(
            "INSERT INTO deliveries (position, kind, url, state, attempts, next_at_ms, last_status, last_error, ended_at_ms)
            SELECT e.position, v.value ->> 1, v.value ->> 2, v.value ->> 3, v.value ->> 4, v.value ->> 5, v.value ->> 6, v.value ->> 7,
                v.value ->> 8
            FROM json_each(?1) AS v CROSS JOIN events AS e ON e.event_id = v.value ->> 0 WHERE TRUE
            ON CONFLICT (position, kind, url) DO UPDATE SET state = excluded.state, attempts = excluded.attempts,
                next_at_ms = excluded.next_at_ms, last_status = excluded.last_status, last_error = excluded.last_error,
                ended_at_ms = excluded.ended_at_ms",
            &[told.deliveries.as_str().into()],
        )?;
        learn_counters(database, &customer_id, &told.counters)?;
        let due_at_ms: Value = told.due_at_ms.into();
        database.execute("DELETE FROM due WHERE customer_id = ?1 AND ?2 IS NULL", &[customer_id.clone(), due_at_ms.clone()])?;
        database.execute(
            "INSERT INTO due SELECT ?1, ?2 WHERE ?2 IS NOT NULL ON CONFLICT DO UPDATE SET at_ms = excluded.at_ms",
            &[customer_id, due_at_ms],
        )?;
        Ok(!events.is_empty())
    })
}

fn learn_account(database: &impl Database, customer_id: &CustomerId, account: &ToldAccount) -> Result<(), StoreError> {
    let key = AccountKey { customer_id: customer_id.clone(), product_id: account.product_id.clone() };
    let account_id: Value = enter(database, &key)?.into();
    let learnt = database.execute(
        "INSERT INTO accounts (account_id, customer_id, product_id, version, entry_count, overrun, last_call_at_ms, unfolded_since_ms)
        VALUES (?1, ?2, ?3, ?4, ?5 ->> 0, ?5 ->> 1, ?5 ->> 2, ?6)
        ON CONFLICT (account_id) DO UPDATE SET version = excluded.version, entry_count = excluded.entry_count,
            overrun = excluded.overrun, last_call_at_ms = excluded.last_call_at_ms
        WHERE excluded.version > version RETURNING 1",
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
    // A package whose name another account has is only in its own account's lists.
    database.execute(
        "INSERT INTO packages
        SELECT ?1, v.value ->> 0, v.value ->> 1, v.value ->> 2, v.value ->> 3, v.value ->> 4, v.value ->> 5, v.value ->> 6, v.value ->> 7,
            v.value ->> 8, v.value ->> 9, v.value ->> 10, v.value ->> 11, v.value ->> 12, v.value ->> 13
        FROM json_each(?2) AS v
        WHERE NOT EXISTS (SELECT 1 FROM packages AS p WHERE p.package_id = v.value ->> 1 AND p.account_id <> ?1)
        ON CONFLICT (account_id, number) DO UPDATE SET granted = excluded.granted, used = excluded.used, held = excluded.held,
            expires_at_ms = excluded.expires_at_ms, priority = excluded.priority, standing = excluded.standing, phase = excluded.phase",
        &[account_id.clone(), account.packages.as_str().into()],
    )?;
    database.execute(
        "INSERT INTO claims SELECT v.value ->> 1, ?1, 0 FROM json_each(?2) AS v WHERE TRUE ON CONFLICT DO NOTHING",
        &[account_id.clone(), account.packages.as_str().into()],
    )?;
    let orders = "INSERT INTO repurchases (repurchase_id, account_id, number, state, detail)
        SELECT v.value ->> 0, ?1, v.value ->> 1, v.value ->> 2, v.value ->> 3 FROM json_each(?2) AS v WHERE TRUE ORDER BY v.value ->> 1
        ON CONFLICT (account_id, number) DO UPDATE SET state = excluded.state, detail = excluded.detail";
    database.execute(orders, &[account_id, account.orders.as_str().into()]).map(drop)
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
    database
        .execute(
            "INSERT INTO told_counters SELECT ?1, v.value ->> 0, v.value ->> 1 FROM json_each(?2) AS v WHERE TRUE
        ON CONFLICT DO UPDATE SET value = max(value, excluded.value) WHERE excluded.value > value",
            &parameters,
        )
        .map(drop)
}

/// When something of a customer's object is due next: a lease ends, the clock changes an account, an order is to be posted, entries are old.
pub(crate) fn next_due_ms(database: &impl Database, keep_calls_ms: i64) -> Result<Option<i64>, StoreError> {
    let rows = database.execute(
        "SELECT min(at_ms) FROM (
            SELECT min(lease_ends_ms) + 1 AS at_ms FROM calls WHERE lease_ends_ms IS NOT NULL
            UNION ALL SELECT min(due_at_ms) FROM accounts WHERE due_at_ms IS NOT NULL
            UNION ALL SELECT min(unfolded_since_ms) + ?1 + 1 FROM accounts
            UNION ALL SELECT min(d.next_at_ms) FROM deliveries AS d WHERE d.state = 'waiting' AND NOT EXISTS
                (SELECT 1 FROM endpoints AS e WHERE e.kind = d.kind AND e.url = d.url AND e.disabled_at_ms IS NOT NULL))",
        &[keep_calls_ms.into()],
    )?;
    Ok(first(&rows).and_then(Value::integer))
}
