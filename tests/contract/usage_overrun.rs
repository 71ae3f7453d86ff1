//! Charges that differ from their hold, over packages, and beyond all of them (contract section 3, *Settling*).

use crate::support::Suite;
use crate::support::buyer::{Buyer, units};
use crate::support::call::Call;
use crate::support::metered::{Charged, json_of};
use crate::support::script::Script;
use crate::support::watched::repurchase;
use serde_json::{Value, json};
use std::sync::Arc;

crate::cases! {
    what_a_hold_does_not_need_is_free_at_once,
    a_charge_above_its_hold_takes_what_is_available,
    a_charge_takes_several_packages_in_their_order,
    what_no_package_covers_is_overrun_and_is_absorbed,
    overrun_is_carried_and_paid_by_the_next_package,
    overrun_above_the_next_package_is_paid_by_the_one_after_it,
    overrun_does_not_take_what_other_calls_hold,
    a_carried_overrun_stays_paid_when_the_order_of_a_repurchase_arrives,
    a_refund_gives_back_to_the_packages_what_they_paid,
    a_charge_of_usage_fires_alerts_and_the_exhaustion,
    a_charge_of_usage_orders_again,
}

fn total(tokens: &str) -> Script {
    json_of(&format!(r#"{{"usage":{{"total_tokens":{tokens}}}}}"#))
}

fn ask(buyer: &Buyer, tokens: &str) -> Call {
    buyer.ask(&json!({}), &total(tokens))
}

async fn figures(buyer: &Buyer) -> Value {
    let balance = buyer.balance().await;
    let figures = ["used", "held", "remaining", "available", "overrun"];
    figures.iter().map(|name| balance[*name].clone()).collect()
}

/// Sends a call that costs more than there is, and returns its record.
async fn overrun(buyer: &Buyer, tokens: &str) -> Value {
    let call = ask(buyer, tokens);
    let reply = call.send().await;
    reply.assert_ok();
    let record = buyer.call_record(&call.request_id()).await;
    assert_eq!(
        record["charge"],
        reply.header("tollgate-charge").as_str(),
        "its headers tell what was charged, less what was overrun"
    );
    record
}

async fn what_a_hold_does_not_need_is_free_at_once(suite: Arc<Suite>) {
    let buyer = suite.buyer("absorbing", "10").await;
    for used in 1..=5 {
        let call = ask(&buyer, "0.5");
        buyer.expect_charge(&call, &Charged::settled("0.5")).await;
        assert_eq!(buyer.available().await, 100_000 - used * 5_000);
    }
}

async fn a_charge_above_its_hold_takes_what_is_available(suite: Arc<Suite>) {
    let buyer = suite.buyer("absorbing", "100").await;
    let call = ask(&buyer, "77.0001");
    buyer.expect_charge(&call, &Charged::settled("77.0001")).await;
    let record = buyer.call_record(&call.request_id()).await;
    assert_eq!((&record["hold"], &record["overrun"]), (&json!("10"), &json!("0")));
    assert_eq!(figures(&buyer).await, json!(["77.0001", "0", "22.9999", "22.9999", "0"]));
}

async fn a_charge_takes_several_packages_in_their_order(suite: Arc<Suite>) {
    let buyer = suite.stranger("absorbing").await;
    let last = buyer.grant_and("100", json!({ "priority": 7 })).await;
    let first = buyer.grant_and("4", json!({ "priority": -7 })).await;
    let second = buyer.grant("20.25").await;
    let call = ask(&buyer, "30.5");
    buyer.expect_charge(&call, &Charged::settled("30.5")).await;
    let leg = |package: &str, quantity: &str| json!({ "package_id": package, "quantity": quantity });
    let record = buyer.call_record(&call.request_id()).await;
    assert_eq!(record["legs"], json!([leg(&first, "4"), leg(&second, "20.25"), leg(&last, "6.25")]));
    for (package, used, state) in [(&first, "4", "exhausted"), (&second, "20.25", "exhausted"), (&last, "6.25", "active")] {
        let package = buyer.package_state(package).await;
        assert_eq!((&package["used"], &package["state"]), (&json!(used), &json!(state)));
    }
    buyer.expect_balanced().await;
}

async fn what_no_package_covers_is_overrun_and_is_absorbed(suite: Arc<Suite>) {
    let buyer = suite.watched("absorbing").await;
    buyer.grant("12").await;
    buyer.grant("3").await;
    let record = overrun(&buyer, "40.5").await;
    assert_eq!((&record["charge"], &record["overrun"], &record["state"]), (&json!("15"), &json!("25.5"), &json!("settled")));
    assert_eq!(figures(&buyer).await, json!(["15", "0", "0", "0", "25.5"]));
    let told = buyer.expect_events("call.overrun", 1).await.remove(0);
    assert_eq!((&told["data"]["request_id"], &told["data"]["overrun"]), (&record["request_id"], &json!("25.5")));
    buyer.expect_hooks("call.overrun", 1).await;
    // The merchant bears it: the next package is whole.
    buyer.grant("50").await;
    assert_eq!(figures(&buyer).await, json!(["15", "0", "50", "50", "25.5"]));
    buyer.expect_balanced().await;
}

async fn overrun_is_carried_and_paid_by_the_next_package(suite: Arc<Suite>) {
    let buyer = suite.buyer("carrying", "12").await;
    let record = overrun(&buyer, "40.5").await;
    assert_eq!((&record["charge"], &record["overrun"]), (&json!("12"), &json!("28.5")));
    assert_eq!(figures(&buyer).await, json!(["12", "0", "0", "0", "28.5"]));
    let next = buyer.grant("100").await;
    assert_eq!(figures(&buyer).await, json!(["40.5", "0", "71.5", "71.5", "0"]));
    assert_eq!(buyer.package_state(&next).await["used"], "28.5");
    buyer.gateway.assert_balanced(&buyer.id).await;
    buyer.expect_charge(&ask(&buyer, "1.5"), &Charged::settled("1.5")).await;
    assert_eq!(figures(&buyer).await, json!(["42", "0", "70", "70", "0"]));
}

async fn overrun_above_the_next_package_is_paid_by_the_one_after_it(suite: Arc<Suite>) {
    let buyer = suite.buyer("carrying", "10").await;
    overrun(&buyer, "30").await;
    let next = buyer.grant("15").await;
    assert_eq!(figures(&buyer).await, json!(["25", "0", "0", "0", "5"]));
    assert_eq!(buyer.package_state(&next).await["state"], "exhausted");
    buyer.post("{}").send().await.problem(402, "package_exhausted");
    buyer.grant("15").await;
    assert_eq!(figures(&buyer).await, json!(["30", "0", "10", "10", "0"]));
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn overrun_does_not_take_what_other_calls_hold(suite: Arc<Suite>) {
    for product in ["absorbing", "carrying"] {
        let buyer = suite.buyer(product, "25").await;
        let gate = suite.backend.gate();
        let waiting = buyer.ask(&json!({}), &total("10").first(gate.step()));
        let id = waiting.request_id();
        let waiting = tokio::spawn(async move { waiting.send().await });
        buyer.expect_forwarded(1).await;
        let record = overrun(&buyer, "100").await;
        assert_eq!((&record["charge"], &record["overrun"]), (&json!("15"), &json!("85")), "{product}");
        assert_eq!(buyer.hold_of(&id).await, "10");
        gate.open();
        waiting.await.unwrap().assert_ok();
        assert_eq!(buyer.charged_now(&id).await, Charged::settled("10"));
        buyer.expect_used("25").await;
        buyer.expect_balanced().await;
    }
}

async fn a_carried_overrun_stays_paid_when_the_order_of_a_repurchase_arrives(suite: Arc<Suite>) {
    let buyer = suite.watched("carrying").await;
    buyer.answer_orders([crate::support::receiver::Answer::Package]);
    buyer.grant("10").await;
    buyer.repurchase(repurchase("5", "100")).await;
    overrun(&buyer, "30").await;
    crate::support::eventually("the order is credited", || async { buyer.balance().await["remaining"] == "80" }).await;
    assert_eq!(figures(&buyer).await, json!(["30", "0", "80", "80", "0"]));
    buyer.expect_orders(1).await;
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn a_refund_gives_back_to_the_packages_what_they_paid(suite: Arc<Suite>) {
    let buyer = suite.stranger("absorbing").await;
    let first = buyer.grant_and("5", json!({ "priority": -1 })).await;
    let second = buyer.grant("20").await;
    let record = overrun(&buyer, "30").await;
    let id = record["request_id"].as_str().unwrap();
    let reply = buyer.refund(id, &json!({ "refund_id": "some", "quantity": "22", "reason": "a case" })).await;
    assert!(matches!(reply.status, 200 | 201), "{}", reply.text());
    let used = |package: Value| units(&package["used"]);
    assert_eq!(used(buyer.package_state(&first).await) + used(buyer.package_state(&second).await), 3 * 10_000);
    let more = buyer.refund(id, &json!({ "refund_id": "more", "quantity": "4", "reason": "a case" })).await;
    assert!(more.status >= 400, "no more is given back than was charged: {}", more.text());
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn a_charge_of_usage_fires_alerts_and_the_exhaustion(suite: Arc<Suite>) {
    let buyer = suite.watched("absorbing").await;
    buyer.grant("100").await;
    buyer.alerts(json!([{ "percent": "50" }, { "remaining": "30.5" }, { "remaining": "10" }])).await;
    buyer.expect_charge(&ask(&buyer, "49.9999"), &Charged::settled("49.9999")).await;
    assert_eq!(buyer.told().await, Vec::<Value>::new());
    buyer.expect_charge(&ask(&buyer, "0.0001"), &Charged::settled("0.0001")).await;
    assert_eq!(buyer.told().await, [json!({ "percent": "50" })]);
    let last = &buyer.events_of("balance.low").await[0]["data"];
    assert_eq!((&last["remaining"], &last["unit"]), (&json!("50"), &json!("token")));
    // A hold moves nothing, whatever its call costs in the end.
    let held = buyer.ask(&json!({ "max_tokens": 5 }), &total("0"));
    buyer.expect_charge(&held, &Charged::released()).await;
    assert_eq!(buyer.told().await.len(), 1);
    // One charge jumps over two thresholds, and one uses all of it up and more.
    buyer.expect_charge(&ask(&buyer, "40"), &Charged::settled("40")).await;
    assert_eq!(buyer.told().await[1..], [json!({ "remaining": "30.5" }), json!({ "remaining": "10" })]);
    overrun(&buyer, "11").await;
    assert_eq!(buyer.told().await.len(), 3);
    buyer.expect_events("balance.exhausted", 1).await;
    buyer.expect_events("package.exhausted", 1).await;
    buyer.expect_events("call.overrun", 1).await;
    buyer.expect_hooks("balance.low", 3).await;
}

async fn a_charge_of_usage_orders_again(suite: Arc<Suite>) {
    let buyer = suite.watched("absorbing").await;
    buyer.answer_orders([crate::support::receiver::Answer::Package]);
    buyer.grant("100").await;
    buyer.repurchase(repurchase("40", "500")).await;
    buyer.expect_charge(&ask(&buyer, "59.9999"), &Charged::settled("59.9999")).await;
    assert_eq!(buyer.repurchases().await.len(), 0);
    buyer.expect_charge(&ask(&buyer, "0.0001"), &Charged::settled("0.0001")).await;
    let order = buyer.expect_orders(1).await;
    buyer.order_in_state(&order, "succeeded").await;
    crate::support::eventually("the order is credited", || async { buyer.balance().await["remaining"] == "540" }).await;
    buyer.expect_balanced().await;
}
