//! The configuration's text as values: TOML's, without the kinds of numbers and dates that no key takes.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;

/// A value of the text.
pub(super) enum Value {
    String(String),
    Integer(i64),
    /// As it is written.
    Float(String),
    Boolean(bool),
    Date,
    Array(Vec<Self>),
    Table(Table),
}

/// Keys with their values, in the order of the keys.
#[derive(Default)]
pub(super) struct Table(Vec<(String, Value)>);

impl Table {
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        let syntax = |error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start);
            // The message alone: with the line it stands in, it could show a secret that was written down.
            ConfigError::Syntax { line: line(text, start), message: error.message().replace('\n', " ") }
        };
        let document = DeTable::parse(text).map_err(syntax)?.into_inner();
        Self::read(document).map_err(|TooLarge { start }| ConfigError::Syntax {
            line: line(text, start),
            message: "integer number overflowed".to_owned(),
        })
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    fn read(table: DeTable<'_>) -> Result<Self, TooLarge> {
        let pair = |(key, value): (Spanned<_>, _)| Ok((String::from(key.into_inner()), Value::read(value)?));
        table.into_iter().map(pair).collect::<Result<_, _>>().map(Self)
    }
}

impl Value {
    pub(super) fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    pub(super) const fn as_bool(&self) -> Option<bool> {
        if let Self::Boolean(truth) = self { Some(*truth) } else { None }
    }

    pub(super) const fn as_integer(&self) -> Option<i64> {
        if let Self::Integer(number) = self { Some(*number) } else { None }
    }

    /// The value of a key, where this is a table that has it.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        if let Self::Table(table) = self { table.get(name) } else { None }
    }

    fn read(value: Spanned<DeValue<'_>>) -> Result<Self, TooLarge> {
        let start = value.span().start;
        Ok(match value.into_inner() {
            DeValue::String(text) => Self::String(text.into_owned()),
            DeValue::Integer(number) => {
                Self::Integer(i64::from_str_radix(number.as_str(), number.radix()).map_err(|_| TooLarge { start })?)
            }
            DeValue::Float(number) => Self::Float(number.as_str().to_owned()),
            DeValue::Boolean(truth) => Self::Boolean(truth),
            DeValue::Datetime(_) => Self::Date,
            DeValue::Array(items) => Self::Array(items.into_iter().map(Self::read).collect::<Result<_, _>>()?),
            DeValue::Table(table) => Self::Table(Table::read(table)?),
        })
    }
}

/// An integer that does not fit, and where it stands.
struct TooLarge {
    start: usize,
}

/// The line of a position, from 1.
fn line(text: &str, position: usize) -> usize {
    1 + text.bytes().take(position).filter(|byte| *byte == b'\n').count()
}
