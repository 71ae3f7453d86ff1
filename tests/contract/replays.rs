//! Once per request id: what a request that comes again is worth.

use crate::support::Suite;
use crate::support::buyer::Buyer;
use crate::support::call::{Call, Reply};
use crate::support::gateway::is_workerd;
use crate::support::script::{Script, Step};
use serde_json::json;
use std::sync::Arc;

crate::cases! {
    a_settled_request_is_forwarded_again_without_charge,
    replays_end_at_the_products_limit,
    a_product_may_allow_no_replay,
    concurrent_replays_stay_within_the_limit,
    a_request_in_flight_is_refused_and_may_be_tried_later,
    the_same_id_with_another_method_path_or_query_is_reused,
    the_same_id_with_another_body_is_reused,
    an_id_of_a_request_without_a_body_is_not_that_of_one_with_a_body,
    a_reused_id_is_told_even_while_the_first_is_in_flight,
    bodies_beyond_64_kib_are_not_compared,
    an_id_belongs_to_one_customer_and_one_product,
    a_released_request_is_a_new_attempt,
    a_replay_needs_no_package,
    a_replay_with_a_body_needs_no_package,
}

fn is_replay(reply: &Reply) -> bool {
    reply.headers.one("tollgate-replay").as_deref() == Some("true")
}

/// Sends a call for the first time and waits until it is settled.
async fn settle(buyer: &Buyer, call: &Call) -> Reply {
    let reply = call.send().await;
    reply.assert_ok();
    buyer.call_in_state(&call.request_id(), "settled").await;
    reply
}

async fn a_settled_request_is_forwarded_again_without_charge(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let call = buyer.call();
    let first = settle(&buyer, &call).await;
    assert!(!is_replay(&first));
    let again = call.send().await;
    again.assert_ok();
    assert!(is_replay(&again));
    let charge = |reply: &Reply| reply.headers.one("tollgate-charge");
    assert_eq!((charge(&first).as_deref(), charge(&again).as_deref()), (Some("1"), Some("0")));
    buyer.expect_forwarded(2).await;
    buyer.expect_used("1").await;
    let record = buyer.call_in_state(&call.request_id(), "settled").await;
    assert_eq!((&record["replays"], &record["charge"]), (&json!(1), &json!("1")));
}

async fn expect_replays(buyer: &Buyer, call: &Call, allowed: usize) {
    settle(buyer, call).await;
    for _ in 0..allowed {
        let reply = call.send().await;
        reply.assert_ok();
        assert!(is_replay(&reply));
    }
    for _ in 0..2 {
        call.send().await.problem(409, "request_replayed");
    }
    buyer.expect_forwarded(1 + allowed).await;
    buyer.expect_used("1").await;
}

async fn replays_end_at_the_products_limit(suite: Arc<Suite>) {
    for (product, allowed) in [("translate", 1), ("thrice", 3)] {
        let buyer = suite.buyer(product, "5").await;
        expect_replays(&buyer, &buyer.call(), allowed).await;
    }
}

async fn a_product_may_allow_no_replay(suite: Arc<Suite>) {
    let buyer = suite.buyer("never", "5").await;
    expect_replays(&buyer, &buyer.post("body"), 0).await;
}

async fn concurrent_replays_stay_within_the_limit(suite: Arc<Suite>) {
    let buyer = suite.buyer("thrice", "5").await;
    let call = buyer.call();
    settle(&buyer, &call).await;
    buyer.expect_used("1").await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let call = call.clone();
        calls.spawn(async move { call.send().await });
    }
    let replies = calls.join_all().await;
    let served = replies.iter().filter(|reply| reply.status == 200).count();
    assert!(served <= 3 && buyer.received().len() == 1 + served, "{served}");
    assert!(replies.iter().all(|reply| matches!(reply.status, 200 | 409)));
    buyer.expect_used("1").await;
}

async fn a_request_in_flight_is_refused_and_may_be_tried_later(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let gate = suite.backend.gate();
    let call = buyer.call().script(&Script::chunked().then(Step::Text("a".into())).then(gate.step()));
    let exchange = call.open().await.unwrap();
    let reply = call.send().await;
    reply.problem(409, "request_in_flight");
    assert!(reply.header("retry-after").parse::<u32>().unwrap() >= 1);
    gate.open();
    assert!(exchange.rest().await.unwrap().whole);
    buyer.call_in_state(&call.request_id(), "settled").await;
    let again = call.send().await;
    assert!(again.status == 200 && is_replay(&again), "{}", again.text());
    buyer.expect_used("1").await;
}

async fn expect_reused(buyer: &Buyer, others: &[Call]) {
    let forwarded = buyer.received().len();
    for other in others {
        let reply = other.send().await;
        reply.problem(422, "request_id_reused");
    }
    assert_eq!(buyer.received().len(), forwarded);
    buyer.expect_used("1").await;
}

async fn the_same_id_with_another_method_path_or_query_is_reused(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let call = buyer.call().target("/translate/a?q=1");
    settle(&buyer, &call).await;
    let others = [
        call.clone().method("DELETE"),
        call.clone().target("/translate/b?q=1"),
        call.clone().target("/translate/a?q=2"),
        call.clone().target("/translate/a"),
        call.clone().target("/translate/A?q=1"),
    ];
    expect_reused(&buyer, &others).await;
    // Headers are no part of what makes a request the same.
    assert!(is_replay(&call.header("x-odd", "1").send().await));
}

async fn the_same_id_with_another_body_is_reused(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let call = buyer.post("{\"a\":1}");
    settle(&buyer, &call).await;
    expect_reused(&buyer, &[call.clone().body("{\"a\":2}"), call.clone().body("{\"a\":1} "), call.clone().body("")]).await;
    assert!(is_replay(&call.send().await));
    assert_eq!(buyer.received().pop().unwrap().body, b"{\"a\":1}");
}

async fn an_id_of_a_request_without_a_body_is_not_that_of_one_with_a_body(suite: Arc<Suite>) {
    let large = vec![b'a'; 64 * 1024 + 1];
    // A GET declares no length at all where it has no body. Workers forward none with one.
    let methods = ["POST", "PUT", "DELETE", "GET"];
    for method in methods.into_iter().filter(|method| *method != "GET" || !is_workerd()) {
        let buyer = suite.buyer("translate", "5").await;
        let call = buyer.call().method(method);
        settle(&buyer, &call).await;
        expect_reused(&buyer, &[call.clone().body("small"), call.clone().body(&large)]).await;
        assert!(is_replay(&call.send().await));
    }
    let buyer = suite.buyer("translate", "5").await;
    let call = buyer.post("");
    settle(&buyer, &call).await;
    expect_reused(&buyer, &[call.clone().body("streamed").chunked()]).await;
    let buyer = suite.buyer("translate", "5").await;
    let call = buyer.post(&large);
    settle(&buyer, &call).await;
    expect_reused(&buyer, &[call.clone().body("")]).await;
}

async fn a_reused_id_is_told_even_while_the_first_is_in_flight(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let gate = suite.backend.gate();
    let call = buyer.call().script(&Script::chunked().then(Step::Text("a".into())).then(gate.step()));
    let exchange = call.open().await.unwrap();
    call.clone().target("/translate/other").send().await.problem(422, "request_id_reused");
    gate.open();
    assert!(exchange.rest().await.unwrap().whole);
    buyer.expect_used("1").await;
}

async fn bodies_beyond_64_kib_are_not_compared(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let call = buyer.post(vec![b'a'; 64 * 1024 + 1]);
    settle(&buyer, &call).await;
    let other = call.body(vec![b'b'; 64 * 1024 + 1]).send().await;
    assert!(other.status == 200 && is_replay(&other), "{}", other.text());
    let limit = buyer.post(vec![b'a'; 64 * 1024]);
    settle(&buyer, &limit).await;
    limit.clone().body(vec![b'b'; 64 * 1024]).send().await.problem(422, "request_id_reused");
    buyer.expect_used("2").await;
}

async fn an_id_belongs_to_one_customer_and_one_product(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let other = suite.buyer("translate", "5").await;
    let call = buyer.call();
    settle(&buyer, &call).await;
    let theirs = call.clone().customer(&other.id).send().await;
    assert!(theirs.status == 200 && !is_replay(&theirs));
    let mut elsewhere = buyer.clone();
    elsewhere.product_id = "nested".into();
    elsewhere.grant("5").await;
    let there = call.target("/translate/nested/call").send().await;
    assert!(there.status == 200 && !is_replay(&there));
    for charged in [&buyer, &other, &elsewhere] {
        charged.expect_used("1").await;
    }
}

async fn a_released_request_is_a_new_attempt(suite: Arc<Suite>) {
    let buyer = suite.buyer("succeeded", "5").await;
    let call = buyer.call().script(&Script::status(503));
    for _ in 0..3 {
        assert_eq!(call.send().await.status, 503);
        buyer.expect_untouched().await;
    }
    let reply = call.script(&Script::text("at last")).send().await;
    assert!(reply.status == 200 && !is_replay(&reply));
    buyer.expect_used("1").await;
    buyer.expect_forwarded(4).await;
}

async fn a_replay_needs_no_package(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "1").await;
    let call = buyer.call();
    settle(&buyer, &call).await;
    buyer.call().send().await.problem(402, "package_exhausted");
    let again = call.send().await;
    assert!(again.status == 200 && is_replay(&again), "{}", again.text());
    buyer.expect_used("1").await;
}

async fn a_replay_with_a_body_needs_no_package(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "2").await;
    buyer.spend(1).await;
    let call = buyer.call().method("POST").body("the last unit");
    settle(&buyer, &call).await;
    buyer.call().method("POST").body("too late").send().await.problem(402, "package_exhausted");
    let again = call.send().await;
    assert!(again.status == 200 && is_replay(&again), "{}", again.text());
    buyer.expect_used("2").await;
}
