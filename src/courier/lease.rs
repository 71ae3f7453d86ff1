//! The courier's lease: of all instances, the one that has it sends.

use crate::store::outbox::{release_lease, take_lease};
use crate::store::{Database, StoreError};

const NAME: &str = "courier";

/// How long the lease lasts unrenewed: so long nobody sends after its holder died.
const LEASE_MS: i64 = 5_000;

/// How often it is renewed: several times before it ends.
const RENEWAL_INTERVAL_MS: i64 = 1_000;

/// A lease that was ours when it was last renewed.
pub(super) struct Lease<'a, D> {
    database: &'a D,
    holder: String,
    renewed_at_ms: i64,
}

impl<'a, D: Database> Lease<'a, D> {
    /// Takes the lease for a holder that is new; none where another has it.
    pub(super) fn take(database: &'a D, now_ms: i64) -> Result<Option<Self>, StoreError> {
        let holder = uuid::Uuid::now_v7().to_string();
        let is_taken = take_lease(database, NAME, &holder, now_ms, now_ms.saturating_add(LEASE_MS))?;
        Ok(is_taken.then_some(Self { database, holder, renewed_at_ms: now_ms }))
    }

    /// Sees to it that the lease is still ours and goes on; false where another has it. Written once a second at most.
    pub(super) fn keep(&mut self, now_ms: i64) -> Result<bool, StoreError> {
        // A clock that went back must not keep the lease unrenewed.
        if (self.renewed_at_ms..self.renewed_at_ms.saturating_add(RENEWAL_INTERVAL_MS)).contains(&now_ms) {
            return Ok(true);
        }
        self.renewed_at_ms = now_ms;
        take_lease(self.database, NAME, &self.holder, now_ms, now_ms.saturating_add(LEASE_MS))
    }

    /// Gives the lease back, so that nobody waits for its end.
    pub(super) fn release(self) -> Result<(), StoreError> {
        release_lease(self.database, NAME, &self.holder)
    }
}
