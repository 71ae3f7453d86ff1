//! What a call of a per-call product costs (contract section 3).

use crate::config::{ChargeWhen, Meter};
use crate::ledger::Admission;
use crate::quantity::Quantity;

/// What a call of a per-call product reserves.
pub const HOLD: Quantity = Quantity::ONE;

/// How a call ends, known with the status of the backend's reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is charged.
    Charged(Quantity),
    /// It is not charged.
    Released,
    /// It had been charged before.
    Replayed,
}

impl Outcome {
    /// What this reply costs.
    #[must_use]
    pub fn charge(self) -> Quantity {
        match self {
            Self::Charged(quantity) => quantity,
            Self::Released | Self::Replayed => Quantity::ZERO,
        }
    }

    /// The outcome's name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Charged(_) => "charged",
            Self::Released => "released",
            Self::Replayed => "replayed",
        }
    }
}

/// How a call ends whose backend answered with this status.
#[must_use]
pub fn outcome(meter: &Meter, admission: &Admission, status: u16) -> Outcome {
    match (admission, meter) {
        (Admission::Replay, _) => Outcome::Replayed,
        // What was used is known with the end of the body only; until edges read it, no configuration has such a product.
        (Admission::Held { .. }, Meter::Usage(_) | Meter::Call { charge_when: ChargeWhen::Forwarded }) => Outcome::Charged(HOLD),
        (Admission::Held { .. }, Meter::Call { charge_when: ChargeWhen::Succeeded }) => {
            if (200..300).contains(&status) {
                Outcome::Charged(HOLD)
            } else {
                Outcome::Released
            }
        }
    }
}
