//! What alerts and orders must come of each step, from the contract's words: everything is worked out anew from the packages and from all orders ever
//! made, each list searched from its beginning, with none of the ledger's own helpers and nothing of what the ledger remembers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ledger::{
    Account, Command, Conclusion, Entry, EntryKind, Event, EventDetail, EventKind, FailureReason, Grant, Order, OrderState,
    Outcome, Package, PackageChange, PackageKind, Phase, Refusal, RepurchaseRule, Rules, Standing, Terms, Threshold,
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

    // Time and thresholds.

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
        for package in packages.iter().filter(|package| package.standing != Standing::Released) {
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

    // What a command does.

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
            Command::LoseHold { request_id, .. } if *result == Ok(Outcome::Settled) => {
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

    // Orders.

    fn rule(&self) -> Option<&RepurchaseRule> {
        self.rules.repurchase.as_ref()
    }

    fn in_flight(&self, now_ms: i64) -> Vec<u32> {
        let is_awaited = |order: &&Order| match order.state {
            OrderState::Requested | OrderState::Pending => true,
            OrderState::Succeeded => {
                order.package_number.is_none() && now_ms < order.times_out_at_ms && !self.over.contains(&order.number)
            }
            OrderState::Failed => false,
        };
        self.orders.iter().filter(is_awaited).map(|order| order.number).collect()
    }

    fn tell_order(&mut self, kind: EventKind, number: u32, reason: Option<FailureReason>, now_ms: i64) {
        let order = self.orders.iter().find(|order| order.number == number).unwrap();
        let detail =
            EventDetail::Order { order: Some((number, order.requested_at_ms)), purchase: order.purchase.clone(), reason };
        self.tell(Event { detail, ..Self::of(kind, now_ms) });
    }

    fn rest(&mut self, now_ms: i64) {
        let cooldown_ms = self.rule().map_or(0, |rule| rule.cooldown_ms);
        let mut after_failures_ms = 0;
        for failure in 1..=self.failures_in_a_row {
            after_failures_ms = if failure == 1 { 1_000 } else { (after_failures_ms * 2).min(3_600_000) };
        }
        self.rests_until_ms = now_ms + cooldown_ms.max(after_failures_ms);
    }

    fn set_rules(&mut self, rules: &Rules, now_ms: i64) {
        if self.rules.repurchase != rules.repurchase {
            self.cap_told_at_ms = None;
        }
        self.rules = rules.clone();
        self.is_suspended = false;
        self.failures_in_a_row = 0;
        if let Some(rule) = self.rule() {
            self.rests_until_ms = self.rests_until_ms.min(now_ms + rule.cooldown_ms);
        }
    }

    fn fail(&mut self, number: u32, reason: FailureReason, now_ms: i64) {
        let order = self.orders.iter_mut().find(|order| order.number == number).unwrap();
        (order.state, order.reason, order.ended_at_ms) = (OrderState::Failed, Some(reason), Some(now_ms));
        let purchase = order.purchase.clone();
        self.tell_order(EventKind::RepurchaseFailed, number, Some(reason), now_ms);
        let is_for_ever = !matches!(reason, FailureReason::Timeout | FailureReason::HookFailed);
        if is_for_ever && self.rule().is_some_and(|rule| rule.package == purchase) {
            self.is_suspended = true;
            self.tell_order(EventKind::RepurchaseSuspended, number, Some(reason), now_ms);
        }
        self.failures_in_a_row += 1;
        self.rest(now_ms);
    }

    fn succeed(&mut self, number: u32, now_ms: i64) {
        let others = self.in_flight(now_ms);
        let order = self.orders.iter_mut().find(|order| order.number == number).unwrap();
        if order.state == OrderState::Succeeded {
            return;
        }
        let is_late = order.state == OrderState::Failed;
        (order.state, order.reason, order.ended_at_ms) = (OrderState::Succeeded, None, Some(now_ms));
        let is_awaited = order.package_number.is_none() && now_ms < order.times_out_at_ms;
        self.tell_order(EventKind::RepurchaseSucceeded, number, None, now_ms);
        self.failures_in_a_row = 0;
        if is_late && !others.is_empty() {
            self.over.push(number);
        }
        if !is_awaited {
            self.over.push(number);
            self.rest(now_ms);
        }
    }

    fn credit(&mut self, grant: &Grant, entries: &[Entry], now_ms: i64) {
        let granted = entries.iter().find(|entry| entry.kind == EntryKind::Grant);
        let (Some(number), Some(granted)) = (grant.repurchase, granted) else { return };
        let order = self.orders.iter_mut().find(|order| order.number == number).unwrap();
        assert_eq!(order.package_number, None, "a second package for one order");
        order.package_number = Some(granted.package_number);
        self.succeed(number, now_ms);
        self.over.push(number);
        self.rest(now_ms);
    }

    fn conclude(&mut self, number: u32, conclusion: Conclusion, now_ms: i64) {
        let order = self.orders.iter_mut().find(|order| order.number == number).unwrap();
        match (conclusion, order.state) {
            (Conclusion::Pending, OrderState::Requested) => order.state = OrderState::Pending,
            (Conclusion::Succeeded, _) => self.succeed(number, now_ms),
            (Conclusion::Failed(reason), OrderState::Requested | OrderState::Pending) => self.fail(number, reason, now_ms),
            _ => {}
        }
    }

    fn end_what_is_overdue(&mut self, now_ms: i64) {
        for order in self.orders.clone() {
            let is_overdue = order.times_out_at_ms <= now_ms && !self.over.contains(&order.number);
            match order.state {
                OrderState::Requested | OrderState::Pending if is_overdue => {
                    self.fail(order.number, FailureReason::Timeout, now_ms);
                }
                OrderState::Succeeded if is_overdue => {
                    self.over.push(order.number);
                    self.rest(now_ms);
                }
                _ => {}
            }
        }
    }

    /// An order is due, or the cap is to be told of, or neither.
    fn order(&mut self, packages: &[Package], now_ms: i64) {
        let Some(rule) = self.rule().cloned() else { return };
        let is_reached = !is_above(self.remaining(packages), rule.trigger, self.percent_base);
        let is_resting = now_ms < self.rests_until_ms;
        let is_possible = rule.enabled && !self.is_suspended && self.in_flight(now_ms).is_empty();
        let Some(timeout_ms) = self.terms.repurchase_timeout_ms else { return };
        if !is_reached || is_resting || !is_possible {
            return;
        }
        let is_maybe_paid = |order: &&Order| order.state != OrderState::Failed || order.reason == Some(FailureReason::Timeout);
        let is_recent = |order: &&Order| now_ms < order.requested_at_ms + rule.cap.period_ms;
        let counted: Vec<&Order> = self.orders.iter().filter(is_maybe_paid).filter(is_recent).collect();
        let spent: i64 = counted.iter().map(|order| order.purchase.price.parts()).sum();
        let is_in_spend = rule.cap.spend.is_none_or(|most| spent + rule.package.price.parts() <= most.parts());
        if counted.len() < rule.cap.count as usize && is_in_spend {
            let number = u32::try_from(self.orders.len()).unwrap() + 1;
            self.cap_told_at_ms = None;
            self.orders.push(Order {
                number,
                state: OrderState::Requested,
                reason: None,
                purchase: rule.package,
                requested_at_ms: now_ms,
                times_out_at_ms: now_ms + timeout_ms,
                ended_at_ms: None,
                package_number: None,
            });
            self.tell_order(EventKind::RepurchaseRequested, number, None, now_ms);
        } else if self.cap_told_at_ms.is_none_or(|told_at_ms| told_at_ms + rule.cap.period_ms <= now_ms) {
            self.cap_told_at_ms = Some(now_ms);
            let reason = Some(FailureReason::CapReached);
            let detail = EventDetail::Order { order: None, purchase: rule.package, reason };
            self.tell(Event { detail, ..Self::of(EventKind::RepurchaseFailed, now_ms) });
        }
    }
}

/// What telling an order's outcome must answer, where no package comes with it: whether it is accepted, or the refusal's name.
pub(super) fn conclusion(order: Option<&Order>, conclusion: Conclusion) -> Result<(), &'static str> {
    let Some(order) = order else { return Err("NotFound") };
    match (conclusion, order.state, order.reason) {
        (Conclusion::Failed(FailureReason::CapReached), ..) => Err("Invalid"),
        (Conclusion::Succeeded, _, None | Some(FailureReason::Timeout | FailureReason::HookFailed)) => Ok(()),
        (Conclusion::Failed(_), OrderState::Requested | OrderState::Pending, _) | (Conclusion::Pending, ..) => Ok(()),
        (Conclusion::Failed(reason), OrderState::Failed, known) if known == Some(reason) => Ok(()),
        _ => Err("Conflict"),
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
