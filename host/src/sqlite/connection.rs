//! One SQLite connection with the settings Spin gives it.
//!
//! A connection opens at its first statement and then stays open. It can reach no file but its own:
//! `ATTACH` is denied. Nothing else of SQLite is set, so journal mode and the rest are the guest's choice.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::{ToSqlOutput, ValueRef};

use crate::bindings::sqlite::{QueryResult, RowResult, Value};

/// How long a statement waits for another connection's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The first wait for a lock; each further one doubles up to [`BUSY_STEP_MAX`]. SQLite's own steps start at 1 ms and
/// reach 100 ms, far longer than a commit holds the lock.
const BUSY_STEP_MIN: Duration = Duration::from_micros(50);
const BUSY_STEP_MAX: Duration = Duration::from_millis(1);
/// A wait longer than this first hands the thread's other tasks to another thread, which costs more than a short wait.
const BUSY_INLINE_MAX: Duration = Duration::from_millis(2);
/// Prepared statements kept per connection.
const STATEMENT_CACHE: usize = 128;

/// A connection, opened when first needed.
#[derive(Debug)]
pub(crate) struct LazyConnection {
    path: Arc<Path>,
    open: Option<rusqlite::Connection>,
}

impl LazyConnection {
    pub(crate) fn new(path: Arc<Path>) -> Self {
        Self { path, open: None }
    }

    /// Runs one statement to its end. The error is SQLite's own message.
    pub(crate) fn execute(&mut self, statement: &str, parameters: &[Value]) -> Result<QueryResult, String> {
        self.query(statement, parameters).map_err(message)
    }

    /// The rowid of the last row inserted, 0 before the first.
    pub(crate) fn last_insert_rowid(&self) -> i64 {
        self.open.as_ref().map_or(0, rusqlite::Connection::last_insert_rowid)
    }

    /// The rows changed by the last statement that changes rows.
    pub(crate) fn changes(&self) -> u64 {
        self.open.as_ref().map_or(0, rusqlite::Connection::changes)
    }

    fn query(&mut self, statement: &str, parameters: &[Value]) -> rusqlite::Result<QueryResult> {
        let connection = match &mut self.open {
            Some(connection) => connection,
            closed => closed.insert(open(&self.path)?),
        };
        let mut statement = connection.prepare_cached(statement)?;
        let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
        let mut found = statement.query(rusqlite::params_from_iter(parameters.iter().map(Parameter)))?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            let values = (0..columns.len()).map(|column| value(row.get_ref(column)?));
            rows.push(RowResult { values: values.collect::<rusqlite::Result<_>>()? });
        }
        Ok(QueryResult { columns, rows })
    }
}

fn open(path: &Path) -> rusqlite::Result<rusqlite::Connection> {
    let connection = rusqlite::Connection::open(path)?;
    connection.busy_handler(Some(wait_for_lock))?;
    connection.authorizer(Some(authorize));
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}

/// `VACUUM` attaches a nameless temporary database, which reaches no file.
fn authorize(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Attach { filename } if !filename.is_empty() => Authorization::Deny,
        _ => Authorization::Allow,
    }
}

/// Called by SQLite whenever it finds the database locked; `attempt` counts from 0 for each wait. True tries again.
fn wait_for_lock(attempt: i32) -> bool {
    thread_local! {
        static WAITING_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    if attempt == 0 {
        WAITING_SINCE.set(Some(now));
    }
    let waited = WAITING_SINCE.get().map_or(Duration::ZERO, |since| now.duration_since(since));
    if waited >= BUSY_TIMEOUT {
        return false;
    }
    let doublings = u32::try_from(attempt).unwrap_or(0).min(5);
    let step = BUSY_STEP_MIN.saturating_mul(1 << doublings).min(BUSY_STEP_MAX);
    if waited < BUSY_INLINE_MAX {
        std::thread::sleep(step);
    } else {
        tokio::task::block_in_place(|| std::thread::sleep(step));
    }
    true
}

struct Parameter<'a>(&'a Value);

impl rusqlite::ToSql for Parameter<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Integer(integer) => ValueRef::Integer(*integer),
            Value::Real(real) => ValueRef::Real(*real),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(blob) => ValueRef::Blob(blob),
            Value::Null => ValueRef::Null,
        }))
    }
}

fn value(found: ValueRef<'_>) -> rusqlite::Result<Value> {
    Ok(match found {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(text) => Value::Text(std::str::from_utf8(text)?.to_owned()),
        ValueRef::Blob(blob) => Value::Blob(blob.to_owned()),
    })
}

fn message(error: rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message,
        rusqlite::Error::SqlInputError { msg, .. } => msg,
        other => other.to_string(),
    }
}
