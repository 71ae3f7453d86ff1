//! A backend that does not answer costs the customer nothing.

use crate::support::Suite;
use crate::support::buyer::Buyer;
use crate::support::call::{Call, Exchange};
use crate::support::script::{Script, Step};
use crate::support::wire::chunk;
use std::sync::Arc;
use std::time::Duration;

crate::cases! {
    a_backend_that_refuses_the_connection_is_unreachable,
    a_backend_that_closes_before_its_headers_is_unreachable,
    a_backend_that_resets_before_its_headers_is_unreachable,
    a_backend_that_speaks_no_http_is_unreachable,
    a_backend_that_ends_within_its_headers_is_unreachable,
    a_reply_that_no_caller_can_be_given_costs_nothing,
    a_backend_slower_than_the_timeout_times_out,
    a_backend_within_its_timeout_is_waited_for,
    the_timeout_begins_when_the_request_has_ended,
    a_failed_call_may_be_tried_again_under_its_id,
}

async fn expect_free(buyer: &Buyer, call: &Call, status: u16, code: &str) {
    call.send().await.problem(status, code);
    let balance = buyer.balance().await;
    assert_eq!(balance["available"], balance["granted"], "{balance}");
    let record = buyer.call_record(&call.request_id()).await;
    assert_eq!(record["state"], "released");
    buyer.expect_untouched().await;
}

async fn expect_unreachable(suite: &Suite, script: Script) {
    let buyer = suite.buyer("translate", "5").await;
    expect_free(&buyer, &buyer.call().script(&script), 502, "backend_unreachable").await;
    expect_free(&buyer, &buyer.post("a body").script(&script), 502, "backend_unreachable").await;
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn a_backend_that_refuses_the_connection_is_unreachable(suite: Arc<Suite>) {
    let buyer = suite.buyer("unreachable", "5").await;
    expect_free(&buyer, &buyer.call(), 502, "backend_unreachable").await;
    expect_free(&buyer, &buyer.post("a body"), 502, "backend_unreachable").await;
}

async fn a_backend_that_closes_before_its_headers_is_unreachable(suite: Arc<Suite>) {
    expect_unreachable(&suite, Script::text("x").first(Step::Cut)).await;
}

async fn a_backend_that_resets_before_its_headers_is_unreachable(suite: Arc<Suite>) {
    expect_unreachable(&suite, Script::text("x").first(Step::Reset)).await;
}

async fn a_backend_that_speaks_no_http_is_unreachable(suite: Arc<Suite>) {
    let odd = Step::Raw("220 mail.example ESMTP\r\n\r\n".into());
    expect_unreachable(&suite, Script::text("x").first(odd).first(Step::Cut)).await;
}

async fn a_backend_that_ends_within_its_headers_is_unreachable(suite: Arc<Suite>) {
    let begun = Step::Raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: ".into());
    expect_unreachable(&suite, Script::text("x").first(begun).first(Step::Cut)).await;
}

async fn a_reply_that_no_caller_can_be_given_costs_nothing(suite: Arc<Suite>) {
    let large = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-large: {}\r\n\r\nok", "v".repeat(150_000));
    let heads = [
        "HTTP/1.1 999 Odd\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 600 Odd\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: odd\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\ncontent-length: two\r\n\r\n",
        &large,
    ];
    for product in ["translate", "chat"] {
        let buyer = suite.buyer(product, "10000").await;
        for head in heads {
            let script = Script::text("").first(suite.backend.keep(head, 16_000)).first(Step::Cut);
            expect_free(&buyer, &buyer.call().script(&script), 502, "backend_unreachable").await;
        }
        buyer.gateway.assert_balanced(&buyer.id).await;
    }
}

async fn a_backend_slower_than_the_timeout_times_out(suite: Arc<Suite>) {
    let buyer = suite.buyer("impatient", "5").await;
    let call = buyer.call().script(&Script::text("x").first(Step::Hang));
    expect_free(&buyer, &call, 504, "backend_timeout").await;
    crate::support::eventually("the backend is let go", || async { buyer.only_received().abandoned }).await;
}

async fn a_backend_within_its_timeout_is_waited_for(suite: Arc<Suite>) {
    let buyer = suite.buyer("impatient", "5").await;
    buyer.call().script(&Script::text("x").first(Step::PauseMs(300))).send().await.assert_ok();
    buyer.expect_used("1").await;
}

async fn the_timeout_begins_when_the_request_has_ended(suite: Arc<Suite>) {
    let buyer = suite.buyer("impatient", "5").await;
    for (script, status) in [(Script::text("x"), 200), (Script::text("x").first(Step::Hang), 504)] {
        let call = buyer.call().method("POST").chunked().script(&script);
        let mut wire = call.start().await;
        // Longer than the timeout, and never silent for as long.
        for _ in 0..6 {
            wire.send(&chunk(b"more")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        wire.send(b"0\r\n\r\n").await.unwrap();
        let reply = Exchange::read(wire, "POST").await.unwrap().rest().await.unwrap();
        assert_eq!(reply.status, status);
    }
    buyer.expect_used("1").await;
}

async fn a_failed_call_may_be_tried_again_under_its_id(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let call = buyer.call().script(&Script::text("x").first(Step::Cut));
    for _ in 0..2 {
        expect_free(&buyer, &call, 502, "backend_unreachable").await;
    }
    let reply = call.script(&Script::text("back")).send().await;
    reply.assert_ok();
    assert_eq!(reply.headers.all("tollgate-replay").len(), 0);
    buyer.expect_used("1").await;
}
