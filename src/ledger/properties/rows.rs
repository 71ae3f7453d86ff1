//! A store as far as the ledger can tell: it writes what [`Changes`] name and nothing else, and what it reloads is all that is left of an account.

use std::collections::BTreeMap;

use super::commands::Decided;
use super::{account_of, terms_with};
use crate::ids::{PackageId, RequestId};
use crate::ledger::package_set::is_spent_for_good;
use crate::ledger::{
    Account, Archive, Call, Changes, Claim, Command, Correction, CorrectionKey, CorrectionTarget, Entry, Event, Order, Outcome,
    Package, PackageState, Phase, Refusal, Settlement, UsageTerms, Watch,
};
use crate::quantity::Quantity;

/// One account's rows.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rows {
    packages: BTreeMap<u32, Package>,
    calls: BTreeMap<RequestId, Call>,
    corrections: BTreeMap<CorrectionKey, Correction>,
    entries: Vec<Entry>,
    events: Vec<Event>,
    orders: BTreeMap<u32, Order>,
    watch: Watch,
    overrun: Quantity,
}

impl Rows {
    /// Decides commands in batches of these sizes, over and over, keeping the account in memory and writing after each batch.
    pub(super) fn in_batches(
        usage_terms: UsageTerms,
        history: &[Decided],
        sizes: &[usize],
    ) -> (Self, Vec<Result<Outcome, Refusal>>) {
        let mut rows = Self::default();
        let mut account = account_of(usage_terms);
        let mut answers = Vec::new();
        let mut rest = history;
        for size in sizes.iter().cycle() {
            let (batch, later) = rest.split_at((*size).min(rest.len()));
            for (command, now_ms, _) in batch {
                rows.put_in(&mut account, command);
                answers.push(account.decide(command, *now_ms));
            }
            let changes = account.take_changes();
            rows.write(&account, changes);
            account.forget_ended();
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        (rows, answers)
    }

    /// Decides each command on an account loaded for it alone, without the packages that may be left in the archive.
    pub(super) fn reloading(usage_terms: UsageTerms, history: &[Decided]) -> (Self, Vec<Result<Outcome, Refusal>>) {
        let mut rows = Self::default();
        let mut answers = Vec::new();
        for (command, now_ms, _) in history {
            let is_archived = |package: &&Package| {
                let has_time_agreed = package.state(*now_ms) != PackageState::Scheduled
                    && (package.phase != Phase::Over
                        || matches!(package.state(*now_ms), PackageState::Expired | PackageState::Released));
                is_spent_for_good(package) && has_time_agreed && !rows.is_named(package, command)
            };
            // As a query gives them: in no order that means anything.
            let packages = rows.packages.values().rev().filter(|package| !is_archived(package)).cloned().collect();
            let mut account = Account::load(packages, rows.archive(is_archived), rows.overrun, rows.entries.len() as u64);
            account.put_terms(terms_with(usage_terms));
            account.put_watch(rows.watch.clone());
            let in_flight = rows.watch.order_in_flight.map(|number| rows.orders[&number].clone());
            in_flight.into_iter().for_each(|order| account.put_order(order));
            rows.put_in(&mut account, command);
            answers.push(account.decide(command, *now_ms));
            let changes = account.take_changes();
            rows.write(&account, changes);
        }
        (rows, answers)
    }

    /// Whether a command names a package, or a call that was paid from it.
    fn is_named(&self, package: &Package, command: &Command) -> bool {
        let call = named(command).0.and_then(|request_id| self.calls.get(request_id));
        named_package(command) == Some(&package.id)
            || call.is_some_and(|call| call.legs.iter().any(|leg| leg.package_number == package.number))
    }

    fn archive(&self, is_archived: impl Fn(&&Package) -> bool) -> Archive {
        let archived: Vec<&Package> = self.packages.values().filter(is_archived).collect();
        let sum = |quantity: fn(&Package) -> Quantity, is_counted: fn(&Package) -> bool| {
            let counted = archived.iter().filter(|package| is_counted(package));
            counted.map(|package| quantity(package)).reduce(Quantity::saturating_add)
        };
        let is_exhausted = |package: &Package| package.state(i64::MAX) == PackageState::Exhausted;
        Archive {
            last_number: u32::try_from(self.packages.len()).unwrap(),
            granted: sum(|package| package.granted, |_| true).unwrap_or_default(),
            used: sum(|package| package.used, |_| true).unwrap_or_default(),
            exhausted: sum(|package| package.granted, is_exhausted),
            has_expired: archived.iter().any(|package| package.state(i64::MAX) == PackageState::Expired),
        }
    }

    fn put_in(&self, account: &mut Account, command: &Command) {
        let (call, correction) = named(command);
        if let Some(call) = call.and_then(|request_id| self.calls.get(request_id)) {
            // What is in memory may be newer than its row.
            if account.call(&call.request_id).is_none() {
                account.put_call(call.clone());
            }
        }
        if let Some(correction) = correction.and_then(|key| self.corrections.get(&key)) {
            account.put_correction(correction.clone());
        }
        let order = named_order(command).and_then(|number| self.orders.get(&number));
        if let Some(order) = order.filter(|order| account.order(order.number).is_none()) {
            account.put_order(order.clone());
        }
    }

    fn write(&mut self, account: &Account, changes: Changes) {
        let package = |number: &u32| account.package(*number).unwrap().clone();
        for number in &changes.rewritten_packages {
            self.packages.insert(*number, package(number));
        }
        for number in &changes.moved_packages {
            let Package { granted, used, held, .. } = package(number);
            let row = self.packages.get_mut(number).expect("a package that moves has a row");
            (row.granted, row.used, row.held) = (granted, used, held);
        }
        for (request_id, is_new) in changes.calls.iter() {
            let known = self.calls.insert(request_id.clone(), account.call(request_id).unwrap().clone());
            assert_eq!(known.is_none(), *is_new, "a request id is claimed once, and a call that changes has a row");
        }
        for correction in changes.corrections {
            let known = self.corrections.insert(correction.key.clone(), correction);
            assert_eq!(known, None, "a correction is made once");
        }
        for number in &changes.orders {
            self.orders.insert(*number, account.order(*number).unwrap().clone());
        }
        if changes.watch {
            self.watch = account.watch().clone();
        }
        self.entries.extend(changes.entries);
        self.events.extend(changes.events);
        self.overrun = account.overrun();
        assert_eq!(self.entries.len() as u64, account.entry_count());
        let are_all_written = account.packages().iter().all(|package| self.packages.get(&package.number) == Some(package));
        assert!(are_all_written, "what changed of packages was not named");
        assert_eq!(self.watch, *account.watch(), "what changed of the watch was not named");
        assert_eq!(self.events.len() as u64, self.watch.event_count);
        assert!((1..).zip(&self.events).all(|(number, event)| event.number == number));
    }
}

/// The package that a command names.
fn named_package(command: &Command) -> Option<&PackageId> {
    match command {
        Command::Grant(grant) => Some(&grant.package_id),
        Command::ConcludeOrder { package, .. } => package.as_ref().map(|grant| &grant.package_id),
        Command::Change { package_id, .. } | Command::Adjust { package_id, .. } => Some(package_id),
        _ => None,
    }
}

/// The order that a command names.
fn named_order(command: &Command) -> Option<u32> {
    match command {
        Command::ConcludeOrder { number, .. } => Some(*number),
        Command::Grant(grant) => grant.repurchase,
        _ => None,
    }
}

/// The call and the correction that a command names.
fn named(command: &Command) -> (Option<&RequestId>, Option<CorrectionKey>) {
    match command {
        Command::Admit(Claim { request_id, .. })
        | Command::Renew { request_id, .. }
        | Command::Settle(Settlement { request_id, .. })
        | Command::LoseHold { request_id, .. } => (Some(request_id), None),
        Command::Refund { request_id, refund_id, .. } => {
            let key = CorrectionKey { target: CorrectionTarget::Call(request_id.clone()), id: refund_id.clone() };
            (Some(request_id), Some(key))
        }
        Command::Adjust { package_id, adjustment_id, .. } => {
            (None, Some(CorrectionKey { target: CorrectionTarget::Package(package_id.clone()), id: adjustment_id.clone() }))
        }
        Command::Probe { .. }
        | Command::Look
        | Command::SetRules(_)
        | Command::ConcludeOrder { .. }
        | Command::Grant(_)
        | Command::Change { .. } => (None, None),
    }
}
