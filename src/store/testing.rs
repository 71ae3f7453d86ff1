//! A real SQLite for unit tests, behind the same port as the edges' own.

use std::cell::Cell;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, StatementStatus, ToSql};

use super::database::{Database, StoreError, Value};
use super::schema::prepare;
use crate::config::Durability;

pub(crate) struct Sqlite {
    connection: Connection,
    executed: Cell<usize>,
    worked: Cell<i32>,
}

/// An empty ledger in memory.
pub(crate) fn memory() -> Sqlite {
    let database = Sqlite { connection: Connection::open_in_memory().unwrap(), executed: Cell::new(0), worked: Cell::new(0) };
    // A database in memory has no write-ahead log; everything else is as in a file.
    database.migrate_without_log();
    database
}

/// A connection to the ledger in a file, ready for use.
pub(crate) fn file(path: &std::path::Path) -> Sqlite {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    let database = Sqlite { connection, executed: Cell::new(0), worked: Cell::new(0) };
    prepare(&database, Durability::Process).unwrap();
    database
}

impl Sqlite {
    /// How many statements were executed so far.
    pub(crate) fn executed(&self) -> usize {
        self.executed.get()
    }

    /// How many steps of SQLite's machine the last statement took.
    pub(crate) fn worked(&self) -> i32 {
        self.worked.get()
    }

    fn migrate_without_log(&self) {
        super::schema::run_migrations(self).unwrap();
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Integer(number) => ToSqlOutput::from(*number),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Null => ToSqlOutput::Borrowed(ValueRef::Null),
        })
    }
}

fn read(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8(text.to_vec()).unwrap()),
        ValueRef::Real(_) | ValueRef::Blob(_) => panic!("the schema has neither floats nor blobs"),
    }
}

impl Database for Sqlite {
    fn execute(&self, statement: &str, parameters: &[Value]) -> Result<Vec<Vec<Value>>, StoreError> {
        self.executed.set(self.executed.get() + 1);
        let run = || -> rusqlite::Result<Vec<Vec<Value>>> {
            let mut prepared = self.connection.prepare_cached(statement)?;
            let columns = prepared.column_count();
            let rows = prepared.query_map(rusqlite::params_from_iter(parameters), |row| {
                (0..columns).map(|column| Ok(read(row.get_ref(column)?))).collect()
            })?;
            let rows = rows.collect();
            self.worked.set(prepared.reset_status(StatementStatus::VmStep));
            rows
        };
        run().map_err(|error| StoreError::from_message(&error.to_string()))
    }
}

/// A connection of a process that dies after so many more statements: what comes after them never reaches the database.
pub(crate) struct Mortal {
    database: Sqlite,
    statements_left: Cell<usize>,
}

impl Mortal {
    pub(crate) fn new(database: Sqlite) -> Self {
        Self { database, statements_left: Cell::new(usize::MAX) }
    }

    pub(crate) fn die_after(&self, statements: usize) {
        self.statements_left.set(statements);
    }
}

impl Database for Mortal {
    fn execute(&self, statement: &str, parameters: &[Value]) -> Result<Vec<Vec<Value>>, StoreError> {
        let Some(left) = self.statements_left.get().checked_sub(1) else {
            return Err(StoreError::Unavailable("the process is dead".to_owned()));
        };
        self.statements_left.set(left);
        self.database.execute(statement, parameters)
    }
}
