//! The book over a real SQLite: two instances on one file, ids claimed elsewhere, refusals on what is no longer so.

mod archived;
mod contended;
mod watched;

use std::cell::Cell;
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::{Book, Reply};
use crate::ids::{AccountKey, CustomerId, PackageId, ProductId, RequestId};
use crate::ledger::{Account, Claim, Command, Fingerprint, Grant, Outcome, PackageKind, Refusal, Settlement};
use crate::quantity::Quantity;
use crate::store::testing::{Sqlite, file};
use crate::store::{Database, LoadRequest, StoreError, Value, create_account, load};

/// Runs a future whose only waits wake themselves.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

fn key(customer_id: &str) -> AccountKey {
    AccountKey { customer_id: CustomerId::new(customer_id).unwrap(), product_id: ProductId::new("translate").unwrap() }
}

fn grant(book: &Book<Sqlite>, customer_id: &str, package_id: &str, quantity: &str) -> Reply {
    create_account(book.database(), &key(customer_id), 1).unwrap();
    block_on(book.submit(&key(customer_id), package(package_id, quantity), 1)).unwrap()
}

fn package(package_id: &str, quantity: &str) -> Command {
    Command::Grant(Box::new(Grant {
        package_id: PackageId::new(package_id).unwrap(),
        kind: PackageKind::Prepaid,
        quantity: quantity.parse().unwrap(),
        starts_at_ms: None,
        expires_at_ms: None,
        priority: 0,
        order_id: None,
        repurchase: None,
    }))
}

fn claim(request_id: &str) -> Claim {
    Claim {
        request_id: RequestId::new(request_id).unwrap(),
        fingerprint: Fingerprint::of("GET", "/", None),
        hold: Quantity::ONE,
        lease_ends_ms: 30_000,
        replay_limit: 1,
        idempotency_key: None,
    }
}

fn admit(request_id: &str) -> Command {
    Command::Admit(claim(request_id))
}

fn probe(request_id: &str) -> Command {
    Command::Probe { request_id: RequestId::new(request_id).unwrap(), hold: Quantity::ONE }
}

fn settle(request_id: &str) -> Command {
    Command::Settle(Settlement {
        request_id: RequestId::new(request_id).unwrap(),
        attempt: 1,
        charge: Quantity::ONE,
        status: Some(200),
        usage_missing: false,
    })
}

fn submit(book: &Book<Sqlite>, customer_id: &str, command: Command) -> Reply {
    block_on(book.submit(&key(customer_id), command, 10)).unwrap()
}

/// Submits commands that all wait before any is decided.
fn submit_together(book: &Book<Sqlite>, commands: Vec<(AccountKey, Command)>) -> Vec<Reply> {
    let mut context = Context::from_waker(Waker::noop());
    let mut calls: Vec<_> = commands.iter().map(|(key, command)| Box::pin(book.submit(key, command.clone(), 10))).collect();
    for call in &mut calls {
        assert!(call.as_mut().poll(&mut context).is_pending());
    }
    calls.into_iter().map(|call| block_on(call).unwrap()).collect()
}

fn two_books() -> (tempfile::TempDir, Book<Sqlite>, Book<Sqlite>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let books = (Book::new(file(&path), HashMap::new()), Book::new(file(&path), HashMap::new()));
    (folder, books.0, books.1)
}

/// Everything of an account, archived or not.
fn load_whole(database: &impl Database, key: &AccountKey) -> Account {
    let rows = database.execute("SELECT package_id FROM packages", &[]).unwrap();
    let package_ids = rows.iter().map(|row| PackageId::new(row[0].text().unwrap()).unwrap()).collect();
    load(database, &[LoadRequest { package_ids, ..LoadRequest::new(key.clone()) }], 0).unwrap().remove(0).account
}

/// What an instance remembers is a part of the whole account, and is worth as much.
fn assert_part_of(remembered: &Account, whole: &Account) {
    for package in remembered.packages() {
        assert_eq!(Some(package), whole.package(package.number));
    }
    for now_ms in [1, 30_000, 1_000_000] {
        assert_eq!(remembered.balance(now_ms), whole.balance(now_ms), "{now_ms}");
    }
}

#[test]
fn two_instances_never_admit_more_than_there_is() {
    let (_folder, first, second) = two_books();
    grant(&first, "c", "p", "10");
    let admitted = (0..30)
        .map(|number| submit(if number % 3 == 0 { &first } else { &second }, "c", admit(&format!("r{number}"))))
        .filter(|reply| reply.admission().is_some())
        .count();
    assert_eq!(admitted, 10);
}

#[test]
fn an_id_claimed_by_one_instance_is_refused_by_the_other() {
    let (_folder, first, second) = two_books();
    grant(&first, "c", "p", "10");
    submit(&second, "c", admit("warm"));
    assert!(submit(&first, "c", admit("same")).admission().is_some());
    assert_eq!(submit(&second, "c", admit("same")).result, Err(Refusal::InFlight));
}

#[test]
fn a_refusal_is_given_only_on_what_the_database_has() {
    let (_folder, first, second) = two_books();
    grant(&first, "c", "p1", "1");
    submit(&second, "c", admit("a"));
    assert!(matches!(submit(&second, "c", admit("b")).result, Err(Refusal::Exhausted { .. })));
    grant(&first, "c", "p2", "1");
    assert!(submit(&second, "c", admit("b")).admission().is_some());
}

#[test]
fn a_settle_works_after_another_instance_changed_the_account() {
    let (_folder, first, second) = two_books();
    grant(&first, "c", "p", "10");
    submit(&first, "c", admit("a"));
    submit(&second, "c", admit("b"));
    assert_eq!(submit(&first, "c", settle("a")).result, Ok(Outcome::Settled { charge: Quantity::ONE }));
    assert_eq!(submit(&second, "c", settle("a")).result, Ok(Outcome::AlreadyEnded { charge: Quantity::ONE }));
    assert_eq!(submit(&second, "c", settle("b")).balance.used, "2".parse().unwrap());
}

#[test]
fn deferred_settles_are_written_once_by_a_flush() {
    let (_folder, first, second) = two_books();
    grant(&first, "c", "p", "10");
    submit(&first, "c", admit("a"));
    first.defer(&key("c"), settle("a"), 2).unwrap();
    assert_eq!(submit(&second, "c", probe("unknown")).balance.used, Quantity::ZERO);
    first.flush_deferred(20).unwrap();
    first.flush_deferred(20).unwrap();
    assert_eq!(submit(&second, "c", admit("b")).balance.used, Quantity::ONE);
}

#[test]
fn commands_that_wait_together_are_written_by_one_statement() {
    let (_folder, first, _second) = two_books();
    grant(&first, "c", "p", "10");
    submit(&first, "c", admit("warm"));
    let before = first.database().executed();
    submit_together(&first, (0..3).map(|number| (key("c"), admit(&format!("r{number}")))).collect());
    assert_eq!(first.database().executed() - before, 1);
}

#[test]
fn a_command_that_another_has_written_finds_its_answer_the_next_time_it_looks() {
    let (_folder, first, _second) = two_books();
    grant(&first, "c", "p", "10");
    let mut context = Context::from_waker(Waker::noop());
    let key = key("c");
    let (mut one, mut other) = (pin!(first.submit(&key, admit("a"), 10)), pin!(first.submit(&key, admit("b"), 10)));
    assert!(one.as_mut().poll(&mut context).is_pending());
    assert!(other.as_mut().poll(&mut context).is_pending());
    block_on(one).unwrap();
    assert!(other.as_mut().poll(&mut context).is_ready());
}

#[test]
fn a_package_id_of_another_account_is_refused_without_harm_to_others() {
    let (_folder, first, _second) = two_books();
    grant(&first, "c", "p", "10");
    assert!(matches!(grant(&first, "d", "p", "10").result, Err(Refusal::Conflict(_))));
    assert!(submit(&first, "c", admit("a")).admission().is_some());
}

#[test]
fn a_deferred_settle_rides_along_with_the_next_batch_in_its_one_statement() {
    let (_folder, first, second) = two_books();
    grant(&first, "c", "p", "10");
    submit(&first, "c", admit("a"));
    first.defer(&key("c"), settle("a"), 2).unwrap();
    let before = first.database().executed();
    assert_eq!(first.take_riders(), None);
    submit(&first, "c", admit("b"));
    assert_eq!(first.database().executed() - before, 1);
    assert_eq!(first.take_riders(), Some(Ok(())));
    let balance = submit(&second, "c", probe("unknown")).balance;
    assert_eq!((balance.used, balance.held), (Quantity::ONE, Quantity::ONE));
    assert_eq!(first.deferred_count(), 0);
}

#[test]
fn a_repeat_of_a_call_whose_settle_waits_finds_it_ended() {
    let (_folder, first, _second) = two_books();
    grant(&first, "c", "p", "10");
    submit(&first, "c", admit("a"));
    first.defer(&key("c"), settle("a"), 2).unwrap();
    assert_eq!(submit(&first, "c", admit("a")).admission(), Some(&crate::ledger::Admission::Replay));
}

#[test]
fn a_repeated_id_is_not_refused_before_its_body_is_known() {
    let (_folder, first, _second) = two_books();
    grant(&first, "c", "p", "1");
    submit(&first, "c", admit("a"));
    submit(&first, "c", settle("a"));
    assert!(matches!(submit(&first, "c", probe("b")).result, Err(Refusal::Exhausted { .. })));
    assert_eq!(submit(&first, "c", probe("a")).result, Ok(Outcome::Admissible));
}

#[test]
fn a_command_on_a_corrupt_account_fails_alone() {
    let (_folder, first, _second) = two_books();
    grant(&first, "c", "p", "10");
    grant(&first, "d", "q", "10");
    submit(&first, "d", admit("sound"));
    submit(&first, "c", admit("broken"));
    let database = first.tables().unwrap();
    database.execute("UPDATE calls SET detail = '{}' WHERE request_id = 'broken'", &[]).unwrap();
    // Another instance has changed both since.
    let changed = "INSERT INTO steps (position, kind, account_id) SELECT (SELECT max(position) FROM steps) + account_id, -2, account_id FROM accounts";
    database.execute(changed, &[]).unwrap();
    first.defer(&key("c"), settle("broken"), 2).unwrap();
    first.defer(&key("d"), settle("sound"), 2).unwrap();
    assert!(matches!(first.flush_deferred(20), Err(super::LedgerError::Corrupt(_))));
    assert_eq!(first.deferred_count(), 0);
    assert_eq!(submit(&first, "d", admit("next")).balance.used, Quantity::ONE);
}

#[test]
fn a_full_cache_forgets_nothing_that_the_batch_in_hand_decided() {
    let (_folder, first, second) = two_books();
    for customer in ["a", "b", "c", "d", "e"] {
        grant(&first, customer, &format!("p-{customer}"), "1");
    }
    for customer in ["a", "b", "c"] {
        submit(&first, customer, probe("warm"));
    }
    let commands = ["a", "d", "b", "e", "c"].map(|customer| (key(customer), admit(customer)));
    let replies = submit_together(&first, commands.into());
    assert!(replies.iter().all(|reply| reply.admission().is_some()));
    let claimed = second.tables().unwrap().execute("SELECT count(*) FROM calls WHERE state = 'held'", &[]).unwrap();
    assert_eq!(claimed, [[crate::store::Value::Integer(5)]]);
}

/// A database that refuses one kind of statement while it is told to.
struct Unwilling {
    database: Sqlite,
    refused: Cell<Option<&'static str>>,
}

impl Database for Unwilling {
    fn execute(&self, statement: &str, parameters: &[Value]) -> Result<Vec<Vec<Value>>, StoreError> {
        if self.refused.get().is_some_and(|refused| statement.starts_with(refused)) {
            return Err(StoreError::Unavailable("the disk is full".to_owned()));
        }
        self.database.execute(statement, parameters)
    }
}

/// A book over the file of a folder.
fn unwilling(folder: &tempfile::TempDir, refused: Option<&'static str>) -> Book<Unwilling> {
    Book::new(Unwilling { database: file(&folder.path().join("ledger.db")), refused: Cell::new(refused) }, HashMap::new())
}

#[test]
fn what_was_counted_before_a_commit_that_fails_is_written_with_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let book = unwilling(&folder, Some("COMMIT"));
    book.count(|meters| meters.lost_holds(3));
    assert!(book.flush_counts().is_err());
    book.database().refused.set(None);
    book.flush_counts().unwrap();
    book.flush_counts().unwrap();
    let of = |name: &str| book.tables().unwrap().execute("SELECT value FROM metrics WHERE name = ?1", &[name.into()]).unwrap();
    assert_eq!(of("tollgate_lost_holds_total"), [[Value::Integer(3)]]);
    assert_eq!(of("tollgate_ledger_errors_total"), [[Value::Integer(1)]]);
}

#[test]
fn a_ledger_that_takes_nothing_refuses_although_settles_wait_and_writes_them_once_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let book = unwilling(&folder, None);
    let ask = |command| block_on(book.submit(&key("c"), command, 2));
    create_account(book.database(), &key("c"), 1).unwrap();
    ask(package("p", "1")).unwrap();
    ask(admit("a")).unwrap();
    book.defer(&key("c"), settle("a"), 2).unwrap();
    book.database().refused.set(Some("INSERT"));
    assert!(book.flush_deferred(20).is_err());
    assert!(matches!(ask(admit("b")).unwrap().result, Err(Refusal::Exhausted { .. })));
    assert_eq!(book.deferred_count(), 1);
    book.database().refused.set(None);
    book.flush_deferred(20).unwrap();
    assert_eq!((book.deferred_count(), ask(Command::Look).unwrap().balance.used), (0, Quantity::ONE));
}

#[test]
fn a_deferred_settle_does_not_ride_along_where_somebody_is_refused() {
    let (_folder, first, _second) = two_books();
    grant(&first, "c", "p", "10");
    grant(&first, "d", "q", "1");
    submit(&first, "d", admit("last"));
    submit(&first, "c", admit("a"));
    let refuse = |request_id: &str| {
        let before = first.database().executed();
        assert!(matches!(submit(&first, "d", admit(request_id)).result, Err(Refusal::Exhausted { .. })));
        first.database().executed() - before
    };
    let alone = refuse("x");
    first.defer(&key("c"), settle("a"), 2).unwrap();
    assert_eq!((refuse("y"), first.deferred_count()), (alone, 1));
    assert_eq!(submit(&first, "c", admit("a")).admission(), Some(&crate::ledger::Admission::Replay));
}

#[test]
fn a_deferred_settle_that_cannot_be_written_keeps_others_from_writing_once_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (unwilling(&folder, None), unwilling(&folder, None));
    let ask = |book: &Book<Unwilling>, command| block_on(book.submit(&key("c"), command, 2));
    create_account(first.database(), &key("c"), 1).unwrap();
    ask(&first, package("p", "10")).unwrap();
    ask(&first, admit("a")).unwrap();
    // Only the tables can tell the second one of a call that the first one holds, and they cannot follow.
    second.database().refused.set(Some("UPDATE"));
    second.defer(&key("c"), settle("a"), 2).unwrap();
    let refused = ["b", "c", "d", "e"].map(|request_id| ask(&second, admit(request_id)).is_err());
    assert_eq!((refused, second.deferred_count()), ([true, false, false, false], 1));
    second.database().refused.set(None);
    second.flush_deferred(20).unwrap();
    assert_eq!(ask(&second, Command::Look).unwrap().balance.used, Quantity::ONE);
}

#[test]
fn a_deferred_settle_that_had_to_wait_is_decided_when_it_is_written_and_as_soon_as_others_are_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let book = unwilling(&folder, None);
    let ask = |command, now_ms| block_on(book.submit(&key("c"), command, now_ms)).unwrap();
    create_account(book.database(), &key("c"), 1).unwrap();
    ask(package("p", "10"), 1);
    ask(admit("a"), 2);
    book.defer(&key("c"), settle("a"), 3).unwrap();
    book.database().refused.set(Some("INSERT"));
    assert!(book.flush_deferred(4).is_err());
    book.database().refused.set(None);
    ask(admit("b"), 5_000_000);
    assert_eq!(book.deferred_count(), 1);
    assert_eq!(ask(admit("a"), 5_000_001).admission(), Some(&crate::ledger::Admission::Replay));
    let charged = book.tables().unwrap().execute("SELECT at_ms FROM entries WHERE request_id = 'a' AND kind = 5", &[]).unwrap();
    assert_eq!(charged, [[Value::Integer(5_000_001)]]);
}
