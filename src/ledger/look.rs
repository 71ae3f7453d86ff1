//! Looking at an account: what the clock alone changes, and what follows from a step whatever it was.
//!
//! Every decision looks before its command where something is due, and after it. A look moves packages through their time, tells of thresholds that
//! were crossed, ends orders whose time is over, makes the order that is due, and notes when it must be looked again. The border: which thresholds
//! there are is known in `alerts`, what an order is in `repurchase`.

use super::account::{Account, Changes};
use super::alerts::Level;
use super::entry::{Event, EventKind};
use super::package::{Package, PackageKind, Phase, Standing};

impl Package {
    /// Unix milliseconds at which its time moves on; `None` where it never does, or where nobody cares any more.
    pub(super) fn phase_ends_at_ms(&self) -> Option<i64> {
        match self.phase {
            _ if self.standing == Standing::Released => None,
            Phase::Scheduled => Some(self.starts_at_ms),
            Phase::Running => self.expires_at_ms,
            Phase::Over => None,
        }
    }

    /// Its quantity counts as remaining: alerts and triggers look at it. By the last look, not by the clock, so that nothing is crossed unseen.
    pub(super) fn is_watched(&self) -> bool {
        self.kind == PackageKind::Prepaid && self.standing == Standing::Open && self.phase == Phase::Running
    }
}

impl Account {
    /// True where the clock alone changes something now.
    pub(super) fn is_look_due(&self, now_ms: i64) -> bool {
        self.watch.due_at_ms.is_some_and(|at| at <= now_ms)
    }

    /// Does what follows from everything since the level was `before`, and from the clock.
    pub(super) fn look(&mut self, before: Level, now_ms: i64) {
        let next_phase_ms = self.move_phases(now_ms);
        self.tell_crossings(before, now_ms);
        self.end_overdue_order(now_ms);
        self.order_when_due(now_ms);
        // What is due was done, so that both of these lie in the future.
        let due_at_ms = next_phase_ms.into_iter().chain(self.next_order_step_ms(now_ms)).min();
        if due_at_ms != self.watch.due_at_ms {
            self.watch_mut().due_at_ms = due_at_ms;
        }
    }

    /// Moves packages to the phase that the clock says, and returns when it says another one next. Time only moves forward here: a clock that is a little
    /// behind another instance's starts and ends nothing for a second time.
    fn move_phases(&mut self, now_ms: i64) -> Option<i64> {
        let next_phase_ms = self.next_phase_ms();
        if next_phase_ms.is_none_or(|at| now_ms < at) {
            return next_phase_ms;
        }
        let is_due = |package: &Package| package.phase_ends_at_ms().is_some_and(|at| at <= now_ms);
        let due: Vec<u32> =
            self.packages.in_burn_order().into_iter().filter(|package| is_due(package)).map(|package| package.number).collect();
        self.packages.change_all(|package| {
            while is_due(package) {
                package.phase = if package.phase == Phase::Scheduled { Phase::Running } else { Phase::Over };
            }
        });
        for number in &due {
            Changes::add(&mut self.changes.rewritten_packages, *number);
        }
        self.fix_percent_base();
        for number in due {
            if self.package(number).is_some_and(|package| package.phase == Phase::Over) {
                self.announce(Event { package_number: Some(number), ..Event::of(EventKind::PackageExpired, now_ms) });
            }
        }
        self.next_phase_ms()
    }

    fn next_phase_ms(&self) -> Option<i64> {
        let in_play = self.packages.in_play().iter().filter_map(Package::phase_ends_at_ms);
        in_play.chain(self.packages.spent_sums().next_phase_ms).min()
    }
}
