//! An object's alarm. All rounds of an object run in its alarm, so that the runtime keeps them apart, and wakes the object for the one that was cut short.
//!
//! What always holds: what is written together with a call of [`Alarm::ring_by`] is followed by a round, whatever becomes of this instance.

use std::cell::Cell;

use crate::clock::now_ms;
use crate::log;
use crate::sql::Sqlite;

/// After which time what a round left is done; where it failed, twice as long each time in a row, up to the longest.
const AGAIN_MS: i64 = 1_000;
const AGAIN_MS_MAX: i64 = 30_000;

/// Wakes one object.
#[derive(Default)]
pub(crate) struct Alarm {
    /// For when it is set, as far as this instance knows: one that an earlier instance set is set anew.
    at_ms: Cell<Option<i64>>,
    /// So many rounds in a row failed.
    failures: Cell<u32>,
}

impl Alarm {
    /// Sees to it that it rings by this time.
    pub(crate) fn ring_by(&self, database: &Sqlite, at_ms: i64) {
        if self.at_ms.get().is_some_and(|set_ms| set_ms <= at_ms) {
            return;
        }
        match database.set_alarm(at_ms) {
            Ok(()) => self.at_ms.set(Some(at_ms)),
            Err(error) => log::line(&format!("an alarm cannot be set: {error}")),
        }
    }

    /// It rings: none is set any more, until somebody sets it.
    pub(crate) fn rings(&self) {
        self.at_ms.set(None);
    }

    /// Sets it, after a round, for what is due next. What is due already was left over, or could not be done.
    pub(crate) fn ring_again(&self, database: &Sqlite, next_ms: Option<i64>, has_failed: bool) {
        let now_ms = now_ms();
        let failures = if has_failed { self.failures.get() } else { 0 };
        self.failures.set(failures.saturating_add(u32::from(has_failed)));
        let pause_ms = AGAIN_MS.saturating_mul(1 << failures.min(16)).min(AGAIN_MS_MAX);
        if let Some(next_ms) = next_ms {
            self.ring_by(database, if next_ms > now_ms { next_ms } else { now_ms.saturating_add(pause_ms) });
        }
    }
}
