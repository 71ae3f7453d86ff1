//! Rules, orders and events over a real SQLite: what is remembered is what is stored, whichever way a decision took.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::{admit, assert_part_of, block_on, key, load_whole, settle};
use crate::book::{Book, Reply};
use crate::ids::{PackageId, ProductId, RepurchaseId, RequestId};
use crate::ledger::{
    Cap, Command, Conclusion, FailureReason, Grant, Order, OrderState, Outcome, PackageChange, PackageKind, Purchase, Refusal,
    RepurchaseRule, Rules, Settlement, Terms, Threshold, Watch,
};
use crate::quantity::Quantity;
use crate::store::testing::{Mortal, Sqlite, file};
use crate::store::{Database, LoadRequest, Value, create_account, load, queries};

const COOLDOWN_MS: i64 = 10_000;
const PERIOD_MS: i64 = 1_000_000;

fn quantity(text: &str) -> Quantity {
    text.parse().unwrap()
}

fn terms() -> HashMap<ProductId, Arc<Terms>> {
    let terms = Terms { unit: "call".to_owned(), alerts: vec![], repurchase_timeout_ms: Some(60_000), ..Terms::default() };
    HashMap::from([(key("c").product_id, Arc::new(terms))])
}

fn open(path: &Path) -> Book<Sqlite> {
    Book::new(file(path), terms())
}

/// A file, and two instances on it.
fn two_books() -> (tempfile::TempDir, Book<Sqlite>, Book<Sqlite>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let books = (open(&path), open(&path));
    (folder, books.0, books.1)
}

fn submit<D: Database>(book: &Book<D>, command: Command, now_ms: i64) -> Reply {
    block_on(book.submit(&key("c"), command, now_ms)).unwrap()
}

fn grant_of(package_id: &str, amount: &str, repurchase: Option<u32>) -> Box<Grant> {
    Box::new(Grant {
        package_id: PackageId::new(package_id).unwrap(),
        kind: PackageKind::Prepaid,
        quantity: quantity(amount),
        starts_at_ms: None,
        expires_at_ms: None,
        priority: 0,
        order_id: None,
        repurchase,
    })
}

fn grant<D: Database>(book: &Book<D>, package_id: &str, amount: &str, now_ms: i64) {
    create_account(book.database(), &key("c"), now_ms).unwrap();
    let reply = submit(book, Command::Grant(grant_of(package_id, amount, None)), now_ms);
    assert!(matches!(reply.result, Ok(Outcome::Granted(_))), "{reply:?}");
}

/// Buys ten when at most one is left; tells of half of it and of a half.
fn rules() -> Box<Rules> {
    let package =
        Purchase { spec_id: "spec".to_owned(), quantity: quantity("10"), price: quantity("9.99"), currency: "EUR".to_owned() };
    let alerts = Some(vec![Threshold::Percent(quantity("50")), Threshold::Remaining(quantity("0.5"))]);
    let repurchase = RepurchaseRule {
        enabled: true,
        trigger: Threshold::Remaining(Quantity::ONE),
        package,
        cap: Cap { count: 2, spend: Some(quantity("100")), period_ms: PERIOD_MS },
        cooldown_ms: COOLDOWN_MS,
    };
    Box::new(Rules { alerts, repurchase: Some(repurchase) })
}

fn call<D: Database>(book: &Book<D>, request_id: &str, now_ms: i64) -> Result<(), Refusal> {
    submit(book, admit(request_id), now_ms).result?;
    submit(book, settle(request_id), now_ms).result.map(drop)
}

fn conclude(number: u32, conclusion: Conclusion) -> Command {
    Command::ConcludeOrder { number, conclusion, package: None }
}

fn count(database: &impl Database, table: &str) -> i64 {
    database.execute(&format!("SELECT count(*) FROM {table}"), &[]).unwrap()[0][0].integer().unwrap()
}

fn types(database: &impl Database) -> Vec<String> {
    let rows = database.execute("SELECT type FROM events ORDER BY position", &[]).unwrap();
    rows.iter().map(|row| row[0].text().unwrap().to_owned()).collect()
}

fn order(database: &impl Database, number: u32) -> Option<Order> {
    let request = LoadRequest { orders: vec![number], ..LoadRequest::new(key("c")) };
    load(database, &[request], 0).unwrap()[0].account.order(number).cloned()
}

fn watch_of(database: &impl Database) -> Watch {
    queries::watch(database, &key("c")).unwrap().unwrap().0
}

/// A customer whose only order failed at 20 and whose cooldown is over at 20 + [`COOLDOWN_MS`].
fn resting(book: &Book<Sqlite>) {
    grant(book, "p", "2", 1);
    submit(book, Command::SetRules(rules()), 1);
    call(book, "a", 10).unwrap();
    assert_eq!(order(book.database(), 1).unwrap().state, OrderState::Requested);
    submit(book, conclude(1, Conclusion::Failed(FailureReason::HookFailed)), 20).result.unwrap();
    call(book, "b", 30).unwrap();
    assert_eq!(count(book.database(), "repurchases"), 1);
}

/// What an instance remembers of the account, and what the database has.
fn assert_remembered_is_stored(book: &Book<Sqlite>) {
    let accounts = book.accounts.borrow();
    let Some(remembered) = accounts.get(&key("c")) else { return };
    let (one, other) = (&remembered.account, &load_whole(book.tables().unwrap(), &key("c")));
    assert_part_of(one, other);
    assert_eq!(one.watch(), other.watch());
    assert_eq!((one.overrun(), one.entry_count()), (other.overrun(), other.entry_count()));
    let in_flight = other.watch().order_in_flight;
    assert_eq!(in_flight.map(|number| one.order(number)), in_flight.map(|number| other.order(number)));
    assert!(in_flight.is_none_or(|number| other.order(number).is_some()));
    assert!(!one.has_changes());
    let due_at_ms = book.database().execute("SELECT due_at_ms FROM accounts", &[]).unwrap()[0][0].integer();
    assert_eq!(due_at_ms, other.watch().due_at_ms);
}

#[test]
fn what_an_instance_remembers_is_what_is_stored_after_every_step() {
    let (_folder, first, second) = two_books();
    let mut expiring = grant_of("p2", "3", None);
    (expiring.starts_at_ms, expiring.expires_at_ms) = (Some(500), Some(40_000));
    let freeze = |change| Command::Change { package_id: PackageId::new("p1").unwrap(), change };
    create_account(first.database(), &key("c"), 1).unwrap();
    let mut steps = vec![
        (1, Command::Grant(grant_of("p1", "4", None))),
        (2, Command::SetRules(rules())),
        (3, Command::Grant(expiring)),
        (10, freeze(PackageChange::Freeze)),
        (20, freeze(PackageChange::Unfreeze)),
    ];
    for number in 0..14 {
        steps.push((1_000 + number, admit(&format!("r{number}"))));
        steps.push((1_100 + number, settle(&format!("r{number}"))));
    }
    steps.extend([
        (1_200, conclude(1, Conclusion::Pending)),
        (1_201, admit("refused")),
        (1_300, conclude(1, Conclusion::Failed(FailureReason::PriceChanged))),
        (20_000, Command::SetRules(rules())),
        (20_001, conclude(2, Conclusion::Succeeded)),
        (20_002, Command::Grant(grant_of("p3", "1", Some(2)))),
        (90_000, Command::Look),
        (90_001, admit("last")),
        (200_000, Command::Look),
    ]);
    for (number, (now_ms, command)) in steps.into_iter().enumerate() {
        let book = if number % 3 == 0 { &second } else { &first };
        submit(book, command, now_ms);
        assert_remembered_is_stored(book);
    }
    let watch = watch_of(first.database());
    assert!(watch.order_count >= 3 && watch.event_count > 10, "{watch:?}");
    assert_eq!(count(first.database(), "events"), i64::try_from(watch.event_count).unwrap());
    assert_eq!(count(first.database(), "repurchases"), i64::from(watch.order_count));
    let phases = first.database().execute("SELECT phase FROM packages ORDER BY number", &[]).unwrap();
    assert_eq!(phases, ["running", "over", "running"].map(|phase| vec![Value::from(phase)]));
}

#[test]
fn a_refusal_that_finds_an_order_due_writes_it_whichever_way_it_is_decided() {
    type Prepare = fn(&Book<Sqlite>);
    let ways: [(&str, Prepare); 3] = [
        ("remembered", |_| {}),
        ("loaded", |book| book.accounts.borrow_mut().clear()),
        ("looked at first", |book| book.contention.was_too_late()),
    ];
    for (way, prepare) in ways {
        let (_folder, first, second) = two_books();
        resting(&first);
        prepare(&first);
        let now_ms = 20 + COOLDOWN_MS;
        let reply = submit(&first, admit("refused"), now_ms);
        assert!(matches!(reply.result, Err(Refusal::Exhausted { .. })), "{way}: {reply:?}");
        assert_eq!(order(second.database(), 2).map(|order| order.requested_at_ms), Some(now_ms), "{way}");
        assert_eq!(types(second.database()).last().map(String::as_str), Some("repurchase.requested"), "{way}");
        assert_remembered_is_stored(&first);

        // One order is enough, and the instances agree on it.
        submit(&first, admit("refused"), now_ms + 1);
        submit(&second, admit("refused"), now_ms + 2);
        assert_eq!(count(second.database(), "repurchases"), 2, "{way}");
    }
}

#[test]
fn an_instance_that_is_behind_makes_no_second_order() {
    let (_folder, first, second) = two_books();
    grant(&first, "p", "3", 1);
    submit(&first, Command::SetRules(rules()), 1);
    call(&second, "warm", 2).unwrap();
    call(&first, "a", 3).unwrap();
    assert_eq!(count(first.database(), "repurchases"), 1);
    call(&second, "b", 4).unwrap();
    assert!(call(&second, "c", 5).is_err());
    assert_eq!(count(first.database(), "repurchases"), 1);
    assert_eq!(types(first.database()).iter().filter(|kind| *kind == "balance.exhausted").count(), 1);
}

#[test]
fn a_hint_changes_nothing_of_what_is_remembered() {
    let (_folder, first, _second) = two_books();
    resting(&first);
    let probe = Command::Probe { request_id: RequestId::new("x").unwrap(), hold: Quantity::ONE };
    assert!(first.looks_refused(&key("c"), &probe, 20 + COOLDOWN_MS));
    assert_remembered_is_stored(&first);
    // Submitted, it is one of the moments at which an order is made.
    assert!(submit(&first, probe, 20 + COOLDOWN_MS).result.is_err());
    assert_eq!(count(first.database(), "repurchases"), 2);
}

#[test]
fn an_order_and_its_events_are_written_with_what_caused_them_or_not_at_all() {
    for statements in 0..100 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let first = Book::new(Mortal::new(file(&path)), terms());
        grant(&first, "p", "2", 1);
        submit(&first, Command::SetRules(rules()), 1);
        submit(&first, admit("a"), 10).result.unwrap();
        let state = || {
            let database = file(&path);
            let used = load(&database, &[LoadRequest::new(key("c"))], 0).unwrap()[0].account.packages()[0].used;
            (types(&database), count(&database, "repurchases"), watch_of(&database), used)
        };
        let before = state();
        first.database().die_after(statements);
        let result = block_on(first.submit(&key("c"), settle("a"), 20));
        // The process is gone, with its connection.
        drop(first);
        let after = state();
        if result.is_ok() {
            let (types, orders, watch, used) = after;
            assert_eq!(types, ["package.granted", "balance.low", "repurchase.requested"]);
            assert_eq!((orders, watch.order_in_flight, used), (1, Some(1), Quantity::ONE));
            assert!(statements > 3, "only {statements} places to die at");
            return;
        }
        assert_eq!(after, before);
        let second = open(&path);
        assert!(matches!(submit(&second, settle("a"), 30).result, Ok(Outcome::Settled { .. })));
        assert_eq!(count(second.database(), "repurchases"), 1);
    }
    panic!("the settle never comes to its end");
}

#[test]
fn an_instance_knows_once_that_it_wrote_events() {
    let (_folder, first, second) = two_books();
    grant(&first, "p", "10", 1);
    assert!(first.take_events_written());
    assert!(!first.take_events_written());
    call(&first, "a", 2).unwrap();
    assert!(!first.take_events_written() && !second.take_events_written());
    let lost = Command::LoseHold { request_id: RequestId::new("b").unwrap(), charge: true };
    submit(&second, admit("b"), 3).result.unwrap();
    submit(&second, lost, 100_000).result.unwrap();
    assert!(second.take_events_written() && !first.take_events_written());
}

#[test]
fn due_accounts_and_orders_are_found_by_time_and_name() {
    let (_folder, first, _second) = two_books();
    assert_eq!(queries::watch(first.database(), &key("c")).unwrap(), None);
    resting(&first);
    let due_at_ms = 20 + COOLDOWN_MS;
    assert_eq!(queries::due_accounts(first.database(), due_at_ms - 1, 10).unwrap(), []);
    assert_eq!(queries::due_accounts(first.database(), due_at_ms, 10).unwrap(), [key("c")]);
    assert_eq!(submit(&first, Command::Look, due_at_ms).result, Ok(Outcome::Looked));
    assert_eq!(queries::due_accounts(first.database(), due_at_ms, 10).unwrap(), []);

    let (watch, orders) = queries::watch(first.database(), &key("c")).unwrap().unwrap();
    assert_eq!((watch.rules, watch.order_in_flight), (*rules(), Some(2)));
    assert_eq!(orders.iter().map(|order| order.number).collect::<Vec<_>>(), [2]);
    let repurchase_id = RepurchaseId::of(&key("c"), 1, 10);
    let found = queries::order_by_id(first.database(), &repurchase_id).unwrap();
    assert_eq!(found, order(first.database(), 1).map(|order| (key("c"), order)));
    assert_eq!(queries::order_by_id(first.database(), &RepurchaseId::of(&key("c"), 9, 10)).unwrap(), None);
}

#[test]
fn events_say_what_the_webhook_is_to_say() {
    let (_folder, first, _second) = two_books();
    resting(&first);
    let spent = |request_id: &str, charge: &str| {
        Command::Settle(Settlement {
            request_id: RequestId::new(request_id).unwrap(),
            attempt: 1,
            charge: quantity(charge),
            status: None,
            usage_missing: false,
        })
    };
    let now_ms = 20 + COOLDOWN_MS;
    submit(&first, Command::Look, now_ms);
    submit(&first, conclude(2, Conclusion::Failed(FailureReason::Timeout)), now_ms);
    grant(&first, "q", "2", now_ms);
    submit(&first, admit("over"), now_ms).result.unwrap();
    submit(&first, spent("over", "2.5"), now_ms).result.unwrap();
    submit(&first, Command::Change { package_id: PackageId::new("q").unwrap(), change: PackageChange::Freeze }, now_ms);
    let mut capped = rules();
    capped.repurchase.as_mut().unwrap().cap.count = 1;
    submit(&first, Command::SetRules(capped), now_ms).result.unwrap();
    submit(&first, Command::Look, now_ms + 2 * COOLDOWN_MS);
    grant(&first, "r", "3", now_ms);
    submit(&first, admit("lost"), now_ms).result.unwrap();
    submit(&first, Command::LoseHold { request_id: RequestId::new("lost").unwrap(), charge: true }, 200_000).result.unwrap();

    let rows = first.database().execute("SELECT type, data, event_id, at_ms FROM events ORDER BY position", &[]).unwrap();
    let said = |kind: &str, nth: usize| {
        let row = rows.iter().filter(|row| row[0].text() == Some(kind)).nth(nth).unwrap_or_else(|| panic!("{kind} {nth}"));
        assert!(row[2].text().unwrap().starts_with("evt_"));
        let data: Json = serde_json::from_str(row[1].text().unwrap()).unwrap();
        data
    };
    let with = |members: Json| {
        let mut data = json!({"customer_id": "c", "product_id": "translate"});
        data.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        data
    };
    assert_eq!(said("package.granted", 0), with(json!({"package_id": "p"})));
    assert_eq!(said("package.frozen", 0), with(json!({"package_id": "q"})));
    let level = |threshold: Json, remaining: &str| {
        with(json!({"threshold": threshold, "remaining": remaining, "granted": "2", "unit": "call"}))
    };
    assert_eq!(said("balance.low", 0), level(json!({"percent": "50"}), "1"));
    assert_eq!(said("balance.low", 1), level(json!({"remaining": "0.5"}), "0"));
    assert_eq!(said("balance.exhausted", 0), level(json!({"remaining": "0"}), "0"));
    let bought = |id: Option<RepurchaseId>, reason: Option<&str>| {
        with(
            json!({"repurchase_id": id, "spec_id": "spec", "quantity": "10", "price": "9.99", "currency": "EUR", "reason": reason}),
        )
    };
    let order_1 = RepurchaseId::of(&key("c"), 1, 10);
    assert_eq!(said("repurchase.requested", 0), bought(Some(order_1.clone()), None));
    assert_eq!(said("repurchase.failed", 0), bought(Some(order_1), Some("hook_failed")));
    assert_eq!(said("repurchase.failed", 2), bought(None, Some("cap_reached")));
    assert_eq!(said("call.overrun", 0), with(json!({"request_id": "over", "overrun": "0.5"})));
    assert_eq!(said("call.lost", 0), with(json!({"request_id": "lost", "charge": "1"})));
}
