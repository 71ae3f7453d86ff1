//! The rules by example: one short story each.

use std::collections::BTreeMap;

use std::sync::Arc;

use super::{admit, call_of, correction_id, fingerprint, package_id, package_numbered, parts, prepaid, request_id, settle};
use crate::ledger::{
    Account, Admission, Call, CallState, Claim, Command, Grant, Leg, Outcome, PackageChange, PackageKind, PackageState, Refusal,
};
use crate::quantity::{Delta, Quantity};

/// An account with prepaid packages 1, 2, ... of these quantities, burned in this order.
fn account_of(quantities: &[i64]) -> Account {
    let mut account = Account::default();
    for (package, quantity) in (1..).zip(quantities) {
        grant(&mut account, Grant { priority: i32::from(package), ..prepaid(package, *quantity) });
    }
    account
}

fn grant(account: &mut Account, grant: Grant) {
    account.decide(&Command::Grant(Box::new(grant)), 0).unwrap();
}

fn leg(package_number: u32, quantity: i64) -> Leg {
    Leg { package_number, quantity: parts(quantity) }
}

fn used(account: &Account) -> Vec<i64> {
    let by_number: BTreeMap<u32, i64> = account.packages().iter().map(|package| (package.number, package.used.parts())).collect();
    by_number.into_values().collect()
}

fn lose(call: u8, charge: bool) -> Command {
    Command::LoseHold { request_id: request_id(call), charge }
}

fn refund(call: u8, correction: u8, quantity: Option<i64>) -> Command {
    let reason = Arc::from("the reply was wrong");
    Command::Refund { request_id: request_id(call), refund_id: correction_id(correction), quantity: quantity.map(parts), reason }
}

fn change(package: u8, change: PackageChange) -> Command {
    Command::Change { package_id: package_id(package), change }
}

fn exhausted(needed: i64, available: i64) -> Result<Outcome, Refusal> {
    Err(Refusal::Exhausted { needed: parts(needed), available: parts(available) })
}

fn held(attempt: u32, hold: i64) -> Result<Outcome, Refusal> {
    Ok(Outcome::Admitted(Admission::Held { attempt, hold: parts(hold) }))
}

#[test]
fn a_hold_spans_packages_in_burn_down_order() {
    let mut account = account_of(&[3, 5]);
    assert_eq!(account.decide(&admit(1, 4), 1), held(1, 4));
    assert_eq!(call_of(&account, 1).legs, [leg(1, 3), leg(2, 1)]);
    assert_eq!(account.decide(&admit(2, 5), 1), exhausted(5, 4));
}

#[test]
fn burn_down_goes_by_priority_then_expiry_then_creation_then_name() {
    let mut account = Account::default();
    let mut grant_at = |now_ms, package, priority, expires_at_ms| {
        let grant = Grant { priority, expires_at_ms, ..prepaid(package, 1) };
        account.decide(&Command::Grant(Box::new(grant)), now_ms).unwrap();
    };
    grant_at(2, 1, 1, None);
    grant_at(1, 4, 1, None);
    grant_at(1, 3, 1, None);
    grant_at(3, 2, 1, Some(90));
    grant_at(3, 5, 0, None);
    let order: Vec<&str> = account.packages().iter().map(|package| package.id.as_str()).collect();
    assert_eq!(order, ["package-5", "package-2", "package-3", "package-4", "package-1"]);
    account.decide(&admit(1, 2), 4).unwrap();
    assert_eq!(call_of(&account, 1).legs, [leg(5, 1), leg(4, 1)]);
}

#[test]
fn unmetered_packages_are_burned_last_and_never_run_out() {
    let mut account = account_of(&[3]);
    grant(&mut account, Grant { kind: PackageKind::Unmetered, quantity: Quantity::ZERO, priority: -1, ..prepaid(9, 0) });
    account.decide(&admit(1, 1_000), 1).unwrap();
    assert_eq!(call_of(&account, 1).legs, [leg(1, 3), leg(2, 997)]);
}

#[test]
fn a_settle_below_the_hold_frees_the_rest_at_once() {
    let mut account = account_of(&[3, 5]);
    account.decide(&admit(1, 8), 1).unwrap();
    account.decide(&settle(1, 1, 4), 2).unwrap();
    assert_eq!(call_of(&account, 1).legs, [leg(1, 3), leg(2, 1)]);
    assert_eq!(used(&account), [3, 1]);
    assert_eq!(account.decide(&admit(2, 4), 2), held(1, 4));
}

#[test]
fn a_settle_above_the_hold_takes_what_is_available_and_the_rest_is_overrun() {
    let mut account = account_of(&[3, 5]);
    account.decide(&admit(1, 2), 1).unwrap();
    account.decide(&admit(2, 2), 1).unwrap();
    account.decide(&settle(1, 1, 9), 2).unwrap();
    // Two parts stay held by the other call: one of each package.
    let Call { charge, overrun, legs, .. } = call_of(&account, 1);
    assert_eq!((charge.parts(), overrun.parts(), legs.as_slice()), (6, 3, [leg(1, 2), leg(2, 4)].as_slice()));
    assert_eq!(account.balance(2).overrun, parts(3));
    account.decide(&settle(2, 1, 2), 3).unwrap();
    assert_eq!(used(&account), [3, 5]);
}

#[test]
fn a_call_that_costs_nothing_is_released_and_its_id_is_as_new() {
    let mut account = account_of(&[3]);
    account.decide(&admit(1, 3), 1).unwrap();
    assert_eq!(account.decide(&admit(1, 3), 1), Err(Refusal::InFlight));
    account.decide(&settle(1, 1, 0), 2).unwrap();
    assert_eq!(call_of(&account, 1).state, CallState::Released);
    assert_eq!(account.decide(&admit(1, 3), 3), held(2, 3));
    // The first attempt cannot end the second.
    assert!(matches!(account.decide(&settle(1, 1, 3), 4), Ok(Outcome::AlreadyEnded { .. })));
    assert_eq!(call_of(&account, 1).state, CallState::Held);
}

#[test]
fn a_charged_call_is_replayed_without_charge_as_often_as_the_limit_says() {
    let mut account = account_of(&[1]);
    account.decide(&admit(1, 1), 1).unwrap();
    account.decide(&settle(1, 1, 1), 2).unwrap();
    assert_eq!(account.decide(&admit(1, 1), 3), Ok(Outcome::Admitted(Admission::Replay)));
    assert_eq!(account.decide(&admit(1, 1), 4), Err(Refusal::Replayed));
    assert_eq!((used(&account), call_of(&account, 1).replays), (vec![1], 1));
}

#[test]
fn another_request_under_the_same_id_is_refused_whatever_became_of_the_first() {
    let mut account = account_of(&[3]);
    let Command::Admit(claim) = admit(1, 1) else { panic!("not an admission") };
    let other = Command::Admit(Claim { fingerprint: fingerprint("/other"), ..claim });
    account.decide(&admit(1, 1), 1).unwrap();
    assert_eq!(account.decide(&other, 1), Err(Refusal::Reused));
    account.decide(&settle(1, 1, 1), 2).unwrap();
    assert_eq!(account.decide(&other, 2), Err(Refusal::Reused));
}

#[test]
fn a_refunded_call_is_not_replayed_for_free() {
    let mut account = account_of(&[1]);
    account.decide(&admit(1, 1), 1).unwrap();
    account.decide(&settle(1, 1, 1), 2).unwrap();
    account.decide(&refund(1, 1, None), 3).unwrap();
    assert_eq!(account.decide(&admit(1, 1), 4), Err(Refusal::Replayed));
    assert_eq!((used(&account), account.balance(4).available), (vec![0], parts(1)));
}

#[test]
fn refunds_go_back_to_the_packages_charged_last_and_never_exceed_the_charge() {
    let mut account = account_of(&[3, 5]);
    account.decide(&admit(1, 6), 1).unwrap();
    account.decide(&settle(1, 1, 6), 2).unwrap();
    account.decide(&refund(1, 1, Some(2)), 3).unwrap();
    assert_eq!(used(&account), [3, 1]);
    account.decide(&refund(1, 2, Some(2)), 3).unwrap();
    assert_eq!(used(&account), [2, 0]);
    assert!(matches!(account.decide(&refund(1, 3, Some(3)), 3), Err(Refusal::Conflict(_))));
    // Its name was taken: the same again changes nothing, another one is a conflict.
    assert!(account.decide(&refund(1, 2, Some(2)), 4).is_ok());
    assert!(matches!(account.decide(&refund(1, 2, Some(1)), 4), Err(Refusal::Conflict(_))));
    assert_eq!((used(&account), call_of(&account, 1).refunded), (vec![2, 0], parts(4)));
}

#[test]
fn a_lost_hold_is_charged_or_freed_and_a_late_settle_corrects_either() {
    for (charge, used_when_lost) in [(true, 4), (false, 0)] {
        for cost in [0, 3, 4, 7] {
            let mut account = account_of(&[9]);
            account.decide(&admit(1, 4), 1).unwrap();
            assert!(
                matches!(account.decide(&lose(1, charge), 99), Ok(Outcome::AlreadyEnded { .. })),
                "its lease lives until 100"
            );
            assert!(matches!(account.decide(&lose(1, charge), 100), Ok(Outcome::Settled { .. })));
            assert_eq!((used(&account), call_of(&account, 1).lost), (vec![used_when_lost], true));
            assert!(matches!(account.decide(&settle(1, 1, cost), 150), Ok(Outcome::Settled { .. })));
            assert_eq!(used(&account), [cost]);
            assert!(matches!(account.decide(&settle(1, 1, cost), 151), Ok(Outcome::AlreadyEnded { .. })));
        }
    }
}

#[test]
fn a_renewed_hold_is_not_lost() {
    let mut account = account_of(&[9]);
    account.decide(&admit(1, 4), 1).unwrap();
    let renew = |lease_ends_ms| Command::Renew { request_id: request_id(1), attempt: 1, lease_ends_ms };
    assert_eq!(account.decide(&renew(200), 90), Ok(Outcome::Renewed));
    // One that was overtaken does not shorten it.
    assert_eq!(account.decide(&renew(150), 91), Ok(Outcome::Renewed));
    assert!(matches!(account.decide(&lose(1, true), 199), Ok(Outcome::AlreadyEnded { .. })));
    assert!(matches!(account.decide(&lose(1, true), 200), Ok(Outcome::Settled { .. })));
    assert!(matches!(account.decide(&renew(300), 201), Ok(Outcome::AlreadyEnded { .. })));
}

#[test]
fn a_late_settle_gives_back_only_what_no_refund_gave_back() {
    let mut account = account_of(&[6, 4]);
    account.decide(&admit(1, 10), 1).unwrap();
    account.decide(&lose(1, true), 100).unwrap();
    account.decide(&refund(1, 1, Some(5)), 101).unwrap();
    assert_eq!(used(&account), [5, 0]);
    account.decide(&settle(1, 1, 7), 102).unwrap();
    assert_eq!((used(&account), call_of(&account, 1).charge), (vec![2, 0], parts(7)));
}

#[test]
fn a_leg_settles_whatever_became_of_its_package() {
    for (number, end) in [(1, PackageChange::Freeze), (2, PackageChange::Release)] {
        let mut account = account_of(&[3, 3]);
        account.decide(&admit(1, 6), 1).unwrap();
        account.decide(&change(number, end), 2).unwrap();
        account.decide(&settle(1, 1, 6), 3).unwrap();
        assert_eq!((used(&account), call_of(&account, 1).overrun), (vec![3, 3], Quantity::ZERO));
    }
    // Lost, freed and alive after all: the expired package is charged as it would have been in time.
    for lost in [None, Some(lose(1, false))] {
        let mut account = Account::default();
        grant(&mut account, Grant { expires_at_ms: Some(50), ..prepaid(1, 3) });
        account.decide(&admit(1, 3), 1).unwrap();
        assert_eq!(package_numbered(&account, 1).state(50), PackageState::Expired);
        lost.iter().for_each(|lost| assert!(matches!(account.decide(lost, 100), Ok(Outcome::Settled { .. }))));
        account.decide(&settle(1, 1, 2), 101).unwrap();
        assert_eq!((used(&account), call_of(&account, 1).overrun), (vec![2], Quantity::ZERO));
        assert_eq!(account.decide(&admit(2, 1), 101), Err(Refusal::Expired));
    }
}

#[test]
fn an_adjustment_never_goes_below_what_is_used_and_held() {
    let mut account = account_of(&[9]);
    account.decide(&admit(1, 2), 1).unwrap();
    account.decide(&admit(2, 3), 1).unwrap();
    account.decide(&settle(1, 1, 2), 2).unwrap();
    let adjust = |number, quantity| Command::Adjust {
        package_id: package_id(1),
        adjustment_id: correction_id(number),
        quantity: Delta::from_parts(quantity).unwrap(),
        reason: Arc::from("agreed on the phone"),
    };
    assert!(matches!(account.decide(&adjust(1, -5), 3), Err(Refusal::Conflict(_))));
    assert!(account.decide(&adjust(1, -4), 3).is_ok());
    assert!(account.decide(&adjust(1, -4), 4).is_ok());
    assert_eq!((package_numbered(&account, 1).granted, account.balance(4).available), (parts(5), Quantity::ZERO));
}

#[test]
fn no_customer_is_granted_more_than_the_largest_quantity_in_sum() {
    let mut account = account_of(&[Quantity::MAX.parts()]);
    let one_more = Command::Grant(Box::new(prepaid(2, 1)));
    assert!(matches!(account.decide(&one_more, 1), Err(Refusal::Invalid(_))));
    let adjustment_id = correction_id(1);
    let up = Command::Adjust { package_id: package_id(1), adjustment_id, quantity: parts(1).up(), reason: Arc::from("more") };
    assert!(matches!(account.decide(&up, 1), Err(Refusal::Invalid(_))));
    assert_eq!(account.packages().len(), 1);
}
