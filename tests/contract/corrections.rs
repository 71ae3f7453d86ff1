//! Corrections by people: adjustments of packages and refunds of calls.

use crate::support::Suite;
use crate::support::buyer::{Buyer, quantity, units};
use crate::support::call::Reply;
use crate::support::fresh;
use crate::support::script::{Script, Step};
use serde_json::{Value, json};
use std::sync::Arc;

crate::cases! {
    an_adjustment_moves_what_was_granted,
    an_adjustment_counts_once,
    another_adjustment_under_the_same_id_conflicts,
    an_adjustment_takes_nothing_that_is_used_or_held,
    an_adjustment_revives_an_exhausted_package,
    an_adjustment_that_is_none_is_refused,
    an_adjustment_stays_below_the_maximum,
    a_refund_gives_back_what_was_charged,
    a_refund_counts_once,
    a_part_can_be_refunded_but_never_more_than_was_charged,
    a_refund_goes_back_to_the_packages_it_came_from,
    only_a_charged_call_can_be_refunded,
    a_refund_that_is_none_is_refused,
}

async fn adjust(buyer: &Buyer, package: &str, id: &str, quantity: &str) -> Reply {
    let body = json!({ "adjustment_id": id, "quantity": quantity, "reason": "a case" });
    buyer.gateway.write("POST", &format!("/packages/{package}/adjustments"), &body).await
}

fn succeeded(reply: &Reply) {
    assert!(matches!(reply.status, 200 | 201), "{} {}", reply.status, reply.text());
}

/// A conflict, or invalid: the request asks for more than the ledger can give.
fn impossible(reply: &Reply) {
    assert!(matches!(reply.status, 400 | 409 | 422), "{} {}", reply.status, reply.text());
    let code = reply.json()["code"].as_str().unwrap().to_owned();
    assert!(code == "conflict" || code == "invalid", "{code}");
    reply.problem(reply.status, &code);
}

async fn granted(buyer: &Buyer, package: &str) -> i64 {
    units(&buyer.package_state(package).await["granted"])
}

async fn an_adjustment_moves_what_was_granted(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let package = buyer.grant("10").await;
    succeeded(&adjust(&buyer, &package, &fresh("adjustment"), "2.5").await);
    assert_eq!(granted(&buyer, &package).await, quantity("12.5"));
    succeeded(&adjust(&buyer, &package, &fresh("adjustment"), "-7.25").await);
    assert_eq!(granted(&buyer, &package).await, quantity("5.25"));
    assert_eq!(buyer.available().await, quantity("5.25"));
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn an_adjustment_counts_once(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let package = buyer.grant("10").await;
    let id = fresh("adjustment");
    for _ in 0..3 {
        succeeded(&adjust(&buyer, &package, &id, "5").await);
    }
    let mut at_once = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (buyer, package, id) = (buyer.clone(), package.clone(), id.clone());
        at_once.spawn(async move { succeeded(&adjust(&buyer, &package, &id, "5").await) });
    }
    at_once.join_all().await;
    assert_eq!(granted(&buyer, &package).await, quantity("15"));
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn another_adjustment_under_the_same_id_conflicts(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let package = buyer.grant("10").await;
    let id = fresh("adjustment");
    succeeded(&adjust(&buyer, &package, &id, "5").await);
    adjust(&buyer, &package, &id, "6").await.problem(409, "conflict");
    assert_eq!(granted(&buyer, &package).await, quantity("15"));
}

async fn an_adjustment_takes_nothing_that_is_used_or_held(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let package = buyer.grant("10").await;
    buyer.spend(2).await;
    buyer.expect_used("2").await;
    let gate = suite.backend.gate();
    let script = Script::chunked().then(Step::Text("a".into())).then(gate.step());
    let exchange = buyer.call().script(&script).open().await.unwrap();
    impossible(&adjust(&buyer, &package, &fresh("adjustment"), "-7.0001").await);
    succeeded(&adjust(&buyer, &package, &fresh("adjustment"), "-7").await);
    assert_eq!(buyer.available().await, 0);
    gate.open();
    assert!(exchange.rest().await.unwrap().whole);
    buyer.expect_used("3").await;
    impossible(&adjust(&buyer, &package, &fresh("adjustment"), "-0.0001").await);
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn an_adjustment_revives_an_exhausted_package(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let package = buyer.grant("1").await;
    buyer.spend(1).await;
    buyer.expect_used("1").await;
    assert_eq!(buyer.package_state(&package).await["state"], "exhausted");
    succeeded(&adjust(&buyer, &package, &fresh("adjustment"), "1").await);
    assert_eq!(buyer.package_state(&package).await["state"], "active");
    buyer.spend(1).await;
}

async fn an_adjustment_that_is_none_is_refused(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let package = buyer.grant("10").await;
    let good = json!({ "adjustment_id": fresh("adjustment"), "quantity": "1", "reason": "a case" });
    let changes = [
        ("quantity", json!("1.00001")),
        ("quantity", json!("1e1")),
        ("quantity", json!("--1")),
        ("quantity", json!("-")),
        ("quantity", json!(1)),
        ("quantity", Value::Null),
        ("adjustment_id", json!("..")),
        ("adjustment_id", json!("a b")),
        ("adjustment_id", Value::Null),
        ("reason", json!(5)),
        ("other", json!(1)),
    ];
    for (member, value) in changes {
        let mut body = good.clone();
        body[member] = value;
        buyer.gateway.write("POST", &format!("/packages/{package}/adjustments"), &body).await.assert_invalid();
    }
    assert_eq!(granted(&buyer, &package).await, quantity("10"));
}

async fn an_adjustment_stays_below_the_maximum(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let package = buyer.grant("899999999999").await;
    impossible(&adjust(&buyer, &package, &fresh("adjustment"), "1.0001").await);
    succeeded(&adjust(&buyer, &package, &fresh("adjustment"), "1").await);
    assert_eq!(granted(&buyer, &package).await, quantity("900000000000"));
}

/// A settled call of a buyer with ten units.
async fn charged_call(suite: &Suite) -> (Buyer, String) {
    let buyer = suite.buyer("translate", "10").await;
    let call = buyer.call();
    call.send().await.assert_ok();
    buyer.call_in_state(&call.request_id(), "settled").await;
    (buyer, call.request_id())
}

async fn a_refund_gives_back_what_was_charged(suite: Arc<Suite>) {
    let (buyer, call) = charged_call(&suite).await;
    succeeded(&buyer.refund(&call, &json!({ "refund_id": fresh("refund"), "reason": "a case" })).await);
    let balance = buyer.balance().await;
    assert_eq!((units(&balance["used"]), units(&balance["available"])), (0, quantity("10")), "{balance}");
    let record = buyer.call_record(&call).await;
    assert_eq!((units(&record["charge"]), units(&record["refunded"])), (10_000, 10_000));
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn a_refund_counts_once(suite: Arc<Suite>) {
    let (buyer, call) = charged_call(&suite).await;
    let refund = json!({ "refund_id": fresh("refund"), "quantity": "0.25", "reason": "a case" });
    for _ in 0..3 {
        succeeded(&buyer.refund(&call, &refund).await);
    }
    assert_eq!(units(&buyer.call_record(&call).await["refunded"]), 2500);
    let mut other = refund;
    other["quantity"] = json!("0.3");
    buyer.refund(&call, &other).await.problem(409, "conflict");
    assert_eq!(units(&buyer.balance().await["used"]), 7500);
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn a_part_can_be_refunded_but_never_more_than_was_charged(suite: Arc<Suite>) {
    let (buyer, call) = charged_call(&suite).await;
    let refund = |quantity: &str| json!({ "refund_id": fresh("refund"), "quantity": quantity, "reason": "a case" });
    impossible(&buyer.refund(&call, &refund("1.0001")).await);
    succeeded(&buyer.refund(&call, &refund("0.6")).await);
    impossible(&buyer.refund(&call, &refund("0.4001")).await);
    succeeded(&buyer.refund(&call, &refund("0.4")).await);
    impossible(&buyer.refund(&call, &refund("0.0001")).await);
    assert_eq!(units(&buyer.balance().await["used"]), 0);
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn a_refund_goes_back_to_the_packages_it_came_from(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let first = buyer.grant_and("0.5", json!({ "priority": 1 })).await;
    let second = buyer.grant_and("5", json!({ "priority": 2 })).await;
    let call = buyer.call();
    call.send().await.assert_ok();
    buyer.call_in_state(&call.request_id(), "settled").await;
    succeeded(&buyer.refund(&call.request_id(), &json!({ "refund_id": fresh("refund"), "reason": "a case" })).await);
    for (package, free) in [(&first, "0.5"), (&second, "5")] {
        let state = buyer.package_state(package).await;
        assert_eq!((units(&state["used"]), units(&state["remaining"])), (0, quantity(free)), "{state}");
    }
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn only_a_charged_call_can_be_refunded(suite: Arc<Suite>) {
    let buyer = suite.buyer("succeeded", "10").await;
    let refund = json!({ "refund_id": fresh("refund"), "reason": "a case" });
    buyer.refund(&fresh("request"), &refund).await.problem(404, "not_found");
    let released = buyer.call().script(&Script::status(500));
    assert_eq!(released.send().await.status, 500);
    impossible(&buyer.refund(&released.request_id(), &refund).await);
    let gate = suite.backend.gate();
    let held = buyer.call().script(&Script::chunked().then(Step::Text("a".into())).then(gate.step()));
    let exchange = held.open().await.unwrap();
    impossible(&buyer.refund(&held.request_id(), &refund).await);
    gate.open();
    assert!(exchange.rest().await.unwrap().whole);
    buyer.expect_used("1").await;
}

async fn a_refund_that_is_none_is_refused(suite: Arc<Suite>) {
    let (buyer, call) = charged_call(&suite).await;
    let good = json!({ "refund_id": fresh("refund"), "quantity": "0.5", "reason": "a case" });
    let changes = [
        ("quantity", json!("-0.5")),
        ("quantity", json!("0.12345")),
        ("quantity", json!(0.5)),
        ("refund_id", json!("..")),
        ("refund_id", Value::Null),
        ("other", json!(1)),
    ];
    for (member, value) in changes {
        let mut body = good.clone();
        body[member] = value;
        buyer.refund(&call, &body).await.assert_invalid();
    }
    assert_eq!(units(&buyer.balance().await["used"]), 10_000);
}
