//! The properties: rules over random command sequences.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::commands::{decided, sequence, usage_terms};
use super::rows::Rows;
use super::watched::Watched;
use super::{admit, assert_same, package_numbered, parts, prepaid, reference, request_id, terms};
use crate::ledger::{
    Account, Archive, CallState, Command, EntryKind, EventDetail, Package, PackageKind, Refusal, Settlement, Standing,
};
use crate::quantity::Quantity;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 4_000, ..ProptestConfig::default() }
}

/// A settle on time, or after its hold was lost; the account afterwards.
fn settled_account(mut account: Account, settle: &Command, lost: Option<&Command>, now_ms: i64) -> Account {
    if let Some(lost) = lost {
        account.decide(lost, now_ms).unwrap();
    }
    account.decide(settle, now_ms).unwrap();
    account
}

proptest! {
    #![proptest_config(config(150))]

    /// The rules themselves are in [`Watched`]: balances are sums of entries, nothing is negative, holds fit, burn-down and refusals are the
    /// reference's, refusals and repeats change nothing, and a call is charged once.
    #[test]
    fn every_rule_holds_after_every_command(usage in usage_terms(), steps in sequence()) {
        let mut watched = Watched::run(usage, &steps);
        watched.check_late_repeats();
        watched.check_credits();
    }

    #[test]
    fn batching_and_reloading_change_no_answer_and_no_row(usage in usage_terms(), steps in sequence(), sizes in prop::collection::vec(1..40_usize, 1..10)) {
        let (_, _, history) = decided(usage, &steps);
        let answers: Vec<_> = history.iter().map(|(_, _, answer)| answer.clone()).collect();
        let (one_by_one, answers_one_by_one) = Rows::in_batches(usage, &history, &[1]);
        prop_assert_eq!(&answers_one_by_one, &answers);
        let runs = [Rows::in_batches(usage, &history, &[usize::MAX]), Rows::in_batches(usage, &history, &sizes), Rows::reloading(usage, &history)];
        for (rows, answers_then) in runs {
            prop_assert_eq!(&answers_then, &answers);
            prop_assert_eq!(&rows, &one_by_one);
        }
    }

    #[test]
    fn a_settle_after_a_lost_hold_ends_where_a_timely_one_would_have(usage in usage_terms(), steps in sequence(), charge in 0..20_i64, charge_lost in any::<bool>()) {
        let (mut account, now_ms, _) = decided(usage, &steps);
        // At least one call is held, whatever the sequence left to be paid.
        account.put_terms(terms());
        account.decide(&Command::Grant(Box::new(prepaid(200, 5))), now_ms).unwrap();
        account.decide(&admit(200, 5), now_ms).unwrap();
        for call in account.calls().filter(|call| call.state == CallState::Held) {
            let now_ms = now_ms.max(call.lease_ends_ms);
            let settle = Command::Settle(Settlement {
                request_id: call.request_id.clone(),
                attempt: call.attempt,
                charge: parts(charge),
                status: Some(200),
                usage_missing: true,
            });
            let lose = Command::LoseHold { request_id: call.request_id.clone(), charge: charge_lost };
            let timely = settled_account(account.clone(), &settle, None, now_ms);
            let late = settled_account(account.clone(), &settle, Some(&lose), now_ms);
            prop_assert_eq!(timely.packages(), late.packages());
            prop_assert_eq!(timely.overrun(), late.overrun());
            let mut expected = timely.call(&call.request_id).unwrap().clone();
            expected.lost = true;
            prop_assert_eq!(Some(&expected), late.call(&call.request_id));
        }
    }

    #[test]
    fn of_many_one_unit_calls_exactly_as_many_as_there_are_units_are_admitted(
        quantities in prop::collection::vec(1..20_i64, 1..6),
        calls in 0..80_u8,
    ) {
        let mut account = Account::default();
        for (package, quantity) in (0..).zip(&quantities) {
            account.decide(&Command::Grant(Box::new(prepaid(package, *quantity))), 0).unwrap();
        }
        let units: i64 = quantities.iter().sum();
        let answers: Vec<_> = (0..calls).map(|call| account.decide(&admit(call, 1), 1)).collect();
        let admitted = answers.iter().filter(|answer| answer.is_ok()).count();
        prop_assert_eq!(i64::try_from(admitted).unwrap(), units.min(i64::from(calls)));
        let exhausted = Refusal::Exhausted { needed: parts(1), available: Quantity::ZERO };
        prop_assert!(answers.iter().skip(admitted).all(|answer| *answer == Err(exhausted.clone())));
        prop_assert_eq!(account.balance(1).held.parts(), units.min(i64::from(calls)));
    }

    #[test]
    fn the_refusal_is_the_first_in_the_contracts_order(packages in prop::collection::vec(any_package(), 0..4), hold in 1..6_i64) {
        let packages: Vec<Package> = (1..).zip(packages).map(|(number, package)| Package { number, ..package }).collect();
        let (_, uncovered) = reference::take(&packages, parts(hold), 50);
        prop_assume!(uncovered > Quantity::ZERO);
        let expected = Err(reference::refusal(&packages, parts(hold), 50));
        let mut account = Account::load(packages, Archive::default(), Quantity::ZERO, 0);
        account.decide(&Command::Look, 50).unwrap();
        account.take_changes();
        let before = account.clone();
        prop_assert_eq!(account.decide(&Command::Probe { request_id: request_id(200), hold: parts(hold) }, 50), expected.clone());
        prop_assert_eq!(account.decide(&admit(0, hold), 50), expected);
        assert_same(&before, &account, "refused");
        prop_assert!(account.call(&request_id(0)).is_none() && !account.has_changes());
    }
}

/// A package in any standing, before, in or after its time at 50 ms, with little left.
fn any_package() -> impl Strategy<Value = Package> {
    let standing = prop_oneof![Just(Standing::Open), Just(Standing::Frozen), Just(Standing::Released)];
    let expires_at_ms = prop_oneof![Just(None), Just(Some(49)), Just(Some(50)), Just(Some(51))];
    (standing, 49..=51_i64, expires_at_ms, 0..=4_i64, 0..3_i64).prop_map(|(standing, starts_at_ms, expires_at_ms, used, held)| {
        let mut package = {
            let mut account = Account::default();
            account.decide(&Command::Grant(Box::new(prepaid(0, 1))), 0).unwrap();
            package_numbered(&account, 1).clone()
        };
        (package.standing, package.starts_at_ms, package.expires_at_ms) = (standing, starts_at_ms, expires_at_ms);
        (package.kind, package.granted, package.used, package.held) =
            (PackageKind::Prepaid, parts(4), parts(used), parts(held.min(4 - used)));
        package
    })
}

/// The properties above say nothing about what no sequence reaches.
#[test]
fn the_sequences_reach_every_kind_of_entry_and_event_every_refusal_and_every_failure() {
    let mut runner = TestRunner::deterministic();
    let mut kinds = BTreeSet::new();
    let mut answers = BTreeSet::new();
    let mut events = BTreeSet::new();
    let mut reasons = BTreeSet::new();
    for _ in 0..60 {
        let (usage, steps) = (usage_terms(), sequence()).new_tree(&mut runner).unwrap().current();
        let watched = Watched::run(usage, &steps);
        kinds.extend(watched.kinds().iter().copied());
        events.extend(watched.events.iter().map(|event| event.kind.as_str()));
        reasons.extend(watched.events.iter().filter_map(|event| match event.detail {
            EventDetail::Order { reason, .. } => reason.map(|reason| format!("{reason:?}")),
            _ => None,
        }));
        answers.extend(watched.history.iter().map(|(_, _, answer)| name_of(answer)));
    }
    assert_eq!(kinds, BTreeSet::from(EntryKind::ALL));
    let refusals =
        ["Exhausted", "Expired", "Frozen", "NoPackage", "InFlight", "Replayed", "Reused", "NotFound", "Conflict", "Invalid"];
    let outcomes = [
        "Admissible",
        "Admitted",
        "Renewed",
        "Settled",
        "AlreadyEnded",
        "Granted",
        "Package",
        "Call",
        "Looked",
        "RulesSet",
        "Order",
    ];
    let expected: BTreeSet<String> = refusals.iter().chain(&outcomes).map(ToString::to_string).collect();
    assert_eq!(answers, expected);
    assert_eq!(events.len(), 14, "{events:?}");
    assert_eq!(reasons.len(), 7, "{reasons:?}");
}

fn name_of<T: std::fmt::Debug, E: std::fmt::Debug>(answer: &Result<T, E>) -> String {
    let full = match answer {
        Ok(outcome) => format!("{outcome:?}"),
        Err(refusal) => format!("{refusal:?}"),
    };
    full.chars().take_while(char::is_ascii_alphanumeric).collect()
}
