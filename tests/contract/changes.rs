//! What becomes of alerts when packages change: frozen, released, started and expired, by people and by the clock (contract section 4).

use crate::support::watched::Watched;
use crate::support::{Suite, eventually, in_seconds};
use serde_json::{Value, json};
use std::sync::Arc;

crate::cases! {
    freezing_a_package_crosses_and_unfreezing_arms,
    freezing_everything_tells_that_nothing_is_left,
    releasing_a_package_crosses,
    a_package_expires_by_the_clock_and_is_told_once,
    a_call_after_the_expiry_finds_it_too,
    moving_the_expiry_into_the_past_expires_at_once,
    a_package_that_starts_by_the_clock_arms_and_moves_the_base,
    a_package_granted_in_the_past_is_expired_at_once,
    what_takes_a_package_away_takes_it_from_the_base,
    an_expiry_takes_a_package_from_the_base,
    unfreezing_gives_a_package_back_to_the_base,
    every_change_of_a_package_is_an_event,
}

async fn two_packages(suite: &Suite, thresholds: Value) -> (Watched, String, String) {
    let customer = suite.watched("translate").await;
    let (first, second) = (customer.grant("10").await, customer.grant("5").await);
    customer.alerts(thresholds).await;
    (customer, first, second)
}

async fn freezing_a_package_crosses_and_unfreezing_arms(suite: Arc<Suite>) {
    let (customer, first, second) = two_packages(&suite, json!([{ "remaining": "7" }])).await;
    customer.change(&second, "freeze").await;
    assert_eq!(customer.told().await.len(), 0);
    customer.change(&second, "unfreeze").await;
    customer.change(&first, "freeze").await;
    assert_eq!(customer.told().await.len(), 1);
    customer.change(&first, "freeze").await;
    assert_eq!(customer.told().await.len(), 1, "frozen once");
    customer.change(&first, "unfreeze").await;
    customer.change(&first, "freeze").await;
    assert_eq!(customer.told().await.len(), 2);
    assert_eq!(customer.events_of("package.frozen").await.len(), 3);
}

async fn freezing_everything_tells_that_nothing_is_left(suite: Arc<Suite>) {
    let (customer, first, second) = two_packages(&suite, json!([])).await;
    customer.change(&first, "freeze").await;
    customer.change(&second, "freeze").await;
    assert_eq!(customer.story().await, ["package.frozen", "package.frozen", "balance.exhausted"]);
    customer.change(&first, "unfreeze").await;
    assert_eq!(customer.events_of("balance.exhausted").await.len(), 1);
}

async fn releasing_a_package_crosses(suite: Arc<Suite>) {
    let (customer, first, second) = two_packages(&suite, json!([{ "remaining": "7" }])).await;
    customer.change(&first, "release").await;
    assert_eq!(customer.story().await, ["package.released", "balance.low"]);
    customer.change(&second, "release").await;
    assert_eq!(customer.events_of("balance.exhausted").await.len(), 1);
}

async fn a_package_expires_by_the_clock_and_is_told_once(suite: Arc<Suite>) {
    let customer = suite.watched("translate").await;
    customer.grant("3").await;
    customer.grant_and("10", json!({ "expires_at": in_seconds(2) })).await;
    customer.alerts(json!([{ "remaining": "5" }])).await;
    assert_eq!(customer.story().await, Vec::<String>::new());
    eventually("a tick finds the expiry", || async {
        customer.gateway.tick().await;
        !customer.story().await.is_empty()
    })
    .await;
    assert_eq!(customer.story().await, ["package.expired", "balance.low"]);
    customer.gateway.tick().await;
    customer.charge(1, "1").await;
    assert_eq!(customer.story().await, ["package.expired", "balance.low"]);
}

async fn a_call_after_the_expiry_finds_it_too(suite: Arc<Suite>) {
    let customer = suite.watched("translate").await;
    customer.grant_and("10", json!({ "expires_at": in_seconds(2) })).await;
    eventually("a call is refused", || async { customer.call().send().await.status == 402 }).await;
    customer.expect_events("package.expired", 1).await;
    customer.expect_events("balance.exhausted", 1).await;
}

async fn moving_the_expiry_into_the_past_expires_at_once(suite: Arc<Suite>) {
    let customer = suite.watched("translate").await;
    let package = customer.grant_and("10", json!({ "starts_at": in_seconds(-60) })).await;
    let path = format!("/packages/{package}");
    let reply = customer.gateway.write("PATCH", &path, &json!({ "expires_at": in_seconds(-5) })).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    customer.call().send().await.problem(402, "package_expired");
    customer.expect_events("package.expired", 1).await;
    // It lives again, and its next end is another one.
    let reply = customer.gateway.write("PATCH", &path, &json!({ "expires_at": in_seconds(900) })).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    customer.charge(1, "1").await;
    customer.gateway.write("PATCH", &path, &json!({ "expires_at": in_seconds(-5) })).await;
    customer.call().send().await.problem(402, "package_expired");
    customer.expect_events("package.expired", 2).await;
    customer.expect_events("balance.exhausted", 2).await;
}

async fn a_package_that_starts_by_the_clock_arms_and_moves_the_base(suite: Arc<Suite>) {
    let customer = suite.watched("translate").await;
    customer.grant_and("4", json!({ "priority": 1 })).await;
    customer.alerts(json!([{ "percent": "50" }, { "remaining": "3" }])).await;
    let later = customer.grant_and("6", json!({ "starts_at": in_seconds(3), "priority": 2 })).await;
    customer.charge(1, "1").await;
    assert_eq!(customer.told().await, [json!({ "remaining": "3" })]);
    eventually("the package has started", || async { customer.package_state(&later).await["state"] == "active" }).await;
    // 9 remain of 10: half of them is 5 now.
    customer.charge(3, "4").await;
    assert_eq!(customer.told().await.len(), 1);
    customer.charge(1, "5").await;
    assert_eq!(customer.told().await, [json!({ "remaining": "3" }), json!({ "percent": "50" })]);
    customer.charge(2, "7").await;
    assert_eq!(customer.told().await.len(), 3, "3 is armed again by the start");
}

async fn a_package_granted_in_the_past_is_expired_at_once(suite: Arc<Suite>) {
    let customer = suite.watched("translate").await;
    customer.grant("3").await;
    customer.alerts(json!([{ "remaining": "5" }])).await;
    customer.grant_and("10", json!({ "starts_at": in_seconds(-20), "expires_at": in_seconds(-10) })).await;
    assert_eq!(customer.story().await, ["package.expired"], "what never remained cannot fall");
}

/// Two packages of 10, the first of them burned first, and an alert at half of what counts.
async fn halves(suite: &Suite, second: Value) -> (Watched, String) {
    let customer = suite.watched("translate").await;
    customer.grant_and("10", json!({ "priority": 1 })).await;
    let second = customer.grant_and("10", second).await;
    customer.alerts(json!([{ "percent": "50" }])).await;
    (customer, second)
}

/// Checks that half of 10 counts, and not half of 20.
async fn expect_half_of_ten(customer: &Watched, after: &str) {
    assert_eq!(customer.told().await.len(), 0, "{after}: 10 of 10 is no half");
    customer.charge(4, "4").await;
    assert_eq!(customer.told().await.len(), 0, "{after}");
    customer.charge(1, "5").await;
    assert_eq!(customer.told().await.len(), 1, "{after}");
}

async fn what_takes_a_package_away_takes_it_from_the_base(suite: Arc<Suite>) {
    for action in ["freeze", "release", "adjust"] {
        let (customer, second) = halves(&suite, json!({ "priority": 2 })).await;
        if action == "adjust" {
            customer.adjust(&second, "-10").await;
        } else {
            customer.change(&second, action).await;
        }
        expect_half_of_ten(&customer, action).await;
    }
}

async fn an_expiry_takes_a_package_from_the_base(suite: Arc<Suite>) {
    let (customer, second) = halves(&suite, json!({ "priority": 2, "expires_at": in_seconds(2) })).await;
    eventually("the package has expired", || async { customer.package_state(&second).await["state"] == "expired" }).await;
    // No tick: the next charge finds it.
    expect_half_of_ten(&customer, "expiry").await;
}

async fn unfreezing_gives_a_package_back_to_the_base(suite: Arc<Suite>) {
    let (customer, second) = halves(&suite, json!({ "priority": 2 })).await;
    customer.change(&second, "freeze").await;
    customer.charge(4, "4").await;
    customer.change(&second, "unfreeze").await;
    customer.charge(5, "9").await;
    assert_eq!(customer.told().await.len(), 0, "11 of 20");
    customer.charge(1, "10").await;
    assert_eq!(customer.told().await.len(), 1, "10 of 20");
}

async fn every_change_of_a_package_is_an_event(suite: Arc<Suite>) {
    let customer = suite.watched("translate").await;
    let package = customer.grant("3").await;
    for action in ["freeze", "unfreeze", "release"] {
        customer.change(&package, action).await;
    }
    for kind in ["package.granted", "package.frozen", "package.unfrozen", "package.released"] {
        let events = customer.expect_events(kind, 1).await;
        let data = &events[0]["data"];
        assert_eq!(data["customer_id"], customer.id.as_str());
        assert_eq!((&data["product_id"], &data["package_id"]), (&json!("translate"), &json!(package)), "{kind}");
    }
}
