//! Reads `caller` of a product.

use super::document::Value;
use super::error::ConfigError;
use super::header;
use super::secrets::{Form, Secrets};
use super::section::{Keys, Section, quoted_text};
use crate::caller::{AgentsKey, CallerPolicy};

const KINDS: &str = "{ kind = \"agents-jwt\", ... }, { kind = \"shared-secret\", ... } or { kind = \"none\" }";
const ACCESS_KEY_ACCEPTED: &str = "1 to 256 visible ASCII characters";
const KEYS_ACCEPTED: &str = "a list of { access_key = \"...\", secret_key = { secret = \"name\" } }";

/// The most keys of one product.
const KEYS_MAX: usize = 100;

/// Reads `caller` of a product.
pub(super) fn read(product: &Section<'_>, secrets: Secrets<'_>, warnings: &mut Vec<String>) -> Result<CallerPolicy, ConfigError> {
    let table = match product.get("caller") {
        None => return Err(product.missing("caller", KINDS)),
        Some(Value::Table(table)) => table,
        // A text in this place may well be the secret.
        Some(_) => return Err(product.invalid_unquoted("caller", KINDS)),
    };
    let path = product.key("caller");
    let any = Section::any(path.clone(), table);
    match any.required_text("kind", "\"agents-jwt\", \"shared-secret\", \"none\"")? {
        "agents-jwt" => {
            let section = Section::open(path, table, Keys::known(&["kind", "header", "keys"]))?;
            Ok(CallerPolicy::AgentsJwt { header: header_name(&section, "authorization")?, keys: agents_keys(&section, secrets)? })
        }
        "shared-secret" => {
            let section = Section::open(path, table, Keys::known(&["kind", "header", "secret"]))?;
            let secret = secrets.required(&section, "secret", Form::HeaderValue)?;
            Ok(CallerPolicy::SharedSecret { header: header_name(&section, "x-gateway-secret")?, secret })
        }
        "none" => {
            Section::open(path, table, Keys::known(&["kind"]))?;
            warnings.push(format!("{}: \"none\" lets everyone call; it is for loopback and tests", any.key("kind")));
            Ok(CallerPolicy::None)
        }
        _ => Err(any.invalid("kind", "\"agents-jwt\", \"shared-secret\", \"none\"")),
    }
}

fn header_name(section: &Section<'_>, default: &str) -> Result<String, ConfigError> {
    let name = section.text("header", header::NAME_ACCEPTED)?.unwrap_or(default);
    header::configurable_name(name).ok_or_else(|| section.invalid("header", header::NAME_ACCEPTED))
}

fn agents_keys(section: &Section<'_>, secrets: Secrets<'_>) -> Result<Vec<AgentsKey>, ConfigError> {
    let mut keys: Vec<AgentsKey> = Vec::new();
    for (position, value) in (1..).zip(section.required_list("keys", KEYS_MAX, KEYS_ACCEPTED)?) {
        let path = format!("{}[{position}]", section.key("keys"));
        let key = Section::open_value(path, value, Keys::known(&["access_key", "secret_key"]))?;
        let access_key = key.required_text("access_key", ACCESS_KEY_ACCEPTED)?;
        if !(1..=256).contains(&access_key.len()) || !access_key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(key.invalid("access_key", ACCESS_KEY_ACCEPTED));
        }
        if keys.iter().any(|earlier| earlier.access_key() == access_key) {
            let value = quoted_text(access_key);
            return Err(ConfigError::Duplicate { key: key.key("access_key"), value, holder: "an earlier key".to_owned() });
        }
        keys.push(AgentsKey::new(access_key, &secrets.required(&key, "secret_key", Form::Key)?));
    }
    Ok(keys)
}
