//! What alerts and orders must come of each step, from the contract's words: everything is worked out anew from the packages and from all orders ever
//! made, each list searched from its beginning, with none of the ledger's own helpers and nothing of what the ledger remembers.

mod orders;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) use orders::conclusion;

use crate::ledger::{
    Account, Command, Entry, EntryKind, Event, EventDetail, EventKind, Order, Outcome, Package, PackageChange, PackageKind,
    Phase, Refusal, Rules, Standing, Terms, Threshold,
};

use super::parts;

/// One command with what it found and what it left.
pub(super) struct Decision<'a> {
    pub(super) before: &'a Account,
    pub(super) after: &'a Account,
    pub(super) command: &'a Command,
    pub(super) result: &'a Result<Outcome, Refusal>,
    pub(super) entries: &'a [Entry],
    pub(super) now_ms: i64,
}

/// Whether the clock has been seen at or after a package's start and its expiry.
#[derive(Clone, Copy, Default)]
struct Seen {
    start: bool,
    expiry: bool,
}

pub(super) struct Watching {
    terms: Arc<Terms>,
    rules: Rules,
    percent_base: i64,
    seen: BTreeMap<u32, Seen>,
    pub(super) orders: Vec<Order>,
    /// Numbers of the orders that nobody waits for any more.
    over: Vec<u32>,
    rests_until_ms: i64,
    failures_in_a_row: u32,
    is_suspended: bool,
    cap_told_at_ms: Option<i64>,
    events: Vec<Event>,
}

impl Watching {
    pub(super) fn new(terms: Arc<Terms>) -> Self {
        Self {
            terms,
            rules: Rules::default(),
            percent_base: 0,
            seen: BTreeMap::new(),
            orders: Vec::new(),
            over: Vec::new(),
            rests_until_ms: 0,
            failures_in_a_row: 0,
            is_suspended: false,
            cap_told_at_ms: None,
            events: Vec::new(),
        }
    }

    /// The events that a decision must have caused, in order.
    pub(super) fn follow(&mut self, decision: &Decision<'_>) -> Vec<Event> {
        let known = self.events.len();
        let level = self.remaining(decision.before.packages());
        self.look(level, self.percent_base, decision.before.packages(), decision.now_ms);
        let percent_base = self.percent_base;
        let level = self.remaining(decision.before.packages());
        self.carry_out(decision);
        self.look(level, percent_base, decision.after.packages(), decision.now_ms);
        self.events.split_off(known)
    }

    /// Time and orders stand in the account as they stand here.
    pub(super) fn check(&self, account: &Account, now_ms: i64, what: &str) {
        for package in account.packages().iter().filter(|package| package.standing != Standing::Released) {
            let seen = self.seen[&package.number];
            let phase = match (seen.start, seen.expiry) {
                (false, _) => Phase::Scheduled,
                (true, false) => Phase::Running,
                (true, true) => Phase::Over,
            };
            assert_eq!(package.phase, phase, "{what}: {package:?}");
        }
        let made: Vec<Order> = (1..).map_while(|number| account.order(number).cloned()).collect();
        assert_eq!(made, self.orders, "{what}");
        let in_flight = self.in_flight(now_ms);
        assert!(in_flight.len() <= 1, "{what}: {in_flight:?} are in flight");
        assert_eq!(account.watch().order_in_flight, in_flight.first().copied(), "{what}");
        assert_eq!(account.watch().percent_base.parts(), self.percent_base, "{what}");
    }

    fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    fn of(kind: EventKind, at_ms: i64) -> Event {
        Event { number: 0, kind, detail: EventDetail::None, package_number: None, request_id: None, at_ms }
    }

    fn is_counted(&self, package: &Package) -> bool {
        let seen = self.seen[&package.number];
        package.kind == PackageKind::Prepaid && package.standing == Standing::Open && seen.start && !seen.expiry
    }

    fn remaining(&self, packages: &[Package]) -> i64 {
        let counted = packages.iter().filter(|package| self.is_counted(package));
        counted.map(|package| package.granted.parts() - package.used.parts()).sum()
    }

    fn fix_base(&mut self, packages: &[Package]) {
        let counted = packages.iter().filter(|package| self.is_counted(package) && package.used < package.granted);
        self.percent_base = counted.map(|package| package.granted.parts()).sum();
    }

    fn look(&mut self, remaining_before: i64, base_before: i64, packages: &[Package], now_ms: i64) {
        let mut is_moved = false;
        let mut in_burn_order: Vec<&Package> = packages.iter().collect();
        in_burn_order.sort_by(|one, other| one.burn_order(other));
        for package in in_burn_order.into_iter().filter(|package| package.standing != Standing::Released) {
            let seen = self.seen.get_mut(&package.number).unwrap();
            let has_started = package.starts_at_ms <= now_ms;
            let has_ended = package.expires_at_ms.is_some_and(|at| at <= now_ms);
            is_moved |= (has_started && !seen.start) || (has_ended && !seen.expiry);
            seen.start |= has_started;
            if has_ended && !seen.expiry {
                seen.expiry = true;
                self.events.push(Event { package_number: Some(package.number), ..Self::of(EventKind::PackageExpired, now_ms) });
            }
        }
        if is_moved {
            self.fix_base(packages);
        }
        self.cross(remaining_before, packages, base_before, now_ms);
        self.end_what_is_overdue(now_ms);
        self.order(packages, now_ms);
    }

    fn cross(&mut self, remaining_before: i64, packages: &[Package], base_before: i64, now_ms: i64) {
        let remaining = self.remaining(packages);
        let granted = packages.iter().filter(|package| self.is_counted(package)).map(|package| package.granted.parts()).sum();
        let mut crossed: Vec<Threshold> = Vec::new();
        for alert in self.rules.alerts.clone().unwrap_or_else(|| self.terms.alerts.clone()) {
            let was_above = is_above(remaining_before, alert, base_before);
            if was_above && !is_above(remaining, alert, self.percent_base) && !crossed.contains(&alert) {
                crossed.push(alert);
            }
        }
        crossed.sort();
        crossed.sort_by_key(|alert| std::cmp::Reverse(height(*alert, self.percent_base)));
        let unit = self.terms.unit.clone();
        let balance = |threshold| EventDetail::Balance {
            threshold,
            remaining: parts(remaining),
            granted: parts(granted),
            unit: unit.clone(),
        };
        for alert in crossed {
            self.tell(Event { detail: balance(Some(alert)), ..Self::of(EventKind::BalanceLow, now_ms) });
        }
        if remaining_before > 0 && remaining == 0 {
            self.tell(Event { detail: balance(None), ..Self::of(EventKind::BalanceExhausted, now_ms) });
        }
    }

    fn carry_out(&mut self, decision: &Decision<'_>) {
        let Decision { before, after, command, result, entries, now_ms } = *decision;
        for package in after.packages() {
            let is_new = !self.seen.contains_key(&package.number);
            if is_new {
                self.seen.insert(package.number, Seen { start: package.starts_at_ms <= now_ms, expiry: false });
            }
        }
        let mut left: BTreeMap<u32, i64> = before.packages().iter().map(|package| (package.number, left_of(package))).collect();
        for entry in entries {
            self.tell_entry(entry, after, &mut left, now_ms);
        }
        if result.is_err() {
            return;
        }
        match command {
            Command::LoseHold { request_id, .. } if matches!(result, Ok(Outcome::Settled { .. })) => {
                let charge = after.call(request_id).unwrap().charge;
                self.tell(Event {
                    detail: EventDetail::Quantity(charge),
                    request_id: Some(request_id.clone()),
                    ..Self::of(EventKind::CallLost, now_ms)
                });
            }
            Command::Change { package_id, change: PackageChange::Reschedule { .. } } => {
                let of =
                    |account: &Account| account.packages().iter().find(|package| package.id == *package_id).cloned().unwrap();
                let (old, new) = (of(before), of(after));
                let is_future = new.expires_at_ms.is_none_or(|at| at > now_ms);
                if old.expires_at_ms != new.expires_at_ms && is_future && self.seen[&new.number].expiry {
                    self.seen.get_mut(&new.number).unwrap().expiry = false;
                    self.fix_base(after.packages());
                }
            }
            Command::SetRules(rules) => self.set_rules(rules, now_ms),
            Command::Grant(grant) => self.credit(grant, entries, now_ms),
            Command::ConcludeOrder { number, conclusion, package } => match package {
                Some(grant) => self.credit(grant, entries, now_ms),
                None => self.conclude(*number, *conclusion, now_ms),
            },
            _ => {}
        }
    }

    fn tell_entry(&mut self, entry: &Entry, after: &Account, left: &mut BTreeMap<u32, i64>, now_ms: i64) {
        let [granted, _, used, _] = entry.kind.effect().map(i64::from);
        let before = left.get(&entry.package_number).copied().unwrap_or(0);
        let now_left = before + (granted - used) * entry.quantity.parts();
        left.insert(entry.package_number, now_left);
        let is_fixing = matches!(
            entry.kind,
            EntryKind::Grant
                | EntryKind::AdjustUp
                | EntryKind::AdjustDown
                | EntryKind::Freeze
                | EntryKind::Unfreeze
                | EntryKind::Release
        );
        if is_fixing {
            self.fix_base(after.packages());
        }
        let package = after.packages().iter().find(|package| package.number == entry.package_number);
        let is_prepaid = package.is_some_and(|package| package.kind == PackageKind::Prepaid);
        let (kind, detail) = match entry.kind {
            EntryKind::Grant => (EventKind::PackageGranted, EventDetail::None),
            EntryKind::Freeze => (EventKind::PackageFrozen, EventDetail::None),
            EntryKind::Unfreeze => (EventKind::PackageUnfrozen, EventDetail::None),
            EntryKind::Release => (EventKind::PackageReleased, EventDetail::None),
            EntryKind::Overrun => (EventKind::CallOverrun, EventDetail::Quantity(entry.quantity)),
            _ if is_prepaid && before > 0 && now_left == 0 => (EventKind::PackageExhausted, EventDetail::None),
            _ => return,
        };
        let package_number = package.map(|package| package.number);
        let request_id = entry.request_id.clone();
        self.tell(Event { detail, package_number, request_id, ..Self::of(kind, now_ms) });
    }
}

fn left_of(package: &Package) -> i64 {
    package.granted.parts() - package.used.parts()
}

/// A threshold in millionths of a part: a percentage has six digits behind what is a whole.
fn height(threshold: Threshold, percent_base: i64) -> i128 {
    match threshold {
        Threshold::Remaining(quantity) => i128::from(quantity.parts()) * 1_000_000,
        Threshold::Percent(percent) => i128::from(percent.parts()) * i128::from(percent_base),
    }
}

fn is_above(remaining: i64, threshold: Threshold, percent_base: i64) -> bool {
    i128::from(remaining) * 1_000_000 > height(threshold, percent_base)
}
