//! Orders on their way to the merchant's hook, and its answers on their way to the ledger.

use super::{
    Answer, START_MS, Seen, World, config, deliveries, grant, key, number, open, replied, run_all, run_until_quiet, submit,
};
use crate::book::Book;
use crate::config::Config;
use crate::courier::{Outside, Reply, Unreached};
use crate::ids::RepurchaseId;
use crate::ledger::{Cap, Command, Conclusion, FailureReason, Order, OrderState, Purchase, RepurchaseRule, Rules, Threshold};
use crate::store::Database;
use crate::store::queries::order_by_id;

const MINUTE_MS: i64 = 60_000;

/// A rule that is due at once: it buys 500 when 10 or less remain.
pub(super) fn rules() -> Command {
    let package = Purchase {
        spec_id: "spec".to_owned(),
        quantity: "500".parse().unwrap(),
        price: "9.9".parse().unwrap(),
        currency: "CNY".to_owned(),
    };
    let repurchase = RepurchaseRule {
        enabled: true,
        trigger: Threshold::Remaining("10".parse().unwrap()),
        package,
        cap: Cap { count: 1, spend: None, period_ms: 86_400_000 },
        cooldown_ms: 3_600_000,
    };
    Command::SetRules(Box::new(Rules { alerts: None, repurchase: Some(repurchase) }))
}

/// The answer of a hook.
pub(super) fn said(body: &'static str) -> Result<Reply, Unreached> {
    Ok(Reply { status: 200, retry_after: None, body: Some(body.into()) })
}

/// A customer for whom an order is to be posted.
pub(super) fn order<D: Database>(world: &World, book: &Book<D>, customer_id: &str) {
    grant(world, book, customer_id, &format!("first-{customer_id}"));
    submit(world, book, customer_id, rules());
}

fn ordered(
    answer: impl Fn(&Seen, usize) -> Answer + 'static,
) -> (tempfile::TempDir, Config, World, Book<crate::store::testing::Sqlite>) {
    let (folder, config, world) = (tempfile::tempdir().unwrap(), config(&[]), World::new(answer));
    let book = open(&folder, &config);
    order(&world, &book, "alice");
    (folder, config, world, book)
}

/// The one order, by the name that the hook was told.
pub(super) fn the_order<D: Database>(world: &World, book: &Book<D>) -> Order {
    let name = world.seen()[0].body["data"]["repurchase_id"].as_str().unwrap().to_owned();
    let (owner, order) = order_by_id(book.database(), &RepurchaseId::new(&name).unwrap()).unwrap().unwrap();
    assert_eq!(owner, key("alice"));
    order
}

fn credited<D: Database>(book: &Book<D>) -> i64 {
    number(book, "SELECT coalesce(sum(granted), 0) FROM packages WHERE package_id NOT LIKE 'first-%'") / 10_000
}

#[test]
fn an_order_that_brings_its_package_is_credited_with_it() {
    let (_folder, config, world, book) =
        ordered(|_, _| (5, said(r#"{"status":"succeeded","package":{"expires_at":"2099-01-01T00:00:00Z"}}"#)));
    assert_eq!(run_all(&world, &book, &config).delivered, 1);
    let (seen, order) = (world.seen(), the_order(&world, &book));
    assert_eq!((seen[0].url.as_str(), seen[0].body["type"].as_str()), ("http://h/orders", Some("repurchase.requested")));
    assert_eq!(seen[0].body["data"]["quantity"], "500");
    assert_eq!(order.state, OrderState::Succeeded);
    assert!(order.package_number.is_some());
    assert_eq!(credited(&book), 500);
    assert_eq!(deliveries(&book).iter().find(|one| one.1 == "http://h/orders").unwrap().2, "delivered");
}

#[test]
fn a_success_without_a_package_credits_nothing_and_a_pending_order_waits() {
    for (body, state) in [(r#"{"status":"succeeded"}"#, OrderState::Succeeded), (r#"{"status":"pending"}"#, OrderState::Pending)]
    {
        let (_folder, config, world, book) = ordered(move |_, _| (5, said(body)));
        assert_eq!(run_all(&world, &book, &config).delivered, 1);
        assert_eq!((the_order(&world, &book).state, credited(&book)), (state, 0));
        assert_eq!(run_all(&world, &book, &config).delivered, 0, "what was taken is not posted again");
    }
}

#[test]
fn a_failure_has_the_reason_that_the_hook_names() {
    for (status, body, reason) in [
        (200, r#"{"status":"failed","reason":"price_changed"}"#, FailureReason::PriceChanged),
        (200, r#"{"status":"failed","reason":"who knows"}"#, FailureReason::HookFailed),
        (422, "", FailureReason::HookFailed),
        (410, "", FailureReason::HookFailed),
    ] {
        let reply = Reply { status, retry_after: None, body: Some(body.into()) };
        let (_folder, config, world, book) = ordered(move |_, _| (5, Ok(reply.clone())));
        let report = run_all(&world, &book, &config);
        assert_eq!((report.delivered + report.failed, report.next_due_ms), (1, None));
        let order = the_order(&world, &book);
        assert_eq!((order.state, order.reason), (OrderState::Failed, Some(reason)), "{status} {body}");
        assert_eq!(number(&book, "SELECT count(*) FROM endpoints"), 0, "orders are taken or refused one by one");
    }
}

#[test]
fn an_order_without_a_clear_answer_is_posted_under_its_name_until_its_time_is_over() {
    let answers: [fn(usize) -> Answer; 4] = [
        |_| (5, replied(503)),
        |_| (i64::MAX / 4, replied(200)),
        |_| (5, said("OK")),
        |before| {
            (5, if before % 2 == 0 { Err(Unreached::Failed("the connection was refused".to_owned())) } else { replied(302) })
        },
    ];
    for answer in answers {
        let (_folder, config, world, book) = ordered(move |_, before| answer(before));
        let (delivered, failed) = run_until_quiet(&world, &book, &config);
        assert_eq!(delivered, 0);
        assert!((8..=13).contains(&failed), "{failed} posts in a quarter of an hour");
        let seen = world.seen();
        assert!(seen.iter().all(|one| one.id == seen[0].id && one.body == seen[0].body), "{seen:?}");
        assert!(seen.iter().all(|one| one.at_ms < START_MS + 15 * MINUTE_MS), "{seen:?}");
        let order = the_order(&world, &book);
        assert_eq!((order.state, order.reason), (OrderState::Failed, Some(FailureReason::Timeout)));
        assert_eq!(deliveries(&book).iter().find(|one| one.1 == "http://h/orders").unwrap().2, "dead");
    }
}

#[test]
fn a_late_answer_counts_as_long_as_the_order_is_open() {
    let (_folder, config, world, book) =
        ordered(|_, before| (5, if before < 3 { replied(500) } else { said(r#"{"status":"succeeded","package":{}}"#) }));
    assert_eq!(run_until_quiet(&world, &book, &config), (1, 3));
    assert_eq!((the_order(&world, &book).state, credited(&book)), (OrderState::Succeeded, 500));
}

#[test]
fn an_answer_that_the_ledger_cannot_accept_is_none() {
    // The package's name is taken by another customer's.
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[]));
    let (world, book) =
        (World::new(|_, _| (5, said(r#"{"status":"succeeded","package":{"package_id":"bobs"}}"#))), open(&folder, &config));
    grant(&world, &book, "bob", "bobs");
    order(&world, &book, "alice");
    let report = run_all(&world, &book, &config);
    assert_eq!((report.delivered, report.failed), (0, 1));
    assert_eq!((the_order(&world, &book).state, credited(&book)), (OrderState::Requested, 10));
    assert!(report.next_due_ms.is_some());
}

#[test]
fn an_order_that_has_ended_is_not_posted() {
    for (conclusion, state) in [(Conclusion::Succeeded, "delivered"), (Conclusion::Failed(FailureReason::SpecDelisted), "dead")] {
        let (_folder, config, world, book) = ordered(|_, _| (5, replied(500)));
        submit(&world, &book, "alice", Command::ConcludeOrder { number: 1, conclusion, package: None });
        let report = run_all(&world, &book, &config);
        assert_eq!((report.delivered, report.failed, world.seen().len()), (0, 0, 0));
        assert_eq!(deliveries(&book).iter().find(|one| one.1 == "http://h/orders").unwrap().2, state);
    }
}

#[test]
fn orders_of_customers_are_posted_beside_each_other() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[]));
    let (world, book) = (World::new(|_, _| (1_000, said(r#"{"status":"pending"}"#))), open(&folder, &config));
    for number in 0..12 {
        order(&world, &book, &format!("c{number}"));
    }
    assert_eq!(run_all(&world, &book, &config).delivered, 12);
    assert!(world.now_ms() < START_MS + 3_000, "{}", world.now_ms() - START_MS);
    assert_eq!(world.most_under_way.borrow()["http://h/orders"], 8);
}
