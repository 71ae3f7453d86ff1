//! Alerts by example: one short story each.

use std::sync::Arc;

use super::{account, admit, correction_id, package_id, parts, prepaid, request_id, settle};
use crate::ledger::{
    Account, Command, Event, EventDetail, EventKind, Grant, PackageChange, PackageKind, Phase, Rules, Terms, Threshold,
};
use crate::quantity::{Delta, Quantity};

/// An account with rules of its own and one package.
fn watched(alerts: &[Threshold], quantity: i64) -> Account {
    watched_package(alerts, prepaid(1, quantity))
}

fn watched_package(alerts: &[Threshold], package: Grant) -> Account {
    let mut account = account();
    set_alerts(&mut account, alerts);
    grant(&mut account, package, 0);
    account.take_changes();
    account
}

fn set_alerts(account: &mut Account, alerts: &[Threshold]) {
    let rules = Rules { alerts: Some(alerts.to_vec()), repurchase: None };
    account.decide(&Command::SetRules(Box::new(rules)), 0).unwrap();
}

fn grant(account: &mut Account, grant: Grant, now_ms: i64) {
    account.decide(&Command::Grant(Box::new(grant)), now_ms).unwrap();
}

/// Admits and settles one call: what it charged is what its number says apart.
fn charge(account: &mut Account, call: u8, quantity: i64) {
    account.decide(&admit(call, quantity), 1).unwrap();
    account.decide(&settle(call, 1, quantity), 1).unwrap();
}

fn change(account: &mut Account, package: u8, change: PackageChange) {
    account.decide(&Command::Change { package_id: package_id(package), change }, 1).unwrap();
}

fn adjust(account: &mut Account, correction: u8, quantity: i64) {
    let quantity = Delta::from_parts(quantity).unwrap();
    let (package_id, adjustment_id) = (package_id(1), correction_id(correction));
    account.decide(&Command::Adjust { package_id, adjustment_id, quantity, reason: Arc::from("agreed") }, 1).unwrap();
}

fn refund(account: &mut Account, call: u8, quantity: i64) {
    let (request_id, refund_id) = (request_id(call), correction_id(call));
    let quantity = Some(parts(quantity));
    account.decide(&Command::Refund { request_id, refund_id, quantity, reason: Arc::from("agreed") }, 1).unwrap();
}

fn remaining(level: i64) -> Threshold {
    Threshold::Remaining(parts(level))
}

fn percent(whole: i64) -> Threshold {
    Threshold::Percent(parts(whole * Quantity::PARTS_PER_UNIT))
}

fn kinds(account: &mut Account) -> Vec<EventKind> {
    account.take_changes().events.iter().map(|event| event.kind).collect()
}

/// What was told of the balance: the threshold, or nothing for nothing left.
fn alerts(account: &mut Account) -> Vec<Option<Threshold>> {
    let threshold = |event: Event| match event.detail {
        EventDetail::Balance { threshold, .. } => Some(threshold),
        _ => None,
    };
    account.take_changes().events.into_iter().filter_map(threshold).collect()
}

#[test]
fn a_jump_over_three_thresholds_tells_of_each_the_highest_first_and_of_nothing_left_last() {
    let mut account = watched(&[remaining(10), percent(80), remaining(0), remaining(95)], 100);
    charge(&mut account, 1, 100);
    let told = [Some(remaining(95)), Some(percent(80)), Some(remaining(10)), Some(remaining(0)), None];
    assert_eq!(alerts(&mut account), told);
}

#[test]
fn a_threshold_is_told_of_once_and_again_only_after_more_remained() {
    let mut account = watched(&[remaining(50)], 100);
    charge(&mut account, 1, 50);
    assert_eq!(alerts(&mut account), [Some(remaining(50))]);
    charge(&mut account, 2, 10);
    assert_eq!(alerts(&mut account), []);
    // Up to the threshold is not above it.
    refund(&mut account, 2, 10);
    charge(&mut account, 3, 1);
    assert_eq!(alerts(&mut account), []);
    refund(&mut account, 1, 2);
    assert_eq!(alerts(&mut account), []);
    charge(&mut account, 4, 2);
    assert_eq!(alerts(&mut account), [Some(remaining(50))]);
}

#[test]
fn holds_move_no_threshold() {
    let mut account = watched(&[remaining(50)], 100);
    account.decide(&admit(1, 100), 1).unwrap();
    account.decide(&admit(2, 1), 1).unwrap_err();
    assert_eq!(alerts(&mut account), []);
    account.decide(&settle(1, 1, 49), 2).unwrap();
    assert_eq!(alerts(&mut account), []);
}

#[test]
fn equal_thresholds_are_told_of_once_and_different_ones_at_the_same_height_each() {
    let mut account = watched(&[remaining(50), percent(50), remaining(50)], 100);
    charge(&mut account, 1, 60);
    assert_eq!(alerts(&mut account), [Some(remaining(50)), Some(percent(50))]);
}

#[test]
fn what_an_alert_says_is_the_balance_after_the_step() {
    let mut account = watched(&[percent(20)], 100);
    charge(&mut account, 1, 85);
    let event = account.take_changes().events.remove(0);
    let unit = "call".to_owned();
    let detail = EventDetail::Balance { threshold: Some(percent(20)), remaining: parts(15), granted: parts(100), unit };
    assert_eq!((event.kind, event.detail, event.at_ms), (EventKind::BalanceLow, detail, 1));
}

#[test]
fn the_percent_base_leaves_out_what_is_used_up_when_it_is_fixed_and_charges_do_not_fix_it() {
    let mut account = watched(&[percent(20)], 100);
    assert_eq!(account.watch().percent_base, parts(100));
    charge(&mut account, 1, 100);
    assert_eq!(account.watch().percent_base, parts(100));
    grant(&mut account, prepaid(2, 10), 1);
    assert_eq!(account.watch().percent_base, parts(10));
    // Given back, it has a remainder, and the next time it counts.
    refund(&mut account, 1, 1);
    assert_eq!(account.watch().percent_base, parts(10));
    grant(&mut account, prepaid(3, 10), 1);
    assert_eq!(account.watch().percent_base, parts(120));
}

#[test]
fn the_percent_base_is_fixed_at_adjustments_and_changes_of_state() {
    let mut account = watched(&[], 100);
    grant(&mut account, Grant { starts_at_ms: Some(50), expires_at_ms: Some(90), ..prepaid(2, 10) }, 1);
    let mut base_after = |step: &dyn Fn(&mut Account)| {
        step(&mut account);
        account.watch().percent_base.parts()
    };
    assert_eq!(base_after(&|account| adjust(account, 1, 30)), 130);
    assert_eq!(base_after(&|account| adjust(account, 2, -60)), 70);
    assert_eq!(base_after(&|account| change(account, 1, PackageChange::Freeze)), 0);
    assert_eq!(base_after(&|account| change(account, 1, PackageChange::Unfreeze)), 70);
    assert_eq!(base_after(&|account| drop(account.decide(&Command::Look, 50))), 80);
    assert_eq!(base_after(&|account| drop(account.decide(&Command::Look, 90))), 70);
    assert_eq!(base_after(&|account| change(account, 1, PackageChange::Release)), 0);
}

#[test]
fn rules_that_change_fire_nothing_until_the_next_crossing() {
    let mut account = watched(&[remaining(10)], 100);
    charge(&mut account, 1, 40);
    set_alerts(&mut account, &[remaining(70), remaining(55)]);
    assert_eq!(alerts(&mut account), []);
    charge(&mut account, 2, 10);
    assert_eq!(alerts(&mut account), [Some(remaining(55))]);
}

#[test]
fn the_products_alerts_hold_until_the_customer_has_own_ones_even_none() {
    let mut account = Account::default();
    account.put_terms(Arc::new(Terms { alerts: vec![remaining(50)], ..Terms::default() }));
    grant(&mut account, prepaid(1, 100), 0);
    charge(&mut account, 1, 60);
    assert_eq!(alerts(&mut account), [Some(remaining(50))]);
    refund(&mut account, 1, 60);
    set_alerts(&mut account, &[]);
    charge(&mut account, 2, 60);
    assert_eq!(alerts(&mut account), []);
}

#[test]
fn expiry_and_start_are_found_by_looking_or_before_any_command_and_told_of_once() {
    let expiring = Grant { expires_at_ms: Some(60), ..prepaid(1, 100) };
    let later = Grant { starts_at_ms: Some(80), ..prepaid(2, 100) };
    for command in [Command::Look, admit(1, 1), settle(9, 1, 1)] {
        let mut account = account();
        set_alerts(&mut account, &[remaining(50)]);
        grant(&mut account, expiring.clone(), 0);
        grant(&mut account, later.clone(), 0);
        account.take_changes();
        assert_eq!(account.watch().due_at_ms, Some(60));
        account.decide(&Command::Look, 59).unwrap();
        assert!(!account.has_changes());
        // Whether the command is refused makes no difference.
        account.decide(&command, 60).ok();
        let expected = [EventKind::PackageExpired, EventKind::BalanceLow, EventKind::BalanceExhausted];
        assert_eq!(kinds(&mut account), expected, "{command:?}");
        account.decide(&Command::Look, 61).unwrap();
        assert_eq!((kinds(&mut account), account.watch().due_at_ms), (vec![], Some(80)));
        account.decide(&Command::Look, 80).unwrap();
        assert_eq!((kinds(&mut account), account.watch().due_at_ms), (vec![], None));
        assert_eq!(account.balance(80).remaining, parts(100));
    }
}

#[test]
fn packages_that_expire_in_one_look_are_told_of_in_burn_down_order_also_where_one_is_used_up() {
    let mut account = account();
    grant(&mut account, Grant { expires_at_ms: Some(60), ..prepaid(1, 10) }, 0);
    grant(&mut account, Grant { expires_at_ms: Some(70), ..prepaid(2, 10) }, 0);
    charge(&mut account, 1, 10);
    account.take_changes();
    account.decide(&Command::Look, 80).unwrap();
    let events = account.take_changes().events;
    let expired = events.iter().filter(|event| event.kind == EventKind::PackageExpired);
    assert_eq!(expired.map(|event| event.package_number).collect::<Vec<_>>(), [Some(1), Some(2)]);
}

#[test]
fn a_clock_that_is_behind_expires_nothing_twice() {
    let mut account = watched(&[], 100);
    grant(&mut account, Grant { expires_at_ms: Some(60), ..prepaid(2, 5) }, 0);
    account.take_changes();
    for now_ms in [60, 58, 60, 59, 61] {
        account.decide(&Command::Look, now_ms).unwrap();
    }
    assert_eq!(kinds(&mut account), [EventKind::PackageExpired]);
}

#[test]
fn an_expiry_that_is_moved_into_the_future_is_taken_back_and_told_of_again_when_it_comes() {
    let mut account = watched(&[remaining(50)], 20);
    grant(&mut account, Grant { expires_at_ms: Some(60), ..prepaid(2, 100) }, 0);
    account.take_changes();
    account.decide(&Command::Look, 60).unwrap();
    assert_eq!(kinds(&mut account), [EventKind::PackageExpired, EventKind::BalanceLow]);
    let mut reschedule = |expires_at_ms, now_ms| {
        let change = PackageChange::Reschedule { expires_at_ms: Some(expires_at_ms), priority: None };
        account.decide(&Command::Change { package_id: package_id(2), change }, now_ms).unwrap();
        (kinds(&mut account), account.watch().percent_base.parts(), account.package(2).unwrap().phase)
    };
    assert_eq!(reschedule(Some(62), 61), (vec![], 120, Phase::Running));
    let expired = vec![EventKind::PackageExpired, EventKind::BalanceLow];
    assert_eq!(reschedule(Some(63), 64), (expired.clone(), 20, Phase::Over));
    assert_eq!(reschedule(None, 65), (vec![], 120, Phase::Running));
    // Into the past: at once.
    assert_eq!(reschedule(Some(50), 66), (expired, 20, Phase::Over));
}

#[test]
fn a_package_granted_for_the_past_is_granted_and_expired_and_never_remains() {
    let mut account = watched(&[remaining(50)], 100);
    grant(&mut account, Grant { starts_at_ms: Some(2), expires_at_ms: Some(5), ..prepaid(2, 100) }, 9);
    assert_eq!(kinds(&mut account), [EventKind::PackageGranted, EventKind::PackageExpired]);
    assert_eq!(account.watch().percent_base, parts(100));
}

#[test]
fn freezing_and_releasing_cross_thresholds_and_unfreezing_rearms_them() {
    let mut account = watched_package(&[remaining(50)], Grant { expires_at_ms: Some(900), ..prepaid(1, 100) });
    change(&mut account, 1, PackageChange::Freeze);
    assert_eq!(kinds(&mut account), [EventKind::PackageFrozen, EventKind::BalanceLow, EventKind::BalanceExhausted]);
    change(&mut account, 1, PackageChange::Unfreeze);
    change(&mut account, 1, PackageChange::Release);
    let released = [EventKind::PackageReleased, EventKind::BalanceLow, EventKind::BalanceExhausted];
    assert_eq!(kinds(&mut account)[1..], released);
    // What was taken back has no time any more.
    account.decide(&Command::Look, 1_000).unwrap();
    assert!(!account.has_changes());
}

#[test]
fn a_package_is_exhausted_once_by_a_charge_or_by_an_adjustment() {
    let mut account = watched(&[], 100);
    charge(&mut account, 1, 60);
    adjust(&mut account, 1, -40);
    assert_eq!(kinds(&mut account), [EventKind::PackageExhausted, EventKind::BalanceExhausted]);
    adjust(&mut account, 2, 5);
    charge(&mut account, 2, 5);
    assert_eq!(kinds(&mut account), [EventKind::PackageExhausted, EventKind::BalanceExhausted]);
}

#[test]
fn unmetered_packages_have_no_quantity_that_alerts_could_look_at() {
    let mut account = watched(&[remaining(50), percent(100)], 10);
    grant(&mut account, Grant { kind: PackageKind::Unmetered, quantity: Quantity::ZERO, ..prepaid(2, 0) }, 0);
    account.take_changes();
    charge(&mut account, 1, 60);
    assert_eq!(kinds(&mut account), [EventKind::PackageExhausted, EventKind::BalanceExhausted]);
    charge(&mut account, 2, 60);
    assert_eq!(kinds(&mut account), []);
}

#[test]
fn calls_without_rules_or_crossings_write_nothing_of_the_watch() {
    let mut account = watched(&[remaining(50)], 100);
    account.decide(&admit(1, 10), 1).unwrap();
    account.decide(&settle(1, 1, 10), 2).unwrap();
    assert!(account.decide(&admit(2, 1_000), 3).is_err());
    let changes = account.take_changes();
    assert!(!changes.watch && changes.events.is_empty() && changes.rewritten_packages.is_empty());
}

#[test]
fn asking_whether_a_probe_would_be_refused_changes_nothing_even_where_a_look_is_due() {
    let mut account = account();
    grant(&mut account, Grant { expires_at_ms: Some(60), ..prepaid(1, 10) }, 0);
    account.take_changes();
    let probe = |hold| Command::Probe { request_id: request_id(9), hold: parts(hold) };
    assert!(!account.would_refuse(&probe(10), 59));
    assert!(account.would_refuse(&probe(11), 59) && account.would_refuse(&probe(1), 60));
    assert!(!account.has_changes());
}
