//! What can be asked of an account, and what it answers.

use std::sync::Arc;

use super::call::{Call, Fingerprint};
use super::order::{Conclusion, Order};
use super::package::{Package, PackageKind};
use super::rules::Rules;
use crate::ids::{CorrectionId, PackageId, RequestId};
use crate::quantity::{Delta, Quantity};

/// One thing asked of an account.
#[derive(Clone, Debug)]
pub enum Command {
    /// Would a hold be admitted, for all that is known before the request's body is? Claims nothing.
    Probe {
        /// The call's id: where it is known already, the body decides.
        request_id: RequestId,
        /// How much would be reserved.
        hold: Quantity,
    },
    /// Claim a request id and reserve.
    Admit(Claim),
    /// A live call reserves for longer.
    Renew {
        /// The call's id.
        request_id: RequestId,
        /// The attempt that is alive.
        attempt: u32,
        /// The lease's new end in unix milliseconds.
        lease_ends_ms: i64,
    },
    /// End a call with what it cost; zero releases it.
    Settle(Settlement),
    /// End a call whose lease ended unrenewed.
    LoseHold {
        /// The call's id.
        request_id: RequestId,
        /// Charge its hold (else free it).
        charge: bool,
    },
    /// Do what the clock alone makes due: packages start and expire, orders time out, rules that rested make orders.
    Look,
    /// Write the customer's own rules anew.
    SetRules(Box<Rules>),
    /// Tell what became of an order, with the package it credits where that is known.
    ConcludeOrder {
        /// Which order.
        number: u32,
        /// What became of it.
        conclusion: Conclusion,
        /// The package it credits: granted in the same step. Its `repurchase` names the order.
        package: Option<Box<Grant>>,
    },
    /// Give a package to the customer.
    Grant(Box<Grant>),
    /// Change what is decided about a package.
    Change {
        /// Which package.
        package_id: PackageId,
        /// What changes.
        change: PackageChange,
    },
    /// Move what a package was granted, by a person.
    Adjust {
        /// Which package.
        package_id: PackageId,
        /// The correction's name: repeating it changes nothing.
        adjustment_id: CorrectionId,
        /// By how much.
        quantity: Delta,
        /// Why, in the person's words.
        reason: Arc<str>,
    },
    /// Give a call's charge back, by a person.
    Refund {
        /// Which call.
        request_id: RequestId,
        /// The correction's name: repeating it changes nothing.
        refund_id: CorrectionId,
        /// How much; all that was charged and not yet refunded where it is not said.
        quantity: Option<Quantity>,
        /// Why, in the person's words.
        reason: Arc<str>,
    },
}

/// A call that asks to be admitted.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The call's id.
    pub request_id: RequestId,
    /// What is requested.
    pub fingerprint: Fingerprint,
    /// How much to reserve.
    pub hold: Quantity,
    /// Unix milliseconds at which the hold is lost unless renewed.
    pub lease_ends_ms: i64,
    /// How often a settled call may be forwarded again without charge.
    pub replay_limit: u32,
    /// Names this claim where it may be heard twice: who asked and was not answered asks again with the same one, and is told the same.
    pub idempotency_key: Option<u64>,
}

/// What a call cost.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The call's id.
    pub request_id: RequestId,
    /// The attempt that ends.
    pub attempt: u32,
    /// What it cost.
    pub charge: Quantity,
    /// The backend's HTTP status, where it answered.
    pub status: Option<u16>,
    /// The reply said no usage.
    pub usage_missing: bool,
}

/// A package to be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its name.
    pub package_id: PackageId,
    /// How it is paid.
    pub kind: PackageKind,
    /// How much; zero for unmetered packages.
    pub quantity: Quantity,
    /// Unix milliseconds from which it can be used; from now where it is not said.
    pub starts_at_ms: Option<i64>,
    /// Unix milliseconds from which it cannot be used any more.
    pub expires_at_ms: Option<i64>,
    /// Packages with a low priority are used first.
    pub priority: i32,
    /// The marketplace's order it was bought with.
    pub order_id: Option<String>,
    /// The number of the account's own order that it credits.
    pub repurchase: Option<u32>,
}

/// What can be changed about a package after its grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackageChange {
    /// Stop its use for now.
    Freeze,
    /// Allow its use again.
    Unfreeze,
    /// Take it back.
    Release,
    /// Move its expiry (`Some(None)`: never) or its priority.
    Reschedule {
        /// The new expiry in unix milliseconds, where it changes.
        expires_at_ms: Option<Option<i64>>,
        /// The new priority, where it changes.
        priority: Option<i32>,
    },
}

/// Why an account refuses. Nothing was changed but what looking at it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Packages are there and not enough is available. The customer causes it; after a top-up the same call succeeds.
    Exhausted {
        /// What the call needed.
        needed: Quantity,
        /// What is available.
        available: Quantity,
    },
    /// Every package has expired. The customer causes it.
    Expired,
    /// What is left is frozen. Whoever froze it causes it.
    Frozen,
    /// None was granted, or none has started.
    NoPackage,
    /// A call with this id is running. The caller causes it; it may retry when that call has ended.
    InFlight,
    /// The id was charged and replayed as often as it may be. The caller causes it; no retry helps.
    Replayed,
    /// The id belongs to another request. The caller causes it; no retry helps.
    Reused,
    /// There is no such call, package or order.
    NotFound,
    /// The command contradicts what is there: the reason in words, without secrets.
    Conflict(&'static str),
    /// The command is not possible whatever is there: the reason in words.
    Invalid(&'static str),
}

/// How a call was admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It reserved; this attempt settles it.
    Held {
        /// To be named by renewals and the settle.
        attempt: u32,
        /// How much: what was asked for, or what there was.
        hold: Quantity,
    },
    /// It was charged before and is forwarded again without charge.
    Replay,
}

/// What an accepted command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The hold would be admitted.
    Admissible,
    /// The call may be forwarded.
    Admitted(Admission),
    /// The call's lease was renewed.
    Renewed,
    /// The call ended now.
    Settled {
        /// What packages covered of its cost: what is more is its overrun.
        charge: Quantity,
    },
    /// The call had ended before, or another attempt replaced it: nothing changed.
    AlreadyEnded {
        /// What the call is charged.
        charge: Quantity,
    },
    /// The package was granted now.
    Granted(Package),
    /// The package as it is after the command (or was already: repeated grants and corrections change nothing).
    Package(Package),
    /// The call as it is after the command.
    Call(Box<Call>),
    /// The account was looked at.
    Looked,
    /// The rules are written.
    RulesSet,
    /// The order as it is after the command (or was already: a repeated conclusion changes nothing).
    Order(Box<Order>),
}
