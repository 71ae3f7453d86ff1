//! How likely another instance is to commit meanwhile, and whether a batch takes the write lock before it decides.
//!
//! Alone, an instance decides on what it remembers and commits in one statement; that nobody else has committed, the statement finds out. Where others do,
//! whatever was decided in vain has its accounts loaded again, which costs far more than to look first, under the lock.

use std::cell::Cell;

/// For how many batches it is looked first after others were seen to commit.
const WARY_BATCHES: u32 = 8;

/// What one instance has seen of the others lately.
#[derive(Debug, Default)]
pub(super) struct Contention {
    /// Batches left that look first.
    wary: Cell<u32>,
}

impl Contention {
    /// Whether the next batch looks first.
    pub(super) fn is_wary(&self) -> bool {
        self.wary.get() > 0
    }

    /// A batch was decided in vain.
    pub(super) fn was_too_late(&self) {
        self.wary.set(WARY_BATCHES);
    }

    /// It was looked, and others had committed or not.
    pub(super) fn looked(&self, have_others_committed: bool) {
        self.wary.set(if have_others_committed { WARY_BATCHES } else { self.wary.get().saturating_sub(1) });
    }
}

#[cfg(test)]
mod tests {
    use super::{Contention, WARY_BATCHES};

    #[test]
    fn an_instance_alone_never_looks() {
        assert!(!Contention::default().is_wary());
    }

    #[test]
    fn who_was_too_late_once_looks_first_until_nobody_has_committed_for_a_while() {
        let contention = Contention::default();
        contention.was_too_late();
        contention.looked(false);
        contention.looked(true);
        for _ in 0..WARY_BATCHES {
            assert!(contention.is_wary());
            contention.looked(false);
        }
        assert!(!contention.is_wary());
    }
}
