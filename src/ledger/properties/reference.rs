//! What the contract wants, in the most naive way: one part at a time, no running totals, none of the ledger's own helpers.

use crate::ledger::{
    Account, Admission, CallState, Claim, Command, Leg, Outcome, Package, PackageKind, Refusal, Standing, UsageTerms,
};
use crate::quantity::Quantity;

use super::parts;

/// "A package is usable while active, started and not expired"; one that is used up is there, only empty.
pub(super) fn is_usable(package: &Package, now_ms: i64) -> bool {
    let is_started = package.starts_at_ms <= now_ms;
    let is_over = package.expires_at_ms.is_some_and(|at| now_ms >= at);
    package.standing == Standing::Open && is_started && !is_over
}

/// `granted = used + held + free`; an unmetered package has no quantity that could run out.
fn free_parts(package: &Package) -> i64 {
    match package.kind {
        PackageKind::Prepaid => package.granted.parts() - package.used.parts() - package.held.parts(),
        PackageKind::Unmetered => i64::MAX,
    }
}

/// What a new hold may take of the prepaid packages.
pub(super) fn available(packages: &[Package], now_ms: i64) -> Quantity {
    let usable = packages.iter().filter(|package| package.kind == PackageKind::Prepaid && is_usable(package, now_ms));
    parts(usable.map(free_parts).sum())
}

/// Takes an amount part by part, each from the package that is first in burn-down order of those that still have one.
pub(super) fn take(packages: &[Package], amount: Quantity, now_ms: i64) -> (Vec<Leg>, Quantity) {
    let mut left: Vec<(&Package, i64)> =
        packages.iter().filter(|package| is_usable(package, now_ms)).map(|package| (package, free_parts(package))).collect();
    let mut legs: Vec<Leg> = Vec::new();
    for taken in 0..amount.parts() {
        let first = left.iter_mut().filter(|(_, free)| *free > 0).min_by_key(|(package, _)| {
            let never = package.expires_at_ms.is_none();
            let is_unmetered = package.kind == PackageKind::Unmetered;
            (is_unmetered, package.priority, never, package.expires_at_ms, package.created_at_ms, package.id.clone())
        });
        let Some((package, free)) = first else {
            return (legs, parts(amount.parts() - taken));
        };
        *free -= 1;
        match legs.last_mut() {
            Some(leg) if leg.package_number == package.number => leg.quantity = parts(leg.quantity.parts() + 1),
            _ => legs.push(Leg { package_number: package.number, quantity: parts(1) }),
        }
    }
    (legs, Quantity::ZERO)
}

/// Why packages cannot cover a hold. Of the reasons that fit, the first in the contract's order; expired only if nothing else is there.
pub(super) fn refusal(packages: &[Package], needed: Quantity, now_ms: i64) -> Refusal {
    // What was taken back is not there any more.
    let there: Vec<&Package> = packages.iter().filter(|package| package.standing != Standing::Released).collect();
    let is_over = |package: &Package| package.expires_at_ms.is_some_and(|at| now_ms >= at);
    if there.iter().any(|package| is_usable(package, now_ms)) {
        return Refusal::Exhausted { needed, available: available(packages, now_ms) };
    }
    if !there.is_empty() && there.iter().all(|package| is_over(package)) {
        return Refusal::Expired;
    }
    if there.iter().any(|package| package.standing == Standing::Frozen && !is_over(package)) {
        return Refusal::Frozen;
    }
    Refusal::NoPackage
}

/// The legs of a hold. "Where less than the hold but more than nothing is available", it may shrink to that; where nothing is, nothing is held.
pub(super) fn hold(packages: &[Package], hold: Quantity, usage: UsageTerms, now_ms: i64) -> Result<Vec<Leg>, Refusal> {
    if hold == Quantity::ZERO {
        let (first_part, _) = take(packages, parts(1), now_ms);
        let legs: Vec<Leg> = first_part.into_iter().map(|leg| Leg { quantity: Quantity::ZERO, ..leg }).collect();
        return if legs.is_empty() { Err(refusal(packages, hold, now_ms)) } else { Ok(legs) };
    }
    let (legs, uncovered) = take(packages, hold, now_ms);
    let is_short = uncovered > Quantity::ZERO;
    if is_short && (!usage.short_hold || uncovered == hold) { Err(refusal(packages, hold, now_ms)) } else { Ok(legs) }
}

/// What an admission must answer, and the legs it must take.
pub(super) fn admission(
    account: &Account,
    command: &Command,
    usage: UsageTerms,
    now_ms: i64,
) -> Result<(Outcome, Vec<Leg>), Refusal> {
    let Command::Admit(Claim { request_id, fingerprint, hold: wanted, replay_limit, idempotency_key, .. }) = command else {
        panic!("not an admission");
    };
    let mut attempt = 1;
    if let Some(call) = account.call(request_id) {
        if call.fingerprint != *fingerprint {
            return Err(Refusal::Reused);
        }
        if idempotency_key.is_some() && call.idempotency_key == *idempotency_key {
            return match (call.state, call.replays) {
                (CallState::Held, _) => {
                    Ok((Outcome::Admitted(Admission::Held { attempt: call.attempt, hold: call.hold }), call.legs.clone()))
                }
                (CallState::Settled, 1..) => Ok((Outcome::Admitted(Admission::Replay), call.legs.clone())),
                _ => Err(Refusal::InFlight),
            };
        }
        match call.state {
            CallState::Held => return Err(Refusal::InFlight),
            CallState::Settled if call.replays >= *replay_limit || call.refunded > Quantity::ZERO => {
                return Err(Refusal::Replayed);
            }
            CallState::Settled => return Ok((Outcome::Admitted(Admission::Replay), call.legs.clone())),
            CallState::Released => attempt = call.attempt + 1,
        }
    }
    let legs = hold(account.packages(), *wanted, usage, now_ms)?;
    let hold = legs.iter().fold(Quantity::ZERO, |sum, leg| sum.saturating_add(leg.quantity));
    Ok((Outcome::Admitted(Admission::Held { attempt, hold }), legs))
}

/// The legs and the overrun of a held call that settles: its held legs first, then whatever is available in burn-down order.
pub(super) fn settled(account: &Account, held: &[Leg], charge: Quantity, now_ms: i64) -> (Vec<Leg>, Quantity) {
    let mut rest = charge.parts();
    let mut legs: Vec<Leg> = Vec::new();
    for leg in held {
        let taken = rest.min(leg.quantity.parts());
        rest -= taken;
        if taken > 0 {
            legs.push(Leg { quantity: parts(taken), ..*leg });
        }
    }
    let (more, overrun) = take(account.packages(), parts(rest), now_ms);
    for leg in more {
        match legs.iter_mut().find(|known| known.package_number == leg.package_number) {
            Some(known) => known.quantity = parts(known.quantity.parts() + leg.quantity.parts()),
            None => legs.push(leg),
        }
    }
    (legs, overrun)
}
