//! How likely another instance is to write the same accounts meanwhile, and what a batch does about it.
//!
//! An account that nobody else writes is as it is remembered. Where others write it, looking first costs one small statement, and looking under the write
//! lock two more, during which nobody else writes. An attempt that comes too late costs far more than either, so each one makes the next batches more careful.

use std::cell::Cell;

/// For how many batches it is looked first after others were seen to write.
const WARY_BATCHES: u32 = 8;

/// For how many batches the write lock is taken first, at most.
const LOCKED_BATCHES_MAX: u32 = 32;

/// How a batch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Approach {
    /// On the accounts as they are remembered.
    Trusting,
    /// On accounts that are brought up to date first.
    Refreshing,
    /// On accounts that are brought up to date under the write lock.
    Locking,
}

/// What one instance has seen of the others lately.
#[derive(Debug, Default)]
pub(super) struct Contention {
    /// Batches left that look first.
    wary: Cell<u32>,
    /// Batches left that take the lock first.
    locked: Cell<u32>,
    /// How many that were the last time.
    penalty: Cell<u32>,
}

impl Contention {
    /// How the next batch begins.
    pub(super) fn approach(&self) -> Approach {
        match (self.locked.get(), self.wary.get()) {
            (0, 0) => Approach::Trusting,
            (0, _) => Approach::Refreshing,
            (left, _) => {
                self.locked.set(left - 1);
                Approach::Locking
            }
        }
    }

    /// What looking has found: whether others had written.
    pub(super) fn looked(&self, have_others_written: bool) {
        self.wary.set(if have_others_written { WARY_BATCHES } else { self.wary.get().saturating_sub(1) });
    }

    /// A batch that began like this was in time.
    pub(super) fn was_in_time(&self, approach: Approach) {
        if approach == Approach::Refreshing {
            self.penalty.set(self.penalty.get() / 2);
        }
    }

    /// A batch that began like this came too late.
    pub(super) fn was_too_late(&self, approach: Approach) {
        self.wary.set(WARY_BATCHES);
        if approach != Approach::Trusting {
            self.penalty.set(self.penalty.get().saturating_mul(2).clamp(1, LOCKED_BATCHES_MAX));
            self.locked.set(self.penalty.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Approach, Contention, LOCKED_BATCHES_MAX, WARY_BATCHES};

    #[test]
    fn an_instance_alone_never_looks() {
        let contention = Contention::default();
        for _ in 0..100 {
            assert_eq!(contention.approach(), Approach::Trusting);
            contention.was_in_time(Approach::Trusting);
        }
    }

    #[test]
    fn who_was_too_late_once_looks_first_until_nobody_has_written_for_a_while() {
        let contention = Contention::default();
        contention.was_too_late(Approach::Trusting);
        for _ in 0..WARY_BATCHES {
            assert_eq!(contention.approach(), Approach::Refreshing);
            contention.looked(false);
            contention.was_in_time(Approach::Refreshing);
        }
        assert_eq!(contention.approach(), Approach::Trusting);
    }

    #[test]
    fn who_is_too_late_all_the_same_takes_the_lock_first_ever_longer_up_to_a_bound() {
        let contention = Contention::default();
        for expected in [1, 2, 4, 8, 16, 32, LOCKED_BATCHES_MAX] {
            contention.was_too_late(Approach::Refreshing);
            let locking = std::iter::from_fn(|| Some(contention.approach()).filter(|approach| *approach == Approach::Locking));
            assert_eq!(u32::try_from(locking.count()).unwrap(), expected);
        }
    }
}
