//! The checked configuration: what [`super::check`] answers. Every value is within its bounds, and every time is in milliseconds.

use std::collections::HashMap;
use std::sync::Arc;

use super::hook::{RepurchaseHook, Webhook};
use crate::caller::CallerPolicy;
use crate::ids::ProductId;
use crate::ledger::{Terms, Threshold, UsageTerms};
use crate::meter::{Overrun, ShortHold, UsageMeter};
use crate::secret::Secret;

/// The whole configuration.
#[derive(Debug)]
pub struct Config {
    /// What holds for every product.
    pub gateway: Gateway,
    /// What is sold. No two share an id or a route.
    pub products: Vec<Product>,
    /// Who is told of events. No two share a URL.
    pub webhooks: Vec<Webhook>,
    /// Who takes orders of the next package.
    pub repurchase: Option<RepurchaseHook>,
    /// What is allowed and still worth a line at the start, one sentence each.
    pub warnings: Vec<String>,
}

impl Config {
    /// The product of this id.
    #[must_use]
    pub fn product(&self, id: &ProductId) -> Option<&Product> {
        self.products.iter().find(|product| product.id == *id)
    }

    /// What the ledger is to know of each product.
    #[must_use]
    pub fn terms(&self) -> HashMap<ProductId, Arc<Terms>> {
        let terms = |product: &Product| Terms {
            unit: product.meter.unit().to_owned(),
            alerts: product.alerts.clone(),
            repurchase_timeout_ms: self.repurchase.as_ref().map(|hook| hook.timeout_ms),
            usage: product.meter.usage_terms(),
        };
        self.products.iter().map(|product| (product.id.clone(), Arc::new(terms(product)))).collect()
    }

    /// The product that a path belongs to, and the path below its route: empty, or starting with `/`. The longest matching route wins.
    #[must_use]
    pub fn route<'path>(&self, path: &'path str) -> Option<(&Product, &'path str)> {
        self.products
            .iter()
            .filter_map(|product| Some((product, product.route.below(path)?)))
            .min_by_key(|(_, below)| below.len())
    }
}

/// What holds for every product.
#[derive(Debug)]
pub struct Gateway {
    /// Opens the control API.
    pub admin_token: Secret,
    /// Opens what only reads of the control API.
    pub read_token: Option<Secret>,
    /// What becomes of a call without `X-Request-Id`.
    pub missing_request_id: MissingRequestId,
    /// How long a hold lives unrenewed.
    pub hold_lease_ms: i64,
    /// What becomes of a hold whose lease ended.
    pub lost_hold: LostHold,
    /// How long an ended call is kept as a call, at least 30 days.
    pub keep_calls_ms: i64,
    /// What a committed write survives.
    pub durability: Durability,
}

/// What becomes of a call without `X-Request-Id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingRequestId {
    /// The gateway makes an id.
    Generate,
    /// The call is refused.
    Reject,
}

/// What becomes of a hold whose lease ended: nobody knows how its call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostHold {
    /// It is charged as if the call had succeeded.
    Charge,
    /// It is free again.
    Release,
}

/// What a committed write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Loss of power.
    Power,
    /// The end of the process, however sudden.
    Process,
}

/// One API that is sold.
#[derive(Debug)]
pub struct Product {
    /// Its name.
    pub id: ProductId,
    /// Where callers reach it.
    pub route: Route,
    /// Where its calls go.
    pub backend: Backend,
    /// From the end of the request to the reply's headers.
    pub timeout_ms: i64,
    /// Between two chunks, of the request and of the reply.
    pub idle_timeout_ms: i64,
    /// How far the reply of a caller who has left is read on, to learn the usage.
    pub drain: Drain,
    /// The status of a refusal for want of quantity: 402, 403 or 429.
    pub exhausted_status: u16,
    /// The largest request body.
    pub max_request_body_bytes: u64,
    /// How often a settled call is forwarded again without charge.
    pub replay_limit: u32,
    /// Headers that the backend gets in place of the caller's, with lower-case names.
    pub backend_headers: Vec<(String, Secret)>,
    /// Who may call.
    pub caller: CallerPolicy,
    /// What a call costs.
    pub meter: Meter,
    /// The thresholds of customers who have none of their own.
    pub alerts: Vec<Threshold>,
}

/// How far the reply of a caller who has left is read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// So many bytes more.
    pub bytes_max: u64,
    /// For so long.
    pub time_max_ms: i64,
}

/// What a call costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meter {
    /// One unit a call.
    Call {
        /// Which calls are charged.
        charge_when: ChargeWhen,
    },
    /// What it used.
    Usage(UsageMeter),
}

impl Meter {
    /// What is counted, as packages and balances name it.
    #[must_use]
    pub fn unit(&self) -> &str {
        match self {
            Self::Call { .. } => "call",
            Self::Usage(meter) => meter.unit(),
        }
    }

    /// What the ledger is to know of calls whose cost is only known afterwards.
    fn usage_terms(&self) -> UsageTerms {
        match self {
            Self::Call { .. } => UsageTerms::default(),
            Self::Usage(meter) => UsageTerms {
                short_hold: meter.short_hold() == ShortHold::Admit,
                carry_overrun: meter.overrun() == Overrun::Carry,
            },
        }
    }
}

/// Which calls of a per-call product are charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChargeWhen {
    /// Every call that the backend answered.
    Forwarded,
    /// Those that it answered with 2xx.
    Succeeded,
}

/// The path prefix of a product: whole segments, no slash at the end. Empty for `/`, which every path is below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route(String);

impl Route {
    /// Takes a text that was checked to be a route.
    pub(super) fn checked(text: &str) -> Self {
        Self(text.strip_suffix('/').unwrap_or(text).to_owned())
    }

    /// The route as it is configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        if self.0.is_empty() { "/" } else { &self.0 }
    }

    /// What is left of `path` below this route: empty, or starting with `/`.
    #[must_use]
    pub fn below<'path>(&self, path: &'path str) -> Option<&'path str> {
        path.strip_prefix(self.0.as_str()).filter(|below| below.is_empty() || below.starts_with('/'))
    }
}

/// Where a product's calls go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Whether over TLS.
    pub https: bool,
    /// Host, and port where the URL names one.
    pub authority: String,
    /// What precedes the path below the route. No slash at the end, and empty for none.
    pub path_prefix: String,
}
