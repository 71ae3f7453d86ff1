//! Alerts: a threshold of `remaining` is told of once each time it is crossed downwards (contract section 4).
//!
//! Whether a threshold was reached before a step is computed from the account as it was before that step. Nothing about crossings is remembered but
//! the percent base, so that none is told twice and none is forgotten. Rules that change fire nothing: the new ones are asked on both sides.

use std::cmp::Reverse;

use super::account::Account;
use super::entry::{Event, EventDetail, EventKind};
use super::package::Package;
use super::rules::Threshold;
use crate::quantity::Quantity;

/// What alerts and triggers look at. Holds do not move it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    /// Granted and not charged, of the watched packages.
    pub(super) remaining: Quantity,
    /// Granted of the watched packages.
    pub(super) granted: Quantity,
    /// What percentages are a share of.
    pub(super) percent_base: Quantity,
}

impl Level {
    pub(super) fn reaches(&self, threshold: Threshold) -> bool {
        threshold.is_reached(self.remaining, self.percent_base)
    }
}

impl Account {
    pub(super) fn level(&self) -> Level {
        // What is used up has nothing that remains.
        let granted = self.packages.spent_sums().granted;
        let mut level = Level { remaining: Quantity::ZERO, granted, percent_base: self.watch.percent_base };
        for package in self.packages.in_play().iter().filter(|package| package.is_watched()) {
            level.remaining = level.remaining.saturating_add(package.remaining());
            level.granted = level.granted.saturating_add(package.granted);
        }
        level
    }

    /// Fixes anew what a percentage is a share of: what was granted of the packages that still have something.
    pub(super) fn fix_percent_base(&mut self) {
        let has_remainder = |package: &&Package| package.is_watched() && !package.remaining().is_zero();
        let rest = self.packages.in_play().iter().filter(has_remainder);
        let percent_base = rest.fold(Quantity::ZERO, |sum, package| sum.saturating_add(package.granted));
        if percent_base != self.watch.percent_base {
            self.watch_mut().percent_base = percent_base;
        }
    }

    /// Tells of every threshold that was above what remained before and is not any more, the highest first.
    pub(super) fn tell_crossings(&mut self, before: Level, now_ms: i64) {
        let after = self.level();
        if after == before {
            return;
        }
        let alerts = self.watch.rules.alerts.as_ref().unwrap_or(&self.terms.alerts);
        let is_crossed = |threshold: &&Threshold| !before.reaches(**threshold) && after.reaches(**threshold);
        let mut crossed: Vec<Threshold> = alerts.iter().filter(is_crossed).copied().collect();
        crossed.sort_unstable_by_key(|threshold| (Reverse(threshold.height(after.percent_base)), *threshold));
        crossed.dedup();
        for threshold in crossed {
            self.tell_balance(EventKind::BalanceLow, Some(threshold), after, now_ms);
        }
        if !before.remaining.is_zero() && after.remaining.is_zero() {
            self.tell_balance(EventKind::BalanceExhausted, None, after, now_ms);
        }
    }

    fn tell_balance(&mut self, kind: EventKind, threshold: Option<Threshold>, level: Level, now_ms: i64) {
        let unit = self.terms.unit.clone();
        let detail = EventDetail::Balance { threshold, remaining: level.remaining, granted: level.granted, unit };
        self.announce(Event { detail, ..Event::of(kind, now_ms) });
    }
}
