//! Spin's SQLite behind the store's port, by the synchronous calls: nothing else of the instance runs between two statements.

use spin_sdk::sqlite::wit::sqlite::{Connection, Error, Value as SpinValue};

use crate::store::{Database, StoreError, Value};

/// One connection to the default database.
pub(super) struct Sqlite(Connection);

impl Sqlite {
    pub(super) fn open() -> Result<Self, StoreError> {
        Connection::open("default").map(Self).map_err(|error| read_error(&error))
    }
}

impl Database for Sqlite {
    fn execute(&self, statement: &str, parameters: &[Value]) -> Result<Vec<Vec<Value>>, StoreError> {
        let parameters: Vec<SpinValue> = parameters.iter().map(write_value).collect();
        let result = self.0.execute(statement, &parameters).map_err(|error| read_error(&error))?;
        result.rows.into_iter().map(|row| row.values.into_iter().map(read_value).collect()).collect()
    }
}

fn write_value(value: &Value) -> SpinValue {
    match value {
        Value::Integer(number) => SpinValue::Integer(*number),
        Value::Text(text) => SpinValue::Text(text.clone()),
        Value::Null => SpinValue::Null,
    }
}

fn read_value(value: SpinValue) -> Result<Value, StoreError> {
    match value {
        SpinValue::Integer(number) => Ok(Value::Integer(number)),
        SpinValue::Text(text) => Ok(Value::Text(text)),
        SpinValue::Null => Ok(Value::Null),
        // The schema is strict and has neither.
        SpinValue::Real(_) | SpinValue::Blob(_) => Err(StoreError::Corrupt("a column of a foreign type".to_owned())),
    }
}

fn read_error(error: &Error) -> StoreError {
    match error {
        Error::Io(message) => StoreError::from_message(message),
        Error::NoSuchDatabase => StoreError::Unavailable("the manifest names no database \"default\"".to_owned()),
        Error::AccessDenied => StoreError::Unavailable("access to the database is denied".to_owned()),
        Error::InvalidConnection => StoreError::Unavailable("the connection is closed".to_owned()),
        Error::DatabaseFull => StoreError::Unavailable("the database is full".to_owned()),
    }
}
