//! Which package pays, and what a package in no state to pay answers.

use crate::support::Suite;
use crate::support::buyer::{Buyer, quantity, units};
use crate::support::script::{Script, Step};
use crate::support::{eventually, in_seconds};
use serde_json::{Value, json};
use std::sync::Arc;

crate::cases! {
    the_lowest_priority_burns_first,
    then_the_earliest_expiry_and_none_last,
    then_the_oldest_package,
    a_hold_spans_packages_and_records_its_legs,
    an_unmetered_package_burns_last_and_is_never_exhausted,
    a_customer_without_any_package_is_told_so,
    a_package_that_has_not_started_is_none,
    a_package_starts_by_the_clock,
    a_package_expires_by_the_clock,
    expired_is_told_only_if_nothing_else_exists,
    exhausted_is_told_before_frozen,
    a_frozen_package_pays_nothing_until_it_is_unfrozen,
    a_released_package_pays_nothing,
    a_leg_settles_whatever_became_of_its_package,
    another_products_package_pays_nothing,
}

/// Spends one unit and returns the package that paid it.
async fn paid_by(buyer: &Buyer) -> String {
    let call = buyer.call();
    call.send().await.assert_ok();
    let record = buyer.call_in_state(&call.request_id(), "settled").await;
    let legs = record["legs"].as_array().unwrap();
    assert_eq!(legs.len(), 1, "{record}");
    legs[0]["package_id"].as_str().unwrap().to_owned()
}

/// Grants one unit for each of these, in this order, and checks in which order they pay.
async fn expect_order(suite: &Suite, packages: &[Value], expected: &[usize]) {
    let buyer = suite.stranger("translate").await;
    let mut ids = Vec::new();
    for package in packages {
        ids.push(buyer.grant_and("1", package.clone()).await);
    }
    for position in expected {
        assert_eq!(paid_by(&buyer).await, ids[*position], "of {packages:?}, number {position} should have paid");
    }
    buyer.call().send().await.problem(402, "package_exhausted");
}

async fn the_lowest_priority_burns_first(suite: Arc<Suite>) {
    let soon = in_seconds(3600);
    let packages = [json!({ "priority": 5, "expires_at": soon }), json!({ "priority": -1 }), json!({ "priority": 1 }), json!({})];
    expect_order(&suite, &packages, &[1, 3, 2, 0]).await;
}

async fn then_the_earliest_expiry_and_none_last(suite: Arc<Suite>) {
    let packages = [json!({}), json!({ "expires_at": in_seconds(7200) }), json!({ "expires_at": in_seconds(3600) })];
    expect_order(&suite, &packages, &[2, 1, 0]).await;
}

async fn then_the_oldest_package(suite: Arc<Suite>) {
    let expires_at = in_seconds(3600);
    let same = json!({ "expires_at": expires_at, "priority": 7 });
    expect_order(&suite, &[same.clone(), same.clone(), same], &[0, 1, 2]).await;
}

async fn a_hold_spans_packages_and_records_its_legs(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let first = buyer.grant_and("0.3", json!({ "priority": 1 })).await;
    let second = buyer.grant_and("0.2001", json!({ "priority": 2 })).await;
    let third = buyer.grant_and("5", json!({ "priority": 3 })).await;
    let call = buyer.call();
    call.send().await.assert_ok();
    let record = buyer.call_in_state(&call.request_id(), "settled").await;
    let legs = record["legs"].as_array().unwrap();
    let legs: Vec<_> = legs.iter().map(|leg| (leg["package_id"].as_str().unwrap(), units(&leg["quantity"]))).collect();
    assert_eq!(legs, [(first.as_str(), 3000), (second.as_str(), 2001), (third.as_str(), 4999)]);
    for (package, used) in [(&first, "0.3"), (&second, "0.2001"), (&third, "0.4999")] {
        assert_eq!(units(&buyer.package_state(package).await["used"]), quantity(used));
    }
    assert_eq!(buyer.package_state(&first).await["state"], "exhausted");
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn an_unmetered_package_burns_last_and_is_never_exhausted(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let unmetered = json!({ "customer_id": buyer.id, "product_id": "translate", "kind": "unmetered", "priority": -9 });
    let unmetered = buyer.grant_with(unmetered).await;
    let prepaid = buyer.grant("1").await;
    assert_eq!(paid_by(&buyer).await, prepaid);
    for used in 1..4 {
        assert_eq!(paid_by(&buyer).await, unmetered);
        assert_eq!(units(&buyer.package_state(&unmetered).await["used"]), used * 10_000);
    }
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn a_customer_without_any_package_is_told_so(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    buyer.call().send().await.problem(403, "no_package");
    buyer.expect_nothing_forwarded();
}

async fn a_package_that_has_not_started_is_none(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let package = buyer.grant_and("5", json!({ "starts_at": in_seconds(3600) })).await;
    assert_eq!(buyer.package_state(&package).await["state"], "scheduled");
    let reply = buyer.call().send().await;
    buyer.expect_refused(&reply, 403, "no_package").await;
}

async fn a_package_starts_by_the_clock(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let package = buyer.grant_and("5", json!({ "starts_at": in_seconds(2) })).await;
    eventually("the package has started", || async { buyer.package_state(&package).await["state"] == "active" }).await;
    buyer.spend(1).await;
    buyer.expect_used("1").await;
}

async fn a_package_expires_by_the_clock(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let package = buyer.grant_and("5", json!({ "expires_at": in_seconds(4) })).await;
    buyer.spend(1).await;
    eventually("the package has expired", || async { buyer.package_state(&package).await["state"] == "expired" }).await;
    buyer.call().send().await.problem(402, "package_expired");
    let balance = buyer.balance().await;
    assert_eq!((units(&balance["remaining"]), units(&balance["available"]), units(&balance["used"])), (0, 0, 10_000));
}

async fn expired_is_told_only_if_nothing_else_exists(suite: Arc<Suite>) {
    let past = json!({ "starts_at": "2020-01-01T00:00:00Z", "expires_at": "2021-01-01T00:00:00Z" });
    let buyer = suite.stranger("translate").await;
    buyer.grant_and("5", past.clone()).await;
    let reply = buyer.call().send().await;
    buyer.expect_refused(&reply, 402, "package_expired").await;
    let frozen = buyer.grant("5").await;
    buyer.change(&frozen, "freeze").await;
    buyer.call().send().await.problem(403, "package_frozen");
    let exhausted = suite.buyer("translate", "1").await;
    exhausted.grant_and("5", past).await;
    exhausted.spend(1).await;
    exhausted.call().send().await.problem(402, "package_exhausted");
}

async fn exhausted_is_told_before_frozen(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "1").await;
    let frozen = buyer.grant_and("5", json!({ "priority": 9 })).await;
    buyer.change(&frozen, "freeze").await;
    buyer.spend(1).await;
    buyer.call().send().await.problem(402, "package_exhausted");
}

async fn a_frozen_package_pays_nothing_until_it_is_unfrozen(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let package = buyer.grant("5").await;
    assert_eq!(buyer.change(&package, "freeze").await["state"], "frozen");
    let reply = buyer.call().send().await;
    buyer.expect_refused(&reply, 403, "package_frozen").await;
    assert_eq!(buyer.available().await, 0);
    assert_eq!(buyer.change(&package, "freeze").await["state"], "frozen");
    assert_eq!(buyer.change(&package, "unfreeze").await["state"], "active");
    assert_eq!(buyer.change(&package, "unfreeze").await["state"], "active");
    buyer.spend(1).await;
    buyer.expect_used("1").await;
}

async fn a_released_package_pays_nothing(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let package = buyer.grant("5").await;
    buyer.spend(1).await;
    assert_eq!(buyer.change(&package, "release").await["state"], "released");
    assert_eq!(buyer.change(&package, "release").await["state"], "released");
    let reply = buyer.call().send().await;
    assert!(matches!(reply.status, 402 | 403), "{}", reply.text());
    buyer.expect_forwarded(1).await;
    assert_eq!(buyer.available().await, 0);
    buyer.expect_used("1").await;
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn a_leg_settles_whatever_became_of_its_package(suite: Arc<Suite>) {
    for action in ["freeze", "release"] {
        let buyer = suite.stranger("translate").await;
        let package = buyer.grant("5").await;
        let gate = suite.backend.gate();
        let call = buyer.call().script(&Script::chunked().then(Step::Text("a".into())).then(gate.step()));
        let exchange = call.open().await.unwrap();
        buyer.change(&package, action).await;
        gate.open();
        assert!(exchange.rest().await.unwrap().whole);
        assert_eq!(buyer.call_in_state(&call.request_id(), "settled").await["charge"], "1");
        let state = buyer.package_state(&package).await;
        assert_eq!((units(&state["used"]), units(&state["held"])), (10_000, 0), "{state}");
        buyer.gateway.assert_balanced(&buyer.id).await;
    }
}

async fn another_products_package_pays_nothing(suite: Arc<Suite>) {
    let mut buyer = suite.buyer("nested", "5").await;
    buyer.product_id = "translate".into();
    buyer.call().send().await.problem(403, "no_package");
    buyer.expect_nothing_forwarded();
}
