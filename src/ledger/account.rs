//! One account: the packages of one customer and product, the calls in play, and what a decision changed of them.

use std::sync::Arc;

use super::call::{Call, CallState, Leg};
use super::command::{Claim, Command, Outcome, Refusal};
use super::corrections::{Correction, CorrectionKey};
use super::entry::{Entry, EntryKind, Event};
use super::order::{Order, Watch};
use super::package::{Package, PackageKind};
use super::package_set::{Archive, PackageSet};
use super::rules::Terms;
use crate::ids::{PackageId, RequestId};
use crate::quantity::Quantity;
use crate::sorted::SortedMap;

/// A customer's packages of one product. Of its calls and corrections it has those that were put in: a store puts in every one that a command names.
#[derive(Clone, Debug, Default)]
pub struct Account {
    pub(super) packages: PackageSet,
    pub(super) calls: SortedMap<RequestId, Call>,
    pub(super) corrections: SortedMap<CorrectionKey, Correction>,
    /// The order in flight, and those that were put in.
    pub(super) orders: SortedMap<u32, Order>,
    pub(super) watch: Watch,
    pub(super) terms: Arc<Terms>,
    pub(super) overrun: Quantity,
    pub(super) entry_count: u64,
    pub(super) changes: Changes,
}

/// What decisions changed since the last [`Account::take_changes`]: to be written in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What moved, in order.
    pub entries: Vec<Entry>,
    /// Numbers of the packages whose counters moved.
    pub moved_packages: Vec<u32>,
    /// Numbers of the packages that are new or whose terms or standing changed.
    pub rewritten_packages: Vec<u32>,
    /// Calls that are new or changed: true of those that claimed a new request id.
    pub calls: SortedMap<RequestId, bool>,
    /// Corrections that were made.
    pub corrections: Vec<Correction>,
    /// Numbers of the orders that are new or changed.
    pub orders: Vec<u32>,
    /// [`Account::watch`] changed.
    pub watch: bool,
    /// What is to be told of it.
    pub events: Vec<Event>,
}

impl Changes {
    /// Nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn add<T: PartialEq>(list: &mut Vec<T>, item: T) {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

/// What a customer has of a product at a moment (contract section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Granted of the usable prepaid packages.
    pub granted: Quantity,
    /// Charged, of all packages.
    pub used: Quantity,
    /// Reserved by live calls, of all packages.
    pub held: Quantity,
    /// Granted and not charged, of the usable prepaid packages.
    pub remaining: Quantity,
    /// What a new call may take of the usable prepaid packages.
    pub available: Quantity,
    /// Cost that no package covered.
    pub overrun: Quantity,
    /// A usable unmetered package is there: calls are admitted whatever is available.
    pub is_unmetered: bool,
}

/// What moved a counter.
#[derive(Clone, Copy)]
pub(super) struct Cause<'a> {
    pub(super) request_id: Option<&'a RequestId>,
    pub(super) correction: Option<&'a Correction>,
    pub(super) at_ms: i64,
}

impl<'a> Cause<'a> {
    pub(super) fn call(request_id: &'a RequestId, at_ms: i64) -> Self {
        Self { request_id: Some(request_id), correction: None, at_ms }
    }
}

impl Account {
    /// An account as a store kept it. Packages that are spent for good, and that neither a command names nor a call that one names, may be left in the archive. Calls and
    /// corrections are put in afterwards.
    #[must_use]
    pub fn load(packages: Vec<Package>, archive: Archive, overrun: Quantity, entry_count: u64) -> Self {
        Self { packages: PackageSet::new(packages, archive), overrun, entry_count, ..Self::default() }
    }

    /// Puts in a call that a command names.
    pub fn put_call(&mut self, call: Call) {
        self.calls.insert(call.request_id.clone(), call);
    }

    /// Puts in a correction that a command names.
    pub fn put_correction(&mut self, correction: Correction) {
        self.corrections.insert(correction.key.clone(), correction);
    }

    /// Puts in what the account remembers beside its packages.
    pub fn put_watch(&mut self, watch: Watch) {
        self.watch = watch;
    }

    /// Puts in the counters of a package as they are by now; false where there is no such package.
    pub fn put_counters(&mut self, number: u32, used: Quantity, held: Quantity) -> bool {
        self.packages.change(number, |package| (package.used, package.held) = (used, held))
    }

    /// Puts in how many entries the account has had by now.
    pub fn put_entry_count(&mut self, entry_count: u64) {
        self.entry_count = entry_count;
    }

    /// Forgets a call, as if it had never been put in.
    pub fn forget_call(&mut self, request_id: &RequestId) {
        self.calls.remove(request_id);
    }

    /// Puts in an order: the one in flight, or one that a command names.
    pub fn put_order(&mut self, order: Order) {
        self.orders.insert(order.number, order);
    }

    /// Puts in what the merchant's configuration says about the product.
    pub fn put_terms(&mut self, terms: Arc<Terms>) {
        self.terms = terms;
    }

    /// What the account remembers beside its packages.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// An order that was put in or made.
    #[must_use]
    pub fn order(&self, number: u32) -> Option<&Order> {
        self.orders.get(&number)
    }

    /// A call that was put in or admitted.
    #[must_use]
    pub fn call(&self, request_id: &RequestId) -> Option<&Call> {
        self.calls.get(request_id)
    }

    /// The calls that were put in or admitted.
    #[cfg(test)]
    pub(super) fn calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().map(|(_, call)| call)
    }

    /// The packages but the archived ones: those in play in burn-down order, then those that are spent.
    #[must_use]
    pub fn packages(&self) -> &[Package] {
        self.packages.all()
    }

    /// All packages but the archived ones, in burn-down order.
    #[must_use]
    pub fn packages_in_burn_order(&self) -> Vec<&Package> {
        self.packages.in_burn_order()
    }

    /// The package of a number.
    #[must_use]
    pub fn package(&self, number: u32) -> Option<&Package> {
        self.packages.get(number)
    }

    /// Cost that no package covered.
    #[must_use]
    pub fn overrun(&self) -> Quantity {
        self.overrun
    }

    /// How many entries the account has had.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        self.entry_count
    }

    /// Decides a command at a time (unix milliseconds), and what follows from it and from the time.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing is changed then but what looking at the account found: what the clock has done, the order that is due.
    pub fn decide(&mut self, command: &Command, now_ms: i64) -> Result<Outcome, Refusal> {
        if self.is_look_due(now_ms) {
            self.look(self.level(), now_ms);
        }
        let before = self.level();
        let result = self.carry_out(command, now_ms);
        self.look(before, now_ms);
        result
    }

    /// Whether a probe or an admission would be refused on the account as it is, which does not change, for want of packages. No other command is judged.
    #[must_use]
    pub fn would_refuse(&self, command: &Command, now_ms: i64) -> bool {
        match command {
            Command::Probe { request_id, hold } | Command::Admit(Claim { request_id, hold, .. }) => {
                self.probe(request_id, *hold, now_ms).is_err()
            }
            _ => false,
        }
    }

    fn carry_out(&mut self, command: &Command, now_ms: i64) -> Result<Outcome, Refusal> {
        match command {
            Command::Probe { request_id, hold } => self.probe(request_id, *hold, now_ms),
            Command::Admit(claim) => self.admit(claim, now_ms),
            Command::Renew { request_id, attempt, lease_ends_ms } => self.renew(request_id, *attempt, *lease_ends_ms),
            Command::Settle(settlement) => self.settle(settlement, now_ms),
            Command::LoseHold { request_id, charge } => self.lose_hold(request_id, *charge, now_ms),
            Command::Look => Ok(Outcome::Looked),
            Command::SetRules(rules) => self.set_rules(rules, now_ms),
            Command::ConcludeOrder { number, conclusion, package } => {
                self.conclude_order(*number, *conclusion, package.as_deref(), now_ms)
            }
            Command::Grant(grant) => self.grant(grant, now_ms),
            Command::Change { package_id, change } => self.change(package_id, *change, now_ms),
            Command::Adjust { package_id, adjustment_id, quantity, reason } => {
                self.adjust(package_id, adjustment_id, *quantity, reason, now_ms)
            }
            Command::Refund { request_id, refund_id, quantity, reason } => {
                self.refund(request_id, refund_id, *quantity, reason, now_ms)
            }
        }
    }

    /// What there is at a moment.
    #[must_use]
    pub fn balance(&self, now_ms: i64) -> Balance {
        let (packages, spent) = self.packages.at(now_ms);
        let mut balance = Balance { overrun: self.overrun, used: spent.used, granted: spent.granted, ..Balance::default() };
        for package in packages {
            balance.used = balance.used.saturating_add(package.used);
            balance.held = balance.held.saturating_add(package.held);
            if !package.is_usable(now_ms) {
                continue;
            }
            match package.kind {
                PackageKind::Unmetered => balance.is_unmetered = true,
                PackageKind::Prepaid => {
                    balance.granted = balance.granted.saturating_add(package.granted);
                    balance.remaining = balance.remaining.saturating_add(package.remaining());
                    balance.available = balance.available.saturating_add(package.free());
                }
            }
        }
        balance
    }

    /// True where decisions changed something that was not taken yet.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// What decisions changed since the last time this was asked.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Forgets the calls and orders that have ended and the corrections: only what is alive is worth remembering.
    pub fn forget_ended(&mut self) {
        self.calls.retain(|_, call| call.state == CallState::Held);
        self.corrections.clear();
        self.orders.retain(|number, _| Some(*number) == self.watch.order_in_flight);
    }

    /// What the account remembers beside its packages, to be changed and written.
    pub(super) fn watch_mut(&mut self) -> &mut Watch {
        self.changes.watch = true;
        &mut self.watch
    }

    pub(super) fn package_by_id(&self, package_id: &PackageId) -> Option<&Package> {
        self.packages.all().iter().find(|package| package.id == *package_id)
    }

    /// Takes an amount from usable packages in burn-down order. Returns the legs and what is not covered.
    pub(super) fn allocate(&self, amount: Quantity, now_ms: i64) -> (Vec<Leg>, Quantity) {
        let mut rest = amount;
        let mut legs = Vec::new();
        let (packages, _) = self.packages.at(now_ms);
        for package in packages.filter(|package| package.is_usable(now_ms)) {
            let taken = rest.min(package.free());
            if !taken.is_zero() {
                legs.push(Leg { package_number: package.number, quantity: taken });
                rest = rest.saturating_sub(taken);
            }
            if rest.is_zero() {
                break;
            }
        }
        (legs, rest)
    }

    /// Moves a package's counters as an entry of this kind says, and records the entry.
    pub(super) fn record(&mut self, kind: EntryKind, leg: Leg, cause: Cause<'_>) {
        let [granted, held, used, overrun] = kind.effect();
        let has_moved = self.packages.change(leg.package_number, |package| {
            package.granted = moved(package.granted, granted, leg.quantity);
            package.held = moved(package.held, held, leg.quantity);
            package.used = moved(package.used, used, leg.quantity);
        });
        if has_moved {
            Changes::add(&mut self.changes.moved_packages, leg.package_number);
        }
        self.overrun = moved(self.overrun, overrun, leg.quantity);
        self.entry_count += 1;
        self.changes.entries.push(Entry {
            seq: self.entry_count,
            kind,
            package_number: leg.package_number,
            quantity: leg.quantity,
            request_id: cause.request_id.cloned(),
            correction_id: cause.correction.map(|correction| correction.key.id.clone()),
            at_ms: cause.at_ms,
        });
        if kind.moves_percent_base() {
            self.fix_percent_base();
        }
        self.announce_entry(kind, leg, cause);
    }

    /// Writes a call back, as new where it claims its id for the first time.
    pub(super) fn store_call(&mut self, call: Call) {
        let request_id = call.request_id.clone();
        if self.calls.insert(request_id.clone(), call).is_none() {
            self.changes.calls.insert(request_id, true);
        } else if !self.changes.calls.contains_key(&request_id) {
            self.changes.calls.insert(request_id, false);
        }
    }

    pub(super) fn store_package(&mut self, package: Package) {
        Changes::add(&mut self.changes.rewritten_packages, package.number);
        self.packages.put(package);
    }

    pub(super) fn store_correction(&mut self, correction: Correction) {
        self.corrections.insert(correction.key.clone(), correction.clone());
        self.changes.corrections.push(correction);
    }
}

/// A counter after one entry. Entries are only made for what their counter covers; a stored account that contradicts itself saturates here, and the
/// store's own checks refuse to write it.
fn moved(counter: Quantity, direction: i8, quantity: Quantity) -> Quantity {
    match direction {
        0 => counter,
        1.. => counter.saturating_add(quantity),
        _ => counter.saturating_sub(quantity),
    }
}
