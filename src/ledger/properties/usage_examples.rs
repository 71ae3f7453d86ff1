//! Calls whose cost is only known afterwards, by example: one short story each.

use super::{account_of, admit, call_of, package_numbered, parts, prepaid, request_id, settle};
use crate::ledger::{Account, CallState, Command, EntryKind, EventKind, Grant, Leg, PackageKind, Refusal, UsageTerms};
use crate::quantity::Quantity;

/// With packages 1, 2, ... of these quantities, burned in this order.
fn account(usage_terms: UsageTerms, quantities: &[i64]) -> Account {
    let mut account = account_of(usage_terms);
    for (package, quantity) in (1..).zip(quantities) {
        grant(&mut account, Grant { priority: i32::from(package), ..prepaid(package, *quantity) }, 0);
    }
    account.take_changes();
    account
}

fn grant(account: &mut Account, grant: Grant, now_ms: i64) {
    account.decide(&Command::Grant(Box::new(grant)), now_ms).unwrap();
}

fn leg(package_number: u32, quantity: i64) -> Leg {
    Leg { package_number, quantity: parts(quantity) }
}

const SHORT: UsageTerms = UsageTerms { short_hold: true, carry_overrun: false };
const CARRIED: UsageTerms = UsageTerms { short_hold: false, carry_overrun: true };

#[test]
fn a_short_hold_shrinks_to_what_is_available_so_that_the_rest_can_be_used_up() {
    let mut account = account(SHORT, &[3, 4]);
    let probe = Command::Probe { request_id: request_id(9), hold: parts(100) };
    assert!(!account.would_refuse(&probe, 1));
    account.decide(&admit(1, 100), 1).unwrap();
    let call = call_of(&account, 1);
    assert_eq!((call.hold, call.legs.as_slice()), (parts(7), [leg(1, 3), leg(2, 4)].as_slice()));
    // More than nothing is needed.
    let refused = account.decide(&admit(2, 100), 1);
    assert_eq!(refused, Err(Refusal::Exhausted { needed: parts(100), available: Quantity::ZERO }));
    assert!(account.would_refuse(&probe, 1));
    // Lost, it is charged what it held.
    account.decide(&Command::LoseHold { request_id: request_id(1), charge: true }, 100).unwrap();
    assert_eq!((call_of(&account, 1).charge, account.overrun()), (parts(7), Quantity::ZERO));
}

#[test]
fn a_hold_that_may_not_shrink_is_refused() {
    let mut account = account(UsageTerms::default(), &[3, 4]);
    let refused = account.decide(&admit(1, 8), 1);
    assert_eq!(refused, Err(Refusal::Exhausted { needed: parts(8), available: parts(7) }));
}

#[test]
fn a_hold_of_nothing_has_an_entry_and_is_refused_where_nothing_is_left() {
    let mut empty = account(SHORT, &[]);
    assert_eq!(empty.decide(&admit(1, 0), 1), Err(Refusal::NoPackage));
    let mut account = account(SHORT, &[3]);
    account.decide(&admit(1, 0), 1).unwrap();
    let entries = account.take_changes().entries;
    assert_eq!(entries.iter().map(|entry| (entry.kind, entry.quantity)).collect::<Vec<_>>(), [(EntryKind::Hold, Quantity::ZERO)]);
    assert_eq!((call_of(&account, 1).hold_seq, call_of(&account, 1).state), (entries[0].seq, CallState::Held));
    account.decide(&settle(1, 1, 2), 2).unwrap();
    assert_eq!(call_of(&account, 1).legs, [leg(1, 2)]);
    account.decide(&admit(2, 0), 3).unwrap();
    account.decide(&settle(2, 1, 0), 4).unwrap();
    assert_eq!(call_of(&account, 2).state, CallState::Released);
    account.decide(&admit(3, 1), 5).unwrap();
    let refused = account.decide(&admit(4, 0), 5);
    assert_eq!(refused, Err(Refusal::Exhausted { needed: Quantity::ZERO, available: Quantity::ZERO }));
}

#[test]
fn the_next_package_pays_the_overrun_first_and_only_as_far_as_it_goes() {
    let mut account = account(CARRIED, &[3]);
    account.decide(&admit(1, 3), 1).unwrap();
    account.decide(&settle(1, 1, 20), 2).unwrap();
    account.take_changes();
    assert_eq!(account.overrun(), parts(17));
    grant(&mut account, prepaid(2, 10), 3);
    assert_eq!((account.overrun(), package_numbered(&account, 2).used), (parts(7), parts(10)));
    let changes = account.take_changes();
    let entries: Vec<_> =
        changes.entries.iter().map(|entry| (entry.kind, entry.package_number, entry.quantity.parts())).collect();
    let expected = [(EntryKind::Grant, 2, 10), (EntryKind::ChargeMore, 2, 10), (EntryKind::OverrunCorrect, 0, 10)];
    assert_eq!(entries, expected);
    let events: Vec<_> = changes.events.iter().map(|event| event.kind).collect();
    assert_eq!(events, [EventKind::PackageGranted, EventKind::PackageExhausted]);
    grant(&mut account, prepaid(3, 10), 4);
    assert_eq!((account.overrun(), account.balance(4).remaining), (Quantity::ZERO, parts(3)));
    // What the call had cost beyond its packages stays what it was.
    assert_eq!(call_of(&account, 1).overrun, parts(17));
}

#[test]
fn an_unmetered_package_pays_all_of_an_overrun_and_one_that_is_over_pays_none() {
    let mut account = account(CARRIED, &[3]);
    account.decide(&admit(1, 3), 1).unwrap();
    account.decide(&settle(1, 1, 20), 2).unwrap();
    grant(&mut account, Grant { starts_at_ms: Some(1), expires_at_ms: Some(3), ..prepaid(2, 10) }, 3);
    assert_eq!(account.overrun(), parts(17));
    grant(&mut account, Grant { kind: PackageKind::Unmetered, quantity: Quantity::ZERO, ..prepaid(3, 0) }, 3);
    assert_eq!((account.overrun(), package_numbered(&account, 3).used), (Quantity::ZERO, parts(17)));
}

#[test]
fn an_absorbed_overrun_is_never_paid() {
    let mut account = account(UsageTerms::default(), &[3]);
    account.decide(&admit(1, 3), 1).unwrap();
    account.decide(&settle(1, 1, 20), 2).unwrap();
    grant(&mut account, prepaid(2, 10), 3);
    assert_eq!((account.overrun(), package_numbered(&account, 2).used), (parts(17), Quantity::ZERO));
}
