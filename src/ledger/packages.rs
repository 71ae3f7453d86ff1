//! Packages come, change and go: grants, freezing, release, rescheduling (contract sections 4 and 5).

use sha2::{Digest, Sha256};

use super::PACKAGES_MAX;
use super::account::{Account, Cause};
use super::call::Leg;
use super::command::{Grant, Outcome, PackageChange, Refusal};
use super::entry::EntryKind;
use super::package::{Package, PackageKind, Phase, Standing};
use super::package_set::is_spent_for_good;
use crate::ids::PackageId;
use crate::quantity::Quantity;

impl Grant {
    /// What was asked for, in 32 hexadecimal digits: the same grant again is noticed whatever became of the package since.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(format!(
            "{:?} {} {:?} {:?} {} {:?} {:?}",
            self.kind,
            self.quantity.parts(),
            self.starts_at_ms,
            self.expires_at_ms,
            self.priority,
            self.order_id,
            self.repurchase
        ));
        digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Account {
    pub(super) fn total_granted(&self) -> Quantity {
        let archived = self.packages.archive().granted;
        self.packages().iter().fold(archived, |sum, package| sum.saturating_add(package.granted))
    }

    fn is_full(&self) -> bool {
        self.packages().iter().filter(|package| !is_spent_for_good(package)).count() >= PACKAGES_MAX
    }

    /// Whether another package of this quantity could be granted.
    pub(super) fn has_room_for(&self, quantity: Quantity) -> bool {
        !self.is_full() && self.total_granted().checked_add(quantity).is_some()
    }

    pub(super) fn grant(&mut self, grant: &Grant, now_ms: i64) -> Result<Outcome, Refusal> {
        if let Some(package) = self.package_by_id(&grant.package_id) {
            return if package.grant_digest == grant.digest() {
                Ok(Outcome::Package(package.clone()))
            } else {
                Err(Refusal::Conflict("another package was granted under this id"))
            };
        }
        let starts_at_ms = grant.starts_at_ms.unwrap_or(now_ms);
        grant.repurchase.map_or(Ok(()), |number| self.check_credit(number))?;
        self.check_grant(grant, starts_at_ms)?;
        let number = self.packages.last_number().saturating_add(1);
        self.store_package(Package {
            number,
            id: grant.package_id.clone(),
            kind: grant.kind,
            granted: Quantity::ZERO,
            used: Quantity::ZERO,
            held: Quantity::ZERO,
            starts_at_ms,
            expires_at_ms: grant.expires_at_ms,
            priority: grant.priority,
            created_at_ms: now_ms,
            order_id: grant.order_id.clone(),
            standing: Standing::Open,
            phase: if starts_at_ms <= now_ms { Phase::Running } else { Phase::Scheduled },
            grant_digest: grant.digest(),
        });
        let leg = Leg { package_number: number, quantity: grant.quantity };
        self.record(EntryKind::Grant, leg, Cause { request_id: None, correction: None, at_ms: now_ms });
        if self.terms.usage.carry_overrun {
            self.pay_overrun(number, now_ms);
        }
        if let Some(order_number) = grant.repurchase {
            self.credit(order_number, number, now_ms);
        }
        self.package(number).cloned().map(Outcome::Granted).ok_or(Refusal::NotFound)
    }

    /// What calls cost beyond every package is charged to one that was just granted, unless its time was over before.
    fn pay_overrun(&mut self, number: u32, now_ms: i64) {
        let cause = Cause { request_id: None, correction: None, at_ms: now_ms };
        let is_payer = |package: &&Package| package.expires_at_ms.is_none_or(|at| now_ms < at);
        let free = self.package(number).filter(is_payer).map_or(Quantity::ZERO, Package::free);
        let paid = self.overrun.min(free);
        if !paid.is_zero() {
            self.record(EntryKind::ChargeMore, Leg { package_number: number, quantity: paid }, cause);
            self.record(EntryKind::OverrunCorrect, Leg { package_number: 0, quantity: paid }, cause);
            // Paying is part of the grant, which fixes the base: a package that it uses up never had a remainder.
            self.fix_percent_base();
        }
    }

    fn check_grant(&self, grant: &Grant, starts_at_ms: i64) -> Result<(), Refusal> {
        if grant.kind == PackageKind::Prepaid && grant.quantity.is_zero() {
            return Err(Refusal::Invalid("quantity must be above 0"));
        }
        if grant.kind == PackageKind::Unmetered && !grant.quantity.is_zero() {
            return Err(Refusal::Invalid("an unmetered package has no quantity"));
        }
        if grant.expires_at_ms.is_some_and(|at| at <= starts_at_ms) {
            return Err(Refusal::Invalid("expires_at must be after starts_at"));
        }
        if self.total_granted().checked_add(grant.quantity).is_none() {
            return Err(Refusal::Invalid("a customer may be granted at most 900000000000 of a product in sum"));
        }
        // What was ordered while there was room is paid, and credited however full the account is since.
        if grant.repurchase.is_none() && self.is_full() {
            return Err(Refusal::Conflict(
                "a customer may have at most 1000 packages of a product that are not over, released, or used up without an expiry",
            ));
        }
        Ok(())
    }

    pub(super) fn change(&mut self, package_id: &PackageId, change: PackageChange, now_ms: i64) -> Result<Outcome, Refusal> {
        let before = self.package_by_id(package_id).ok_or(Refusal::NotFound)?;
        let mut package = before.clone();
        let kind = match change {
            PackageChange::Release => {
                package.standing = Standing::Released;
                EntryKind::Release
            }
            _ if before.standing == Standing::Released => {
                return Err(Refusal::Conflict("the package was released"));
            }
            PackageChange::Freeze => {
                package.standing = Standing::Frozen;
                EntryKind::Freeze
            }
            PackageChange::Unfreeze => {
                package.standing = Standing::Open;
                EntryKind::Unfreeze
            }
            PackageChange::Reschedule { expires_at_ms, priority } => {
                package.expires_at_ms = expires_at_ms.unwrap_or(package.expires_at_ms);
                package.priority = priority.unwrap_or(package.priority);
                if package.expires_at_ms.is_some_and(|at| at <= package.starts_at_ms) {
                    return Err(Refusal::Invalid("expires_at must be after starts_at"));
                }
                // Looking moves time forward only: an expiry that is taken back is taken back here.
                if package.phase == Phase::Over
                    && package.expires_at_ms != before.expires_at_ms
                    && package.expires_at_ms.is_none_or(|at| now_ms < at)
                {
                    package.phase = Phase::Running;
                }
                EntryKind::Reschedule
            }
        };
        if package == *before {
            return Ok(Outcome::Package(package));
        }
        let leg = Leg { package_number: package.number, quantity: Quantity::ZERO };
        let is_back = package.phase != before.phase;
        self.store_package(package.clone());
        if is_back {
            self.fix_percent_base();
        }
        self.record(kind, leg, Cause { request_id: None, correction: None, at_ms: now_ms });
        Ok(Outcome::Package(package))
    }
}
