//! Why a configuration was refused. Each prints as one line that names the key, the value unless it may be secret, and what is accepted.

use std::fmt;

/// Why a configuration was refused. The merchant causes every one of them, and the same text with the same secrets fails again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The text is longer than any configuration.
    TooLong {
        /// The most bytes that are read.
        limit_bytes: usize,
    },
    /// The text is not TOML.
    Syntax {
        /// The line, from 1.
        line: usize,
        /// What the TOML reader says.
        message: String,
    },
    /// A key that does not exist here.
    UnknownKey {
        /// Its path.
        key: String,
        /// The keys that do.
        accepted: String,
    },
    /// A key that this version knows of and does not build: silence would let the merchant believe in it.
    Unavailable {
        /// Its path, and its value where that matters.
        what: String,
        /// What is available instead.
        accepted: &'static str,
    },
    /// A required key is absent.
    Missing {
        /// Its path.
        key: String,
        /// What is accepted.
        accepted: String,
    },
    /// A value that is not accepted.
    Invalid {
        /// The key's path.
        key: String,
        /// The value as written, or a word for it where it may be secret.
        value: String,
        /// What is accepted.
        accepted: String,
    },
    /// A secret that the configuration names has no value.
    SecretMissing {
        /// The key's path.
        key: String,
        /// The secret's name.
        name: String,
    },
    /// A secret has a value that cannot be used here.
    SecretInvalid {
        /// The key's path.
        key: String,
        /// The secret's name.
        name: String,
        /// What is accepted.
        accepted: &'static str,
    },
    /// Two entries claim what only one can have.
    Duplicate {
        /// The second one's key.
        key: String,
        /// What both claim.
        value: String,
        /// Who has it already.
        holder: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { limit_bytes } => write!(f, "the configuration is longer than {limit_bytes} bytes"),
            Self::Syntax { line, message } => write!(f, "line {line}: not TOML: {message}"),
            Self::UnknownKey { key, accepted } => write!(f, "{key}: unknown key; accepted: {accepted}"),
            Self::Unavailable { what, accepted } => write!(f, "{what} is not available in this version; accepted: {accepted}"),
            Self::Missing { key, accepted } => write!(f, "{key}: missing; accepted: {accepted}"),
            Self::Invalid { key, value, accepted } => write!(f, "{key}: {value} is not accepted; accepted: {accepted}"),
            Self::SecretMissing { key, name } => {
                write!(f, "{key}: the secret \"{name}\" has no value; accepted: a value that is not empty")
            }
            Self::SecretInvalid { key, name, accepted } => {
                write!(f, "{key}: the value of the secret \"{name}\" is not accepted; accepted: {accepted}")
            }
            Self::Duplicate { key, value, holder } => {
                write!(f, "{key}: {value} is taken by {holder}; accepted: one that no other has")
            }
        }
    }
}

impl std::error::Error for ConfigError {}
