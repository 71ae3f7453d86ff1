//! What is to be told of a decision: each event gets its number here, in the order in which things happened.

use super::account::{Account, Cause};
use super::call::Leg;
use super::entry::{EntryKind, Event, EventDetail, EventKind};
use super::package::PackageKind;

impl Event {
    /// An event of an account as a whole. Its number is given when it is recorded.
    pub(super) fn of(kind: EventKind, at_ms: i64) -> Self {
        Self { number: 0, kind, detail: EventDetail::None, package_number: None, request_id: None, at_ms }
    }
}

impl Account {
    /// Records an event as the account's next one.
    pub(super) fn announce(&mut self, event: Event) {
        let watch = self.watch_mut();
        watch.event_count += 1;
        let number = watch.event_count;
        self.changes.events.push(Event { number, ..event });
    }

    /// Records the event that an entry just recorded is cause for, if it is.
    pub(super) fn announce_entry(&mut self, kind: EntryKind, leg: Leg, cause: Cause<'_>) {
        let (kind, detail) = match kind {
            EntryKind::Grant => (EventKind::PackageGranted, EventDetail::None),
            EntryKind::Freeze => (EventKind::PackageFrozen, EventDetail::None),
            EntryKind::Unfreeze => (EventKind::PackageUnfrozen, EventDetail::None),
            EntryKind::Release => (EventKind::PackageReleased, EventDetail::None),
            EntryKind::Overrun => (EventKind::CallOverrun, EventDetail::Quantity(leg.quantity)),
            EntryKind::Charge | EntryKind::ChargeMore | EntryKind::AdjustDown if self.is_emptied(leg.package_number) => {
                (EventKind::PackageExhausted, EventDetail::None)
            }
            _ => return,
        };
        self.announce(Event {
            detail,
            package_number: Some(leg.package_number).filter(|number| *number != 0),
            request_id: cause.request_id.cloned(),
            ..Event::of(kind, cause.at_ms)
        });
    }

    /// Entries are never made of nothing: where one left nothing, it took the last.
    fn is_emptied(&self, package_number: u32) -> bool {
        self.package(package_number).is_some_and(|package| package.kind == PackageKind::Prepaid && package.remaining().is_zero())
    }
}
