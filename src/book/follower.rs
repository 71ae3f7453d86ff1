//! How far an instance has followed the log, and how far the tables have.

use std::cell::Cell;

/// So many steps are applied at once: enough that what many of them did to one page is written once, and few enough that others hardly notice the wait.
const APPLIED_AT_ONCE: i64 = if cfg!(test) { 10 } else { 1024 };

/// One instance's place in the log.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// The last step that is followed, and the last that is known to be applied. None before the first batch, and after a failure.
    ends: Cell<Option<(i64, i64)>>,
    /// Something was applied in a transaction that may still be refused.
    is_applying: Cell<bool>,
}

impl Follower {
    /// The last step that is followed.
    pub(super) fn followed(&self) -> Option<i64> {
        self.ends.get().map(|(followed, _)| followed)
    }

    /// Whether it is time to apply.
    pub(super) fn is_application_due(&self) -> bool {
        self.ends.get().is_some_and(|(followed, applied)| followed - applied >= APPLIED_AT_ONCE)
    }

    /// The last step that is known to be applied, where later ones are followed.
    pub(super) fn unapplied_behind(&self) -> Option<i64> {
        self.ends.get().filter(|(followed, applied)| followed > applied).map(|(_, applied)| applied)
    }

    /// Begins with the last step and the last that is applied.
    pub(super) fn begin(&self, ends: (i64, i64)) {
        self.ends.set(Some(ends));
    }

    /// Something is applied in a transaction that may still be refused.
    pub(super) fn applies(&self) {
        self.is_applying.set(true);
    }

    /// Whether something was applied since this was asked last.
    pub(super) fn take_applying(&self) -> bool {
        self.is_applying.take()
    }

    /// After a failure nothing is known.
    pub(super) fn lose(&self) {
        self.ends.set(None);
    }

    /// All steps up to a position are followed: others', or the instance's own.
    pub(super) fn followed_to(&self, position: i64) {
        self.ends.set(self.ends.get().map(|(_, applied)| (position, applied)));
    }

    /// All steps up to a position are applied. True where that is news.
    pub(super) fn applied_to(&self, position: i64) -> bool {
        let Some((followed, applied)) = self.ends.get() else { return false };
        self.ends.set(Some((followed, applied.max(position))));
        position > applied
    }
}
