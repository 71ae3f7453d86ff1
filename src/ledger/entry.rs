//! Entries: what moved, why, and for which call. Balances are sums of entries and of nothing else.

use super::order::FailureReason;
use super::rules::{Purchase, Threshold};
use crate::ids::{CorrectionId, RequestId};
use crate::quantity::Quantity;

/// Why something moved. The kind fixes which counters an entry's quantity moves and in which direction; see [`EntryKind::effect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// A package was granted: `granted` up.
    Grant = 1,
    /// A person granted more: `granted` up.
    AdjustUp = 2,
    /// A person granted less: `granted` down.
    AdjustDown = 3,
    /// A call reserved: `held` up.
    Hold = 4,
    /// A call was charged what it had reserved: `held` down, `used` up.
    Charge = 5,
    /// A call was charged beyond what it had reserved, or (without a call) a new package pays an overrun: `used` up.
    ChargeMore = 6,
    /// A call gave back what it had reserved: `held` down.
    Free = 7,
    /// A call that had been charged as lost turned out to cost less: `used` down.
    Correct = 8,
    /// A person gave a charge back: `used` down.
    Refund = 9,
    /// A call cost what no package covers. Moves no package, only the account's `overrun` up.
    Overrun = 10,
    /// A call that had been charged as lost turned out to overrun less, or (without a call) a new package pays: the account's `overrun` down.
    OverrunCorrect = 11,
    /// A package was frozen. Moves nothing.
    Freeze = 12,
    /// A package was unfrozen. Moves nothing.
    Unfreeze = 13,
    /// A package was taken back. Moves nothing: what is left of it can no longer be used.
    Release = 14,
    /// A package's expiry or priority was changed. Moves nothing.
    Reschedule = 15,
}

impl EntryKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 15] = [
        Self::Grant,
        Self::AdjustUp,
        Self::AdjustDown,
        Self::Hold,
        Self::Charge,
        Self::ChargeMore,
        Self::Free,
        Self::Correct,
        Self::Refund,
        Self::Overrun,
        Self::OverrunCorrect,
        Self::Freeze,
        Self::Unfreeze,
        Self::Release,
        Self::Reschedule,
    ];

    /// How one unit of an entry moves (`granted`, `held`, `used`, `overrun`): each -1, 0 or 1.
    #[must_use]
    pub const fn effect(self) -> [i8; 4] {
        match self {
            Self::Grant | Self::AdjustUp => [1, 0, 0, 0],
            Self::AdjustDown => [-1, 0, 0, 0],
            Self::Hold => [0, 1, 0, 0],
            Self::Charge => [0, -1, 1, 0],
            Self::ChargeMore => [0, 0, 1, 0],
            Self::Free => [0, -1, 0, 0],
            Self::Correct | Self::Refund => [0, 0, -1, 0],
            Self::Overrun => [0, 0, 0, 1],
            Self::OverrunCorrect => [0, 0, 0, -1],
            Self::Freeze | Self::Unfreeze | Self::Release | Self::Reschedule => [0, 0, 0, 0],
        }
    }

    /// What a percentage of the balance is a share of is fixed anew with such an entry: never by charges and what corrects them.
    pub(super) const fn moves_percent_base(self) -> bool {
        matches!(self, Self::Grant | Self::AdjustUp | Self::AdjustDown | Self::Freeze | Self::Unfreeze | Self::Release)
    }
}

/// One movement of one package (or of the account's overrun).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the account, from 1, without gaps.
    pub seq: u64,
    /// Why.
    pub kind: EntryKind,
    /// The package that moved; 0 for the account's overrun.
    pub package_number: u32,
    /// By how much, in the direction of its kind.
    pub quantity: Quantity,
    /// The call that moved it.
    pub request_id: Option<RequestId>,
    /// The correction that moved it.
    pub correction_id: Option<CorrectionId>,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// What people and systems are to be told (contract section 4). Written with the decision that caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A package was granted.
    PackageGranted,
    /// The last of a package was charged.
    PackageExhausted,
    /// A package was frozen.
    PackageFrozen,
    /// A package was unfrozen.
    PackageUnfrozen,
    /// A package was taken back.
    PackageReleased,
    /// A package's time is over.
    PackageExpired,
    /// `remaining` fell to a threshold.
    BalanceLow,
    /// `remaining` fell to nothing.
    BalanceExhausted,
    /// The next package is ordered.
    RepurchaseRequested,
    /// An order was bought.
    RepurchaseSucceeded,
    /// An order was not bought, or the cap leaves no room for one.
    RepurchaseFailed,
    /// No order is made until the rule is written again.
    RepurchaseSuspended,
    /// A call cost what no package covers.
    CallOverrun,
    /// A call's lease ended unrenewed.
    CallLost,
}

impl EventKind {
    /// The event's type as webhooks name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PackageGranted => "package.granted",
            Self::PackageExhausted => "package.exhausted",
            Self::PackageFrozen => "package.frozen",
            Self::PackageUnfrozen => "package.unfrozen",
            Self::PackageReleased => "package.released",
            Self::PackageExpired => "package.expired",
            Self::BalanceLow => "balance.low",
            Self::BalanceExhausted => "balance.exhausted",
            Self::RepurchaseRequested => "repurchase.requested",
            Self::RepurchaseSucceeded => "repurchase.succeeded",
            Self::RepurchaseFailed => "repurchase.failed",
            Self::RepurchaseSuspended => "repurchase.suspended",
            Self::CallOverrun => "call.overrun",
            Self::CallLost => "call.lost",
        }
    }
}

/// What an event says beside whom and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventDetail {
    /// Nothing.
    None,
    /// How much: what a call overran, what a lost call was charged.
    Quantity(Quantity),
    /// The balance as it is after what happened.
    Balance {
        /// The threshold that was reached; `None` where nothing is left.
        threshold: Option<Threshold>,
        /// What remains of usable packages.
        remaining: Quantity,
        /// What was granted of them.
        granted: Quantity,
        /// What is metered.
        unit: String,
    },
    /// An order, or one that could not be made.
    Order {
        /// The order's number and the time of its decision, where there is one.
        order: Option<(u32, i64)>,
        /// What it buys.
        purchase: Purchase,
        /// Why it failed, or why the rule was suspended.
        reason: Option<FailureReason>,
    },
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place among the account's events, from 1, without gaps.
    pub number: u64,
    /// What happened.
    pub kind: EventKind,
    /// What else there is to say.
    pub detail: EventDetail,
    /// The package it is about.
    pub package_number: Option<u32>,
    /// The call it is about.
    pub request_id: Option<RequestId>,
    /// Unix milliseconds.
    pub at_ms: i64,
}
