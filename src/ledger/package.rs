//! One package: a quantity of a product, bought by a customer, with its time and its standing.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::ids::PackageId;
use crate::quantity::Quantity;

/// How a package is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageKind {
    /// Paid before; it has a quantity.
    Prepaid,
    /// Paid afterwards or for a period; it has no quantity, is burned last, and its use is recorded.
    Unmetered,
}

/// What people decided about a package. Start, expiry and exhaustion are not decisions: the clock and the counters say them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may be used in its time.
    Open,
    /// It may not be used until it is unfrozen.
    Frozen,
    /// It was taken back, for ever.
    Released,
}

/// How far a package's time was when its account was last looked at. What follows from the clock alone (events, the percent base) is done once, when this
/// changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its start is still to come.
    #[default]
    Scheduled,
    /// It has started.
    Running,
    /// Its time is over.
    Over,
}

/// The state a package is in at a moment (contract section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageState {
    /// Its start is still to come.
    Scheduled,
    /// It can be used.
    Active,
    /// A person or a marketplace stopped it for now.
    Frozen,
    /// All of it is used.
    Exhausted,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Released,
}

/// A package and its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its place in the account, from 1: what legs and entries refer to.
    pub number: u32,
    /// Its name, unique in the whole ledger.
    pub id: PackageId,
    /// How it is paid.
    pub kind: PackageKind,
    /// What was bought, moved by adjustments. Zero for unmetered packages.
    pub granted: Quantity,
    /// What was charged.
    pub used: Quantity,
    /// What live calls reserve.
    pub held: Quantity,
    /// Unix milliseconds from which it can be used.
    pub starts_at_ms: i64,
    /// Unix milliseconds from which it cannot be used any more; `None` for never.
    pub expires_at_ms: Option<i64>,
    /// Packages with a low priority are used first.
    pub priority: i32,
    /// Unix milliseconds of its grant.
    pub created_at_ms: i64,
    /// The order it was bought with, where a marketplace sold it.
    pub order_id: Option<String>,
    /// What people decided about it.
    pub standing: Standing,
    /// How far its time was at the last look.
    pub phase: Phase,
    /// [`super::Grant::digest`] of what was asked for.
    pub grant_digest: String,
}

impl Package {
    /// The state at a moment.
    #[must_use]
    pub fn state(&self, now_ms: i64) -> PackageState {
        match self.standing {
            Standing::Released => PackageState::Released,
            _ if self.expires_at_ms.is_some_and(|at| at <= now_ms) => PackageState::Expired,
            Standing::Frozen => PackageState::Frozen,
            Standing::Open if now_ms < self.starts_at_ms => PackageState::Scheduled,
            Standing::Open if self.kind == PackageKind::Prepaid && self.used >= self.granted => PackageState::Exhausted,
            Standing::Open => PackageState::Active,
        }
    }

    /// Open, started and not expired (contract section 3). One that is used up counts: it is there, only empty.
    #[must_use]
    pub fn is_usable(&self, now_ms: i64) -> bool {
        matches!(self.state(now_ms), PackageState::Active | PackageState::Exhausted)
    }

    /// What was granted and not charged. Zero for unmetered packages.
    #[must_use]
    pub fn remaining(&self) -> Quantity {
        self.granted.saturating_sub(self.used)
    }

    /// What a new hold may take, whatever the package's state. An unmetered package gives whatever is asked.
    #[must_use]
    pub fn free(&self) -> Quantity {
        match self.kind {
            PackageKind::Prepaid => self.remaining().saturating_sub(self.held),
            PackageKind::Unmetered => Quantity::MAX.saturating_sub(self.used).saturating_sub(self.held),
        }
    }

    /// Burn-down order (contract section 3): unmetered last, then `priority`, earliest expiry, creation, name.
    #[must_use]
    pub fn burn_order(&self, other: &Self) -> Ordering {
        let unmetered = |package: &Self| package.kind == PackageKind::Unmetered;
        let expiry_ms = |package: &Self| package.expires_at_ms.unwrap_or(i64::MAX);
        unmetered(self)
            .cmp(&unmetered(other))
            .then(self.priority.cmp(&other.priority))
            .then(expiry_ms(self).cmp(&expiry_ms(other)))
            .then(self.created_at_ms.cmp(&other.created_at_ms))
            .then_with(|| self.id.cmp(&other.id))
    }
}
