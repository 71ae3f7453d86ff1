//! Auto-repurchase: when the next package is ordered, and what becomes of an order (contract section 4).
//!
//! What always holds: at most one order is in flight, what an order buys is decided with it, and an order is credited by one package at most. Money may
//! have been spent on an order that timed out, so it counts against the cap until it is known to have failed; a success that comes late still counts.
//! Nothing is ordered that could not be credited.
//! The border: who posts orders and who answers is not known here.

use super::account::{Account, Changes};
use super::command::{Grant, Outcome, Refusal};
use super::entry::{Event, EventDetail, EventKind};
use super::order::{Conclusion, Counted, FailureReason, Order, OrderState};
use super::rules::{CAP_COUNT_MAX, Cap, Purchase, RepurchaseRule, Rules};
use crate::quantity::Quantity;

/// How long nothing is ordered after a failure, at least; twice as long after each further one in a row.
const REST_AFTER_FAILURE_MS: i64 = 1_000;
/// How long nothing is ordered after however many failures, at most (a longer cooldown counts).
const REST_AFTER_FAILURES_MAX_MS: i64 = 3_600_000;
/// How long an order is remembered for the cap even if the cap's period is shorter: a rule may be written with a longer one.
const COUNTED_KEPT_MS: i64 = 31 * 24 * 3_600_000;

/// What a rule asks for at a moment.
enum Due {
    Nothing,
    Order(Purchase),
    TellCap(Purchase),
    /// The account is too full for what would be bought.
    Suspend(Purchase),
    Later(i64),
}

impl Account {
    pub(super) fn set_rules(&mut self, rules: &Rules, now_ms: i64) -> Result<Outcome, Refusal> {
        rules.check().map_err(Refusal::Invalid)?;
        let mut watch = self.watch.clone();
        if watch.rules.repurchase != rules.repurchase {
            watch.cap_told_at_ms = None;
        }
        watch.rules = rules.clone();
        watch.suspended = None;
        watch.failures = 0;
        if let Some(rule) = &rules.repurchase {
            // The cooldown goes on; what failures had made of it does not.
            watch.rests_until_ms = watch.rests_until_ms.min(now_ms.saturating_add(rule.cooldown_ms));
        }
        if watch != self.watch {
            *self.watch_mut() = watch;
        }
        Ok(Outcome::RulesSet)
    }

    pub(super) fn conclude_order(
        &mut self,
        number: u32,
        conclusion: Conclusion,
        package: Option<&Grant>,
        now_ms: i64,
    ) -> Result<Outcome, Refusal> {
        let order = self.orders.get(&number).ok_or(Refusal::NotFound)?.clone();
        if package.is_some() && conclusion != Conclusion::Succeeded {
            return Err(Refusal::Invalid("only an order that succeeded brings a package"));
        }
        match conclusion {
            Conclusion::Pending => self.conclude_pending(order, now_ms),
            Conclusion::Succeeded => self.conclude_succeeded(order, package, now_ms)?,
            Conclusion::Failed(reason) => self.conclude_failed(order, reason, now_ms)?,
        }
        self.orders.get(&number).cloned().map(|order| Outcome::Order(Box::new(order))).ok_or(Refusal::NotFound)
    }

    /// An outcome may overtake the answer that it is pending.
    fn conclude_pending(&mut self, order: Order, now_ms: i64) {
        if order.state == OrderState::Requested {
            self.store_order(Order { state: OrderState::Pending, ..order }, now_ms);
        }
    }

    fn conclude_succeeded(&mut self, order: Order, package: Option<&Grant>, now_ms: i64) -> Result<(), Refusal> {
        if order.reason.is_some_and(|reason| !matches!(reason, FailureReason::Timeout | FailureReason::HookFailed)) {
            return Err(Refusal::Conflict("the order has failed"));
        }
        match package {
            Some(grant) if grant.repurchase == Some(order.number) => self.grant(grant, now_ms).map(|_| ()),
            Some(_) => Err(Refusal::Invalid("the package does not name the order")),
            None if order.state == OrderState::Succeeded => Ok(()),
            None => {
                self.succeed(order, now_ms);
                Ok(())
            }
        }
    }

    fn conclude_failed(&mut self, order: Order, reason: FailureReason, now_ms: i64) -> Result<(), Refusal> {
        if reason == FailureReason::CapReached {
            return Err(Refusal::Invalid("an order that was made has not failed for the cap"));
        }
        match order.state {
            OrderState::Requested | OrderState::Pending => self.fail(order, reason, now_ms),
            OrderState::Failed if order.reason == Some(reason) => {}
            // Nobody knew what had become of it: this does.
            OrderState::Failed if order.reason == Some(FailureReason::Timeout) => self.fail(order, reason, now_ms),
            OrderState::Failed => return Err(Refusal::Conflict("the order has failed for another reason")),
            OrderState::Succeeded => return Err(Refusal::Conflict("the order has succeeded")),
        }
        Ok(())
    }

    /// Whether an order can be credited by a package.
    pub(super) fn check_credit(&self, number: u32) -> Result<(), Refusal> {
        match self.orders.get(&number).ok_or(Refusal::NotFound)?.package_number {
            None => Ok(()),
            Some(_) => Err(Refusal::Conflict("another package was granted for this order")),
        }
    }

    /// A package that was bought credits its order, whatever had been thought to have become of it.
    pub(super) fn credit(&mut self, number: u32, package_number: u32, now_ms: i64) {
        if let Some(order) = self.orders.get(&number).cloned() {
            self.succeed(Order { package_number: Some(package_number), ..order }, now_ms);
        }
    }

    /// Stores an order that was bought, with its event where that is news.
    fn succeed(&mut self, order: Order, now_ms: i64) {
        if order.state == OrderState::Succeeded {
            return self.store_order(order, now_ms);
        }
        self.watch_mut().failures = 0;
        self.count(&order);
        let order = Order { state: OrderState::Succeeded, reason: None, ended_at_ms: Some(now_ms), ..order };
        self.tell_order(EventKind::RepurchaseSucceeded, &order, None, now_ms);
        self.store_order(order, now_ms);
    }

    fn fail(&mut self, order: Order, reason: FailureReason, now_ms: i64) {
        let is_of_rule = self.watch.rules.repurchase.as_ref().is_some_and(|rule| rule.package == order.purchase);
        let watch = self.watch_mut();
        watch.failures = watch.failures.saturating_add(u32::from(order.state != OrderState::Failed));
        if reason != FailureReason::Timeout {
            watch.counted.retain(|counted| counted.number != order.number);
        }
        let order = Order { state: OrderState::Failed, reason: Some(reason), ended_at_ms: Some(now_ms), ..order };
        self.tell_order(EventKind::RepurchaseFailed, &order, Some(reason), now_ms);
        // A rule that buys something else by now is not what failed.
        if reason.suspends() && is_of_rule {
            self.watch_mut().suspended = Some(reason);
            self.tell_order(EventKind::RepurchaseSuspended, &order, Some(reason), now_ms);
        }
        self.store_order(order, now_ms);
    }

    /// An order is in flight until it failed, or its package is there, or its time is over: no customer waits for ever, and nothing is ordered twice while
    /// a package is on its way. One that is bought late, in its time, is in flight again unless another one is.
    fn store_order(&mut self, order: Order, now_ms: i64) {
        let number = order.number;
        let is_awaited = match order.state {
            OrderState::Requested | OrderState::Pending => true,
            OrderState::Succeeded => order.package_number.is_none() && now_ms < order.times_out_at_ms,
            OrderState::Failed => false,
        };
        let cooldown_ms = self.watch.rules.repurchase.as_ref().map_or(0, |rule| rule.cooldown_ms);
        let watch = self.watch_mut();
        if is_awaited {
            watch.order_in_flight.get_or_insert(number);
        } else {
            watch.order_in_flight = watch.order_in_flight.filter(|in_flight| *in_flight != number);
            watch.rests_until_ms = now_ms.saturating_add(cooldown_ms.max(rest_after_ms(watch.failures)));
        }
        self.orders.insert(number, order);
        Changes::add(&mut self.changes.orders, number);
    }

    /// Ends the order in flight where its time is over.
    pub(super) fn end_overdue_order(&mut self, now_ms: i64) {
        let in_flight = self.watch.order_in_flight.and_then(|number| self.orders.get(&number));
        let Some(order) = in_flight.filter(|order| order.times_out_at_ms <= now_ms).cloned() else {
            return;
        };
        match order.state {
            OrderState::Requested | OrderState::Pending => self.fail(order, FailureReason::Timeout, now_ms),
            OrderState::Succeeded | OrderState::Failed => self.store_order(order, now_ms),
        }
    }

    /// Makes the order that is due, or tells why none is made: the cap leaves no room for it, or nothing that it buys could be credited.
    pub(super) fn order_when_due(&mut self, now_ms: i64) {
        match self.due(now_ms) {
            Due::Nothing | Due::Later(_) => {}
            Due::Order(purchase) => self.make_order(purchase, now_ms),
            Due::TellCap(purchase) => {
                self.watch_mut().cap_told_at_ms = Some(now_ms);
                let detail = EventDetail::Order { order: None, purchase, reason: Some(FailureReason::CapReached) };
                self.announce(Event { detail, ..Event::of(EventKind::RepurchaseFailed, now_ms) });
            }
            Due::Suspend(purchase) => {
                let reason = Some(FailureReason::PurchaseRestricted);
                self.watch_mut().suspended = reason;
                for kind in [EventKind::RepurchaseFailed, EventKind::RepurchaseSuspended] {
                    let detail = EventDetail::Order { order: None, purchase: purchase.clone(), reason };
                    self.announce(Event { detail, ..Event::of(kind, now_ms) });
                }
            }
        }
    }

    /// When the clock alone moves an order, or makes one.
    pub(super) fn next_order_step_ms(&self, now_ms: i64) -> Option<i64> {
        if let Some(number) = self.watch.order_in_flight {
            return self.orders.get(&number).map(|order| order.times_out_at_ms);
        }
        match self.due(now_ms) {
            Due::Later(at_ms) => Some(at_ms),
            Due::Nothing | Due::Order(_) | Due::TellCap(_) | Due::Suspend(_) => None,
        }
    }

    fn due(&self, now_ms: i64) -> Due {
        let Some(rule) = self.rule_in_force().filter(|rule| self.level().reaches(rule.trigger)) else {
            return Due::Nothing;
        };
        if !self.has_room_for(rule.package.quantity) {
            return Due::Suspend(rule.package.clone());
        }
        if now_ms < self.watch.rests_until_ms {
            return Due::Later(self.watch.rests_until_ms);
        }
        let room_at_ms = rule.cap.room_at_ms(&self.watch.counted, rule.package.price, now_ms);
        if room_at_ms.is_some_and(|at| at <= now_ms) {
            return Due::Order(rule.package.clone());
        }
        match self.watch.cap_told_at_ms.map(|told_at_ms| told_at_ms.saturating_add(rule.cap.period_ms)) {
            Some(tell_at_ms) if now_ms < tell_at_ms => Due::Later(room_at_ms.map_or(tell_at_ms, |at| at.min(tell_at_ms))),
            _ => Due::TellCap(rule.package.clone()),
        }
    }

    /// The rule that may make an order now, whatever remains.
    fn rule_in_force(&self) -> Option<&RepurchaseRule> {
        let is_possible = self.terms.repurchase_timeout_ms.is_some();
        let is_free = self.watch.order_in_flight.is_none() && self.watch.suspended.is_none();
        self.watch.rules.repurchase.as_ref().filter(|rule| rule.enabled && is_possible && is_free)
    }

    fn make_order(&mut self, purchase: Purchase, now_ms: i64) {
        let watch = self.watch_mut();
        watch.order_count = watch.order_count.saturating_add(1);
        watch.cap_told_at_ms = None;
        let order = Order {
            number: watch.order_count,
            state: OrderState::Requested,
            reason: None,
            purchase,
            requested_at_ms: now_ms,
            times_out_at_ms: now_ms.saturating_add(self.terms.repurchase_timeout_ms.unwrap_or(0)),
            ended_at_ms: None,
            package_number: None,
        };
        self.count(&order);
        self.tell_order(EventKind::RepurchaseRequested, &order, None, now_ms);
        self.store_order(order, now_ms);
    }

    /// Counts an order against the cap, once.
    fn count(&mut self, order: &Order) {
        let period_ms = self.watch.rules.repurchase.as_ref().map_or(0, |rule| rule.cap.period_ms);
        let counted = &mut self.watch_mut().counted;
        if counted.iter().any(|known| known.number == order.number) {
            return;
        }
        counted.push(Counted { number: order.number, at_ms: order.requested_at_ms, price: order.purchase.price });
        counted.sort_unstable_by_key(|counted| (counted.at_ms, counted.number));
        let newest_ms = counted.last().map_or(0, |counted| counted.at_ms);
        counted.retain(|counted| newest_ms.saturating_sub(counted.at_ms) < period_ms.max(COUNTED_KEPT_MS));
        let excess = counted.len().saturating_sub(CAP_COUNT_MAX as usize);
        counted.drain(..excess);
    }

    fn tell_order(&mut self, kind: EventKind, order: &Order, reason: Option<FailureReason>, now_ms: i64) {
        let of = Some((order.number, order.requested_at_ms));
        let detail = EventDetail::Order { order: of, purchase: order.purchase.clone(), reason };
        self.announce(Event { detail, ..Event::of(kind, now_ms) });
    }
}

/// How long nothing is ordered after so many failures in a row, so that no loop is tight whatever the cooldown.
fn rest_after_ms(failures: u32) -> i64 {
    match failures {
        0 => 0,
        _ => (REST_AFTER_FAILURE_MS << (failures - 1).min(20)).min(REST_AFTER_FAILURES_MAX_MS),
    }
}

impl Cap {
    /// The earliest moment from now on at which one more order fits; `None` where none ever does.
    fn room_at_ms(&self, counted: &[Counted], price: Quantity, now_ms: i64) -> Option<i64> {
        let leaves_at_ms = |counted: &Counted| counted.at_ms.saturating_add(self.period_ms);
        let live = counted.iter().filter(|counted| now_ms < leaves_at_ms(counted));
        let mut count = live.clone().count();
        let mut spent: i128 = live.clone().map(|counted| i128::from(counted.price.parts())).sum();
        let fits = |count: usize, spent: i128| {
            let is_payable = |spend: Quantity| spent + i128::from(price.parts()) <= i128::from(spend.parts());
            count < self.count as usize && self.spend.is_none_or(is_payable)
        };
        let mut at_ms = now_ms;
        for oldest in live {
            if fits(count, spent) {
                break;
            }
            count -= 1;
            spent -= i128::from(oldest.price.parts());
            at_ms = leaves_at_ms(oldest);
        }
        fits(count, spent).then_some(at_ms)
    }
}
