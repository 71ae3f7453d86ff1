//! What a call reserves, and what it costs once its reply is known (contract section 3).

use crate::config::{ChargeWhen, LostHold, Meter};
use crate::ledger::Admission;
use crate::meter::{self, RequestReading, Usage, UsageMeter};
use crate::quantity::Quantity;

/// What a call of a per-call product reserves.
const ONE_CALL: Quantity = Quantity::ONE;

/// How a call is metered, known once as much of its body was read as its product asks for.
pub enum Metering<'config> {
    /// It costs one unit, whatever its bodies say.
    Call(ChargeWhen),
    /// It costs what its bodies say it used.
    Usage(&'config UsageMeter, RequestReading),
}

impl<'config> Metering<'config> {
    /// Of a call with this body: whole where the product is metered by usage.
    #[must_use]
    pub fn of(meter: &'config Meter, body: Option<&[u8]>) -> Self {
        match meter {
            Meter::Call { charge_when } => Self::Call(*charge_when),
            Meter::Usage(meter) => Self::Usage(meter, meter.read_request(body.unwrap_or_default())),
        }
    }

    /// What is reserved before the call is forwarded.
    #[must_use]
    pub fn hold(&self) -> Quantity {
        match self {
            Self::Call(_) => ONE_CALL,
            Self::Usage(_, request) => request.hold(),
        }
    }
}

/// The least that a call of a product reserves, for refusing those who cannot pay before their body is read.
#[must_use]
pub fn least_hold(meter: &Meter) -> Quantity {
    match meter {
        Meter::Call { .. } => ONE_CALL,
        Meter::Usage(meter) => meter.least_hold(),
    }
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is charged.
    Charged {
        /// How much.
        quantity: Quantity,
        /// It is the hold, or more, for want of readable usage.
        is_usage_missing: bool,
    },
    /// It is not charged.
    Released,
    /// It had been charged before.
    Replayed,
}

impl Outcome {
    fn charged(quantity: Quantity, is_usage_missing: bool) -> Self {
        // A call that ends with charge 0 is released.
        if quantity.is_zero() { Self::Released } else { Self::Charged { quantity, is_usage_missing } }
    }

    /// What this call costs.
    #[must_use]
    pub fn charge(self) -> Quantity {
        match self {
            Self::Charged { quantity, .. } => quantity,
            Self::Released | Self::Replayed => Quantity::ZERO,
        }
    }

    /// The same, once the ledger has said what packages covered of it.
    #[must_use]
    pub fn covered(self, charge: Quantity) -> Self {
        match self {
            Self::Charged { is_usage_missing, .. } => Self::Charged { quantity: charge, is_usage_missing },
            Self::Released | Self::Replayed => self,
        }
    }

    /// Whether the charge is the hold, or more, for want of readable usage.
    #[must_use]
    pub fn is_usage_missing(self) -> bool {
        matches!(self, Self::Charged { is_usage_missing: true, .. })
    }

    /// Whether a crash right now would leave what is charged: a per-call product charges its hold, which is charged as it is even if it is lost.
    pub(super) fn is_durable_with_hold(self, lost_hold: LostHold) -> bool {
        match self {
            Self::Replayed => true,
            Self::Charged { .. } => lost_hold == LostHold::Charge,
            Self::Released => false,
        }
    }

    /// The outcome's name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Charged { .. } => "charged",
            Self::Released => "released",
            Self::Replayed => "replayed",
        }
    }
}

/// How a call of a per-call product ends whose backend answered with this status.
pub(super) fn call_outcome(charge_when: ChargeWhen, admission: &Admission, status: u16) -> Outcome {
    match (admission, charge_when) {
        (Admission::Replay, _) => Outcome::Replayed,
        (Admission::Held { .. }, ChargeWhen::Succeeded) if !(200..300).contains(&status) => Outcome::Released,
        (Admission::Held { .. }, ChargeWhen::Forwarded | ChargeWhen::Succeeded) => Outcome::charged(ONE_CALL, false),
    }
}

/// How a call of a usage-metered product ends whose reply has ended.
pub(super) fn usage_outcome(admission: &Admission, status: u16, ending: meter::Ending, usage: Usage) -> Outcome {
    match admission {
        Admission::Replay => Outcome::Replayed,
        Admission::Held { hold, .. } => {
            let charge = meter::charge(status, ending, *hold, usage);
            Outcome::charged(charge.quantity, charge.is_usage_missing)
        }
    }
}
