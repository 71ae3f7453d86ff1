//! What is watched: thresholds of a customer's remaining quantity, and the rule by which the next package is bought (contract section 4).

use serde::{Deserialize, Serialize};

use crate::quantity::Quantity;

/// The most alert thresholds of one customer or product.
pub const ALERTS_MAX: usize = 20;

/// A level of `remaining`: an amount, or a share of the percent base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Threshold {
    /// So much remains.
    Remaining(Quantity),
    /// This percentage of the base remains: more than 0 and at most 100.
    Percent(Quantity),
}

impl Threshold {
    /// Whether so much is at or below the threshold, exactly.
    #[must_use]
    pub fn is_reached(self, remaining: Quantity, percent_base: Quantity) -> bool {
        i128::from(remaining.parts()) * HUNDRED_PERCENT <= self.height(percent_base)
    }

    /// What remains at the threshold, so that thresholds of both kinds compare exactly: in shares of a part.
    pub(super) fn height(self, percent_base: Quantity) -> i128 {
        match self {
            Self::Remaining(level) => i128::from(level.parts()) * HUNDRED_PERCENT,
            Self::Percent(percent) => i128::from(percent.parts()) * i128::from(percent_base.parts()),
        }
    }

    fn check(self) -> Result<(), &'static str> {
        match self {
            Self::Percent(percent) if percent.is_zero() || i128::from(percent.parts()) > HUNDRED_PERCENT => {
                Err("percent must be above 0 and at most 100")
            }
            Self::Remaining(_) | Self::Percent(_) => Ok(()),
        }
    }
}

/// 100 percent in the parts in which percentages are kept: so many shares has a part.
const HUNDRED_PERCENT: i128 = Quantity::PARTS_PER_UNIT as i128 * 100;

/// A customer's own rules for one product.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The thresholds that are told of; the product's where the customer has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<Vec<Threshold>>,
    /// How the next package is bought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repurchase: Option<RepurchaseRule>,
}

impl Rules {
    /// What is wrong with the rules, in words.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let alerts = self.alerts.as_deref().unwrap_or_default();
        if alerts.len() > ALERTS_MAX {
            return Err("a customer may have at most 20 alerts of a product");
        }
        alerts.iter().try_for_each(|threshold| threshold.check())?;
        self.repurchase.as_ref().map_or(Ok(()), RepurchaseRule::check)
    }
}

/// When the next package is bought, which, and how often at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepurchaseRule {
    /// Whether orders are made at all.
    pub enabled: bool,
    /// An order is due at or below this.
    pub trigger: Threshold,
    /// What is bought.
    pub package: Purchase,
    /// How much is bought at most.
    pub cap: Cap,
    /// How long after an order ended the next one waits, in milliseconds.
    pub cooldown_ms: i64,
}

impl RepurchaseRule {
    fn check(&self) -> Result<(), &'static str> {
        self.trigger.check()?;
        if self.package.quantity.is_zero() {
            return Err("package.quantity must be above 0");
        }
        if self.cap.count > CAP_COUNT_MAX {
            return Err("cap.count must be at most 1000");
        }
        if self.cap.period_ms <= 0 {
            return Err("cap.period must be above 0");
        }
        if self.cooldown_ms < 0 {
            return Err("cooldown must not be negative");
        }
        Ok(())
    }
}

/// What an order buys. Decided once, with the order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purchase {
    /// The merchant's name of what is sold.
    pub spec_id: String,
    /// How much of the product it has.
    pub quantity: Quantity,
    /// What it costs, in `currency`.
    pub price: Quantity,
    /// The currency's code.
    pub currency: String,
}

/// The most that is bought within a rolling period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cap {
    /// So many orders.
    pub count: u32,
    /// For so much money in sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend: Option<Quantity>,
    /// The period's length in milliseconds.
    pub period_ms: i64,
}

/// The most orders a cap may allow within its period: an account remembers each of them.
pub const CAP_COUNT_MAX: u32 = 1000;

/// What the merchant's configuration says about an account's product.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// What is metered: events name it.
    pub unit: String,
    /// The thresholds of customers without their own.
    pub alerts: Vec<Threshold>,
    /// How long an order may stay without its outcome, in milliseconds; `None` where nobody takes orders, so that none is made.
    pub repurchase_timeout_ms: Option<i64>,
    /// What holds where the cost of a call is only known afterwards.
    pub usage: UsageTerms,
}

/// What the merchant's configuration says about calls whose cost is only known afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageTerms {
    /// A hold shrinks to what is available, if that is anything, so that the rest of a package can be used up.
    pub short_hold: bool,
    /// The next package granted pays what calls cost beyond every package.
    pub carry_overrun: bool,
}
