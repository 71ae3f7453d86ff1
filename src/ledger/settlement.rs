//! The end of a call: settled with what it cost, released for nothing, or lost and perhaps corrected later (contract section 3).

use super::account::{Account, Cause};
use super::call::{Call, CallState, Leg};
use super::command::{Outcome, Refusal, Settlement};
use super::corrections::legs_given_back;
use super::entry::{EntryKind, Event, EventDetail, EventKind};
use super::package::Package;
use crate::ids::RequestId;
use crate::quantity::Quantity;

impl Account {
    pub(super) fn settle(&mut self, settlement: &Settlement, now_ms: i64) -> Result<Outcome, Refusal> {
        let call = self.calls.get(&settlement.request_id).ok_or(Refusal::NotFound)?;
        if call.attempt != settlement.attempt || call.is_final {
            return Ok(Outcome::AlreadyEnded { charge: call.charge });
        }
        let mut call = call.clone();
        call.status = settlement.status;
        call.usage_missing = settlement.usage_missing;
        call.is_final = true;
        if call.state == CallState::Held {
            self.end_hold(&mut call, settlement.charge, now_ms);
        } else {
            self.correct(&mut call, settlement.charge, now_ms);
        }
        let charge = call.charge;
        self.store_call(call);
        Ok(Outcome::Settled { charge })
    }

    /// A lease that was renewed meanwhile, or a call that has ended, is not lost.
    pub(super) fn lose_hold(&mut self, request_id: &RequestId, charge: bool, now_ms: i64) -> Result<Outcome, Refusal> {
        let call = self.calls.get(request_id).ok_or(Refusal::NotFound)?;
        if call.state != CallState::Held || call.lease_ends_ms > now_ms {
            return Ok(Outcome::AlreadyEnded { charge: call.charge });
        }
        let mut call = call.clone();
        call.lost = true;
        let legs = call.legs.clone();
        let cost = if charge { call.hold } else { Quantity::ZERO };
        self.end_hold(&mut call, cost, now_ms);
        if call.state == CallState::Released {
            call.legs = legs;
        }
        self.announce(Event {
            detail: EventDetail::Quantity(cost),
            request_id: Some(request_id.clone()),
            ..Event::of(EventKind::CallLost, now_ms)
        });
        let charge = call.charge;
        self.store_call(call);
        Ok(Outcome::Settled { charge })
    }

    /// Replaces the hold by the charge: from the held legs first, then from what is available, and the rest is overrun.
    fn end_hold(&mut self, call: &mut Call, charge: Quantity, now_ms: i64) {
        let cause_id = call.request_id.clone();
        let cause = Cause::call(&cause_id, now_ms);
        let mut rest = charge;
        let mut charged = Vec::new();
        for leg in std::mem::take(&mut call.legs) {
            let taken = Leg { quantity: leg.quantity.min(rest), ..leg };
            let freed = Leg { quantity: leg.quantity.saturating_sub(taken.quantity), ..leg };
            if !taken.quantity.is_zero() {
                self.record(EntryKind::Charge, taken, cause);
                charged.push(taken);
            }
            if !freed.quantity.is_zero() {
                self.record(EntryKind::Free, freed, cause);
            }
            rest = rest.saturating_sub(taken.quantity);
        }
        call.legs = charged;
        call.charge = charge.saturating_sub(rest);
        self.charge_more(call, rest, now_ms);
        close(call, now_ms);
    }

    /// The real cost of a call that had been given up on replaces what was charged for it then. What people gave back stays given back: the charge does
    /// not go below it.
    fn correct(&mut self, call: &mut Call, cost: Quantity, now_ms: i64) {
        let charged = call.charge.saturating_add(call.overrun);
        if cost >= charged {
            let mut more = cost.saturating_sub(charged);
            if call.state == CallState::Released {
                more = self.charge_freed(call, more, now_ms);
            }
            self.charge_more(call, more, now_ms);
        } else {
            self.charge_less(call, charged.saturating_sub(cost), now_ms);
        }
        close(call, now_ms);
    }

    /// What a lost call had reserved and nobody took since is charged first, whatever became of its package: a timely settle would have done the
    /// same. Returns what that does not cover.
    fn charge_freed(&mut self, call: &mut Call, amount: Quantity, now_ms: i64) -> Quantity {
        let cause_id = call.request_id.clone();
        let mut rest = amount;
        for leg in std::mem::take(&mut call.legs) {
            let free = self.package(leg.package_number).map_or(Quantity::ZERO, Package::free);
            let taken = Leg { quantity: leg.quantity.min(free).min(rest), ..leg };
            if !taken.quantity.is_zero() {
                self.record(EntryKind::ChargeMore, taken, Cause::call(&cause_id, now_ms));
                call.charge = call.charge.saturating_add(taken.quantity);
                call.legs.push(taken);
                rest = rest.saturating_sub(taken.quantity);
            }
        }
        rest
    }

    fn charge_more(&mut self, call: &mut Call, amount: Quantity, now_ms: i64) {
        let cause_id = call.request_id.clone();
        let cause = Cause::call(&cause_id, now_ms);
        let (legs, uncovered) = self.allocate(amount, now_ms);
        for leg in legs {
            self.record(EntryKind::ChargeMore, leg, cause);
            call.charge = call.charge.saturating_add(leg.quantity);
            match call.legs.iter_mut().find(|other| other.package_number == leg.package_number) {
                // What was refunded is the end of the legs: nothing that is charged after a refund may come to lie there.
                _ if !call.refunded.is_zero() => call.legs.insert(0, leg),
                Some(known) => known.quantity = known.quantity.saturating_add(leg.quantity),
                None => call.legs.push(leg),
            }
        }
        if !uncovered.is_zero() {
            self.record(EntryKind::Overrun, Leg { package_number: 0, quantity: uncovered }, cause);
            call.overrun = call.overrun.saturating_add(uncovered);
        }
    }

    /// Gives back what was charged last: overrun first, then the legs from the last to the first, after what refunds gave back of them.
    fn charge_less(&mut self, call: &mut Call, amount: Quantity, now_ms: i64) {
        let cause_id = call.request_id.clone();
        let cause = Cause::call(&cause_id, now_ms);
        let mut rest = amount;
        let overrun = rest.min(call.overrun);
        if !overrun.is_zero() {
            self.record(EntryKind::OverrunCorrect, Leg { package_number: 0, quantity: overrun }, cause);
            call.overrun = call.overrun.saturating_sub(overrun);
            rest = rest.saturating_sub(overrun);
        }
        for back in legs_given_back(&call.legs, call.refunded, rest) {
            self.record(EntryKind::Correct, back, cause);
            call.charge = call.charge.saturating_sub(back.quantity);
            if let Some(leg) = call.legs.iter_mut().find(|leg| leg.package_number == back.package_number) {
                leg.quantity = leg.quantity.saturating_sub(back.quantity);
            }
        }
        call.legs.retain(|leg| !leg.quantity.is_zero());
    }
}

/// A call that ends with charge 0 is released (contract section 3).
fn close(call: &mut Call, now_ms: i64) {
    let is_free = call.charge.is_zero() && call.overrun.is_zero();
    call.state = if is_free { CallState::Released } else { CallState::Settled };
    call.settled_at_ms = Some(now_ms);
}
