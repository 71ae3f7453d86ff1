//! Orders that fail, and what bounds the orders of a rule: cap, cooldown, time-out, suspension (contract section 4).

use crate::repurchases::{customer_with, expect_granted};
use crate::support::gateway::{CONFIG, Home};
use crate::support::receiver::Answer;
use crate::support::script::{Script, Step};
use crate::support::watched::{Watched, purchase, repurchase};
use crate::support::{Suite, eventually};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

crate::cases! {
    reasons_that_do_not_pass_suspend_the_rule_until_it_is_written_again,
    an_outcome_that_fails_suspends_like_an_answer,
    a_hook_that_refuses_fails_the_order_and_the_next_one_is_another,
    a_reason_that_nobody_knows_is_a_failure_of_the_hook,
    a_customer_of_a_suspended_rule_is_told_of_its_balance_still,
    a_full_cap_is_reported_once_and_orders_nothing,
    a_cap_on_spending_counts_prices,
    an_order_that_failed_does_not_count_against_the_cap,
    a_rule_written_anew_keeps_counting_what_was_bought,
    a_cooldown_keeps_orders_apart;
    own:
    an_order_without_an_outcome_fails_in_time,
    a_hook_that_never_answers_well_fails_the_order_in_time,
    a_package_after_the_time_out_credits_and_completes_its_order,
    a_time_out_is_found_without_any_call,
}

const SUSPENDING: [&str; 4] = ["spec_delisted", "price_changed", "purchase_restricted", "zero_price"];

async fn state(customer: &Watched) -> Value {
    customer.read_rules().await["repurchase"]["state"].clone()
}

/// A rule that allows few orders within a period that no case outlasts.
fn capped(count: u32, more: Value) -> Value {
    let mut rule = repurchase("8", "1");
    rule["cap"] = json!({ "count": count, "period": "30d" });
    rule["cap"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    rule
}

async fn reasons_that_do_not_pass_suspend_the_rule_until_it_is_written_again(suite: Arc<Suite>) {
    for reason in SUSPENDING {
        let rule = repurchase("8", "10");
        let customer = customer_with(&suite, rule.clone(), [Answer::failed(reason), Answer::Package]).await;
        customer.charge(2, "2").await;
        let id = customer.expect_orders(1).await;
        let order = customer.order_in_state(&id, "failed").await;
        assert_eq!(order["reason"], reason);
        for kind in ["repurchase.failed", "repurchase.suspended"] {
            let events = customer.expect_events(kind, 1).await;
            assert_eq!((&events[0]["data"]["repurchase_id"], &events[0]["data"]["reason"]), (&json!(id), &json!(reason)));
        }
        assert_eq!(state(&customer).await, "suspended");
        customer.charge(3, "5").await;
        customer.gateway.tick().await;
        customer.expect_orders(1).await;
        // Written again, and be it the same.
        customer.repurchase(rule).await;
        let next = customer.expect_orders(2).await;
        assert_ne!(next, id);
        expect_granted(&customer, "20").await;
        assert_ne!(state(&customer).await, "suspended");
    }
}

async fn an_outcome_that_fails_suspends_like_an_answer(suite: Arc<Suite>) {
    let customer = customer_with(&suite, repurchase("8", "10"), [Answer::pending()]).await;
    customer.charge(2, "2").await;
    let id = customer.expect_orders(1).await;
    let reply = customer.outcome(&id, &json!({ "status": "failed", "reason": "price_changed" })).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    customer.expect_events("repurchase.failed", 1).await;
    customer.expect_events("repurchase.suspended", 1).await;
    customer.gateway.tick().await;
    customer.expect_orders(1).await;
}

async fn a_hook_that_refuses_fails_the_order_and_the_next_one_is_another(suite: Arc<Suite>) {
    for status in [400, 404, 422] {
        let customer = customer_with(&suite, repurchase("8", "10"), [Answer::status(status), Answer::Package]).await;
        customer.charge(2, "2").await;
        let first = customer.expect_orders(1).await;
        let order = customer.order_in_state(&first, "failed").await;
        assert_eq!(order["reason"], "hook_failed", "{status}");
        // No reason to give up: the customer is below the trigger still.
        eventually("another order is made", || async {
            customer.gateway.tick().await;
            customer.order_ids().len() == 2
        })
        .await;
        expect_granted(&customer, "20").await;
        assert_eq!(customer.order_posts().len(), 2, "an order that was refused is not posted again");
        customer.expect_events("repurchase.failed", 1).await;
        assert_eq!(customer.events_of("repurchase.suspended").await.len(), 0);
    }
}

async fn a_reason_that_nobody_knows_is_a_failure_of_the_hook(suite: Arc<Suite>) {
    for body in [json!({ "status": "failed", "reason": "odd" }), json!({ "status": "failed" })] {
        let customer = customer_with(&suite, capped(1, json!({})), [Answer::json(&body), Answer::pending()]).await;
        customer.charge(2, "2").await;
        let id = customer.expect_orders(1).await;
        assert_eq!(customer.order_in_state(&id, "failed").await["reason"], "hook_failed", "{body}");
        assert_eq!(customer.expect_events("repurchase.failed", 1).await[0]["data"]["reason"], "hook_failed");
        assert_eq!(customer.events_of("repurchase.suspended").await.len(), 0);
    }
}

async fn a_customer_of_a_suspended_rule_is_told_of_its_balance_still(suite: Arc<Suite>) {
    let customer = suite.watched("translate").await;
    customer.answer_orders([Answer::failed("zero_price")]);
    customer.grant("10").await;
    customer.rules(&json!({ "alerts": [{ "remaining": "5" }], "repurchase": repurchase("8", "10") })).await;
    customer.charge(2, "2").await;
    customer.expect_events("repurchase.suspended", 1).await;
    customer.charge(3, "5").await;
    assert_eq!(customer.told().await.len(), 1);
}

/// Waits for the report that the cap is full, and checks that charges and ticks add nothing to it.
async fn expect_cap(customer: &Watched, orders: usize) {
    customer.expect_events("repurchase.failed", 1).await;
    customer.spend(3).await;
    customer.gateway.tick().await;
    let reports = customer.expect_events("repurchase.failed", 1).await;
    let data = &reports[0]["data"];
    assert_eq!((&data["reason"], &data["repurchase_id"]), (&json!("cap_reached"), &Value::Null), "{data}");
    assert_eq!((&data["spec_id"], &data["price"]), (&json!("spec-1"), &json!("10")), "{data}");
    customer.expect_orders(orders).await;
    assert_eq!(customer.repurchases().await.len(), orders);
    assert_eq!(customer.events_of("repurchase.suspended").await.len(), 0);
}

async fn a_full_cap_is_reported_once_and_orders_nothing(suite: Arc<Suite>) {
    let customer = customer_with(&suite, capped(2, json!({})), [Answer::Package]).await;
    customer.charge(4, "4").await;
    expect_cap(&customer, 2).await;
    expect_granted(&customer, "12").await;
}

async fn a_cap_on_spending_counts_prices(suite: Arc<Suite>) {
    let customer = customer_with(&suite, capped(50, json!({ "spend": "39.9" })), [Answer::Package]).await;
    customer.charge(6, "6").await;
    expect_cap(&customer, 3).await;
    expect_granted(&customer, "13").await;
}

async fn an_order_that_failed_does_not_count_against_the_cap(suite: Arc<Suite>) {
    let answers = [Answer::status(400), Answer::Package];
    let customer = customer_with(&suite, capped(1, json!({})), answers).await;
    customer.charge(2, "2").await;
    eventually("the order after the failed one credits", || async {
        customer.gateway.tick().await;
        customer.events_of("repurchase.succeeded").await.len() == 1
    })
    .await;
    expect_granted(&customer, "11").await;
}

async fn a_rule_written_anew_keeps_counting_what_was_bought(suite: Arc<Suite>) {
    let customer = customer_with(&suite, capped(1, json!({})), [Answer::Package]).await;
    customer.charge(4, "4").await;
    customer.expect_events("repurchase.failed", 1).await;
    customer.repurchase(capped(2, json!({}))).await;
    customer.expect_orders(2).await;
    expect_granted(&customer, "12").await;
    customer.expect_events("repurchase.failed", 2).await;
    customer.repurchase(capped(2, json!({}))).await;
    customer.gateway.tick().await;
    customer.expect_orders(2).await;
}

async fn a_cooldown_keeps_orders_apart(suite: Arc<Suite>) {
    let mut rule = repurchase("8", "1");
    rule["cooldown"] = json!("2s");
    let customer = customer_with(&suite, rule, [Answer::Package]).await;
    customer.charge(3, "3").await;
    let first = customer.expect_orders(1).await;
    customer.order_in_state(&first, "succeeded").await;
    // No call comes: a tick finds that the cooldown is over.
    eventually("the next order", || async {
        customer.gateway.tick().await;
        customer.order_ids().len() == 2
    })
    .await;
    let posts = customer.order_posts();
    assert!(posts[1].at - posts[0].at >= Duration::from_millis(1900), "{:?}", posts[1].at - posts[0].at);
}

/// A customer with 10 units on a gateway whose orders time out soon.
async fn impatient(suite: &Suite, timeout: &str, answers: impl IntoIterator<Item = Answer>) -> (Watched, Home) {
    let config = CONFIG.replace("timeout = \"5m\"", &format!("timeout = \"{timeout}\""));
    assert_ne!(config, CONFIG);
    let (gateway, home) = suite.start(&config).await;
    let customer = suite.watched_on(&gateway, "translate");
    customer.answer_orders(answers);
    customer.grant("10").await;
    (customer, home)
}

async fn expect_timeout(customer: &Watched) -> String {
    customer.charge(2, "2").await;
    let id = customer.expect_orders(1).await;
    eventually("the order times out", || async {
        customer.gateway.tick().await;
        customer.order(&id).await["state"] == "failed"
    })
    .await;
    assert_eq!(customer.order(&id).await["reason"], "timeout");
    let failed = customer.events_of("repurchase.failed").await;
    assert_eq!((&failed[0]["data"]["repurchase_id"], &failed[0]["data"]["reason"]), (&json!(id), &json!("timeout")));
    assert_eq!(customer.events_of("repurchase.suspended").await.len(), 0);
    id
}

async fn an_order_without_an_outcome_fails_in_time(suite: Arc<Suite>) {
    let (customer, _home) = impatient(&suite, "2s", [Answer::pending(), Answer::Package]).await;
    customer.repurchase(repurchase("8", "10")).await;
    let first = expect_timeout(&customer).await;
    // The customer is below the trigger still, so another order is made.
    eventually("another order is made", || async {
        customer.gateway.tick().await;
        customer.order_ids().len() == 2
    })
    .await;
    expect_granted(&customer, "20").await;
    assert_ne!(customer.order_ids()[1], first);
}

async fn a_hook_that_never_answers_well_fails_the_order_in_time(suite: Arc<Suite>) {
    let (customer, _home) = impatient(&suite, "8s", [Answer::status(503)]).await;
    customer.repurchase(capped(1, json!({}))).await;
    let id = expect_timeout(&customer).await;
    assert!(customer.order_posts().len() >= 2, "it was tried again until then");
    let posts = customer.order_posts().len();
    // What may have been bought counts against the cap, and what timed out is not posted any more.
    customer.charge(1, "3").await;
    eventually("the cap is reported", || async {
        customer.gateway.tick().await;
        customer.events_of("repurchase.failed").await.len() == 2
    })
    .await;
    assert_eq!(customer.order_ids(), [id]);
    assert_eq!(customer.order_posts().len(), posts);
}

async fn a_package_after_the_time_out_credits_and_completes_its_order(suite: Arc<Suite>) {
    let hanging = Answer::Script(Script::status(200).first(Step::Hang));
    let cases = [Answer::pending(), hanging];
    for (answer, by_outcome) in cases.into_iter().zip([false, true]) {
        let (customer, _home) = impatient(&suite, "2s", [answer]).await;
        let mut rule = capped(1, json!({}));
        rule["package"] = purchase("10");
        customer.repurchase(rule).await;
        let id = expect_timeout(&customer).await;
        if by_outcome {
            let package = json!({ "package_id": format!("package-{id}"), "quantity": "10" });
            let reply = customer.outcome(&id, &json!({ "status": "succeeded", "package": package })).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
        assert_eq!(customer.deliver(&id, "10").await.status, if by_outcome { 200 } else { 201 });
        expect_granted(&customer, "20").await;
        let order = customer.order(&id).await;
        assert_eq!((&order["state"], &order["package_id"]), (&json!("succeeded"), &json!(format!("package-{id}"))));
        customer.expect_events("repurchase.succeeded", 1).await;
        customer.expect_orders(1).await;
    }
}

async fn a_time_out_is_found_without_any_call(suite: Arc<Suite>) {
    let (customer, home) = impatient(&suite, "2s", [Answer::pending()]).await;
    customer.repurchase(capped(1, json!({}))).await;
    customer.charge(2, "2").await;
    let id = customer.expect_orders(1).await;
    customer.order_in_state(&id, "pending").await;
    customer.gateway.kill();
    // Nobody calls this customer's product after the restart.
    let mut again = customer.clone();
    again.buyer.gateway = home.start().await;
    eventually("a tick finds the time-out", || async {
        again.gateway.tick().await;
        again.order(&id).await["reason"] == "timeout"
    })
    .await;
}
