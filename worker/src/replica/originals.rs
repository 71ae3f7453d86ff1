//! A customer's object's side: what it has not told the index yet.

use tollgate::ids::{CustomerId, ProductId};
use tollgate::store::{Database, StoreError, Value};

use super::{AccountCopy, NO_ROWS, Telling, first};

/// The most events of one telling, and the most changes of deliveries.
const EVENTS_MAX: i64 = 100;

/// The most accounts of one telling.
const ACCOUNTS_MAX: i64 = 50;

/// The most packages of one account in a telling.
const PACKAGES_MAX: i64 = 200;

/// How many of an account's orders are told again: an older one no longer changes.
const ORDERS_MAX: i64 = 50;

/// Tables of a customer's object beside the ledger: what the index was told, and which packages and deliveries changed since.
const TABLES: [&str; 8] = [
    "CREATE TABLE IF NOT EXISTS told_accounts (account_id INTEGER PRIMARY KEY, version INTEGER NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS last_telling (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL, events_to INTEGER NOT NULL,
        due_at_ms INTEGER) STRICT",
    // Numbers are not given twice, so that what changed again while it was told is not taken for told. Not by OR REPLACE: what a trigger says of conflicts gives way to what the
    // statement says that fires it.
    "CREATE TABLE IF NOT EXISTS delivery_changes (change INTEGER PRIMARY KEY AUTOINCREMENT, position INTEGER NOT NULL UNIQUE) STRICT",
    "CREATE TABLE IF NOT EXISTS package_changes (change INTEGER PRIMARY KEY AUTOINCREMENT, account_id INTEGER NOT NULL, number INTEGER NOT NULL,
        UNIQUE (account_id, number)) STRICT",
    "CREATE TRIGGER IF NOT EXISTS package_begins AFTER INSERT ON packages BEGIN
        DELETE FROM package_changes WHERE account_id = NEW.account_id AND number = NEW.number;
        INSERT INTO package_changes (account_id, number) VALUES (NEW.account_id, NEW.number); END",
    "CREATE TRIGGER IF NOT EXISTS package_changes AFTER UPDATE ON packages BEGIN
        DELETE FROM package_changes WHERE account_id = NEW.account_id AND number = NEW.number;
        INSERT INTO package_changes (account_id, number) VALUES (NEW.account_id, NEW.number); END",
    "CREATE TRIGGER IF NOT EXISTS delivery_begins AFTER INSERT ON deliveries BEGIN
        DELETE FROM delivery_changes WHERE position = NEW.position; INSERT INTO delivery_changes (position) VALUES (NEW.position); END",
    "CREATE TRIGGER IF NOT EXISTS delivery_changes AFTER UPDATE ON deliveries BEGIN
        DELETE FROM delivery_changes WHERE position = NEW.position; INSERT INTO delivery_changes (position) VALUES (NEW.position); END",
];

pub(crate) fn prepare(database: &impl Database) -> Result<(), StoreError> {
    TABLES.iter().try_for_each(|statement| database.execute(statement, &[]).map(drop))
}

/// The last telling that the index is known to know.
#[derive(Default)]
struct LastTelling {
    number: i64,
    events_to: i64,
    due_at_ms: Option<i64>,
}

impl LastTelling {
    fn read(database: &impl Database) -> Result<Self, StoreError> {
        let rows = database.execute("SELECT number, events_to, due_at_ms FROM last_telling", &[])?;
        Ok(match rows.first().map(Vec::as_slice) {
            Some([Value::Integer(number), Value::Integer(events_to), due_at_ms]) => {
                Self { number: *number, events_to: *events_to, due_at_ms: due_at_ms.integer() }
            }
            _ => Self::default(),
        })
    }

    /// Whether the index has to be told when something is due: a time that was told and is too early is told anew once it is over.
    fn is_due_untold(&self, due_at_ms: Option<i64>, now_ms: i64) -> bool {
        let is_earlier = due_at_ms.is_some_and(|due_ms| self.due_at_ms.is_none_or(|told_ms| due_ms < told_ms));
        let is_over = self.due_at_ms.is_some_and(|told_ms| told_ms <= now_ms);
        self.due_at_ms != due_at_ms && (is_earlier || is_over)
    }
}

/// When an object has to wake where something is due at this time: now, where something is untold.
pub(crate) fn wake_at_ms(database: &impl Database, due_at_ms: Option<i64>, now_ms: i64) -> Result<Option<i64>, StoreError> {
    if next_telling(database, due_at_ms, (now_ms, now_ms))?.is_some() {
        return Ok(Some(now_ms));
    }
    let told_ms = LastTelling::read(database)?.due_at_ms;
    Ok(due_at_ms.into_iter().chain(told_ms).min())
}

/// What the index does not know yet, under this number or a higher one; none where it knows all.
pub(crate) fn next_telling(
    database: &impl Database,
    due_at_ms: Option<i64>,
    (number, now_ms): (i64, i64),
) -> Result<Option<Telling>, StoreError> {
    let Some(customer_id) = customer(database)? else { return Ok(None) };
    let last = LastTelling::read(database)?;
    let accounts = changed_accounts(database)?;
    let events = new_events(database, last.events_to)?;
    let changes = changed_deliveries(database, events.to)?;
    if accounts.copies.is_empty() && events.count == 0 && changes.count == 0 && !last.is_due_untold(due_at_ms, now_ms) {
        return Ok(None);
    }
    let counters = database.execute("SELECT json_group_array(json_array(name, value)) FROM metrics", &[])?;
    Ok(Some(Telling {
        customer_id,
        number: number.max(last.number.saturating_add(1)),
        more: events.count >= EVENTS_MAX || changes.count >= EVENTS_MAX || accounts.more,
        accounts: accounts.copies,
        events: events.rows,
        events_to: events.to,
        deliveries: changes.rows,
        delivery_changes: changes.numbers,
        counters: text(first(&counters)),
        due_at_ms,
    }))
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::text).unwrap_or(NO_ROWS).to_owned()
}

fn customer(database: &impl Database) -> Result<Option<CustomerId>, StoreError> {
    let rows = database.execute("SELECT customer_id FROM accounts LIMIT 1", &[])?;
    Ok(first(&rows).and_then(Value::text).and_then(|text| CustomerId::new(text).ok()))
}

struct ChangedAccounts {
    copies: Vec<AccountCopy>,
    more: bool,
}

fn changed_accounts(database: &impl Database) -> Result<ChangedAccounts, StoreError> {
    let rows = database.execute(
        "SELECT a.product_id, a.account_id, a.version, json_array(a.entry_count, a.overrun, a.last_call_at_ms),
            (SELECT '[' || coalesce(group_concat(p.row), '') || ']' FROM
                (SELECT number FROM package_changes WHERE account_id = a.account_id ORDER BY change LIMIT ?3) AS c
                CROSS JOIN package_rows AS p ON p.account_id = a.account_id AND p.number = c.number),
            (SELECT json_group_array(change) FROM
                (SELECT change FROM package_changes WHERE account_id = a.account_id ORDER BY change LIMIT ?3)),
            (SELECT count(*) FROM package_changes WHERE account_id = a.account_id),
            (SELECT json_group_array(json_array(repurchase_id, number, state, detail)) FROM
                (SELECT * FROM repurchases WHERE account_id = a.account_id ORDER BY number DESC LIMIT ?2))
        FROM accounts AS a LEFT JOIN told_accounts AS t USING (account_id)
        WHERE t.version IS NULL OR t.version <> a.version OR EXISTS (SELECT 1 FROM package_changes WHERE account_id = a.account_id) LIMIT ?1",
        &[ACCOUNTS_MAX.into(), ORDERS_MAX.into(), PACKAGES_MAX.into()],
    )?;
    let mut more = rows.len() as i64 >= ACCOUNTS_MAX;
    let mut read = |row: &Vec<Value>| {
        let [product_id, account_id, version, row, packages, package_changes, change_count, orders] = row.as_slice() else {
            return None;
        };
        more |= change_count.integer()? > PACKAGES_MAX;
        Some(AccountCopy {
            product_id: ProductId::new(product_id.text()?).ok()?,
            account_id: account_id.integer()?,
            version: version.integer()?,
            row: row.text()?.to_owned(),
            packages: packages.text()?.to_owned(),
            package_changes: package_changes.text()?.to_owned(),
            orders: orders.text()?.to_owned(),
        })
    };
    let copies = rows.iter().map(|row| read(row).ok_or_else(|| StoreError::Corrupt("unreadable account".to_owned())));
    let copies = copies.collect::<Result<_, _>>()?;
    Ok(ChangedAccounts { copies, more })
}

struct NewEvents {
    rows: String,
    to: i64,
    count: i64,
}

fn new_events(database: &impl Database, told_to: i64) -> Result<NewEvents, StoreError> {
    let rows = database.execute(
        "SELECT json_group_array(json_array(event_id, product_id, type, at_ms, data)), max(position), count(*) FROM
            (SELECT e.position, e.event_id, a.product_id, e.type, e.at_ms, e.data FROM events AS e JOIN accounts AS a USING (account_id)
            WHERE e.position > ?1 ORDER BY e.position LIMIT ?2)",
        &[told_to.into(), EVENTS_MAX.into()],
    )?;
    let row = rows.first().map(Vec::as_slice).unwrap_or_default();
    let integer = |place: usize| row.get(place).and_then(Value::integer);
    Ok(NewEvents { rows: text(row.first()), to: integer(1).unwrap_or(told_to), count: integer(2).unwrap_or(0) })
}

struct ChangedDeliveries {
    rows: String,
    numbers: String,
    count: i64,
}

/// Of events that the index knows, or is told with this.
fn changed_deliveries(database: &impl Database, events_to: i64) -> Result<ChangedDeliveries, StoreError> {
    let statement = "SELECT json_group_array(change), count(*) FROM
        (SELECT change FROM delivery_changes WHERE position <= ?1 ORDER BY change LIMIT ?2)";
    let rows = database.execute(statement, &[events_to.into(), EVENTS_MAX.into()])?;
    let row = rows.first().map(Vec::as_slice).unwrap_or_default();
    let (numbers, count) = (text(row.first()), row.get(1).and_then(Value::integer).unwrap_or(0));
    // Of one that was forgotten since, only the change is left.
    let rows = database.execute(
        "SELECT json_group_array(json_array(e.event_id, d.kind, d.url, d.state, d.attempts, d.next_at_ms, d.last_status, d.last_error,
            d.ended_at_ms))
        FROM json_each(?1) AS v CROSS JOIN delivery_changes AS c ON c.change = v.value
        CROSS JOIN events AS e USING (position) CROSS JOIN deliveries AS d USING (position)",
        &[numbers.as_str().into()],
    )?;
    Ok(ChangedDeliveries { rows: text(first(&rows)), numbers, count })
}

/// Remembers that the index knows a telling, unless it is known to know a newer one.
pub(crate) fn remember(database: &impl Database, telling: &Telling) -> Result<(), StoreError> {
    database.transaction(|| {
        let statement = "INSERT INTO last_telling VALUES (1, ?1, ?2, ?3) ON CONFLICT DO UPDATE SET number = excluded.number,
            events_to = excluded.events_to, due_at_ms = excluded.due_at_ms WHERE excluded.number > number RETURNING 1";
        let parameters = [telling.number.into(), telling.events_to.into(), telling.due_at_ms.into()];
        if database.execute(statement, &parameters)?.is_empty() {
            return Ok(());
        }
        for account in &telling.accounts {
            let statement = "INSERT INTO told_accounts VALUES (?1, ?2) ON CONFLICT DO UPDATE SET version = excluded.version";
            database.execute(statement, &[account.account_id.into(), account.version.into()])?;
            let statement = "DELETE FROM package_changes WHERE change IN (SELECT value FROM json_each(?1))";
            database.execute(statement, &[account.package_changes.as_str().into()])?;
        }
        let statement = "DELETE FROM delivery_changes WHERE change IN (SELECT value FROM json_each(?1))";
        database.execute(statement, &[telling.delivery_changes.as_str().into()]).map(drop)
    })
}
