//! Two instances that write the same accounts in turn: neither loads them anew for the other's calls, and neither is misled by what it remembers.

use proptest::prelude::*;

use super::{admit, assert_part_of, block_on, claim, grant, key, load_whole, probe, settle, submit, submit_together, two_books};
use crate::book::{Book, LedgerError};
use crate::ids::{CorrectionId, PackageId, RequestId};
use crate::ledger::{Admission, Claim, Command, Fingerprint, Outcome, Refusal, Settlement};
use crate::quantity::{Delta, Quantity};
use crate::store::testing::Sqlite;
use crate::store::{Database as _, LoadRequest, Value, fold, load, reports};

/// Each is too late once and looks first from then on, under the lock: the lock, what the others did, the commit, and the end of it.
fn two_contending_books() -> (tempfile::TempDir, Book<Sqlite>, Book<Sqlite>) {
    let (folder, first, second) = two_books();
    grant(&first, "c", "p", "1000");
    for number in 0..3 {
        submit(&first, "c", admit(&format!("first-{number}")));
        submit(&second, "c", admit(&format!("second-{number}")));
    }
    (folder, first, second)
}

fn executed(book: &Book<Sqlite>, work: impl FnOnce()) -> usize {
    let before = book.database().executed();
    work();
    book.database().executed() - before
}

#[test]
fn what_others_held_and_charged_is_followed_and_not_loaded() {
    let (_folder, first, second) = two_contending_books();
    submit(&second, "c", admit("a"));
    submit(&second, "c", settle("a"));
    let statements = executed(&first, || {
        let reply = submit(&first, "c", admit("b"));
        assert_eq!((reply.balance.used, reply.balance.held), (Quantity::ONE, "7".parse().unwrap()));
    });
    assert_eq!(statements, 4);
}

#[test]
fn an_account_of_many_packages_is_followed_alike() {
    let (_folder, first, second) = two_contending_books();
    for number in 0..40 {
        grant(&first, "c", &format!("q{number}"), "1");
    }
    for number in 3..5 {
        submit(&second, "c", admit(&format!("second-{number}")));
        submit(&first, "c", admit(&format!("first-{number}")));
    }
    submit(&second, "c", admit("a"));
    let statements = executed(&first, || assert_eq!(submit(&first, "c", admit("b")).balance.held, "12".parse().unwrap()));
    assert_eq!(statements, 4);
}

#[test]
fn who_is_left_alone_looks_no_more() {
    let (_folder, first, _second) = two_contending_books();
    let statements: Vec<usize> =
        (0..20).map(|number| executed(&first, || drop(submit(&first, "c", admit(&format!("alone-{number}")))))).collect();
    assert_eq!((statements[0], statements[18]), (4, 1), "{statements:?}");
}

#[test]
fn a_call_that_another_instance_has_settled_is_charged_once() {
    let (_folder, first, second) = two_contending_books();
    submit(&first, "c", admit("a"));
    assert_eq!(submit(&second, "c", settle("a")).result, Ok(Outcome::Settled { charge: Quantity::ONE }));
    let again = submit(&first, "c", settle("a"));
    assert_eq!(again.result, Ok(Outcome::AlreadyEnded { charge: Quantity::ONE }));
    assert_eq!(again.balance.used, Quantity::ONE);
}

#[test]
fn a_call_that_another_instance_has_ended_is_neither_settled_below_its_hold_nor_renewed() {
    for command in [settle_at("a", "0.5"), renew("a")] {
        let (_folder, first, second) = two_contending_books();
        submit(&first, "c", admit("a"));
        submit(&second, "c", settle("a"));
        let reply = submit(&first, "c", command.clone());
        assert_eq!(reply.result, Ok(Outcome::AlreadyEnded { charge: Quantity::ONE }), "{command:?}");
        assert_eq!((reply.balance.used, reply.balance.held), (Quantity::ONE, "6".parse().unwrap()), "{command:?}");
    }
}

#[test]
fn a_call_that_is_folded_is_as_new_to_an_instance_that_remembers_it() {
    let (_folder, first, second) = two_contending_books();
    for number in 0..3 {
        submit(&first, "c", settle(&format!("first-{number}")));
        submit(&second, "c", settle(&format!("second-{number}")));
    }
    // A refusal writes nothing, so the call that was put in for it stays.
    let other = Command::Admit(Claim { fingerprint: Fingerprint::of("POST", "/", None), ..claim("first-0") });
    assert_eq!(submit(&first, "c", other).result, Err(Refusal::Reused));
    assert!(fold(second.database(), 1_000_000, 1, 100).unwrap().folded > 0);
    assert!(matches!(submit(&first, "c", admit("first-0")).admission(), Some(Admission::Held { .. })));
}

#[test]
fn holds_and_charges_of_one_account_are_one_statement() {
    let (_folder, first, second) = two_books();
    grant(&first, "c", "p", "10");
    submit(&first, "c", admit("a"));
    let statements = executed(&first, || {
        submit_together(&first, vec![(key("c"), settle("a")), (key("c"), admit("b"))]);
    });
    assert_eq!(statements, 1);
    assert_balanced(&first);
    let balance = submit(&second, "c", probe("unknown")).balance;
    assert_eq!((balance.used, balance.held), (Quantity::ONE, Quantity::ONE));
}

#[test]
fn more_than_counters_that_another_instance_changed_is_loaded() {
    let (_folder, first, second) = two_contending_books();
    grant(&second, "c", "q", "5");
    assert_eq!(submit(&first, "c", admit("a")).balance.granted, "1005".parse().unwrap());
}

#[test]
fn an_id_that_another_instance_claimed_is_refused() {
    let (_folder, first, second) = two_contending_books();
    submit(&second, "c", admit("same"));
    assert_eq!(submit(&first, "c", admit("same")).result, Err(Refusal::InFlight));
}

#[test]
fn who_is_further_behind_than_the_log_goes_back_is_refused_and_forgets() {
    for is_trusting in [true, false] {
        let (_folder, first, second) = two_contending_books();
        grant(&first, "d", "q", "10");
        submit(&first, "c", admit("a"));
        for number in 0..20 {
            submit(&second, "c", admit(&format!("b{number}")));
        }
        submit(&second, "d", admit("last"));
        let tables = second.tables().unwrap();
        tables.execute("DELETE FROM steps WHERE position < (SELECT applied FROM log)", &[]).unwrap();
        for _ in 0..if is_trusting { 20 } else { 0 } {
            first.contention.looked(false);
        }
        let held = submit(&first, "c", admit("next")).balance.held;
        assert_eq!(held, "28".parse().unwrap());
        assert_eq!(submit(&second, "c", settle("b0")).balance.held, "27".parse().unwrap());
        assert_nothing_is_misremembered(&first);
        assert_balanced(&second);
    }
}

#[test]
fn an_account_whose_row_was_altered_fails_alone() {
    for altered in
        ["UPDATE packages SET granted = 30000 WHERE account_id = 1", "UPDATE accounts SET entry_count = 2 WHERE account_id = 1"]
    {
        let (_folder, first, second) = two_books();
        grant(&first, "c", "p", "10");
        grant(&first, "d", "q", "10");
        for number in 0..5 {
            submit(&first, "c", admit(&format!("r{number}")));
        }
        first.tables().unwrap().execute(altered, &[]).unwrap();
        let settled = block_on(second.submit(&key("c"), settle("r0"), 10));
        assert!(matches!(settled, Err(LedgerError::Corrupt(_))), "{settled:?}");
        assert!(submit(&second, "d", admit("sound")).admission().is_some());
        assert_eq!(submit(&first, "d", settle("sound")).balance.used, Quantity::ONE);
    }
}

#[test]
fn what_was_applied_in_vain_is_not_taken_for_applied() {
    let (_folder, first, _second) = two_books();
    for (customer, package, request_id) in [("d", "q", "old"), ("c", "p", "x")] {
        grant(&first, customer, package, "10");
        submit(&first, customer, admit(request_id));
        submit(&first, customer, settle(request_id));
    }
    // Has the tables follow.
    assert_eq!(submit(&first, "c", admit("x")).admission(), Some(&Admission::Replay));
    submit(&first, "c", admit("recent"));
    submit(&first, "c", settle("recent"));
    // One needs the tables to follow, and the other then has the whole transaction refused.
    let replies = submit_together(&first, vec![(key("c"), admit("recent")), (key("d"), admit("old"))]);
    for reply in replies {
        assert_eq!(reply.admission(), Some(&Admission::Replay));
    }
    assert_balanced(&first);
}

#[test]
fn a_log_that_cannot_be_applied_stops_the_ledger_and_loses_nothing() {
    let (_folder, first, second) = two_books();
    grant(&first, "c", "p", "100");
    grant(&first, "d", "q", "100");
    submit(&first, "d", admit("held"));
    submit(&second, "d", probe("warm"));
    // Nobody but a hand could have written it.
    first.tables().unwrap().execute("INSERT INTO entries VALUES (1, 9, 4, 1, 1, 'x', NULL, 1)", &[]).unwrap();
    let admitted = |customer: &str, number: usize| block_on(first.submit(&key(customer), admit(&format!("r{number}")), 10));
    assert!((0..12).any(|number| admitted("c", number).is_err()));
    // The others go on for as long as the log may grow.
    assert!((0..12).any(|number| matches!(admitted("d", number), Err(LedgerError::Unavailable(_)))));
    first.defer(&key("d"), settle("held"), 2).unwrap();
    assert!(first.flush_deferred(20).is_err());
    assert_eq!(first.deferred_count(), 1);
    first.database().execute("DELETE FROM entries WHERE request_id = 'x'", &[]).unwrap();
    first.flush_deferred(20).unwrap();
    assert_eq!(submit(&second, "d", admit("next")).balance.used, Quantity::ONE);
    assert_balanced(&second);
}

#[test]
fn a_settle_that_finds_the_log_cannot_be_applied_waits_until_it_can() {
    let (_folder, first, second) = two_books();
    grant(&first, "c", "p", "100");
    grant(&first, "d", "q", "1");
    submit(&first, "d", admit("held"));
    first.tables().unwrap().execute("INSERT INTO entries VALUES (1, 2, 4, 1, 1, 'x', NULL, 1)", &[]).unwrap();
    submit(&first, "c", admit("contradicted"));
    // It tells of the package's end, so it is more than steps.
    first.defer(&key("d"), settle("held"), 2).unwrap();
    assert!(first.flush_deferred(20).is_err());
    assert_eq!(first.deferred_count(), 1);
    first.database().execute("DELETE FROM entries WHERE request_id = 'x'", &[]).unwrap();
    first.flush_deferred(20).unwrap();
    assert_eq!(submit(&second, "d", probe("next")).balance.used, Quantity::ONE);
    assert_balanced(&second);
}

#[test]
fn who_asks_whether_the_ledger_can_be_written_writes_it_once_a_second() {
    let (_folder, first, _second) = two_books();
    let statements = |now_ms: i64| executed(&first, || first.check_writable(now_ms).unwrap());
    assert!(statements(5_000) > 0);
    assert_eq!(statements(5_999), 0);
    assert!(statements(6_000) > 0);
    // A clock that was set back vouches for nothing.
    assert!(statements(1_000) > 0);
    first.database().execute("PRAGMA query_only = ON", &[]).unwrap();
    assert!(first.check_writable(1_999).is_ok());
    assert!(first.check_writable(2_000).is_err());
    first.database().execute("PRAGMA query_only = OFF", &[]).unwrap();
    assert!(statements(2_001) > 0);
}

#[test]
fn a_refusal_that_writes_nothing_takes_no_lock() {
    let (_folder, first, second) = two_books();
    grant(&first, "c", "p", "1");
    submit(&first, "c", admit("a"));
    assert!(matches!(submit(&first, "c", admit("b")).result, Err(Refusal::Exhausted { .. })));
    let refused = second.database().transaction(|| Ok(submit(&first, "c", admit("d")).result)).unwrap();
    assert!(matches!(refused, Err(Refusal::Exhausted { .. })));
}

#[test]
fn an_account_is_loaded_with_the_steps_that_are_not_applied() {
    let (_folder, first, second) = two_books();
    grant(&first, "c", "p", "3");
    submit(&first, "c", admit("a"));
    submit(&first, "c", settle("a"));
    submit(&first, "c", admit("b"));
    let unapplied = "SELECT count(*) FROM steps CROSS JOIN log WHERE position > applied AND kind > 0";
    assert_eq!(second.database().execute(unapplied, &[]).unwrap(), [[Value::Integer(3)]]);
    let balance = submit(&second, "c", admit("d")).balance;
    assert_eq!((balance.used, balance.held), (Quantity::ONE, "2".parse().unwrap()));
    assert_eq!(second.database().execute(unapplied, &[]).unwrap(), [[Value::Integer(4)]]);
    assert!(matches!(submit(&second, "c", admit("e")).result, Err(Refusal::Exhausted { .. })));
    assert_eq!(submit(&second, "c", admit("a")).admission(), Some(&Admission::Replay));
}

fn settle_at(request_id: &str, charge: &str) -> Command {
    let charge = charge.parse().unwrap();
    let request_id = RequestId::new(request_id).unwrap();
    Command::Settle(Settlement { request_id, attempt: 1, charge, status: Some(200), usage_missing: false })
}

fn refund(request_id: &str) -> Command {
    let (request_id, refund_id) = (RequestId::new(request_id).unwrap(), CorrectionId::new("refund").unwrap());
    Command::Refund { request_id, refund_id, quantity: None, reason: "test".into() }
}

fn renew(request_id: &str) -> Command {
    Command::Renew { request_id: RequestId::new(request_id).unwrap(), attempt: 1, lease_ends_ms: 60_000 }
}

fn assert_balanced(book: &Book<Sqlite>) {
    let (accounts, _) = reports::audited_accounts(book.tables().unwrap(), None, "", 10).unwrap();
    for account in accounts {
        assert_eq!(reports::audit(book.tables().unwrap(), &account).unwrap().differences, []);
    }
}

/// How many request ids the steps name.
const CALLS: usize = 12;

#[derive(Clone, Copy, Debug)]
enum Step {
    Admit(usize),
    Settle(usize),
    SettleBelow(usize),
    Renew(usize),
    SettleLater(usize),
    Lose(usize),
    Grant(usize),
    Adjust(usize),
    Refund(usize),
    Flush,
    Compare,
    Fold,
    Batch(usize),
}

fn steps() -> impl Strategy<Value = Vec<(bool, bool, Step)>> {
    let call = 0..CALLS;
    let step = prop_oneof![
        6 => call.clone().prop_map(Step::Admit),
        4 => call.clone().prop_map(Step::Settle),
        2 => call.clone().prop_map(Step::SettleBelow),
        1 => call.clone().prop_map(Step::Renew),
        2 => call.clone().prop_map(Step::SettleLater),
        1 => call.clone().prop_map(Step::Lose),
        2 => (0..6_usize).prop_map(Step::Grant),
        1 => call.clone().prop_map(Step::Adjust),
        1 => call.clone().prop_map(Step::Refund),
        1 => Just(Step::Flush),
        1 => Just(Step::Compare),
        1 => Just(Step::Fold),
        3 => call.prop_map(Step::Batch),
    ];
    proptest::collection::vec((any::<bool>(), any::<bool>(), step), 1..120)
}

fn take(book: &Book<Sqlite>, customer: &str, step: Step) {
    match step {
        Step::Admit(call) => drop(submit(book, customer, admit(&format!("r{call}")))),
        Step::Settle(call) => drop(submit(book, customer, settle(&format!("r{call}")))),
        Step::SettleBelow(call) => drop(submit(book, customer, settle_at(&format!("r{call}"), "0.5"))),
        Step::Renew(call) => drop(submit(book, customer, renew(&format!("r{call}")))),
        Step::SettleLater(call) => book.defer(&key(customer), settle(&format!("r{call}")), 2).unwrap(),
        Step::Lose(call) => {
            let request_id = RequestId::new(&format!("r{call}")).unwrap();
            drop(submit(book, customer, Command::LoseHold { request_id, charge: true }));
        }
        Step::Grant(package) => drop(grant(book, customer, &format!("{customer}-{package}"), "2")),
        Step::Adjust(number) => {
            let adjust = Command::Adjust {
                package_id: PackageId::new(&format!("{customer}-0")).unwrap(),
                adjustment_id: CorrectionId::new(&format!("a{number}")).unwrap(),
                quantity: Delta::from_parts(10_000).unwrap(),
                reason: "test".into(),
            };
            drop(submit(book, customer, adjust));
        }
        Step::Refund(call) => drop(submit(book, customer, refund(&format!("r{call}")))),
        Step::Flush => book.flush_deferred(20).unwrap(),
        Step::Compare => assert_nothing_is_misremembered(book),
        Step::Batch(call) => {
            let name = |number: usize| format!("r{}", (call + number) % CALLS);
            let commands = (0..4).map(|number| (key(if number % 2 == 0 { "c" } else { "d" }), number));
            let commands = commands.map(|(key, number)| (key, if number < 3 { admit(&name(number)) } else { settle(&name(5)) }));
            drop(submit_together(book, commands.collect()));
        }
        // What has ended by now.
        Step::Fold => drop(fold(book.database(), 12, 1, 3).unwrap()),
    }
}

/// What an instance remembers once it has followed the log is what is stored.
fn assert_nothing_is_misremembered(book: &Book<Sqlite>) {
    let mut accounts = book.accounts.borrow_mut();
    book.follow(&mut accounts).unwrap();
    for remembered in accounts.values() {
        assert_part_of(&remembered.account, &load_whole(book.tables().unwrap(), &remembered.key));
        let mut request = LoadRequest::new(remembered.key.clone());
        request.request_ids = (0..CALLS).map(|call| RequestId::new(&format!("r{call}")).unwrap()).collect();
        let stored = load(book.tables().unwrap(), std::slice::from_ref(&request), 0).unwrap().remove(0);
        assert!(!remembered.account.has_changes());
        assert_eq!(remembered.account.entry_count(), stored.account.entry_count());
        for request_id in &request.request_ids {
            let call = remembered.account.call(request_id);
            assert!(call.is_none() || call == stored.account.call(request_id), "{call:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_two_instances_do_in_turn_nothing_is_misremembered_and_the_audit_balances(steps in steps()) {
        let (_folder, first, second) = two_books();
        grant(&first, "c", "c-0", "6");
        grant(&second, "d", "d-0", "6");
        for (is_first, is_c, step) in steps {
            take(if is_first { &first } else { &second }, if is_c { "c" } else { "d" }, step);
        }
        assert_nothing_is_misremembered(&first);
        assert_nothing_is_misremembered(&second);
        assert_balanced(&first);
    }
}
