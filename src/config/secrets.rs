//! Secrets of the configuration: `{ secret = "name" }`, looked up once. No value of one is ever part of a refusal.

use super::document::Value;
use super::error::ConfigError;
use super::header;
use super::hook::SigningSecret;
use super::section::{Keys, Section};
use crate::secret::Secret;

/// How a secret is written.
const ACCEPTED: &str = "{ secret = \"name\" }, with a name of at most 64 lower-case letters, digits and underscores";

/// The longest secret: what a header takes.
const LENGTH_MAX: usize = header::VALUE_LENGTH_MAX;

/// What a secret must be fit for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A bearer token.
    Token,
    /// The value of a header.
    HeaderValue,
    /// A key for signatures.
    Key,
    /// A key for signatures as Standard Webhooks writes it.
    WebhookKey,
}

impl Form {
    fn fits(self, text: &str) -> bool {
        text.len() <= LENGTH_MAX
            && match self {
                Self::Token => text.bytes().all(|byte| byte.is_ascii_graphic()),
                Self::HeaderValue => header::is_value(text),
                Self::Key => true,
                Self::WebhookKey => SigningSecret::read(text).is_some(),
            }
    }

    const fn accepted(self) -> &'static str {
        match self {
            Self::Token => "at most 8192 visible ASCII characters",
            Self::HeaderValue => "what a header can carry: at most 8192 bytes, no control characters, no space at either end",
            Self::Key => "at most 8192 bytes",
            Self::WebhookKey => "whsec_ and 24 to 64 bytes in base64, as Standard Webhooks writes a secret",
        }
    }
}

/// Where secrets are looked up.
#[derive(Clone, Copy)]
pub(super) struct Secrets<'a>(pub(super) &'a dyn Fn(&str) -> Option<String>);

impl Secrets<'_> {
    /// A secret that must be there.
    pub(super) fn required(self, section: &Section<'_>, name: &str, form: Form) -> Result<Secret, ConfigError> {
        let value = section.get(name).ok_or_else(|| section.missing(name, ACCEPTED))?;
        let secret_name = secret_name(section, name, value)?;
        let missing = || ConfigError::SecretMissing { key: section.key(name), name: secret_name.to_owned() };
        self.look_up(section, name, secret_name, form)?.ok_or_else(missing)
    }

    /// A secret that may have no value; without the key, the one called like the key. The name comes with it.
    pub(super) fn optional<'t>(
        self,
        section: &Section<'t>,
        name: &'t str,
        form: Form,
    ) -> Result<(&'t str, Option<Secret>), ConfigError> {
        let secret_name = section.get(name).map_or(Ok(name), |value| secret_name(section, name, value))?;
        Ok((secret_name, self.look_up(section, name, secret_name, form)?))
    }

    /// The keys for signatures in a list that must be there.
    pub(super) fn signing(self, section: &Section<'_>, name: &str, length_max: usize) -> Result<Vec<SigningSecret>, ConfigError> {
        let values = section.required_list(name, length_max, &format!("a list of {ACCEPTED}"))?;
        let read = |(position, value): (usize, &Value)| {
            let name = format!("{name}[{position}]");
            let secret_name = secret_name(section, &name, value)?;
            let secret = self.look_up(section, &name, secret_name, Form::WebhookKey)?;
            let missing = || ConfigError::SecretMissing { key: section.key(&name), name: secret_name.to_owned() };
            secret.and_then(|secret| SigningSecret::read(secret.expose())).ok_or_else(missing)
        };
        (1..).zip(values).map(read).collect()
    }

    fn look_up(self, section: &Section<'_>, name: &str, secret_name: &str, form: Form) -> Result<Option<Secret>, ConfigError> {
        let Some(text) = (self.0)(secret_name) else { return Ok(None) };
        // A secret that was read from a file ends with the file's last line ending, which nobody means.
        let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        if text.is_empty() {
            Ok(None)
        } else if form.fits(text) {
            Ok(Some(Secret::new(text)))
        } else {
            Err(ConfigError::SecretInvalid { key: section.key(name), name: secret_name.to_owned(), accepted: form.accepted() })
        }
    }
}

fn secret_name<'t>(section: &Section<'t>, name: &str, value: &'t Value) -> Result<&'t str, ConfigError> {
    let Value::Table(table) = value else { return Err(section.invalid_unquoted(name, ACCEPTED)) };
    let reference = Section::open(section.key(name), table, Keys::known(&["secret"]))?;
    let is_name = |text: &&str| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    // What stands there instead of a name may be the secret itself.
    reference.get("secret").and_then(Value::as_str).filter(is_name).ok_or_else(|| section.invalid_unquoted(name, ACCEPTED))
}
