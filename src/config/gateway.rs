//! Reads `[gateway]`.

use super::error::ConfigError;
use super::secrets::{Form, Secrets};
use super::section::{Keys, Section};
use super::types::{Durability, Gateway, LostHold, MissingRequestId};

const KEYS: Keys =
    Keys::known(&["admin_token", "read_token", "missing_request_id", "hold_lease", "lost_hold", "keep_calls", "durability"]);

/// Reads `[gateway]` from the top of the configuration.
pub(super) fn read(root: &Section<'_>, secrets: Secrets<'_>, warnings: &mut Vec<String>) -> Result<Gateway, ConfigError> {
    let Some(section) = root.section("gateway", KEYS)? else {
        return Err(root.missing("gateway.admin_token", "{ secret = \"admin_token\" }"));
    };
    let admin_token = secrets.required(&section, "admin_token", Form::Token)?;
    let (read_token_name, read_token) = secrets.optional(&section, "read_token", Form::Token)?;
    match &read_token {
        None if section.get("read_token").is_some() => {
            warnings.push(format!(
                "gateway.read_token: the secret \"{read_token_name}\" has no value, so that only the admin token reads"
            ));
        }
        Some(read_token) if admin_token.matches(read_token.expose().as_bytes()) => {
            warnings.push("gateway.read_token: it is the admin token, so that whoever may read may also write".to_owned());
        }
        _ => {}
    }
    let missing = [("generate", MissingRequestId::Generate), ("reject", MissingRequestId::Reject)];
    let lost = [("charge", LostHold::Charge), ("release", LostHold::Release)];
    let durability = [("power", Durability::Power), ("process", Durability::Process)];
    Ok(Gateway {
        admin_token,
        read_token,
        missing_request_id: section.choice("missing_request_id", MissingRequestId::Generate, &missing)?,
        hold_lease_ms: section.duration_ms("hold_lease", "30s", "1s", "24h")?,
        lost_hold: section.choice("lost_hold", LostHold::Charge, &lost)?,
        keep_calls_ms: section.duration_ms("keep_calls", "90d", "30d", "3660d")?,
        durability: section.choice("durability", Durability::Power, &durability)?,
    })
}
