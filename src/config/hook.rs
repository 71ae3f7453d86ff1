//! Reads `[[webhook]]` and `[repurchase]`: where events and orders go, and the keys that sign them.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::address::{self, HOOK_ACCEPTED};
use super::document::Value;
use super::error::ConfigError;
use super::secrets::Secrets;
use super::section::{Keys, Section};
use crate::ledger::EventKind;

/// The most webhooks: each event is a delivery to every one of them.
const WEBHOOKS_MAX: usize = 16;

/// The most secrets of one endpoint: each gives a signature.
const SECRETS_MAX: usize = 4;

/// The most patterns of one webhook's `events`: there are fewer types.
const EVENTS_MAX: usize = 32;

/// Before the base64 of a signing secret.
const SECRET_PREFIX: &str = "whsec_";

/// Every type of event.
pub(crate) const EVENT_TYPES: [&str; 14] = [
    EventKind::PackageGranted.as_str(),
    EventKind::PackageExhausted.as_str(),
    EventKind::PackageExpired.as_str(),
    EventKind::PackageFrozen.as_str(),
    EventKind::PackageUnfrozen.as_str(),
    EventKind::PackageReleased.as_str(),
    EventKind::BalanceLow.as_str(),
    EventKind::BalanceExhausted.as_str(),
    EventKind::RepurchaseRequested.as_str(),
    EventKind::RepurchaseSucceeded.as_str(),
    EventKind::RepurchaseFailed.as_str(),
    EventKind::RepurchaseSuspended.as_str(),
    EventKind::CallOverrun.as_str(),
    EventKind::CallLost.as_str(),
];

/// Who is told of events.
#[derive(Debug)]
pub struct Webhook {
    /// Where they are posted.
    pub url: HookUrl,
    /// What signs them: the first is the one in use, the others are being rotated in or out. Never empty.
    pub secrets: Vec<SigningSecret>,
    /// Which of them.
    pub events: EventFilter,
}

/// Who takes orders of the next package.
#[derive(Debug)]
pub struct RepurchaseHook {
    /// Where they are posted.
    pub url: HookUrl,
    /// What signs them. Never empty.
    pub secrets: Vec<SigningSecret>,
    /// How long an order may stay without its outcome.
    pub timeout_ms: i64,
}

/// Where something is posted.
#[derive(Clone, PartialEq, Eq)]
pub struct HookUrl {
    https: bool,
    text: String,
    /// Where in the text the host begins, and where path and query do.
    authority_start: usize,
    target_start: usize,
}

impl HookUrl {
    /// Takes parts that were checked: a host with its port, and a path with its query.
    pub(super) fn new(https: bool, authority: String, target: String) -> Self {
        let scheme = if https { "https://" } else { "http://" };
        let (authority_start, target_start) = (scheme.len(), scheme.len().saturating_add(authority.len()));
        Self { https, text: [scheme, &authority, &target].concat(), authority_start, target_start }
    }

    /// The whole URL, in one spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether over TLS.
    #[must_use]
    pub const fn is_https(&self) -> bool {
        self.https
    }

    /// Host, and port where the URL names one.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.text.get(self.authority_start..self.target_start).unwrap_or_default()
    }

    /// Path and query.
    #[must_use]
    pub fn target(&self) -> &str {
        self.text.get(self.target_start..).unwrap_or_default()
    }
}

impl fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Path and query may be all that keeps others from posting there.
        write!(f, "HookUrl({}..)", self.text.get(..self.target_start).unwrap_or_default())
    }
}

/// A key that signs messages.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Vec<u8>);

impl SigningSecret {
    /// Reads a secret as Standard Webhooks writes it: `whsec_` and 24 to 64 bytes in base64.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let key = STANDARD.decode(text.strip_prefix(SECRET_PREFIX)?).ok()?;
        (24..=64).contains(&key.len()).then_some(Self(key))
    }

    /// The key's bytes, to be signed with and never to be logged.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(..)")
    }
}

/// Which events a webhook is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFilter(Vec<String>);

impl EventFilter {
    /// Whether events of this type are told.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        self.0.iter().any(|pattern| is_match(pattern, event_type))
    }

    /// The patterns as they are configured.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        &self.0
    }
}

/// Whether a pattern, which is a type or a beginning with `*` after it, stands for a type.
fn is_match(pattern: &str, event_type: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => event_type.starts_with(prefix),
        None => event_type == pattern,
    }
}

/// A pattern stands for all, for all that begin with whole words, or for one; and for something that there is.
fn is_pattern(text: &str) -> bool {
    let is_whole = text.strip_suffix('*').is_none_or(|prefix| prefix.is_empty() || prefix.ends_with('.'));
    is_whole && EVENT_TYPES.iter().any(|event_type| is_match(text, event_type))
}

/// Reads every `[[webhook]]`.
pub(super) fn webhooks(root: &Section<'_>, secrets: Secrets<'_>) -> Result<Vec<Webhook>, ConfigError> {
    let mut webhooks: Vec<Webhook> = Vec::new();
    for (position, value) in (1..).zip(root.list("webhook", WEBHOOKS_MAX, "[[webhook]]")?) {
        let section = Section::open_value(format!("webhook[{position}]"), value, Keys::known(&["url", "secrets", "events"]))?;
        let url = url(&section)?;
        if let Some(earlier) = webhooks.iter().position(|earlier| earlier.url == url) {
            // Its path and query may be all that keeps others from posting there.
            let (value, holder) = ("the URL".to_owned(), format!("webhook[{}]", earlier + 1));
            return Err(ConfigError::Duplicate { key: section.key("url"), value, holder });
        }
        let secrets = secrets.signing(&section, "secrets", SECRETS_MAX)?;
        webhooks.push(Webhook { url, secrets, events: events(&section)? });
    }
    Ok(webhooks)
}

/// Reads `[repurchase]`.
pub(super) fn repurchase(root: &Section<'_>, secrets: Secrets<'_>) -> Result<Option<RepurchaseHook>, ConfigError> {
    let Some(section) = root.section("repurchase", Keys::known(&["url", "secrets", "timeout"]))? else { return Ok(None) };
    Ok(Some(RepurchaseHook {
        url: url(&section)?,
        secrets: secrets.signing(&section, "secrets", SECRETS_MAX)?,
        timeout_ms: section.duration_ms("timeout", "15m", "1s", "7d")?,
    }))
}

fn url(section: &Section<'_>) -> Result<HookUrl, ConfigError> {
    let text = section.required_text("url", HOOK_ACCEPTED)?;
    // A hook's URL is often a secret by itself.
    address::hook(text).ok_or_else(|| section.invalid_unquoted("url", HOOK_ACCEPTED))
}

fn events(section: &Section<'_>) -> Result<EventFilter, ConfigError> {
    if section.get("events").is_none() {
        return Ok(EventFilter(vec!["*".to_owned()]));
    }
    let accepted = || format!("\"*\", a beginning such as \"package.*\", {}", EVENT_TYPES.join(", "));
    let read = |value: &Value| value.as_str().filter(|text| is_pattern(text)).map(str::to_owned);
    let values = section.required_list("events", EVENTS_MAX, "a list of types of events")?;
    let patterns = (1..).zip(values).map(|(position, value)| {
        let refused = || section.invalid_item("events", position, value, accepted());
        read(value).ok_or_else(refused)
    });
    patterns.collect::<Result<_, _>>().map(EventFilter)
}
