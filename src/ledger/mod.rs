//! The ledger: what customers hold of what they bought, decided without I/O, clock or randomness.
//!
//! [`Account`] is one customer's packages of one product with the calls that matter now. [`Account::decide`] takes a [`Command`] and the time and
//! either changes the account, recording each movement as an [`Entry`], or refuses and changes nothing. With either it looks at the account: what the
//! clock did, which thresholds were crossed, which order of the next package is due. What is to be told of all that is an [`Event`].
//!
//! What always holds, after every command:
//! * per prepaid package `granted = used + held + free`, and none of them is below zero;
//! * a package's `granted`, `used` and `held` are the sums of its entries;
//! * a package's `held` is the sum of the live calls' legs on it;
//! * a call is charged at most once, whatever repeats;
//! * each crossing of a threshold has one event, at most one order is in flight, and an order is credited by one package at most.
//!
//! The border: who asks and how a decision is stored is not known here. A store loads an account, lets it decide, and writes [`Account::take_changes`] in
//! one transaction.

mod account;
mod admission;
mod alerts;
mod call;
mod command;
mod corrections;
mod entry;
mod events;
mod look;
mod order;
mod package;
mod package_set;
mod packages;
#[cfg(test)]
mod properties;
mod repurchase;
mod rules;
mod settlement;

pub use account::{Account, Balance, Changes};
pub use call::{Call, CallState, Fingerprint, Leg};
pub use command::{Admission, Claim, Command, Grant, Outcome, PackageChange, Refusal, Settlement};
pub use corrections::{Correction, CorrectionKey, CorrectionTarget};
pub use entry::{Entry, EntryKind, Event, EventDetail, EventKind};
pub use order::{Conclusion, Counted, FailureReason, Order, OrderState, Watch};
pub use package::{Package, PackageKind, PackageState, Phase, Standing};
pub use package_set::Archive;
pub use rules::{ALERTS_MAX, CAP_COUNT_MAX, Cap, Purchase, RepurchaseRule, Rules, Terms, Threshold, UsageTerms};

/// The most packages one account may have that are not spent for good: all of those are loaded with it. Those that orders made before had paid for come on top.
pub const PACKAGES_MAX: usize = 1000;
