//! One table of the configuration with its path: reads keys as checked values, and knows how to name them when they are refused.

use std::borrow::Cow;

use super::document::{Table, Value};
use super::error::ConfigError;
use super::units;

/// The longest value that a refusal quotes, in characters.
const QUOTED_LENGTH_MAX: usize = 80;

/// Which keys a table may have.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    /// Those that are read.
    pub(super) known: &'static [&'static str],
    /// Those that other versions read, and this one refuses.
    pub(super) unavailable: &'static [&'static str],
}

impl Keys {
    /// These keys, and none that only other versions read.
    pub(super) const fn known(known: &'static [&'static str]) -> Self {
        Self { known, unavailable: &[] }
    }
}

/// One table whose keys are all known.
pub(super) struct Section<'t> {
    path: String,
    table: &'t Table,
}

impl<'t> Section<'t> {
    /// Opens a table, refusing keys that do not belong in it: a misspelt key is named before the one that is missing for it.
    pub(super) fn open(path: String, table: &'t Table, keys: Keys) -> Result<Self, ConfigError> {
        let section = Self { path, table };
        for (name, _) in table.pairs() {
            if keys.unavailable.contains(&name) {
                return Err(ConfigError::Unavailable { what: section.key(name), accepted: "a configuration without it" });
            }
            if !keys.known.contains(&name) {
                let accepted = keys.known.join(", ");
                return Err(ConfigError::UnknownKey { key: section.quoted_key(name), accepted });
            }
        }
        Ok(section)
    }

    /// Opens a table whose keys are names of the merchant's choice, or are checked once more is known.
    pub(super) const fn any(path: String, table: &'t Table) -> Self {
        Self { path, table }
    }

    /// Opens a value that must be a table.
    pub(super) fn open_value(path: String, value: &'t Value, keys: Keys) -> Result<Self, ConfigError> {
        match value {
            Value::Table(table) => Self::open(path, table, keys),
            other => Err(ConfigError::Invalid { key: path, value: quoted(other), accepted: "a table".to_owned() }),
        }
    }

    /// The path of a key.
    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The path of a key that anyone may have chosen, on one line and cut where it is long.
    pub(super) fn quoted_key(&self, name: &str) -> String {
        let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if bare && name.len() <= QUOTED_LENGTH_MAX { self.key(name) } else { self.key(&quoted_text(name)) }
    }

    /// The value of a key.
    pub(super) fn get(&self, name: &str) -> Option<&'t Value> {
        self.table.get(name)
    }

    /// Every key with its value.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'t str, &'t Value)> {
        self.table.pairs()
    }

    /// The refusal of an absent key.
    pub(super) fn missing(&self, name: &str, accepted: impl Into<String>) -> ConfigError {
        ConfigError::Missing { key: self.key(name), accepted: accepted.into() }
    }

    /// The refusal of a value, which it quotes.
    pub(super) fn invalid(&self, name: &str, accepted: impl Into<String>) -> ConfigError {
        let value = self.get(name).map_or_else(|| "nothing".to_owned(), quoted);
        ConfigError::Invalid { key: self.key(name), value, accepted: accepted.into() }
    }

    /// The refusal of a value in a list, which it quotes.
    pub(super) fn invalid_item(&self, name: &str, position: usize, value: &Value, accepted: impl Into<String>) -> ConfigError {
        ConfigError::Invalid { key: format!("{}[{position}]", self.key(name)), value: quoted(value), accepted: accepted.into() }
    }

    /// The refusal of a value that may be secret, which it does not quote.
    pub(super) fn invalid_unquoted(&self, name: &str, accepted: impl Into<String>) -> ConfigError {
        ConfigError::Invalid { key: self.key(name), value: "the value (not shown)".to_owned(), accepted: accepted.into() }
    }

    /// A table below this one.
    pub(super) fn section(&self, name: &str, keys: Keys) -> Result<Option<Section<'t>>, ConfigError> {
        self.get(name).map(|value| Section::open_value(self.key(name), value, keys)).transpose()
    }

    /// A text.
    pub(super) fn text(&self, name: &str, accepted: &str) -> Result<Option<&'t str>, ConfigError> {
        self.get(name).map(|value| value.as_str().ok_or_else(|| self.invalid(name, accepted))).transpose()
    }

    /// A text that must be there.
    pub(super) fn required_text(&self, name: &str, accepted: &str) -> Result<&'t str, ConfigError> {
        self.text(name, accepted)?.ok_or_else(|| self.missing(name, accepted))
    }

    /// A list; an absent one is empty.
    pub(super) fn list(&self, name: &str, length_max: usize, accepted: &str) -> Result<&'t [Value], ConfigError> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Value::Array(list)) if list.len() <= length_max => Ok(list),
            Some(Value::Array(list)) => Err(ConfigError::Invalid {
                key: self.key(name),
                value: format!("a list of {}", list.len()),
                accepted: format!("{accepted}, at most {length_max} of them"),
            }),
            Some(_) => Err(self.invalid(name, accepted)),
        }
    }

    /// A list that must be there, with something in it.
    pub(super) fn required_list(&self, name: &str, length_max: usize, accepted: &str) -> Result<&'t [Value], ConfigError> {
        match self.get(name) {
            None => Err(self.missing(name, accepted)),
            Some(Value::Array(list)) if (1..=length_max).contains(&list.len()) => Ok(list),
            Some(Value::Array(list)) => Err(ConfigError::Invalid {
                key: self.key(name),
                value: format!("a list of {}", list.len()),
                accepted: format!("{accepted}, from 1 to {length_max} of them"),
            }),
            Some(_) => Err(self.invalid(name, accepted)),
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, name: &str, default: T, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let chosen = value.as_str().and_then(|text| choices.iter().find(|(word, _)| *word == text));
        chosen.map(|(_, choice)| *choice).ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.invalid(name, words.join(", "))
        })
    }

    /// True or false.
    pub(super) fn truth(&self, name: &str, default: bool) -> Result<bool, ConfigError> {
        self.get(name).map_or(Ok(default), |value| value.as_bool().ok_or_else(|| self.invalid(name, "true, false")))
    }

    /// A duration within bounds, in milliseconds. Bounds are written like values, so that a refusal shows them as people write them.
    pub(super) fn duration_ms(&self, name: &str, default: &str, least: &str, most: &str) -> Result<i64, ConfigError> {
        let text = self.text(name, units::DURATION_ACCEPTED)?.unwrap_or(default);
        within(units::duration_ms, text, least, most)
            .ok_or_else(|| self.invalid(name, format!("{}, from \"{least}\" to \"{most}\"", units::DURATION_ACCEPTED)))
    }

    /// A size within bounds, in bytes.
    pub(super) fn size_bytes(&self, name: &str, default: &str, least: &str, most: &str) -> Result<u64, ConfigError> {
        let text = match self.get(name) {
            None => Some(Cow::Borrowed(default)),
            Some(Value::Integer(size_bytes)) => Some(Cow::Owned(size_bytes.to_string())),
            Some(Value::String(text)) => Some(Cow::Borrowed(text.as_str())),
            Some(_) => None,
        };
        text.and_then(|text| within(units::size_bytes, &text, least, most))
            .ok_or_else(|| self.invalid(name, format!("{}, from \"{least}\" to \"{most}\"", units::SIZE_ACCEPTED)))
    }

    /// A whole number that `convert` takes.
    pub(super) fn integer<T>(
        &self,
        name: &str,
        default: T,
        accepted: &str,
        convert: impl FnOnce(i64) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.as_integer().and_then(convert).ok_or_else(|| self.invalid(name, accepted))
    }
}

/// What `read` makes of `text`, if it is within bounds that are written the same way.
fn within<T: PartialOrd>(read: fn(&str) -> Option<T>, text: &str, least: &str, most: &str) -> Option<T> {
    let (value, least, most) = (read(text)?, read(least)?, read(most)?);
    (least..=most).contains(&value).then_some(value)
}

/// A value as a refusal quotes it: on one line, and cut where it is long.
fn quoted(value: &Value) -> String {
    match value {
        Value::String(text) => quoted_text(text),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.clone(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Date => "a date".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

/// A text in quotes, on one line, and cut where it is long.
pub(super) fn quoted_text(text: &str) -> String {
    if text.chars().count() <= QUOTED_LENGTH_MAX {
        format!("{text:?}")
    } else {
        let start: String = text.chars().take(QUOTED_LENGTH_MAX).collect();
        format!("{start:?}...")
    }
}
