//! What a call of a usage-metered product is charged, by how its reply ended (contract section 3, *Usage*).

use super::tariff::Usage;
use crate::quantity::Quantity;

/// How the reply's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Whole, whether or not the caller was still there.
    Complete,
    /// The backend cut it, reset it, or fell silent.
    BrokenOff,
    /// The caller left, and what was read on did not reach the end.
    Abandoned,
}

/// What a call is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageCharge {
    /// How much.
    pub quantity: Quantity,
    /// True where it is the hold, or more, for want of readable usage.
    pub is_usage_missing: bool,
}

/// What a call is charged whose backend answered with `status`.
#[must_use]
pub fn charge(status: u16, ending: Ending, hold: Quantity, usage: Usage) -> UsageCharge {
    let seen = usage.quantity.unwrap_or(Quantity::ZERO);
    let quantity = match ending {
        // An error costs what it says it does: a request that was refused was not served, whatever its size.
        _ if !(200..300).contains(&status) => {
            if usage.is_in_reply {
                seen
            } else {
                Quantity::ZERO
            }
        }
        // Its sender may have a backend that understands it, and would choose the price.
        Ending::Complete if !usage.is_request_read => {
            return UsageCharge { quantity: seen.max(hold), is_usage_missing: true };
        }
        Ending::Complete if usage.is_readable => seen,
        Ending::Complete => return UsageCharge { quantity: hold, is_usage_missing: true },
        Ending::BrokenOff => seen,
        Ending::Abandoned => seen.max(hold),
    };
    UsageCharge { quantity, is_usage_missing: false }
}
