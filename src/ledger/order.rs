//! Orders of the next package, and what an account remembers of them (contract section 4, auto-repurchase).

use serde::{Deserialize, Serialize};

use super::rules::{Purchase, Rules};
use crate::quantity::Quantity;

/// How far an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// It was decided; the hook has not answered yet.
    Requested,
    /// The hook took it.
    Pending,
    /// It was bought. Only a package credits it.
    Succeeded,
    /// It was not bought, as far as anyone knows.
    Failed,
}

/// Why an order failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// What was to be bought is no longer sold. Suspends the rule.
    SpecDelisted,
    /// It has another price now. Suspends the rule.
    PriceChanged,
    /// The customer may not buy it. Suspends the rule.
    PurchaseRestricted,
    /// It would cost nothing. Suspends the rule.
    ZeroPrice,
    /// The hook refused the order, or answered what nobody understands.
    HookFailed,
    /// No outcome came in time. One that comes later still counts.
    Timeout,
    /// The rule's cap leaves no room: reported once a period, without an order.
    CapReached,
}

impl FailureReason {
    /// Whether the rule makes no further order until it is written again.
    #[must_use]
    pub const fn suspends(self) -> bool {
        matches!(self, Self::SpecDelisted | Self::PriceChanged | Self::PurchaseRestricted | Self::ZeroPrice)
    }
}

/// One order of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its place in the account, from 1.
    pub number: u32,
    /// How far it is.
    pub state: OrderState,
    /// Why it failed.
    pub reason: Option<FailureReason>,
    /// What it buys.
    pub purchase: Purchase,
    /// Unix milliseconds of the decision.
    pub requested_at_ms: i64,
    /// Unix milliseconds from which it has failed unless its outcome is known.
    pub times_out_at_ms: i64,
    /// Unix milliseconds of its outcome.
    pub ended_at_ms: Option<i64>,
    /// The package that it credited.
    pub package_number: Option<u32>,
}

/// What becomes of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// The hook took it; its outcome follows.
    Pending,
    /// It was bought.
    Succeeded,
    /// It was not.
    Failed(FailureReason),
}

/// What an account remembers beside packages and calls: its rules, and where its orders stand. Kept whole by stores.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watch {
    /// How many events the account has had: an event's number is its place among them, from 1.
    pub event_count: u64,
    /// What a percentage is a share of, as it was fixed last.
    pub percent_base: Quantity,
    /// Unix milliseconds at which the account must be looked at, because the clock alone changes something.
    pub due_at_ms: Option<i64>,
    /// The customer's own rules.
    pub rules: Rules,
    /// How many orders the account has made.
    pub order_count: u32,
    /// The order whose outcome, or whose package, is awaited.
    pub order_in_flight: Option<u32>,
    /// The orders that count against the cap, oldest first.
    pub counted: Vec<Counted>,
    /// Unix milliseconds until which no order is made.
    pub rests_until_ms: i64,
    /// How many orders have failed in a row: each makes the next one wait longer.
    pub failures: u32,
    /// Why the rule makes no orders until it is written again.
    pub suspended: Option<FailureReason>,
    /// Unix milliseconds at which the cap was reported last.
    pub cap_told_at_ms: Option<i64>,
}

/// An order that counts against the cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Which order.
    pub number: u32,
    /// Unix milliseconds of its decision.
    pub at_ms: i64,
    /// What it costs.
    pub price: Quantity,
}
