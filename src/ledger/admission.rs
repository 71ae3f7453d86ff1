//! Admission: a claim on a request id and a hold, or the reason why not (contract sections 2 and 3).

use super::account::{Account, Cause};
use super::call::{Call, CallState, Leg};
use super::command::{Admission, Claim, Outcome, Refusal};
use super::entry::EntryKind;
use super::package::{Package, PackageState};
use crate::ids::RequestId;
use crate::quantity::Quantity;

impl Account {
    /// A repeated id may be a replay, which costs nothing, or another request: only the admission, which knows the body, can tell.
    pub(super) fn probe(&self, request_id: &RequestId, hold: Quantity, now_ms: i64) -> Result<Outcome, Refusal> {
        if self.calls.contains_key(request_id) {
            return Ok(Outcome::Admissible);
        }
        self.legs_of_hold(hold, now_ms).map(|_| Outcome::Admissible)
    }

    pub(super) fn admit(&mut self, claim: &Claim, now_ms: i64) -> Result<Outcome, Refusal> {
        let attempt = match self.calls.get(&claim.request_id) {
            None => 1,
            Some(call) if call.fingerprint != claim.fingerprint => return Err(Refusal::Reused),
            Some(call) if claim.idempotency_key.is_some() && call.idempotency_key == claim.idempotency_key => {
                return heard_before(call);
            }
            Some(call) => match call.state {
                CallState::Held => return Err(Refusal::InFlight),
                CallState::Settled => return self.replay(call.clone(), claim),
                CallState::Released => call.attempt + 1,
            },
        };
        let legs = self.legs_of_hold(claim.hold, now_ms)?;
        let hold = legs.iter().fold(Quantity::ZERO, |sum, leg| sum.saturating_add(leg.quantity));
        let hold_seq = self.entry_count + 1;
        for leg in &legs {
            self.record(EntryKind::Hold, *leg, Cause::call(&claim.request_id, now_ms));
        }
        self.store_call(Call {
            request_id: claim.request_id.clone(),
            fingerprint: claim.fingerprint,
            attempt,
            state: CallState::Held,
            hold,
            legs,
            charge: Quantity::ZERO,
            refunded: Quantity::ZERO,
            overrun: Quantity::ZERO,
            lost: false,
            is_final: false,
            usage_missing: false,
            replays: 0,
            status: None,
            created_at_ms: now_ms,
            settled_at_ms: None,
            lease_ends_ms: claim.lease_ends_ms,
            hold_seq,
            idempotency_key: claim.idempotency_key,
        });
        Ok(Outcome::Admitted(Admission::Held { attempt, hold }))
    }

    /// What a hold takes of which package, or why it is refused. It always has a leg, even a hold of nothing, so that every call has an entry and none
    /// is admitted where nothing is left.
    fn legs_of_hold(&self, hold: Quantity, now_ms: i64) -> Result<Vec<Leg>, Refusal> {
        if hold.is_zero() {
            let is_there = |package: &&Package| package.is_usable(now_ms) && !package.free().is_zero();
            let (mut packages, _) = self.packages.at(now_ms);
            let first = packages.find(is_there).ok_or_else(|| self.why_not(hold, now_ms))?;
            return Ok(vec![Leg { package_number: first.number, quantity: Quantity::ZERO }]);
        }
        match self.allocate(hold, now_ms) {
            (legs, uncovered) if uncovered.is_zero() || (self.terms.usage.short_hold && !legs.is_empty()) => Ok(legs),
            _ => Err(self.why_not(hold, now_ms)),
        }
    }

    /// A charged call is forwarded again without charge, a few times. One that was given back is not: that would be a free call.
    fn replay(&mut self, mut call: Call, claim: &Claim) -> Result<Outcome, Refusal> {
        if call.replays >= claim.replay_limit || !call.refunded.is_zero() {
            return Err(Refusal::Replayed);
        }
        call.replays += 1;
        call.idempotency_key = claim.idempotency_key;
        self.store_call(call);
        Ok(Outcome::Admitted(Admission::Replay))
    }

    pub(super) fn renew(&mut self, request_id: &RequestId, attempt: u32, lease_ends_ms: i64) -> Result<Outcome, Refusal> {
        let call = self.calls.get(request_id).ok_or(Refusal::NotFound)?;
        if call.attempt != attempt || call.state != CallState::Held {
            return Ok(Outcome::AlreadyEnded { charge: call.charge });
        }
        let mut call = call.clone();
        call.lease_ends_ms = call.lease_ends_ms.max(lease_ends_ms);
        self.store_call(call);
        Ok(Outcome::Renewed)
    }

    /// The first reason in the contract's order: expired only if nothing else exists; exhausted before frozen.
    fn why_not(&self, needed: Quantity, now_ms: i64) -> Refusal {
        let any_is = |states: &[PackageState]| self.packages().iter().any(|package| states.contains(&package.state(now_ms)));
        let archive = self.packages.archive();
        if archive.exhausted.is_some() || any_is(&[PackageState::Active, PackageState::Exhausted]) {
            Refusal::Exhausted { needed, available: self.balance(now_ms).available }
        } else if any_is(&[PackageState::Frozen]) {
            Refusal::Frozen
        } else if any_is(&[PackageState::Scheduled]) || !(archive.has_expired || any_is(&[PackageState::Expired])) {
            Refusal::NoPackage
        } else {
            Refusal::Expired
        }
    }
}

/// A claim that was heard is answered as it was then. One whose call has ended since comes too late: whoever made it was answered, or has given up.
fn heard_before(call: &Call) -> Result<Outcome, Refusal> {
    match call.state {
        CallState::Held => Ok(Outcome::Admitted(Admission::Held { attempt: call.attempt, hold: call.hold })),
        CallState::Settled if call.replays > 0 => Ok(Outcome::Admitted(Admission::Replay)),
        CallState::Settled | CallState::Released => Err(Refusal::InFlight),
    }
}
