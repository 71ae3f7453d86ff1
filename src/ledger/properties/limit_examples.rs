//! Where orders meet limits. A full account: nothing is ordered that could not be credited, and what was ordered before is credited all the same. A cap: what
//! is known not to have been bought leaves room.

use super::{TIMEOUT_MS, account, order_rules, package_id, parts, prepaid};
use crate::ids::PackageId;
use crate::ledger::{
    Account, Command, Conclusion, EventDetail, EventKind, FailureReason, Grant, PACKAGES_MAX, PackageChange, Refusal, Threshold,
};
use crate::quantity::Quantity;

const TRIGGER: Threshold = Threshold::Remaining(Quantity::ZERO);
const DAY_MS: i64 = 86_400_000;

/// Packages of their own names, of which nothing can be used for now, so that the account gets fuller and not richer.
fn fill(account: &mut Account, packages: usize, change: PackageChange) {
    for number in 0..packages {
        let package_id = PackageId::new(&format!("old-{number}")).unwrap();
        account.decide(&Command::Grant(Box::new(Grant { package_id: package_id.clone(), ..prepaid(1, 1) })), 0).unwrap();
        account.decide(&Command::Change { package_id, change }, 0).unwrap();
    }
}

fn write_rule(account: &mut Account, now_ms: i64) {
    account.decide(&Command::SetRules(Box::new(order_rules(TRIGGER, 100, DAY_MS))), now_ms).unwrap();
}

/// What was told of orders, with the order's number.
fn told(account: &mut Account) -> Vec<(EventKind, Option<u32>, Option<FailureReason>)> {
    let events = account.take_changes().events.into_iter();
    let of_orders = events.filter_map(|event| match event.detail {
        EventDetail::Order { order, reason, .. } => Some((event.kind, order.map(|(number, _)| number), reason)),
        _ => None,
    });
    of_orders.collect()
}

const RESTRICTED: Option<FailureReason> = Some(FailureReason::PurchaseRestricted);

#[test]
fn nothing_is_ordered_that_a_full_account_could_not_be_credited_and_the_rule_is_suspended_once() {
    let mut account = account();
    fill(&mut account, PACKAGES_MAX, PackageChange::Freeze);
    told(&mut account);
    write_rule(&mut account, 1);
    let restricted = [(EventKind::RepurchaseFailed, None, RESTRICTED), (EventKind::RepurchaseSuspended, None, RESTRICTED)];
    assert_eq!(told(&mut account), restricted);
    assert_eq!((account.watch().suspended, account.watch().order_count), (RESTRICTED, 0));
    account.decide(&Command::Look, 2).unwrap();
    assert_eq!((told(&mut account), account.watch().due_at_ms), (vec![], None));
}

#[test]
fn packages_that_are_spent_for_good_keep_nobody_from_buying() {
    let mut account = account();
    fill(&mut account, PACKAGES_MAX + 1, PackageChange::Release);
    told(&mut account);
    write_rule(&mut account, 1);
    assert_eq!(told(&mut account), [(EventKind::RepurchaseRequested, Some(1), None)]);
    account.decide(&Command::Grant(Box::new(Grant { repurchase: None, ..prepaid(2, 10) })), 2).unwrap();
    assert_eq!(account.balance(2).remaining, parts(10));
}

#[test]
fn nothing_is_ordered_beyond_what_a_customer_may_be_granted_in_sum() {
    let mut account = account();
    let most = Grant { quantity: Quantity::MAX, ..prepaid(1, 1) };
    account.decide(&Command::Grant(Box::new(most)), 0).unwrap();
    account.decide(&Command::Change { package_id: package_id(1), change: PackageChange::Freeze }, 0).unwrap();
    told(&mut account);
    write_rule(&mut account, 1);
    assert_eq!((account.watch().suspended, account.watch().order_count), (RESTRICTED, 0));
}

#[test]
fn an_order_that_was_made_while_there_was_room_is_credited_even_where_the_account_is_full_since() {
    let mut account = account();
    fill(&mut account, PACKAGES_MAX - 1, PackageChange::Freeze);
    write_rule(&mut account, 1);
    assert_eq!(account.watch().order_in_flight, Some(1));
    let last = Grant { repurchase: None, ..prepaid(2, 10) };
    account.decide(&Command::Grant(Box::new(last)), 2).unwrap();
    let refused = account.decide(&Command::Grant(Box::new(prepaid(3, 10))), 3);
    assert!(matches!(refused, Err(Refusal::Conflict(_))), "{refused:?}");
    account.decide(&Command::Grant(Box::new(Grant { repurchase: Some(1), ..prepaid(4, 10) })), 4).unwrap();
    assert_eq!(account.balance(4).remaining, parts(20));
    assert_eq!(account.order(1).unwrap().package_number, Some(u32::try_from(PACKAGES_MAX).unwrap() + 1));
}

#[test]
fn an_order_that_timed_out_and_is_told_to_have_failed_leaves_the_cap_and_suspends_as_it_would_have_in_time() {
    for (reason, suspended) in
        [(FailureReason::HookFailed, None), (FailureReason::PriceChanged, Some(FailureReason::PriceChanged))]
    {
        let mut account = account();
        account.decide(&Command::SetRules(Box::new(order_rules(TRIGGER, 1, DAY_MS))), 0).unwrap();
        account.decide(&Command::Look, TIMEOUT_MS).unwrap();
        account.decide(&Command::Look, 10_000).unwrap();
        assert_eq!(told(&mut account).last(), Some(&(EventKind::RepurchaseFailed, None, Some(FailureReason::CapReached))));
        let failed = Command::ConcludeOrder { number: 1, conclusion: Conclusion::Failed(reason), package: None };
        for _ in 0..2 {
            account.decide(&failed, 10_001).unwrap();
        }
        let mut expected = vec![(EventKind::RepurchaseFailed, Some(1), Some(reason))];
        expected.extend(suspended.map(|reason| (EventKind::RepurchaseSuspended, Some(1), Some(reason))));
        assert_eq!((told(&mut account), account.watch().suspended), (expected, suspended));
        account.decide(&Command::Look, 20_000).unwrap();
        assert_eq!(account.watch().order_in_flight, suspended.is_none().then_some(2));
    }
}
