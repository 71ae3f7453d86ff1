//! Orders as the contract wants them: what is due is asked of all orders ever made.

use super::{Watching, is_above};
use crate::ledger::{
    Conclusion, Entry, EntryKind, Event, EventDetail, EventKind, FailureReason, Grant, Order, OrderState, Package,
    RepurchaseRule, Rules,
};

impl Watching {
    fn rule(&self) -> Option<&RepurchaseRule> {
        self.rules.repurchase.as_ref()
    }

    pub(super) fn in_flight(&self, now_ms: i64) -> Vec<u32> {
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

    pub(super) fn set_rules(&mut self, rules: &Rules, now_ms: i64) {
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
        self.failures_in_a_row += u32::from(order.state != OrderState::Failed);
        (order.state, order.reason, order.ended_at_ms) = (OrderState::Failed, Some(reason), Some(now_ms));
        let purchase = order.purchase.clone();
        self.tell_order(EventKind::RepurchaseFailed, number, Some(reason), now_ms);
        let is_for_ever = !matches!(reason, FailureReason::Timeout | FailureReason::HookFailed);
        if is_for_ever && self.rule().is_some_and(|rule| rule.package == purchase) {
            self.is_suspended = true;
            self.tell_order(EventKind::RepurchaseSuspended, number, Some(reason), now_ms);
        }
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

    pub(super) fn credit(&mut self, grant: &Grant, entries: &[Entry], now_ms: i64) {
        let granted = entries.iter().find(|entry| entry.kind == EntryKind::Grant);
        let (Some(number), Some(granted)) = (grant.repurchase, granted) else { return };
        let order = self.orders.iter_mut().find(|order| order.number == number).unwrap();
        assert_eq!(order.package_number, None, "a second package for one order");
        order.package_number = Some(granted.package_number);
        self.succeed(number, now_ms);
        self.over.push(number);
        self.rest(now_ms);
    }

    pub(super) fn conclude(&mut self, number: u32, conclusion: Conclusion, now_ms: i64) {
        let order = self.orders.iter_mut().find(|order| order.number == number).unwrap();
        match (conclusion, order.state) {
            (Conclusion::Pending, OrderState::Requested) => order.state = OrderState::Pending,
            (Conclusion::Succeeded, _) => self.succeed(number, now_ms),
            (Conclusion::Failed(reason), OrderState::Requested | OrderState::Pending) => self.fail(number, reason, now_ms),
            (Conclusion::Failed(reason), OrderState::Failed) if order.reason != Some(reason) => self.fail(number, reason, now_ms),
            _ => {}
        }
    }

    pub(super) fn end_what_is_overdue(&mut self, now_ms: i64) {
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
    pub(super) fn order(&mut self, packages: &[Package], now_ms: i64) {
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
pub(in crate::ledger::properties) fn conclusion(order: Option<&Order>, conclusion: Conclusion) -> Result<(), &'static str> {
    let Some(order) = order else { return Err("NotFound") };
    match (conclusion, order.state, order.reason) {
        (Conclusion::Failed(FailureReason::CapReached), ..) => Err("Invalid"),
        (Conclusion::Succeeded, _, None | Some(FailureReason::Timeout | FailureReason::HookFailed)) => Ok(()),
        (Conclusion::Failed(_), OrderState::Requested | OrderState::Pending, _) | (Conclusion::Pending, ..) => Ok(()),
        (Conclusion::Failed(_), OrderState::Failed, Some(FailureReason::Timeout)) => Ok(()),
        (Conclusion::Failed(reason), OrderState::Failed, known) if known == Some(reason) => Ok(()),
        _ => Err("Conflict"),
    }
}
