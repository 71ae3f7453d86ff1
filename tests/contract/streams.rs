//! Bodies pass as streams, and the end of a reply means what it says.

use crate::support::Suite;
use crate::support::call::Exchange;
use crate::support::script::{Script, Step};
use crate::support::stage;
use crate::support::wire::chunk;
use std::sync::Arc;

crate::cases! {
    a_chunk_of_a_reply_arrives_before_the_backend_sends_the_next,
    a_piece_of_a_reply_with_a_length_arrives_before_the_next,
    a_chunk_of_a_request_reaches_the_backend_before_the_next,
    a_reply_may_begin_before_the_request_has_ended,
    whoever_has_the_whole_reply_reads_the_new_balance,
    a_reply_cut_by_the_backend_is_cut_for_the_caller,
    a_reply_reset_by_the_backend_is_cut_for_the_caller,
    a_backend_that_falls_silent_is_cut_for_the_caller,
    a_caller_that_leaves_during_the_reply_is_charged_once,
    a_caller_that_leaves_during_its_request_is_not_charged,
    a_caller_that_falls_silent_during_its_request_is_not_charged,
    five_megabytes_pass_unchanged_both_ways,
}

async fn a_chunk_of_a_reply_arrives_before_the_backend_sends_the_next(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let (first, second) = (suite.backend.gate(), suite.backend.gate());
    let script = Script::chunked().header("content-type", "text/event-stream");
    let script = script.then(Step::Text("data: one\n\n".into())).then(first.step());
    let script = script.then(Step::Text("data: two\n\n".into())).then(second.step());
    let mut exchange = buyer.call().script(&script).open().await.unwrap();
    exchange.expect_text("data: one\n\n").await;
    first.open();
    exchange.expect_text("data: two\n\n").await;
    second.open();
    let reply = exchange.rest().await.unwrap();
    assert!(reply.whole && reply.body.is_empty());
    buyer.expect_used("1").await;
}

async fn a_piece_of_a_reply_with_a_length_arrives_before_the_next(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let gate = suite.backend.gate();
    let script = Script::status(200).then(Step::Fill(100_000)).then(gate.step()).then(Step::Text("the end".into()));
    let mut exchange = buyer.call().script(&script).open().await.unwrap();
    // All but the last bytes must pass: those alone may wait for the charge.
    let mut seen = 0;
    while seen < 90_000 {
        seen += exchange.piece().await.unwrap().unwrap().len();
    }
    gate.open();
    let reply = exchange.rest().await.unwrap();
    assert!(reply.whole && reply.body.ends_with(b"the end"));
    assert_eq!(seen + reply.body.len(), 100_007);
}

async fn a_chunk_of_a_request_reaches_the_backend_before_the_next(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let mut wire = buyer.post("").chunked().start().await;
    wire.send(&chunk(b"first")).await.unwrap();
    let arrived = |bytes| {
        let buyer = &buyer;
        crate::support::eventually("a chunk is at the backend", move || async move {
            buyer.received().first().is_some_and(|received| received.body_bytes == bytes)
        })
    };
    arrived(5).await;
    wire.send(&chunk(b"second")).await.unwrap();
    arrived(11).await;
    wire.send(b"0\r\n\r\n").await.unwrap();
    Exchange::read(wire, "POST").await.unwrap().rest().await.unwrap().assert_ok();
    assert_eq!(buyer.only_received().body, b"firstsecond");
}

async fn a_reply_may_begin_before_the_request_has_ended(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let script = Script::chunked().early().then(Step::Text("early".into()));
    let mut wire = buyer.post("").chunked().script(&script).start().await;
    wire.send(&chunk(b"first")).await.unwrap();
    let mut exchange = Exchange::read(wire, "POST").await.unwrap();
    assert_eq!(exchange.head.status, 200);
    exchange.expect_text("early").await;
    exchange.wire.send(b"0\r\n\r\n").await.unwrap();
    assert!(exchange.rest().await.unwrap().whole);
    buyer.expect_used("1").await;
}

async fn whoever_has_the_whole_reply_reads_the_new_balance(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "20").await;
    let kinds = [Script::text("x"), Script::chunked().then(Step::Text("x".into())), Script::status(204)];
    for (done, script) in kinds.iter().cycle().take(9).enumerate() {
        assert!(buyer.call().script(script).send().await.whole);
        assert_eq!(buyer.available().await, (19 - done as i64) * 10_000);
    }
}

async fn expect_cut_and_charged(suite: &Suite, product: &str, script: Script) {
    let buyer = suite.buyer(product, "5").await;
    let call = buyer.call().script(&script);
    match call.try_send().await {
        Ok(reply) => reply.assert_cut(),
        Err(error) => assert!(matches!(error, crate::support::wire::WireError::Cut), "{error}"),
    }
    // The call was forwarded and a complete reply head arrived.
    buyer.call_in_state(&call.request_id(), "settled").await;
    buyer.expect_used("1").await;
}

async fn a_reply_cut_by_the_backend_is_cut_for_the_caller(suite: Arc<Suite>) {
    let cut = |script: Script| script.then(Step::Text("begun".into())).then(Step::Cut);
    expect_cut_and_charged(&suite, "translate", cut(Script::declaring(5000))).await;
    expect_cut_and_charged(&suite, "translate", cut(Script::declaring(500_000))).await;
    expect_cut_and_charged(&suite, "translate", cut(Script::chunked())).await;
}

async fn a_reply_reset_by_the_backend_is_cut_for_the_caller(suite: Arc<Suite>) {
    let script = Script::chunked().then(Step::Fill(200_000)).then(Step::Reset);
    expect_cut_and_charged(&suite, "translate", script).await;
}

async fn a_backend_that_falls_silent_is_cut_for_the_caller(suite: Arc<Suite>) {
    let script = Script::chunked().then(Step::Text("begun".into())).then(Step::Hang);
    expect_cut_and_charged(&suite, "impatient", script).await;
}

async fn a_caller_that_leaves_during_the_reply_is_charged_once(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let gate = suite.backend.gate();
    let script = Script::chunked().then(Step::Text("begun".into())).then(gate.step()).then(Step::Fill(3_000_000));
    let call = buyer.call().script(&script);
    let mut exchange = call.open().await.unwrap();
    exchange.expect_text("begun").await;
    drop(exchange);
    gate.open();
    let record = buyer.call_in_state(&call.request_id(), "settled").await;
    assert_eq!((&record["charge"], &record["lost"]), (&"1".into(), &false.into()));
    buyer.expect_used("1").await;
    buyer.call().send().await.assert_ok();
}

async fn a_caller_that_leaves_during_its_request_is_not_charged(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let call = buyer.post("").chunked();
    let mut wire = call.start().await;
    wire.send(&chunk(b"begun")).await.unwrap();
    buyer.expect_forwarded(1).await;
    drop(wire);
    buyer.call_in_state(&call.request_id(), "released").await;
    buyer.expect_untouched().await;
}

async fn a_caller_that_falls_silent_during_its_request_is_not_charged(suite: Arc<Suite>) {
    let buyer = suite.buyer("impatient", "5").await;
    let call = buyer.post("").chunked();
    let mut wire = call.start().await;
    wire.send(&chunk(b"begun")).await.unwrap();
    buyer.expect_forwarded(1).await;
    buyer.call_in_state(&call.request_id(), "released").await;
    buyer.expect_untouched().await;
    if let Ok(exchange) = Exchange::read(wire, "POST").await {
        assert!(exchange.head.status >= 400, "{}", exchange.head.status);
    }
}

async fn five_megabytes_pass_unchanged_both_ways(suite: Arc<Suite>) {
    let buyer = suite.buyer("large", "5").await;
    let size = 5_000_000;
    let body = stage::filling(0, size);
    let script = Script::chunked().then(Step::Fill(size));
    let reply = buyer.post(&body).script(&script).send().await;
    assert!(reply.whole && reply.body == body);
    let received = buyer.only_received();
    assert_eq!(received.body_bytes, size as u64);
    assert_eq!(received.body_sha256, Some(<sha2::Sha256 as sha2::Digest>::digest(&body).into()));
}
