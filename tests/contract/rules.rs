//! The control API of rules: written, read back, and refused where they are none (contract section 5).

use crate::support::gateway::{CONFIG, READ_TOKEN};
use crate::support::watched::{Watched, repurchase};
use crate::support::{Suite, fresh};
use serde_json::{Value, json};
use std::sync::Arc;

crate::cases! {
    rules_are_read_back_as_they_were_written,
    rules_written_again_are_the_same,
    what_a_rule_leaves_out_is_not_kept,
    a_threshold_that_is_none_is_refused,
    a_repurchase_rule_that_is_none_is_refused,
    rules_with_unknown_members_are_refused,
    rules_that_are_refused_change_nothing,
    rules_of_an_unknown_product_are_refused,
    rules_are_written_with_the_admin_token_alone,
    rules_of_one_product_say_nothing_of_another,
    the_state_of_a_repurchase_is_part_of_its_rule;
    own:
    a_rule_that_nobody_takes_orders_for_is_refused,
    rules_survive_a_crash,
}

async fn customer(suite: &Suite) -> Watched {
    let customer = suite.watched("translate").await;
    customer.grant("10").await;
    customer
}

/// The rules without what only a reader is told.
fn written(mut rules: Value) -> Value {
    if let Some(repurchase) = rules["repurchase"].as_object_mut() {
        repurchase.remove("state");
    }
    json!({ "alerts": rules["alerts"], "repurchase": rules["repurchase"] })
}

fn full() -> Value {
    let mut rule = repurchase("2.5", "1000");
    rule["cap"] = json!({ "count": 3, "spend": "49.9", "period": "36h" });
    rule["cooldown"] = json!("15m");
    json!({ "alerts": [{ "percent": "12.5" }, { "remaining": "0.0001" }], "repurchase": rule })
}

async fn rules_are_read_back_as_they_were_written(suite: Arc<Suite>) {
    let customer = customer(&suite).await;
    assert_eq!(written(customer.rules(&full()).await), full());
    assert_eq!(written(customer.read_rules().await), full());
}

async fn rules_written_again_are_the_same(suite: Arc<Suite>) {
    let customer = customer(&suite).await;
    for _ in 0..3 {
        customer.rules(&full()).await;
    }
    assert_eq!(written(customer.read_rules().await), full());
    assert_eq!(customer.story().await, Vec::<String>::new());
}

async fn what_a_rule_leaves_out_is_not_kept(suite: Arc<Suite>) {
    let customer = customer(&suite).await;
    customer.rules(&full()).await;
    customer.rules(&json!({ "alerts": [] })).await;
    let rules = customer.read_rules().await;
    assert_eq!(rules["alerts"], json!([]));
    assert!(rules["repurchase"]["enabled"] != true, "{rules}");
}

async fn a_threshold_that_is_none_is_refused(suite: Arc<Suite>) {
    let customer = customer(&suite).await;
    for bad in [
        json!({}),
        json!("5"),
        json!({ "remaining": 5 }),
        json!({ "remaining": "-1" }),
        json!({ "remaining": "0.00001" }),
        json!({ "remaining": "1e3" }),
        json!({ "percent": "0" }),
        json!({ "percent": "100.1" }),
        json!({ "percent": "-5" }),
        json!({ "percent": "5", "remaining": "5" }),
        json!({ "below": "5" }),
    ] {
        customer.try_rules(&json!({ "alerts": [bad] })).await.assert_invalid();
        let mut rule = repurchase("5", "10");
        rule["trigger"] = bad;
        customer.try_rules(&json!({ "repurchase": rule })).await.assert_invalid();
    }
    let many: Vec<_> = (1..2000).map(|level| json!({ "remaining": level.to_string() })).collect();
    customer.try_rules(&json!({ "alerts": many })).await.assert_invalid();
}

async fn a_repurchase_rule_that_is_none_is_refused(suite: Arc<Suite>) {
    let customer = customer(&suite).await;
    for (path, bad) in [
        ("/enabled", json!("yes")),
        ("/trigger", Value::Null),
        ("/package/spec_id", json!("")),
        ("/package/quantity", json!("0")),
        ("/package/quantity", json!("-3")),
        ("/package/price", json!("-1")),
        ("/package/price", json!(10)),
        ("/package/currency", json!(7)),
        ("/cap/count", json!(0)),
        ("/cap/count", json!(-1)),
        ("/cap/count", json!("3")),
        ("/cap/spend", json!("-1")),
        ("/cap/period", json!("soon")),
        ("/cap/period", json!("0s")),
        ("/cooldown", json!(3)),
        ("/cooldown", json!("-1s")),
    ] {
        let mut rule = repurchase("5", "10");
        rule["cap"]["spend"] = json!("5");
        *rule.pointer_mut(path).unwrap() = bad.clone();
        let reply = customer.try_rules(&json!({ "repurchase": rule })).await;
        assert!(matches!(reply.status, 400 | 422), "{path} {bad}: {} {}", reply.status, reply.text());
        reply.assert_invalid();
    }
    for member in ["enabled", "trigger", "package", "cap"] {
        let mut rule = repurchase("5", "10");
        rule.as_object_mut().unwrap().remove(member);
        customer.try_rules(&json!({ "repurchase": rule })).await.assert_invalid();
    }
}

async fn rules_with_unknown_members_are_refused(suite: Arc<Suite>) {
    let customer = customer(&suite).await;
    customer.try_rules(&json!({ "alarms": [] })).await.assert_invalid();
    for path in ["", "/package", "/cap"] {
        let mut rule = repurchase("5", "10");
        rule.pointer_mut(path).unwrap()["odd"] = json!(1);
        customer.try_rules(&json!({ "repurchase": rule })).await.assert_invalid();
    }
    customer
        .gateway
        .control("PUT", &format!("/customers/{}/products/translate/rules", customer.id))
        .body("{")
        .send()
        .await
        .assert_invalid();
}

async fn rules_that_are_refused_change_nothing(suite: Arc<Suite>) {
    let customer = customer(&suite).await;
    customer.rules(&full()).await;
    customer.try_rules(&json!({ "alerts": [{ "remaining": "1" }], "repurchase": 5 })).await.assert_invalid();
    assert_eq!(written(customer.read_rules().await), full());
}

async fn rules_of_an_unknown_product_are_refused(suite: Arc<Suite>) {
    let mut customer = customer(&suite).await;
    customer.buyer.product_id = fresh("product");
    let reply = customer.try_rules(&json!({ "alerts": [] })).await;
    assert!(matches!(reply.status, 400 | 404), "{} {}", reply.status, reply.text());
    let path = format!("/customers/{}/products/{}/rules", customer.id, customer.product_id);
    customer.gateway.control("GET", &path).send().await.problem(404, "not_found");
}

async fn rules_are_written_with_the_admin_token_alone(suite: Arc<Suite>) {
    let customer = customer(&suite).await;
    let path = format!("/customers/{}/products/translate/rules", customer.id);
    let write = || customer.gateway.control("PUT", &path).body("{\"alerts\":[]}");
    let refused = write().without("authorization").send().await;
    refused.problem(401, "unauthorized");
    let read = format!("Bearer {READ_TOKEN}");
    let refused = write().replacing("authorization", &read).send().await;
    assert!(matches!(refused.status, 401 | 403), "{}", refused.status);
    let reply = customer.gateway.control("GET", &path).replacing("authorization", &read).send().await;
    assert_eq!(reply.status, 200);
}

async fn rules_of_one_product_say_nothing_of_another(suite: Arc<Suite>) {
    let customer = customer(&suite).await;
    let mut other = customer.clone();
    other.buyer.product_id = "nested".into();
    other.grant("10").await;
    customer.alerts(json!([{ "remaining": "9" }])).await;
    other.call().target("/translate/nested/call").send().await.assert_ok();
    other.expect_used("1").await;
    assert_eq!(other.told().await.len(), 0);
    customer.charge(1, "1").await;
    assert_eq!((customer.told().await.len(), other.told().await.len()), (1, 0));
}

async fn the_state_of_a_repurchase_is_part_of_its_rule(suite: Arc<Suite>) {
    let customer = customer(&suite).await;
    customer.repurchase(repurchase("8", "10")).await;
    let state = || async { customer.read_rules().await["repurchase"]["state"].clone() };
    assert_eq!(state().await, "idle");
    customer.charge(2, "2").await;
    let id = customer.expect_orders(1).await;
    customer.order_in_state(&id, "pending").await;
    assert_eq!(state().await, "pending");
}

async fn a_rule_that_nobody_takes_orders_for_is_refused(suite: Arc<Suite>) {
    let (before, rest) = CONFIG.split_once("[repurchase]").unwrap();
    let (_, after) = rest.split_once("timeout = \"5m\"").unwrap();
    let (gateway, _home) = suite.start(&format!("{before}{after}")).await;
    let customer = suite.watched_on(&gateway, "translate");
    customer.grant("10").await;
    let reply = customer.try_rules(&json!({ "repurchase": repurchase("8", "10") })).await;
    assert!(matches!(reply.status, 400 | 409 | 422), "{} {}", reply.status, reply.text());
    let mut disabled = repurchase("8", "10");
    disabled["enabled"] = json!(false);
    customer.repurchase(disabled).await;
    customer.alerts(json!([{ "remaining": "9" }])).await;
}

async fn rules_survive_a_crash(suite: Arc<Suite>) {
    let (gateway, home) = suite.start(CONFIG).await;
    let mut customer = suite.watched_on(&gateway, "translate");
    customer.grant("10").await;
    customer.rules(&full()).await;
    gateway.kill();
    customer.buyer.gateway = home.start().await;
    assert_eq!(written(customer.read_rules().await), full());
}
