//! A call is forwarded only on a hold, and holds never exceed what is available.

use crate::support::buyer::units;
use crate::support::script::{Script, Step};
use crate::support::{Suite, eventually};
use serde_json::json;
use std::sync::Arc;
use tokio::task::JoinSet;

crate::cases! {
    fifty_units_and_two_hundred_concurrent_calls_forward_exactly_fifty,
    the_same_id_a_hundred_times_at_once_charges_and_forwards_once,
    an_exhausted_package_says_what_was_needed_and_what_is_available,
    less_than_one_unit_admits_no_call,
    exhaustion_answers_with_the_products_status,
    a_live_call_is_held_and_not_yet_used,
    what_is_held_is_not_available_to_others,
    a_reply_of_the_backend_is_charged_whatever_its_status,
    only_successes_are_charged_where_the_product_says_so,
    a_released_call_frees_its_hold_at_once,
    a_body_that_declares_too_much_is_refused_unread,
    a_streamed_body_that_grows_too_large_is_cut_and_released,
    a_body_of_exactly_the_limit_passes,
    the_books_balance_after_a_storm_of_every_kind,
}

async fn fifty_units_and_two_hundred_concurrent_calls_forward_exactly_fifty(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "50").await;
    let mut calls = JoinSet::new();
    for _ in 0..200 {
        let call = buyer.call();
        calls.spawn(async move { call.send().await });
    }
    let replies = calls.join_all().await;
    let refused: Vec<_> = replies.iter().filter(|reply| reply.status != 200).collect();
    refused.iter().for_each(|reply| drop(reply.problem(402, "package_exhausted")));
    assert_eq!((replies.len() - refused.len(), refused.len()), (50, 150));
    assert_eq!(buyer.received().len(), 50);
    buyer.expect_used("50").await;
    assert_eq!(buyer.available().await, 0);
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn the_same_id_a_hundred_times_at_once_charges_and_forwards_once(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "50").await;
    let gate = suite.backend.gate();
    let call = buyer.call().script(&Script::text("x").first(gate.step()));
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let call = call.clone();
        calls.spawn(async move { call.send().await });
    }
    let mut served = 0;
    for answered in 1..=100 {
        let reply = calls.join_next().await.unwrap().unwrap();
        if reply.status == 200 {
            served += 1;
        } else {
            reply.problem(409, "request_in_flight");
        }
        // The one that was forwarded is held back until all others were answered.
        if answered == 99 {
            gate.open();
        }
    }
    assert_eq!(served, 1);
    buyer.expect_forwarded(1).await;
    buyer.expect_used("1").await;
}

async fn an_exhausted_package_says_what_was_needed_and_what_is_available(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "1.25").await;
    buyer.spend(1).await;
    let problem = buyer.call().send().await.problem(402, "package_exhausted");
    assert_eq!(problem["needed"], "1");
    assert_eq!(problem["available"], "0.25");
    assert_eq!(problem["product_id"], "translate");
    buyer.expect_forwarded(1).await;
}

async fn less_than_one_unit_admits_no_call(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "0.9999").await;
    let reply = buyer.call().send().await;
    buyer.expect_refused(&reply, 402, "package_exhausted").await;
}

async fn exhaustion_answers_with_the_products_status(suite: Arc<Suite>) {
    for (product, status) in [("translate", 402), ("forbidding", 403), ("throttling", 429)] {
        let buyer = suite.buyer(product, "1").await;
        buyer.spend(1).await;
        buyer.call().send().await.problem(status, "package_exhausted");
        let late = suite.stranger(product).await;
        late.grant_and("5", json!({ "starts_at": "2020-01-01T00:00:00Z", "expires_at": "2020-02-01T00:00:00Z" })).await;
        late.call().send().await.problem(status, "package_expired");
    }
}

async fn a_live_call_is_held_and_not_yet_used(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "3").await;
    let gate = suite.backend.gate();
    let call = buyer.call().script(&Script::chunked().then(Step::Text("a".into())).then(gate.step()));
    let exchange = call.open().await.unwrap();
    let balance = buyer.balance().await;
    let figures = ["granted", "used", "held", "remaining", "available"].map(|name| units(&balance[name]) / 10_000);
    assert_eq!(figures, [3, 0, 1, 3, 2]);
    let record = buyer.call_record(&call.request_id()).await;
    assert_eq!((&record["state"], &record["hold"]), (&json!("held"), &json!("1")));
    gate.open();
    assert!(exchange.rest().await.unwrap().whole);
    buyer.expect_used("1").await;
    let settled = buyer.call_in_state(&call.request_id(), "settled").await;
    assert_eq!(settled["charge"], "1");
}

async fn what_is_held_is_not_available_to_others(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "1").await;
    let gate = suite.backend.gate();
    let script = Script::chunked().then(Step::Text("a".into())).then(gate.step());
    let exchange = buyer.call().script(&script).open().await.unwrap();
    let reply = buyer.call().send().await;
    assert_eq!(reply.problem(402, "package_exhausted")["available"], "0");
    assert_eq!(reply.header("ratelimit"), "\"translate\";r=0");
    gate.open();
    assert!(exchange.rest().await.unwrap().whole);
    buyer.expect_used("1").await;
}

async fn a_reply_of_the_backend_is_charged_whatever_its_status(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "20").await;
    for (done, status) in [200, 204, 301, 400, 404, 429, 500, 503].into_iter().enumerate() {
        let reply = buyer.call().script(&Script::status(status)).send().await;
        assert_eq!((reply.status, reply.header("tollgate-charge").as_str()), (status, "1"));
        buyer.expect_used(&(done + 1).to_string()).await;
    }
}

async fn only_successes_are_charged_where_the_product_says_so(suite: Arc<Suite>) {
    let buyer = suite.buyer("succeeded", "20").await;
    for status in [301, 304, 400, 404, 429, 500, 503] {
        let call = buyer.call().script(&Script::status(status));
        let reply = call.send().await;
        assert_eq!((reply.status, reply.header("tollgate-charge").as_str()), (status, "0"));
        buyer.expect_untouched().await;
        assert_eq!(buyer.call_record(&call.request_id()).await["state"], "released");
    }
    for (done, status) in [200, 201, 204].into_iter().enumerate() {
        let reply = buyer.call().script(&Script::status(status)).send().await;
        assert_eq!((reply.status, reply.header("tollgate-charge").as_str()), (status, "1"));
        buyer.expect_used(&(done + 1).to_string()).await;
    }
}

async fn a_released_call_frees_its_hold_at_once(suite: Arc<Suite>) {
    let buyer = suite.buyer("succeeded", "1").await;
    for _ in 0..5 {
        let reply = buyer.call().script(&Script::status(500)).send().await;
        assert_eq!(reply.status, 500);
        assert_eq!(buyer.available().await, 10_000);
    }
    buyer.spend(1).await;
}

async fn a_body_that_declares_too_much_is_refused_unread(suite: Arc<Suite>) {
    let buyer = suite.buyer("small", "5").await;
    let wire = buyer.post("").header("content-length", "4097").start().await;
    let exchange = crate::support::call::Exchange::read(wire, "POST").await.unwrap();
    exchange.rest().await.unwrap().problem(413, "body_too_large");
    buyer.expect_untouched().await;
}

async fn a_streamed_body_that_grows_too_large_is_cut_and_released(suite: Arc<Suite>) {
    let buyer = suite.buyer("small", "5").await;
    let call = buyer.post(vec![b'x'; 200_000]).chunked();
    match call.try_send().await {
        Ok(reply) => drop(reply.problem(413, "body_too_large")),
        Err(error) => assert!(matches!(error, crate::support::wire::WireError::Cut), "{error}"),
    }
    eventually("nothing is held", || async { buyer.available().await == 50_000 }).await;
    buyer.expect_untouched().await;
    for received in buyer.received() {
        assert!(received.body_bytes <= 4096 && received.body_sha256.is_none(), "the limit was passed on: {received:?}");
    }
}

async fn a_body_of_exactly_the_limit_passes(suite: Arc<Suite>) {
    let buyer = suite.buyer("small", "5").await;
    buyer.post(vec![b'x'; 4096]).send().await.assert_ok();
    buyer.post(vec![b'x'; 4096]).chunked().send().await.assert_ok();
    assert!(buyer.received().iter().all(|received| received.body_bytes == 4096));
}

async fn the_books_balance_after_a_storm_of_every_kind(suite: Arc<Suite>) {
    let buyer = suite.buyer("succeeded", "30.5").await;
    buyer.grant_and("20.5", json!({ "priority": -3 })).await;
    let scripts = [
        Script::text("x"),
        Script::status(500),
        Script::chunked().then(Step::Fill(9000)).then(Step::Cut),
        Script::status(200).first(Step::Cut),
    ];
    let mut calls = JoinSet::new();
    for index in 0..120 {
        let call = buyer.call().script(&scripts[index % scripts.len()]);
        calls.spawn(async move { drop(call.try_send().await) });
    }
    calls.join_all().await;
    eventually("no call is held", || async { buyer.calls().await.iter().all(|call| call["state"] != "held") }).await;
    let calls = buyer.calls().await;
    let charged: i64 = calls.iter().map(|call| units(&call["charge"])).sum();
    let balance = buyer.balance().await;
    assert_eq!(units(&balance["used"]), charged);
    let settled = calls.iter().filter(|call| call["state"] == "settled").count();
    // Half of the first calls cost something; how many of the others find what the rest gave back is a matter of time.
    assert!(settled >= 20 && charged == settled as i64 * 10_000, "{settled} settled, {charged} charged");
    for package in balance["packages"].as_array().unwrap() {
        let [granted, used, held] = ["granted", "used", "held"].map(|name| units(&package[name]));
        assert!(used >= 0 && held == 0 && granted - used - held >= 0, "{package}");
    }
    buyer.gateway.assert_balanced(&buyer.id).await;
}
