//! What a usage-metered call reserves before it is forwarded (contract section 1, the hold; section 3, admission).

use crate::support::Suite;
use crate::support::buyer::Buyer;
use crate::support::metered::{Charged, JSON, used};
use crate::support::script::{Script, Step};
use serde_json::{Value, json};
use std::sync::Arc;

crate::cases! {
    a_hold_is_the_estimate_of_the_answer_and_the_size_of_the_request,
    a_hold_is_estimated_by_the_fields_and_figures_of_the_product,
    fields_that_are_no_usable_numbers_are_not_there,
    answers_that_are_no_usable_count_are_one,
    a_hold_is_never_below_its_minimum,
    a_call_without_a_body_holds_the_default,
    an_estimate_above_every_package_is_shortened_or_refused,
    a_short_hold_is_admitted_so_that_a_package_is_used_up,
    a_short_hold_is_refused_where_the_product_says_so,
    nothing_is_admitted_where_nothing_is_available,
    a_live_call_holds_its_estimate_and_its_charge_replaces_it,
    a_hold_spans_packages_in_their_order,
    what_is_held_by_one_call_is_not_held_by_another,
}

/// Sends a call with a body, and returns what it had held.
async fn hold(buyer: &Buyer, body: &str) -> String {
    let call = buyer.post(body).header("content-type", JSON).script(&used(1, 1));
    call.send().await.assert_ok();
    let record = buyer.call_record(&call.request_id()).await;
    record["hold"].as_str().unwrap_or_else(|| panic!("{record}")).to_owned()
}

/// The estimate of the product `chat` for a body: `tokens` times 3, and a quarter of a unit for each byte.
fn chat(tokens: usize, body: &str) -> String {
    let quarters = tokens * 12 + body.len();
    let fraction = ["", ".25", ".5", ".75"][quarters % 4];
    format!("{}{fraction}", quarters / 4)
}

async fn a_hold_is_the_estimate_of_the_answer_and_the_size_of_the_request(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    for (body, tokens) in [
        (r#"{"model":"m","max_tokens":100}"#, 100),
        (r#"{"model":"m","max_completion_tokens":50}"#, 50),
        (r#"{"max_tokens":100,"max_completion_tokens":50}"#, 100),
        (r#"{"max_completion_tokens":501,"messages":[{"role":"user","content":"hello there"}],"max_tokens":1}"#, 501),
        (r#"{"messages":[]}"#, 4096),
        (r#"{"n":3,"max_tokens":7}"#, 21),
        (r#"{"n":2}"#, 8192),
        (r#"{"nested":{"max_tokens":5,"n":9}}"#, 4096),
        (r#"{"max_tokens":9,"max_tokens":8}"#, 8),
        ("no JSON at all", 4096),
    ] {
        assert_eq!(hold(&buyer, body).await, chat(tokens, body), "{body}");
    }
}

async fn a_hold_is_estimated_by_the_fields_and_figures_of_the_product(suite: Arc<Suite>) {
    let buyer = suite.buyer("estimated", "1000000").await;
    // 2.5 times the largest field, and half a unit for each byte.
    for (body, expected) in [
        (r#"{"max_tokens":100}  "#, "260"),
        (r#"{"generation":{"most":100}}"#, "263.5"),
        (r#"{"budget":0.5,"max_tokens":101.3}"#, "269.75"),
        (r#"{"max_completion_tokens":100000}"#, "41"),
        (r#"{"n":2,"budget":99,"generation":{"most":100.1}}  "#, "525"),
    ] {
        assert_eq!(hold(&buyer, body).await, expected, "{body} has {} bytes", body.len());
    }
}

async fn fields_that_are_no_usable_numbers_are_not_there(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    for value in ["-5", "null", "true", "\"many\"", "\"\"", "[]", "{}", "1e300", "-0.1", "9999999999999999999999", "{\"a\":1}"] {
        let body = format!(r#"{{"max_tokens":{value}}}"#);
        assert_eq!(hold(&buyer, &body).await, chat(4096, &body), "{body}");
        let body = format!(r#"{{"max_tokens":{value},"max_completion_tokens":5}}"#);
        assert_eq!(hold(&buyer, &body).await, chat(5, &body), "{body}");
    }
    // An estimate of nothing is valid, and only the request's size counts.
    let body = format!(r#"{{"max_tokens":0,"pad":"{}"}}"#, "x".repeat(77));
    assert_eq!(hold(&buyer, &body).await, chat(0, &body));
}

async fn answers_that_are_no_usable_count_are_one(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    for value in ["-2", "0", "null", "\"several\"", "2.5", "[]", "1e300", "{}"] {
        let body = format!(r#"{{"max_tokens":10,"n":{value}}}"#);
        assert_eq!(hold(&buyer, &body).await, chat(10, &body), "{body}");
    }
}

async fn a_hold_is_never_below_its_minimum(suite: Arc<Suite>) {
    let buyer = suite.buyer("estimated", "1000").await;
    assert_eq!(hold(&buyer, r#"{"budget":1}"#).await, "20.5");
    assert_eq!(hold(&buyer, r#"{"budget":0}"#).await, "20.5");
    let buyer = suite.buyer("chat", "1000").await;
    assert_eq!(hold(&buyer, r#"{"max_tokens":0}"#).await, "4", "a quarter of 16 bytes");
}

async fn a_call_without_a_body_holds_the_default(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    for method in ["GET", "POST", "DELETE", "PUT"] {
        let call = buyer.call().method(method).script(&used(1, 1));
        buyer.expect_charge(&call, &Charged::settled("4")).await;
        assert_eq!(buyer.call_record(&call.request_id()).await["hold"], "12288", "{method}");
    }
}

async fn an_estimate_above_every_package_is_shortened_or_refused(suite: Arc<Suite>) {
    let body = r#"{"max_tokens":99999999999,"n":99999999999}"#;
    let admitting = suite.buyer("absorbing", "500").await;
    assert_eq!(hold(&admitting, body).await, "500");
    let refusing = suite.buyer("refusing", "500").await;
    let reply = refusing.post(body).send().await;
    refusing.expect_refused(&reply, 402, "package_exhausted").await;
}

async fn a_short_hold_is_admitted_so_that_a_package_is_used_up(suite: Arc<Suite>) {
    let buyer = suite.buyer("absorbing", "25").await;
    let ask = |total: u64| {
        let script = crate::support::metered::json_of(&json!({ "usage": { "total_tokens": total } }).to_string());
        buyer.ask(&json!({}), &script)
    };
    for (total, held) in [(10, "10"), (10, "10"), (4, "5"), (1, "1")] {
        let call = ask(total);
        buyer.expect_charge(&call, &Charged::settled(&total.to_string())).await;
        assert_eq!(buyer.call_record(&call.request_id()).await["hold"], held);
    }
    buyer.expect_used("25").await;
    let problem = ask(1).send().await.problem(402, "package_exhausted");
    assert_eq!(problem["available"], "0");
    // Before the body is read, only the least that any call holds is known.
    assert!(problem["needed"] == "1" || problem["needed"] == "10", "{problem}");
}

async fn a_short_hold_is_refused_where_the_product_says_so(suite: Arc<Suite>) {
    let buyer = suite.buyer("refusing", "25").await;
    let problem = buyer.post(r#"{"max_tokens":3}"#).send().await;
    buyer.expect_refused(&problem, 402, "package_exhausted").await;
    let problem = problem.problem(402, "package_exhausted");
    assert_eq!((&problem["needed"], &problem["available"]), (&json!("30"), &json!("25")));
    // What is just enough is enough.
    buyer.grant("5").await;
    assert_eq!(hold(&buyer, r#"{"max_tokens":3}"#).await, "30");
}

async fn nothing_is_admitted_where_nothing_is_available(suite: Arc<Suite>) {
    for product in ["chat", "absorbing", "refusing"] {
        let stranger = suite.stranger(product).await;
        let refused = stranger.post("{}").send().await;
        refused.problem(403, "no_package");
        let buyer = suite.buyer(product, "3").await;
        let package = &buyer.packages().await[0]["package_id"].as_str().unwrap().to_owned();
        buyer.change(package, "freeze").await;
        buyer.expect_refused(&buyer.post("{}").send().await, 403, "package_frozen").await;
    }
}

async fn a_live_call_holds_its_estimate_and_its_charge_replaces_it(suite: Arc<Suite>) {
    let buyer = suite.buyer("absorbing", "100").await;
    let gate = suite.backend.gate();
    let script = Script::status(200).header("content-type", JSON);
    let script = script.first(gate.step()).then(Step::Text(r#"{"usage":{"total_tokens":13.5}}"#.into()));
    let call = buyer.ask(&json!({ "max_tokens": 4 }), &script);
    let id = call.request_id();
    let waiting = tokio::spawn(async move { call.send().await });
    buyer.expect_forwarded(1).await;
    assert_eq!(buyer.hold_of(&id).await, "40");
    let figures = |balance: Value| ["used", "held", "remaining", "available"].map(|name| balance[name].clone());
    assert_eq!(figures(buyer.balance().await), ["0", "40", "100", "60"].map(|text| json!(text)));
    gate.open();
    waiting.await.unwrap().assert_ok();
    assert_eq!(figures(buyer.balance().await), ["13.5", "0", "86.5", "86.5"].map(|text| json!(text)));
}

async fn a_hold_spans_packages_in_their_order(suite: Arc<Suite>) {
    let buyer = suite.stranger("absorbing").await;
    let late = buyer.grant_and("30", json!({ "priority": 5 })).await;
    let early = buyer.grant_and("7.5", json!({ "priority": -1 })).await;
    let gate = suite.backend.gate();
    let call = buyer.ask(&json!({ "max_tokens": 2 }), &Script::text("x").first(gate.step()));
    let id = call.request_id();
    let waiting = tokio::spawn(async move { call.send().await });
    buyer.expect_forwarded(1).await;
    let legs = buyer.call_record(&id).await["legs"].clone();
    assert_eq!(legs, json!([{ "package_id": early, "quantity": "7.5" }, { "package_id": late, "quantity": "12.5" }]));
    gate.open();
    waiting.await.unwrap().assert_ok();
}

async fn what_is_held_by_one_call_is_not_held_by_another(suite: Arc<Suite>) {
    let buyer = suite.buyer("absorbing", "25").await;
    let gate = suite.backend.gate();
    let script = Script::text(r#"{"usage":{"total_tokens":1}}"#).header("content-type", JSON).first(gate.step());
    let calls: Vec<_> = (0..3).map(|_| buyer.ask(&json!({}), &script)).collect();
    let ids: Vec<_> = calls.iter().map(crate::support::call::Call::request_id).collect();
    let waiting: Vec<_> = calls.into_iter().map(|call| tokio::spawn(async move { call.send().await })).collect();
    buyer.expect_forwarded(3).await;
    let mut holds = Vec::new();
    for id in &ids {
        holds.push(buyer.hold_of(id).await);
    }
    holds.sort();
    assert_eq!(holds, ["10", "10", "5"]);
    buyer.ask(&json!({}), &script).send().await.problem(402, "package_exhausted");
    gate.open();
    for reply in waiting {
        reply.await.unwrap().assert_ok();
    }
    buyer.expect_used("3").await;
    buyer.expect_balanced().await;
}
