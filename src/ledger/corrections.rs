//! Corrections by people: a refund of a call, an adjustment of a package. Each has a name, and repeating it changes nothing.

use std::sync::Arc;

use super::account::{Account, Cause};
use super::call::{CallState, Leg};
use super::command::{Outcome, Refusal};
use super::entry::EntryKind;
use super::package::PackageKind;
use crate::ids::{CorrectionId, PackageId, RequestId};
use crate::quantity::{Delta, Quantity};

/// What a correction corrects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CorrectionTarget {
    /// A call is refunded.
    Call(RequestId),
    /// A package is adjusted.
    Package(PackageId),
}

/// A correction's name, unique for what it corrects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CorrectionKey {
    /// What is corrected.
    pub target: CorrectionTarget,
    /// Which correction of it.
    pub id: CorrectionId,
}

/// A correction as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// Its name.
    pub key: CorrectionKey,
    /// By how much, where it was said: a refund without a quantity gives back everything.
    pub quantity: Option<Delta>,
    /// Why, in the person's words.
    pub reason: Arc<str>,
    /// Unix milliseconds at which it was made first.
    pub at_ms: i64,
}

impl Account {
    /// True where this correction was made before; a conflict where another one was made under its name.
    fn is_repeated(&self, correction: &Correction) -> Result<bool, Refusal> {
        match self.corrections.get(&correction.key) {
            None => Ok(false),
            Some(made) if made.quantity == correction.quantity && made.reason == correction.reason => Ok(true),
            Some(_) => Err(Refusal::Conflict("another correction was made under this id")),
        }
    }

    pub(super) fn adjust(
        &mut self,
        package_id: &PackageId,
        adjustment_id: &CorrectionId,
        quantity: Delta,
        reason: &Arc<str>,
        now_ms: i64,
    ) -> Result<Outcome, Refusal> {
        let package = self.package_by_id(package_id).ok_or(Refusal::NotFound)?.clone();
        let key = CorrectionKey { target: CorrectionTarget::Package(package_id.clone()), id: adjustment_id.clone() };
        let correction = Correction { key, quantity: Some(quantity), reason: reason.clone(), at_ms: now_ms };
        if self.is_repeated(&correction)? {
            return Ok(Outcome::Package(package));
        }
        if package.kind == PackageKind::Unmetered {
            return Err(Refusal::Conflict("an unmetered package has no quantity to adjust"));
        }
        let (kind, size) = match Quantity::from_parts(quantity.parts()) {
            Some(size) => (EntryKind::AdjustUp, size),
            None => (EntryKind::AdjustDown, Quantity::from_parts(-quantity.parts()).unwrap_or(Quantity::MAX)),
        };
        if size.is_zero() {
            return Err(Refusal::Invalid("quantity must not be 0"));
        }
        if kind == EntryKind::AdjustUp && self.total_granted().checked_add(size).is_none() {
            return Err(Refusal::Invalid("a customer may be granted at most 900000000000 of a product in sum"));
        }
        if kind == EntryKind::AdjustDown && package.free() < size {
            return Err(Refusal::Conflict("a package cannot be adjusted below what is used and held of it"));
        }
        let cause = Cause { request_id: None, correction: Some(&correction), at_ms: now_ms };
        self.record(kind, Leg { package_number: package.number, quantity: size }, cause);
        self.store_correction(correction);
        self.package(package.number).cloned().map(Outcome::Package).ok_or(Refusal::NotFound)
    }

    pub(super) fn refund(
        &mut self,
        request_id: &RequestId,
        refund_id: &CorrectionId,
        quantity: Option<Quantity>,
        reason: &Arc<str>,
        now_ms: i64,
    ) -> Result<Outcome, Refusal> {
        let mut call = self.calls.get(request_id).ok_or(Refusal::NotFound)?.clone();
        let key = CorrectionKey { target: CorrectionTarget::Call(request_id.clone()), id: refund_id.clone() };
        let correction = Correction { key, quantity: quantity.map(Quantity::up), reason: reason.clone(), at_ms: now_ms };
        if self.is_repeated(&correction)? {
            return Ok(Outcome::Call(Box::new(call)));
        }
        if call.state != CallState::Settled {
            return Err(Refusal::Conflict("only a charged call can be refunded"));
        }
        let refundable = call.charge.saturating_sub(call.refunded);
        let amount = quantity.unwrap_or(refundable);
        if amount.is_zero() {
            return Err(Refusal::Conflict("there is nothing to refund"));
        }
        if amount > refundable {
            return Err(Refusal::Conflict("a refund cannot exceed what was charged and not yet refunded"));
        }
        let cause = Cause { request_id: Some(request_id), correction: Some(&correction), at_ms: now_ms };
        for leg in legs_given_back(&call.legs, call.refunded, amount) {
            self.record(EntryKind::Refund, leg, cause);
        }
        call.refunded = call.refunded.saturating_add(amount);
        self.store_correction(correction);
        self.store_call(call.clone());
        Ok(Outcome::Call(Box::new(call)))
    }
}

/// Which packages an amount goes back to: those charged last first, after what refunds gave back before.
pub(super) fn legs_given_back(charged: &[Leg], refunded: Quantity, amount: Quantity) -> Vec<Leg> {
    let mut skip = refunded;
    let mut rest = amount;
    let mut legs = Vec::new();
    for leg in charged.iter().rev() {
        let skipped = skip.min(leg.quantity);
        skip = skip.saturating_sub(skipped);
        let back = rest.min(leg.quantity.saturating_sub(skipped));
        rest = rest.saturating_sub(back);
        if !back.is_zero() {
            legs.push(Leg { quantity: back, ..*leg });
        }
    }
    legs
}
