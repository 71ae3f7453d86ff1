//! The log: one line a problem, not one a call. The same line is written again only after a while.

use std::cell::RefCell;

use super::instance::monotonic_ns;
use crate::sorted::SortedMap;

/// How long a line that was written is not written again by this instance.
const QUIET_NS: u64 = 10_000_000_000;

/// The most lines that are remembered.
const LINES_MAX: usize = 64;

thread_local! {
    static WRITTEN: RefCell<SortedMap<String, u64>> = const { RefCell::new(SortedMap::new()) };
}

/// Writes a line to the log, if it was not written lately.
pub(super) fn line(text: String) {
    let now_ns = monotonic_ns();
    WRITTEN.with_borrow_mut(|written| {
        if written.get(&text).is_some_and(|at_ns| now_ns.saturating_sub(*at_ns) < QUIET_NS) {
            return;
        }
        eprintln!("{text}");
        if written.len() >= LINES_MAX {
            written.clear();
        }
        written.insert(text, now_ns);
    });
}
