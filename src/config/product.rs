//! Reads one `[[product]]`.

use super::address;
use super::caller;
use super::document::{Table, Value};
use super::error::ConfigError;
use super::header;
use super::meter;
use super::secrets::{Form, Secrets};
use super::section::{Keys, Section};
use super::types::{Backend, Drain, Meter, Product};
use crate::ids::ProductId;
use crate::ledger::{ALERTS_MAX, Threshold};
use crate::quantity::Quantity;
use crate::secret::Secret;

const KEYS: Keys = Keys {
    known: &[
        "id",
        "route",
        "backend",
        "timeout",
        "idle_timeout",
        "drain",
        "exhausted_status",
        "max_request_body",
        "replay_limit",
        "backend_headers",
        "caller",
        "meter",
        "alerts",
    ],
    unavailable: &[],
};

/// The most headers that a product sets.
const BACKEND_HEADERS_MAX: usize = 32;

/// The most that their names and values may have together: a request that carries them must fit what the runtime sends.
const BACKEND_HEADERS_BYTES_MAX: usize = 32 * 1024;

/// The whole of a percentage.
const HUNDRED: Quantity = match Quantity::from_parts(100 * Quantity::PARTS_PER_UNIT) {
    Some(hundred) => hundred,
    None => Quantity::MAX,
};

/// The most replays of one call.
const REPLAY_LIMIT_MAX: u32 = 1_000_000;

/// Reads the product at `position`, from 1.
pub(super) fn read(
    position: usize,
    value: &Value,
    secrets: Secrets<'_>,
    warnings: &mut Vec<String>,
) -> Result<Product, ConfigError> {
    // From here on the product is named by its id where it has one, which people find faster than its position.
    let id = value.get("id").and_then(Value::as_str).and_then(|text| ProductId::new(text).ok());
    let path = id.as_ref().map_or_else(|| format!("product[{position}]"), |id| format!("product[{:?}]", id.as_str()));
    let section = Section::open_value(path, value, KEYS)?;
    let id_accepted = "1 to 128 visible ASCII characters, other than \".\" and \"..\"";
    let id = id.map_or_else(|| section.required_text("id", id_accepted).and(Err(section.invalid("id", id_accepted))), Ok)?;
    let route_text = section.required_text("route", address::ROUTE_ACCEPTED)?;
    let route = address::route(route_text).ok_or_else(|| section.invalid("route", address::ROUTE_ACCEPTED))?;
    let meter = meter::read(&section)?;
    // Of calls that are metered by usage, bodies are read whole: they must fit an instance.
    let (replay_limit, max_request_body) = match meter {
        Meter::Call { .. } => (1, "1 TiB"),
        Meter::Usage(_) => (0, "64 MiB"),
    };
    Ok(Product {
        id,
        route,
        backend: backend(&section)?,
        timeout_ms: section.duration_ms("timeout", "30s", "1ms", "300s")?,
        idle_timeout_ms: section.duration_ms("idle_timeout", "60s", "1ms", "24h")?,
        drain: drain(&section)?,
        exhausted_status: section.integer("exhausted_status", 402, "402, 403, 429", |status| match status {
            402 => Some(402),
            403 => Some(403),
            429 => Some(429),
            _ => None,
        })?,
        max_request_body_bytes: section.size_bytes("max_request_body", "1 MiB", "1 B", max_request_body)?,
        replay_limit: section.integer("replay_limit", replay_limit, "a whole number from 0 to 1000000", |limit| {
            u32::try_from(limit).ok().filter(|limit| *limit <= REPLAY_LIMIT_MAX)
        })?,
        backend_headers: backend_headers(&section, secrets)?,
        caller: caller::read(&section, secrets, warnings)?,
        meter,
        alerts: alerts(&section)?,
    })
}

fn alerts(section: &Section<'_>) -> Result<Vec<Threshold>, ConfigError> {
    let values = section.list("alerts", ALERTS_MAX, "a list of { percent = \"20\" } or { remaining = \"100\" }")?;
    (1..).zip(values).map(|(position, value)| threshold(format!("{}[{position}]", section.key("alerts")), value)).collect()
}

fn threshold(path: String, value: &Value) -> Result<Threshold, ConfigError> {
    let section = Section::open_value(path, value, Keys::known(&["percent", "remaining"]))?;
    let percent_accepted = "a decimal text above \"0\" and up to \"100\", with at most 4 decimals, in place of `remaining`";
    let remaining_accepted = "a decimal text such as \"100\" or \"0.5\", with at most 4 decimals, in place of `percent`";
    let read = |name: &str, accepted: &str| {
        let text = section.text(name, accepted)?;
        text.map(|text| text.parse::<Quantity>().map_err(|_| section.invalid(name, accepted))).transpose()
    };
    match (read("percent", percent_accepted)?, read("remaining", remaining_accepted)?) {
        (Some(percent), None) if !percent.is_zero() && percent <= HUNDRED => Ok(Threshold::Percent(percent)),
        (None, Some(level)) => Ok(Threshold::Remaining(level)),
        (None, None) => Err(section.missing("percent", percent_accepted)),
        (Some(_), _) => Err(section.invalid("percent", percent_accepted)),
    }
}

fn backend(section: &Section<'_>) -> Result<Backend, ConfigError> {
    let text = section.required_text("backend", address::BACKEND_ACCEPTED)?;
    address::backend(text).ok_or_else(|| {
        // What stands before an @ is a password, and a query often carries a key.
        let may_be_secret = text.contains(['@', '?', '#']);
        if may_be_secret {
            section.invalid_unquoted("backend", address::BACKEND_ACCEPTED)
        } else {
            section.invalid("backend", address::BACKEND_ACCEPTED)
        }
    })
}

/// `drain` is about learning the usage: calls that cost one unit whatever is in them have no use for it, and it is checked all the same.
fn drain(section: &Section<'_>) -> Result<Drain, ConfigError> {
    let table = Table::default();
    let drain = section.section("drain", Keys::known(&["bytes", "time"]))?;
    let drain = drain.unwrap_or_else(|| Section::any(section.key("drain"), &table));
    Ok(Drain {
        bytes_max: drain.size_bytes("bytes", "1 MiB", "0", "1 GiB")?,
        time_max_ms: drain.duration_ms("time", "30s", "0s", "1h")?,
    })
}

fn backend_headers(section: &Section<'_>, secrets: Secrets<'_>) -> Result<Vec<(String, Secret)>, ConfigError> {
    let Some(Value::Table(table)) = section.get("backend_headers") else {
        return section
            .get("backend_headers")
            .map_or(Ok(Vec::new()), |_| Err(section.invalid_unquoted("backend_headers", "a table")));
    };
    let accepted = || format!("{}, each name once, at most {BACKEND_HEADERS_MAX} names", header::NAME_ACCEPTED);
    let headers = Section::any(section.key("backend_headers"), table);
    let mut read: Vec<(String, Secret)> = Vec::with_capacity(table.len().min(BACKEND_HEADERS_MAX));
    for (name, value) in headers.pairs() {
        let is_new = |name: &String| read.len() < BACKEND_HEADERS_MAX && read.iter().all(|(earlier, _)| earlier != name);
        let lower_case = header::configurable_name(name).filter(is_new);
        let lower_case =
            lower_case.ok_or_else(|| ConfigError::UnknownKey { key: headers.quoted_key(name), accepted: accepted() })?;
        let value = match value {
            Value::String(text) if header::is_value(text) => Secret::new(text.as_str()),
            Value::Table(_) => secrets.required(&headers, name, Form::HeaderValue)?,
            _ => return Err(headers.invalid_unquoted(name, "{ secret = \"name\" }, or a text that a header can carry")),
        };
        read.push((lower_case, value));
    }
    let bytes: usize = read.iter().map(|(name, value)| name.len() + value.expose().len()).sum();
    if bytes > BACKEND_HEADERS_BYTES_MAX {
        return Err(section.invalid_unquoted("backend_headers", "headers of at most 32 KiB together"));
    }
    Ok(read)
}
