//! Auto-repurchase by example: one short story each.

use std::sync::Arc;

use super::{TIMEOUT_MS, account, admit, order_rules, package_id, parts, prepaid, settle};
use crate::ledger::{
    Account, Command, Conclusion, EventDetail, EventKind, FailureReason, Grant, Order, OrderState, Outcome, PackageChange,
    Refusal, RepurchaseRule, Rules, Terms, Threshold,
};

const LEVEL: Threshold = Threshold::Remaining(crate::quantity::Quantity::ZERO);
const DAY_MS: i64 = 86_400_000;

fn rules(change: impl FnOnce(&mut RepurchaseRule)) -> Rules {
    let mut rules = order_rules(LEVEL, 100, DAY_MS);
    change(rules.repurchase.as_mut().unwrap());
    rules
}

/// An account whose only package is empty, so that the rule wants an order at once: it has been made at 1 ms.
fn ordered(rules: Rules) -> Account {
    let mut account = account();
    account.decide(&Command::Grant(Box::new(prepaid(1, 1))), 0).unwrap();
    account.decide(&Command::SetRules(Box::new(rules)), 0).unwrap();
    charge(&mut account, 1, 1);
    assert_eq!(account.watch().order_in_flight, Some(1));
    account.take_changes();
    account
}

fn charge(account: &mut Account, call: u8, now_ms: i64) {
    account.decide(&admit(call, 1), now_ms).unwrap();
    account.decide(&settle(call, 1, 1), now_ms).unwrap();
}

fn conclude(number: u32, conclusion: Conclusion) -> Command {
    Command::ConcludeOrder { number, conclusion, package: None }
}

fn failed(number: u32, reason: FailureReason) -> Command {
    conclude(number, Conclusion::Failed(reason))
}

fn bought(package: u8, number: u32) -> Grant {
    Grant { repurchase: Some(number), ..prepaid(package, 10) }
}

fn look(account: &mut Account, now_ms: i64) {
    account.decide(&Command::Look, now_ms).unwrap();
}

fn order(account: &Account, number: u32) -> &Order {
    account.order(number).unwrap()
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

fn requested(number: u32) -> (EventKind, Option<u32>, Option<FailureReason>) {
    (EventKind::RepurchaseRequested, Some(number), None)
}

fn succeeded(number: u32) -> (EventKind, Option<u32>, Option<FailureReason>) {
    (EventKind::RepurchaseSucceeded, Some(number), None)
}

fn failure(number: u32, reason: FailureReason) -> (EventKind, Option<u32>, Option<FailureReason>) {
    (EventKind::RepurchaseFailed, Some(number), Some(reason))
}

const CAP_TOLD: (EventKind, Option<u32>, Option<FailureReason>) =
    (EventKind::RepurchaseFailed, None, Some(FailureReason::CapReached));

#[test]
fn an_order_is_made_with_the_charge_that_reaches_the_trigger_and_its_size_is_decided_once() {
    let mut account = account();
    account.decide(&Command::Grant(Box::new(prepaid(1, 2))), 0).unwrap();
    account.decide(&Command::SetRules(Box::new(rules(|_| ()))), 0).unwrap();
    charge(&mut account, 1, 1);
    assert_eq!(told(&mut account), []);
    charge(&mut account, 2, 5);
    assert_eq!(told(&mut account), [requested(1)]);
    let made = order(&account, 1).clone();
    assert_eq!((made.state, made.requested_at_ms, made.times_out_at_ms), (OrderState::Requested, 5, 5 + TIMEOUT_MS));
    let other = rules(|rule| rule.package.quantity = parts(500));
    account.decide(&Command::SetRules(Box::new(other)), 6).unwrap();
    assert_eq!((told(&mut account), order(&account, 1)), (vec![], &made));
}

#[test]
fn an_order_is_due_at_a_rule_that_is_written_or_enabled_below_the_trigger() {
    let mut account = account();
    account.decide(&Command::SetRules(Box::new(rules(|rule| rule.enabled = false))), 0).unwrap();
    assert_eq!(told(&mut account), []);
    account.decide(&Command::SetRules(Box::new(rules(|_| ()))), 1).unwrap();
    assert_eq!(told(&mut account), [requested(1)]);
}

#[test]
fn an_order_is_due_when_a_package_expires_is_frozen_or_is_released() {
    for change in [None, Some(PackageChange::Freeze), Some(PackageChange::Release)] {
        let mut account = account();
        account.decide(&Command::Grant(Box::new(Grant { expires_at_ms: Some(50), ..prepaid(1, 9) })), 0).unwrap();
        account.decide(&Command::SetRules(Box::new(rules(|_| ()))), 0).unwrap();
        assert_eq!(told(&mut account), []);
        let command = change.map_or(Command::Look, |change| Command::Change { package_id: package_id(1), change });
        account.decide(&command, 50).unwrap();
        assert_eq!(told(&mut account), [requested(1)]);
    }
}

#[test]
fn an_order_is_due_at_a_refusal_where_nothing_made_one_before() {
    let mut account = account();
    account.put_terms(Arc::new(Terms::default()));
    account.decide(&Command::Grant(Box::new(prepaid(1, 1))), 0).unwrap();
    account.decide(&Command::SetRules(Box::new(rules(|_| ()))), 0).unwrap();
    charge(&mut account, 1, 1);
    assert_eq!(told(&mut account), [], "nobody takes orders");
    account.put_terms(super::terms());
    assert!(matches!(account.decide(&admit(2, 1), 2), Err(Refusal::Exhausted { .. })));
    assert_eq!(told(&mut account), [requested(1)]);
}

#[test]
fn success_alone_credits_nothing_and_nothing_is_ordered_while_the_package_is_on_its_way() {
    let mut account = ordered(rules(|_| ()));
    account.decide(&conclude(1, Conclusion::Pending), 2).unwrap();
    account.decide(&conclude(1, Conclusion::Succeeded), 3).unwrap();
    assert_eq!((told(&mut account), account.balance(3).remaining), (vec![succeeded(1)], parts(0)));
    account.decide(&admit(2, 1), 4).unwrap_err();
    assert_eq!(account.watch().order_in_flight, Some(1));
    account.decide(&Command::Grant(Box::new(bought(2, 1))), 5).unwrap();
    assert_eq!((told(&mut account), account.watch().order_in_flight), (vec![], None));
    assert_eq!(order(&account, 1).package_number, Some(2));
}

#[test]
fn a_customer_does_not_wait_for_ever_for_a_package_that_was_bought() {
    let mut account = ordered(rules(|_| ()));
    account.decide(&conclude(1, Conclusion::Succeeded), 3).unwrap();
    told(&mut account);
    assert_eq!(account.watch().due_at_ms, Some(1 + TIMEOUT_MS));
    look(&mut account, 1 + TIMEOUT_MS);
    assert_eq!(told(&mut account), [requested(2)]);
    assert_eq!(order(&account, 1).state, OrderState::Succeeded);
}

#[test]
fn a_package_that_names_the_order_completes_it_and_repeats_credit_once() {
    let mut account = ordered(rules(|_| ()));
    let answer =
        |package| Command::ConcludeOrder { number: 1, conclusion: Conclusion::Succeeded, package: Some(Box::new(package)) };
    account.decide(&Command::Grant(Box::new(bought(2, 1))), 5).unwrap();
    assert_eq!(told(&mut account), [succeeded(1)]);
    for command in [Command::Grant(Box::new(bought(2, 1))), answer(bought(2, 1)), conclude(1, Conclusion::Succeeded)] {
        account.decide(&command, 6).unwrap();
        assert!(!account.has_changes(), "{command:?}");
    }
    for command in [Command::Grant(Box::new(bought(3, 1))), answer(bought(3, 1)), answer(Grant { priority: 5, ..bought(2, 1) })] {
        assert!(matches!(account.decide(&command, 7), Err(Refusal::Conflict(_))), "{command:?}");
    }
    assert_eq!(account.balance(7).remaining, parts(10));
}

#[test]
fn an_answer_with_its_package_is_one_step_and_a_wrong_package_refuses_all_of_it() {
    let mut account = ordered(rules(|_| ()));
    let answer =
        |number, package| Command::ConcludeOrder { number, conclusion: Conclusion::Succeeded, package: Some(Box::new(package)) };
    assert!(matches!(account.decide(&answer(1, prepaid(2, 10)), 2), Err(Refusal::Invalid(_))));
    let empty = Grant { quantity: parts(0), ..bought(2, 1) };
    assert!(matches!(account.decide(&answer(1, empty), 2), Err(Refusal::Invalid(_))));
    assert_eq!(account.decide(&answer(2, bought(2, 2)), 2), Err(Refusal::NotFound));
    assert!(!account.has_changes());
    let Ok(Outcome::Order(order)) = account.decide(&answer(1, bought(2, 1)), 3) else { panic!("refused") };
    assert_eq!((order.state, order.package_number, order.ended_at_ms), (OrderState::Succeeded, Some(2), Some(3)));
}

#[test]
fn an_order_that_stays_without_outcome_times_out_and_a_late_success_still_counts() {
    let mut account = ordered(rules(|_| ()));
    look(&mut account, TIMEOUT_MS);
    assert_eq!(told(&mut account), []);
    look(&mut account, 1 + TIMEOUT_MS);
    assert_eq!(told(&mut account), [failure(1, FailureReason::Timeout)]);
    // No tight loop: a second at least.
    assert_eq!(account.watch().due_at_ms, Some(1_001 + TIMEOUT_MS));
    look(&mut account, 1_001 + TIMEOUT_MS);
    assert_eq!(told(&mut account), [requested(2)]);
    account.decide(&conclude(1, Conclusion::Succeeded), 1_300).unwrap();
    assert_eq!((told(&mut account), account.watch().order_in_flight), (vec![succeeded(1)], Some(2)));
    account.decide(&Command::Grant(Box::new(bought(2, 1))), 1_301).unwrap();
    assert_eq!((told(&mut account), account.balance(1_301).remaining), (vec![], parts(10)));
    assert_eq!(account.watch().order_in_flight, Some(2));
}

#[test]
fn a_package_credits_an_order_whatever_it_had_failed_for() {
    for reason in [FailureReason::Timeout, FailureReason::HookFailed, FailureReason::SpecDelisted] {
        let mut account = ordered(rules(|_| ()));
        account.decide(&failed(1, reason), 2).unwrap();
        told(&mut account);
        account.decide(&Command::Grant(Box::new(bought(2, 1))), 3).unwrap();
        assert_eq!((told(&mut account), order(&account, 1).reason), (vec![succeeded(1)], None));
    }
}

#[test]
fn an_outcome_that_contradicts_an_outcome_is_a_conflict() {
    let mut account = ordered(rules(|_| ()));
    account.decide(&failed(1, FailureReason::PriceChanged), 2).unwrap();
    account.take_changes();
    account.decide(&failed(1, FailureReason::PriceChanged), 3).unwrap();
    account.decide(&conclude(1, Conclusion::Pending), 3).unwrap();
    assert!(!account.has_changes());
    for command in [failed(1, FailureReason::ZeroPrice), conclude(1, Conclusion::Succeeded)] {
        assert!(matches!(account.decide(&command, 4), Err(Refusal::Conflict(_))), "{command:?}");
    }
    let mut account = ordered(rules(|_| ()));
    account.decide(&conclude(1, Conclusion::Succeeded), 2).unwrap();
    assert!(matches!(account.decide(&failed(1, FailureReason::HookFailed), 3), Err(Refusal::Conflict(_))));
    assert_eq!(account.decide(&failed(2, FailureReason::HookFailed), 3), Err(Refusal::NotFound));
}

#[test]
fn a_failure_of_what_is_sold_suspends_the_rule_until_it_is_written_again() {
    for reason in
        [FailureReason::SpecDelisted, FailureReason::PriceChanged, FailureReason::PurchaseRestricted, FailureReason::ZeroPrice]
    {
        let mut account = ordered(rules(|_| ()));
        account.decide(&failed(1, reason), 2).unwrap();
        let suspended = (EventKind::RepurchaseSuspended, Some(1), Some(reason));
        assert_eq!(told(&mut account), [failure(1, reason), suspended]);
        assert_eq!((account.watch().suspended, account.watch().due_at_ms), (Some(reason), None));
        account.decide(&admit(2, 1), DAY_MS).unwrap_err();
        assert!(!account.has_changes());
        account.decide(&Command::SetRules(Box::new(rules(|_| ()))), DAY_MS).unwrap();
        assert_eq!(told(&mut account), [requested(2)]);
    }
}

#[test]
fn the_failure_of_an_order_does_not_suspend_a_rule_that_buys_something_else_by_now() {
    let mut account = ordered(rules(|_| ()));
    let other = rules(|rule| rule.package.price = parts(4));
    account.decide(&Command::SetRules(Box::new(other)), 2).unwrap();
    account.decide(&failed(1, FailureReason::PriceChanged), 3).unwrap();
    assert_eq!(told(&mut account), [failure(1, FailureReason::PriceChanged)]);
    look(&mut account, 1_003);
    assert_eq!((told(&mut account), order(&account, 2).purchase.price), (vec![requested(2)], parts(4)));
}

#[test]
fn failures_in_a_row_make_the_next_order_wait_twice_as_long_up_to_an_hour() {
    let mut account = ordered(rules(|_| ()));
    let mut now_ms = 1;
    for (number, wait_ms) in (1..).zip([1_000, 2_000, 4_000, 8_000, 16_000]) {
        account.decide(&failed(number, FailureReason::HookFailed), now_ms).unwrap();
        assert_eq!(account.watch().due_at_ms, Some(now_ms + wait_ms));
        now_ms += wait_ms;
        look(&mut account, now_ms);
    }
    for number in 6..80 {
        account.decide(&failed(number, FailureReason::HookFailed), now_ms).unwrap();
        now_ms = account.watch().due_at_ms.unwrap();
        look(&mut account, now_ms);
    }
    account.decide(&failed(80, FailureReason::HookFailed), now_ms).unwrap();
    assert_eq!(account.watch().due_at_ms, Some(now_ms + 3_600_000));
    // Written again, the rule does not wait for what failed.
    account.decide(&Command::SetRules(Box::new(rules(|_| ()))), now_ms + 1).unwrap();
    assert_eq!(account.watch().order_in_flight, Some(81));
}

#[test]
fn the_cooldown_goes_from_the_end_of_an_order_and_outlives_a_rule_written_again() {
    let cool = || rules(|rule| (rule.cooldown_ms, rule.trigger) = (5_000, Threshold::Remaining(parts(10))));
    let mut account = ordered(cool());
    account.decide(&Command::Grant(Box::new(bought(2, 1))), 100).unwrap();
    told(&mut account);
    assert_eq!(account.watch().due_at_ms, Some(5_100));
    account.decide(&Command::SetRules(Box::new(cool())), 200).unwrap();
    look(&mut account, 5_099);
    assert_eq!(told(&mut account), []);
    look(&mut account, 5_100);
    assert_eq!(told(&mut account), [requested(2)]);
}

/// Buys, at `now_ms`, what is due; the package is used up at once.
fn buy_and_use_up(account: &mut Account, number: u32, now_ms: i64) {
    let package = u8::try_from(number + 1).unwrap();
    account.decide(&Command::Grant(Box::new(bought(package, number))), now_ms).unwrap();
    account.decide(&admit(package + 100, 10), now_ms).unwrap();
    account.decide(&settle(package + 100, 1, 10), now_ms).unwrap();
}

#[test]
fn a_cap_by_count_is_told_of_once_a_period_and_leaves_room_when_the_period_has_rolled_on() {
    let mut account = ordered(rules(|rule| rule.cap.count = 2));
    buy_and_use_up(&mut account, 1, 100);
    assert_eq!(told(&mut account), [succeeded(1), requested(2)]);
    buy_and_use_up(&mut account, 2, 200);
    assert_eq!(told(&mut account), [succeeded(2), CAP_TOLD]);
    account.decide(&admit(9, 1), 300).unwrap_err();
    assert!(!account.has_changes());
    assert_eq!(account.watch().due_at_ms, Some(1 + DAY_MS));
    look(&mut account, DAY_MS);
    assert_eq!(told(&mut account), []);
    look(&mut account, 1 + DAY_MS);
    assert_eq!(told(&mut account), [requested(3)]);
    // The second one is in the period for a while: told anew, because an order was made since.
    buy_and_use_up(&mut account, 3, 50 + DAY_MS);
    assert_eq!(told(&mut account), [succeeded(3), CAP_TOLD]);
    assert_eq!(account.watch().due_at_ms, Some(100 + DAY_MS));
}

#[test]
fn a_cap_by_spend_counts_money_and_one_that_never_fits_is_told_of_again_each_period() {
    let mut account = ordered(rules(|rule| rule.cap.spend = Some(parts(5))));
    buy_and_use_up(&mut account, 1, 100);
    assert_eq!(told(&mut account), [succeeded(1), CAP_TOLD], "3 of 5 are spent, 3 more do not fit");
    look(&mut account, 1 + DAY_MS);
    assert_eq!(told(&mut account), [requested(2)]);

    let mut account = super::account();
    account.decide(&Command::SetRules(Box::new(rules(|rule| rule.cap.spend = Some(parts(2))))), 0).unwrap();
    assert_eq!((told(&mut account), account.watch().due_at_ms), (vec![CAP_TOLD], Some(DAY_MS)));
    account.decide(&Command::SetRules(Box::new(rules(|rule| rule.cap.spend = Some(parts(2))))), 5).unwrap();
    assert_eq!(told(&mut account), [], "the same rule again says the same");
    look(&mut account, DAY_MS);
    assert_eq!((told(&mut account), account.watch().due_at_ms), (vec![CAP_TOLD], Some(2 * DAY_MS)));
}

#[test]
fn an_order_that_timed_out_counts_against_the_cap_and_one_that_failed_does_not() {
    let mut account = ordered(rules(|rule| rule.cap.count = 1));
    account.decide(&failed(1, FailureReason::HookFailed), 2).unwrap();
    look(&mut account, 1_002);
    assert_eq!(told(&mut account), [failure(1, FailureReason::HookFailed), requested(2)]);
    look(&mut account, 1_002 + TIMEOUT_MS);
    look(&mut account, 10_000);
    assert_eq!(told(&mut account), [failure(2, FailureReason::Timeout), CAP_TOLD]);
    // The first one was bought after all: it counts again.
    account.decide(&conclude(1, Conclusion::Succeeded), 10_001).unwrap();
    assert_eq!(account.watch().counted.len(), 2);
}

#[test]
fn a_longer_period_remembers_what_a_shorter_one_had_forgotten() {
    let mut account = ordered(rules(|rule| (rule.cap.count, rule.cap.period_ms) = (1, 1_000)));
    buy_and_use_up(&mut account, 1, 100);
    look(&mut account, 2_000);
    buy_and_use_up(&mut account, 2, 2_100);
    told(&mut account);
    account.decide(&Command::SetRules(Box::new(rules(|rule| rule.cap.count = 2))), 2_500).unwrap();
    assert_eq!(told(&mut account), [CAP_TOLD]);
}

#[test]
fn rules_that_make_no_sense_are_refused_and_change_nothing() {
    let mut account = ordered(rules(|_| ()));
    let odd = [
        rules(|rule| rule.cap.period_ms = 0),
        rules(|rule| rule.cap.count = 1_001),
        rules(|rule| rule.cooldown_ms = -1),
        rules(|rule| rule.package.quantity = parts(0)),
        rules(|rule| rule.trigger = Threshold::Percent(parts(0))),
        Rules { alerts: Some(vec![Threshold::Percent(parts(1_000_001))]), repurchase: None },
        Rules { alerts: Some(vec![LEVEL; 21]), repurchase: None },
    ];
    for rules in odd {
        let refused = account.decide(&Command::SetRules(Box::new(rules.clone())), 2);
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{rules:?}");
        assert!(!account.has_changes());
    }
}

#[test]
fn a_rule_that_is_taken_away_leaves_the_order_in_flight_to_its_end() {
    let mut account = ordered(rules(|_| ()));
    account.decide(&Command::SetRules(Box::default()), 2).unwrap();
    account.decide(&Command::Grant(Box::new(bought(2, 1))), 3).unwrap();
    assert_eq!((told(&mut account), account.watch().order_in_flight), (vec![succeeded(1)], None));
    assert_eq!(account.watch().due_at_ms, None);
}
