//! Thresholds of what remains: when they are told of, and when not (contract section 4).
//!
//! Events are written with what caused them, so these cases read them from the control API; that they arrive is checked elsewhere.

use crate::support::Suite;
use crate::support::buyer::units;
use crate::support::script::Script;
use crate::support::watched::Watched;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::task::JoinSet;

crate::cases! {
    a_charge_that_reaches_a_threshold_tells_once,
    a_percent_is_a_share_of_what_was_granted,
    one_charge_over_three_thresholds_tells_of_three,
    the_last_unit_tells_that_nothing_is_left,
    a_threshold_of_nothing_and_the_end_are_both_told,
    a_grant_above_the_threshold_arms_it_again,
    a_grant_that_stays_below_arms_nothing,
    an_adjustment_crosses_and_arms_like_a_charge,
    a_refund_arms_and_tells_nothing,
    a_rule_written_below_its_threshold_tells_nothing_until_the_next_crossing,
    rules_of_the_product_hold_until_the_customer_has_its_own,
    an_empty_list_of_a_customer_silences_the_product,
    holds_move_no_balance,
    a_percentage_stays_with_its_base_while_calls_are_charged,
    packages_without_a_quantity_are_not_watched,
    concurrent_charges_tell_of_each_crossing_once,
    an_event_of_the_balance_says_what_is_left,
}

async fn funded(suite: &Suite, quantity: &str, thresholds: Value) -> (Watched, String) {
    let customer = suite.watched("translate").await;
    let package = customer.grant(quantity).await;
    customer.alerts(thresholds).await;
    (customer, package)
}

fn remaining(levels: &[&str]) -> Vec<Value> {
    levels.iter().map(|level| json!({ "remaining": level })).collect()
}

async fn a_charge_that_reaches_a_threshold_tells_once(suite: Arc<Suite>) {
    let (customer, _) = funded(&suite, "10", json!([{ "remaining": "7" }])).await;
    customer.charge(2, "2").await;
    assert_eq!(customer.told().await, remaining(&[]));
    customer.charge(1, "3").await;
    assert_eq!(customer.told().await, remaining(&["7"]));
    customer.charge(5, "8").await;
    assert_eq!(customer.told().await, remaining(&["7"]));
}

async fn a_percent_is_a_share_of_what_was_granted(suite: Arc<Suite>) {
    let (customer, _) = funded(&suite, "8", json!([{ "percent": "37.5" }])).await;
    customer.charge(4, "4").await;
    assert_eq!(customer.told().await.len(), 0);
    customer.charge(1, "5").await;
    assert_eq!(customer.told().await, [json!({ "percent": "37.5" })]);
}

async fn one_charge_over_three_thresholds_tells_of_three(suite: Arc<Suite>) {
    // From 10 to 9 in one charge; highest first, whatever the order in the rule.
    let rules = json!([{ "remaining": "9.25" }, { "percent": "95" }, { "remaining": "9.75" }, { "remaining": "8" }]);
    let (customer, _) = funded(&suite, "10", rules).await;
    customer.charge(1, "1").await;
    let expected = [json!({ "remaining": "9.75" }), json!({ "percent": "95" }), json!({ "remaining": "9.25" })];
    assert_eq!(customer.told().await, expected);
}

async fn the_last_unit_tells_that_nothing_is_left(suite: Arc<Suite>) {
    let customer = suite.watched("translate").await;
    customer.grant("2").await;
    customer.charge(1, "1").await;
    assert_eq!(customer.story().await, Vec::<String>::new());
    customer.charge(1, "2").await;
    customer.call().send().await.problem(402, "package_exhausted");
    let mut story = customer.story().await;
    story.sort();
    assert_eq!(story, ["balance.exhausted", "package.exhausted"]);
}

async fn a_threshold_of_nothing_and_the_end_are_both_told(suite: Arc<Suite>) {
    let (customer, _) = funded(&suite, "1", json!([{ "remaining": "0" }, { "remaining": "0.5" }])).await;
    customer.charge(1, "1").await;
    assert_eq!(customer.told().await, remaining(&["0.5", "0"]));
    assert_eq!(customer.events_of("balance.exhausted").await.len(), 1);
    assert_eq!(customer.story().await.last().unwrap(), "balance.exhausted");
}

async fn a_grant_above_the_threshold_arms_it_again(suite: Arc<Suite>) {
    let (customer, _) = funded(&suite, "6", json!([{ "remaining": "5" }])).await;
    customer.charge(2, "2").await;
    assert_eq!(customer.told().await.len(), 1);
    customer.grant("3").await;
    assert_eq!(customer.told().await.len(), 1);
    customer.charge(1, "3").await;
    assert_eq!(customer.told().await.len(), 1, "6 is above 5");
    customer.charge(1, "4").await;
    assert_eq!(customer.told().await, remaining(&["5", "5"]));
}

async fn a_grant_that_stays_below_arms_nothing(suite: Arc<Suite>) {
    let (customer, _) = funded(&suite, "6", json!([{ "remaining": "5" }])).await;
    customer.charge(2, "2").await;
    customer.grant("1").await;
    customer.charge(2, "4").await;
    assert_eq!(customer.told().await, remaining(&["5"]));
}

async fn an_adjustment_crosses_and_arms_like_a_charge(suite: Arc<Suite>) {
    let (customer, package) =
        funded(&suite, "10", json!([{ "remaining": "8" }, { "remaining": "4" }, { "remaining": "6" }])).await;
    customer.adjust(&package, "-7.5").await;
    assert_eq!(customer.told().await, remaining(&["8", "6", "4"]));
    customer.adjust(&package, "4.5").await;
    assert_eq!(customer.told().await.len(), 3, "what goes up tells nothing");
    customer.adjust(&package, "-1").await;
    assert_eq!(customer.told().await, remaining(&["8", "6", "4", "6"]));
    customer.adjust(&package, "-6").await;
    assert_eq!(customer.told().await, remaining(&["8", "6", "4", "6", "4"]));
    assert_eq!(customer.story().await.iter().filter(|kind| *kind == "balance.exhausted").count(), 1);
    assert_eq!(customer.events_of("package.exhausted").await.len(), 1);
}

async fn a_refund_arms_and_tells_nothing(suite: Arc<Suite>) {
    let (customer, _) = funded(&suite, "10", json!([{ "remaining": "9" }])).await;
    let call = customer.call();
    call.send().await.assert_ok();
    customer.expect_used("1").await;
    assert_eq!(customer.told().await.len(), 1);
    let refund = json!({ "refund_id": "refund-1", "reason": "a case" });
    assert!(matches!(customer.refund(&call.request_id(), &refund).await.status, 200 | 201));
    assert_eq!(customer.told().await.len(), 1);
    customer.charge(1, "1").await;
    assert_eq!(customer.told().await, remaining(&["9", "9"]));
}

async fn a_rule_written_below_its_threshold_tells_nothing_until_the_next_crossing(suite: Arc<Suite>) {
    let customer = suite.watched("translate").await;
    customer.grant("10").await;
    customer.charge(4, "4").await;
    customer.alerts(json!([{ "remaining": "8" }, { "remaining": "5" }])).await;
    assert_eq!(customer.told().await.len(), 0);
    customer.charge(1, "5").await;
    assert_eq!(customer.told().await, remaining(&["5"]));
    customer.alerts(json!([{ "remaining": "8" }, { "remaining": "5" }])).await;
    customer.charge(1, "6").await;
    assert_eq!(customer.told().await, remaining(&["5"]));
    customer.grant("5").await;
    customer.charge(1, "7").await;
    assert_eq!(customer.told().await, remaining(&["5", "8"]));
}

async fn rules_of_the_product_hold_until_the_customer_has_its_own(suite: Arc<Suite>) {
    let customer = suite.watched("alerted").await;
    customer.grant("10").await;
    customer.charge(5, "5").await;
    assert_eq!(customer.told().await, remaining(&["5"]));
    customer.charge(3, "8").await;
    assert_eq!(customer.told().await, [json!({ "remaining": "5" }), json!({ "percent": "20" })]);
    customer.alerts(json!([{ "remaining": "19" }])).await;
    customer.grant("20").await;
    customer.charge(20, "28").await;
    let told = customer.told().await;
    assert_eq!(told[2..], remaining(&["19"])[..], "its own rule replaces those of the product");
}

async fn an_empty_list_of_a_customer_silences_the_product(suite: Arc<Suite>) {
    let customer = suite.watched("alerted").await;
    customer.grant("6").await;
    customer.alerts(json!([])).await;
    customer.charge(6, "6").await;
    assert_eq!(customer.told().await.len(), 0);
    assert_eq!(customer.events_of("balance.exhausted").await.len(), 1);
}

async fn holds_move_no_balance(suite: Arc<Suite>) {
    let customer = suite.watched("succeeded").await;
    customer.grant("2").await;
    customer.alerts(json!([{ "remaining": "1" }])).await;
    let gate = suite.backend.gate();
    let held = customer.call().script(&Script::status(500).first(gate.step()));
    let waiting = tokio::spawn(async move { held.send().await });
    customer.expect_forwarded(1).await;
    assert_eq!(units(&customer.balance().await["held"]), 10_000);
    assert_eq!(customer.told().await.len(), 0);
    gate.open();
    assert_eq!(waiting.await.unwrap().status, 500);
    customer.expect_used("0").await;
    assert_eq!(customer.story().await, Vec::<String>::new());
    customer.charge(1, "1").await;
    assert_eq!(customer.told().await.len(), 1);
}

async fn a_percentage_stays_with_its_base_while_calls_are_charged(suite: Arc<Suite>) {
    // The first package is empty when the second comes, so that half of what counts is 4 and not 6.
    let (customer, _) = funded(&suite, "4", json!([{ "percent": "50" }])).await;
    customer.charge(4, "4").await;
    assert_eq!(customer.told().await.len(), 1);
    customer.grant("8").await;
    customer.charge(3, "7").await;
    assert_eq!(customer.told().await.len(), 1);
    customer.charge(1, "8").await;
    assert_eq!(customer.told().await.len(), 2);
    // Something is left of that one when the third comes: half of 8 and 4.
    customer.grant("4").await;
    customer.charge(1, "9").await;
    assert_eq!(customer.told().await.len(), 2);
    customer.charge(1, "10").await;
    assert_eq!(customer.told().await.len(), 3);
}

async fn packages_without_a_quantity_are_not_watched(suite: Arc<Suite>) {
    let customer = suite.watched("translate").await;
    customer.grant("2").await;
    let mut unmetered = customer.package("0");
    unmetered.as_object_mut().unwrap().remove("quantity");
    unmetered["kind"] = json!("unmetered");
    customer.grant_with(unmetered).await;
    customer.alerts(json!([{ "percent": "50" }])).await;
    customer.charge(1, "1").await;
    assert_eq!(customer.told().await.len(), 1);
    customer.charge(1, "2").await;
    assert_eq!(customer.events_of("balance.exhausted").await.len(), 1);
    customer.charge(2, "4").await;
    assert_eq!((customer.told().await.len(), customer.events_of("balance.exhausted").await.len()), (1, 1));
}

async fn concurrent_charges_tell_of_each_crossing_once(suite: Arc<Suite>) {
    let rules = json!([{ "remaining": "40" }, { "percent": "50" }, { "remaining": "20" }, { "remaining": "10" }]);
    let (customer, _) = funded(&suite, "60", rules).await;
    let mut callers = JoinSet::new();
    for _ in 0..80 {
        let call = customer.call();
        callers.spawn(async move { call.send().await.status });
    }
    let served = callers.join_all().await.into_iter().filter(|status| *status == 200).count();
    assert_eq!(served, 60);
    customer.expect_used("60").await;
    let expected =
        [json!({ "remaining": "40" }), json!({ "percent": "50" }), json!({ "remaining": "20" }), json!({ "remaining": "10" })];
    assert_eq!(customer.told().await, expected);
    assert_eq!(customer.events_of("balance.exhausted").await.len(), 1);
    customer.gateway.assert_balanced(&customer.id).await;
}

async fn an_event_of_the_balance_says_what_is_left(suite: Arc<Suite>) {
    let (customer, _) = funded(&suite, "2", json!([{ "percent": "50" }])).await;
    customer.charge(2, "2").await;
    let common = json!({ "customer_id": customer.id, "product_id": "translate", "granted": "2", "unit": "call" });
    let with = |more: Value| {
        let mut data = common.clone();
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    let low = customer.events_of("balance.low").await;
    assert_eq!(low[0]["data"], with(json!({ "threshold": { "percent": "50" }, "remaining": "1" })));
    let exhausted = customer.events_of("balance.exhausted").await;
    assert_eq!(exhausted[0]["data"], with(json!({ "threshold": { "remaining": "0" }, "remaining": "0" })));
}
