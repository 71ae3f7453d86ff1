//! The port to SQL: one connection that runs one statement at a time and returns all its rows.

use std::fmt;

use serde::Serialize;

/// The JSON of something that the store wrote together: of numbers, words and flags, so that nothing of it can fail to serialize.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A value that goes into a statement or comes out of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    Integer(i64),
    /// Text.
    Text(String),
    /// Nothing.
    Null,
}

impl Value {
    /// The number, where it is one.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Text(_) | Self::Null => None,
        }
    }

    /// The text, where it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Integer(_) | Self::Null => None,
        }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One connection. Two of them see each other's commits and nothing else of each other.
pub trait Database {
    /// Runs one statement to its end.
    ///
    /// # Errors
    /// [`StoreError`]; a statement that fails has changed nothing.
    fn execute(&self, statement: &str, parameters: &[Value]) -> Result<Vec<Vec<Value>>, StoreError>;

    /// The most values that one statement may bind.
    const PARAMETERS_MAX: usize = 32_766;

    /// What makes the refusal of an INSERT or UPDATE end the transaction that it is in, so that the engine need not be able to undo the statement alone, for
    /// which it would copy every page first. Nothing where the engine owns the transactions.
    const OR_ROLLBACK: &'static str = "OR ROLLBACK";

    /// Runs something in a transaction under the write lock.
    ///
    /// # Errors
    /// The first error; nothing was written then.
    fn transaction<T>(&self, run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.execute("BEGIN IMMEDIATE", &[])?;
        let result = run().and_then(|value| self.execute("COMMIT", &[]).map(|_| value));
        if result.is_err() {
            // The first error is the one to report. A rollback fails where the database has rolled back by itself.
            let _ = self.execute("ROLLBACK", &[]);
        }
        result
    }

    /// Runs statements that only read, and that see the database as it is at one moment.
    ///
    /// # Errors
    /// The first error.
    fn snapshot<T>(&self, read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.execute("BEGIN", &[])?;
        let result = read();
        // A transaction that only read has nothing to lose, however it ends; one that cannot end is ended with its connection.
        let ended = self.execute("ROLLBACK", &[]);
        let value = result?;
        ended.map(|_| value)
    }
}

/// Why the store could not do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Another instance has committed since the log was followed. Follow it, decide again, commit.
    Stale,
    /// A call's request id was claimed before. Load, decide again, commit.
    ClaimTaken,
    /// A package of that id belongs to another account. The operator causes it; no retry helps.
    PackageIdTaken,
    /// The database cannot be used now: locked beyond its waiting time, full, unreachable. Retry later; the text is for the log.
    Unavailable(String),
    /// What is stored cannot be what this version wrote: a newer schema, a foreign file, an altered row. The operator causes it; no retry helps.
    Corrupt(String),
}

impl StoreError {
    /// From the message of the database itself.
    #[must_use]
    pub fn from_message(message: &str) -> Self {
        if message.contains("UNIQUE constraint failed: steps.position") {
            Self::Stale
        } else if message.contains("NOT NULL constraint failed: steps.kind")
            || message.contains("UNIQUE constraint failed: calls.")
        {
            Self::ClaimTaken
        } else if message.contains("UNIQUE constraint failed: packages.package_id") {
            Self::PackageIdTaken
        } else if message.contains("constraint failed") {
            Self::Corrupt(message.to_owned())
        } else {
            Self::Unavailable(message.to_owned())
        }
    }

    pub(super) fn unreadable(what: &str) -> Self {
        Self::Corrupt(format!("unreadable {what}"))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale => f.write_str("another instance has committed meanwhile"),
            Self::ClaimTaken => f.write_str("the request id is claimed"),
            Self::PackageIdTaken => f.write_str("the package id belongs to another account"),
            Self::Unavailable(reason) => write!(f, "the database is unavailable: {reason}"),
            Self::Corrupt(reason) => write!(f, "the database holds what it cannot hold: {reason}"),
        }
    }
}

impl std::error::Error for StoreError {}
