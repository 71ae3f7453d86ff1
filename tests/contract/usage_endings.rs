//! Every way in which a usage-metered reply can end, and what is charged then (contract section 3, *Usage*).

use crate::support::buyer::Buyer;
use crate::support::call::{Call, Exchange};
use crate::support::metered::{Charged, JSON, stream};
use crate::support::script::{Script, Step};
use crate::support::{Suite, eventually};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

crate::cases! {
    a_stream_that_the_backend_cuts_is_charged_what_was_seen,
    a_stream_that_the_backend_resets_is_charged_what_was_seen,
    a_stream_that_falls_silent_is_charged_what_was_seen,
    a_json_reply_that_the_backend_cuts_is_charged_what_was_seen,
    a_failure_that_the_backend_cuts_is_charged_what_was_seen,
    a_product_of_the_requests_size_is_charged_it_even_where_the_reply_breaks_off,
    a_caller_that_left_is_charged_what_the_end_of_the_stream_says,
    a_caller_that_left_before_the_reply_began_is_charged_what_it_says,
    a_caller_that_left_a_large_json_reply_is_charged_what_it_says,
    a_backend_that_breaks_off_after_the_caller_left_is_charged_what_was_seen,
    the_gateway_reads_on_only_so_many_bytes,
    the_gateway_reads_on_only_so_long,
    a_caller_that_leaves_a_silent_backend_is_noticed,
    a_caller_that_waits_for_a_silent_backend_is_not_taken_for_gone,
    a_caller_that_stops_reading_has_left,
    callers_that_leave_at_any_byte_leave_no_hold,
}

fn event(total: u64) -> Step {
    Step::Text(format!("data: {{\"usage\":{{\"total_tokens\":{total}}}}}\n\n"))
}

fn text(text: &str) -> Step {
    Step::Text(format!("data: {{\"text\":\"{text}\"}}\n\n"))
}

/// Calls, and checks that the caller never takes the reply for whole.
async fn expect_cut(buyer: &Buyer, script: &Script, charged: &Charged) {
    let call = buyer.ask(&json!({}), script);
    if let Ok(reply) = call.try_send().await {
        reply.assert_cut();
    }
    assert_eq!(buyer.charged(&call).await, *charged);
}

/// Replies of a product whose hold is 100, up to where the backend breaks off, and what is charged then.
fn broken(end: &Step) -> Vec<(Script, Charged)> {
    let unended = Step::Text("data: {\"usage\":{\"total_tokens\":9}".into());
    let ended = |script: Script| script.then(end.clone());
    vec![
        (ended(stream()), Charged::released()),
        (ended(stream().then(text("a"))), Charged::released()),
        (ended(stream().then(text("a")).then(unended)), Charged::released()),
        (ended(stream().then(event(7)).then(text("a"))), Charged::settled("7")),
        (ended(stream().then(event(7)).then(event(5000))), Charged::settled("5000")),
        (ended(stream().then(event(0))), Charged::released()),
    ]
}

async fn a_stream_that_the_backend_cuts_is_charged_what_was_seen(suite: Arc<Suite>) {
    let buyer = suite.buyer("leaving", "1000000").await;
    for (script, charged) in broken(&Step::Cut) {
        expect_cut(&buyer, &script, &charged).await;
    }
    buyer.expect_balanced().await;
}

async fn a_stream_that_the_backend_resets_is_charged_what_was_seen(suite: Arc<Suite>) {
    let buyer = suite.buyer("leaving", "1000000").await;
    for (script, _) in broken(&Step::Reset) {
        // A reset may overtake what was sent before it; whatever was seen, it is no hold and nothing is left.
        let call = buyer.ask(&json!({}), &script);
        if let Some(reply) = call.try_send().await.ok().filter(|reply| reply.status != 502) {
            reply.assert_cut();
        }
        let charged = buyer.charged(&call).await;
        assert!(["0", "7", "5000"].contains(&charged.charge.as_str()) && !charged.usage_missing, "{charged:?}");
    }
    // What the caller has got was seen.
    let gate = suite.backend.gate();
    let call = buyer.ask(&json!({}), &stream().then(event(7)).then(text("a")).then(gate.step()).then(Step::Reset));
    let mut exchange = call.open().await.unwrap();
    exchange.expect_text("data: {\"usage\":{\"total_tokens\":7}}\n\ndata: {\"text\":\"a\"}\n\n").await;
    gate.open();
    exchange.rest().await.unwrap().assert_cut();
    assert_eq!(buyer.charged(&call).await, Charged::settled("7"));
    buyer.expect_balanced().await;
}

async fn a_stream_that_falls_silent_is_charged_what_was_seen(suite: Arc<Suite>) {
    let buyer = suite.buyer("hasty", "1000000").await;
    let mut calls = tokio::task::JoinSet::new();
    for (script, charged) in broken(&Step::Hang) {
        let buyer = buyer.clone();
        calls.spawn(async move { expect_cut(&buyer, &script, &charged).await });
    }
    calls.join_all().await;
    buyer.expect_balanced().await;
}

async fn a_json_reply_that_the_backend_cuts_is_charged_what_was_seen(suite: Arc<Suite>) {
    let buyer = suite.buyer("leaving", "1000000").await;
    let seen = r#"{"usage":{"total_tokens":7},"data":["#;
    let unseen = r#"{"data":[{"usage":{"total_tokens":7}}"#;
    for (begun, charged) in [(seen, Charged::settled("7")), (unseen, Charged::released()), ("", Charged::released())] {
        for script in [Script::declaring(5_000), Script::declaring(5_000_000), Script::chunked()] {
            let script = script.header("content-type", JSON);
            let script = if begun.is_empty() { script } else { script.then(Step::Text(begun.into())) };
            expect_cut(&buyer, &script.then(Step::Cut), &charged).await;
        }
    }
    buyer.expect_balanced().await;
}

async fn a_failure_that_the_backend_cuts_is_charged_what_was_seen(suite: Arc<Suite>) {
    let buyer = suite.buyer("leaving", "1000000").await;
    for (body, charged) in [(r#"{"usage":{"total_tokens":7},"#, Charged::settled("7")), (r#"{"error":"#, Charged::released())] {
        // A declared length that is never reached.
        let script = Script::status(500).header("content-type", JSON).then(Step::Text(body.into()));
        expect_cut(&buyer, &script.then(Step::Cut).then(Step::Text("never".into())), &charged).await;
    }
}

async fn a_product_of_the_requests_size_is_charged_it_even_where_the_reply_breaks_off(suite: Arc<Suite>) {
    let buyer = suite.buyer("characters", "1000000").await;
    let script = Script::chunked().header("content-type", "audio/wav").then(Step::Fill(1000)).then(Step::Cut);
    let call = buyer.ask(&json!({ "input": "twelve chars" }), &script);
    call.send().await.assert_cut();
    assert_eq!(buyer.charged(&call).await, Charged::settled("12"));
}

/// Opens a stream, reads its first event, and leaves.
async fn leave(call: &Call, first: &str) {
    let mut exchange = call.open().await.unwrap();
    exchange.expect_text(first).await;
    drop(exchange);
}

const FIRST: &str = "data: {\"text\":\"a\"}\n\n";

async fn a_caller_that_left_is_charged_what_the_end_of_the_stream_says(suite: Arc<Suite>) {
    let buyer = suite.buyer("leaving", "1000000").await;
    for (rest, charged) in [
        (vec![text("b"), event(7)], Charged::settled("7")),
        (vec![event(9), text("b"), event(7), text("c")], Charged::settled("7")),
        (vec![text("b"), event(0)], Charged::released()),
        (vec![text("b"), text("c")], Charged::hold("100")),
    ] {
        let gate = suite.backend.gate();
        let script = stream().then(text("a")).then(gate.step());
        let script = rest.into_iter().fold(script, |script, step| script.then(step).then(Step::PauseMs(5)));
        let call = buyer.ask(&json!({}), &script);
        leave(&call, FIRST).await;
        gate.open();
        assert_eq!(buyer.charged(&call).await, charged);
    }
    buyer.expect_balanced().await;
}

async fn a_caller_that_left_before_the_reply_began_is_charged_what_it_says(suite: Arc<Suite>) {
    let buyer = suite.buyer("leaving", "1000000").await;
    let json = || Script::status(200).header("content-type", JSON).then(Step::Text(r#"{"usage":{"total_tokens":7}}"#.into()));
    for (script, charged) in [
        (json(), Charged::settled("7")),
        (stream().then(text("a")).then(event(7)), Charged::settled("7")),
        (Script::status(500), Charged::released()),
        (Script::declaring(500).then(Step::Cut), Charged::released()),
    ] {
        let gate = suite.backend.gate();
        let call = buyer.post("{}").script(&script.first(gate.step()));
        let mut wire = call.start().await;
        wire.send(b"{}").await.unwrap();
        let forwarded = buyer.received().len();
        eventually("the call is at the backend", || async { buyer.received().len() > forwarded || buyer.hold_is(&call).await })
            .await;
        drop(wire);
        gate.open();
        assert_eq!(buyer.charged(&call).await, charged);
    }
    buyer.expect_balanced().await;
}

impl Buyer {
    /// Whether a call is known and live.
    async fn hold_is(&self, call: &Call) -> bool {
        self.calls().await.iter().any(|record| record["request_id"] == call.request_id().as_str() && record["state"] == "held")
    }
}

async fn a_caller_that_left_a_large_json_reply_is_charged_what_it_says(suite: Arc<Suite>) {
    let buyer = suite.buyer("absorbing", "1000000").await;
    let gate = suite.backend.gate();
    let script = Script::chunked().header("content-type", JSON).then(Step::Text(r#"{"data":[""#.into())).then(gate.step());
    let script = script.then(Step::Repeat("x".into(), 900_000)).then(Step::Text(r#""],"usage":{"total_tokens":7}}"#.into()));
    let call = buyer.ask(&json!({}), &script);
    leave(&call, r#"{"data":[""#).await;
    gate.open();
    assert_eq!(buyer.charged(&call).await, Charged::settled("7"));
}

async fn a_backend_that_breaks_off_after_the_caller_left_is_charged_what_was_seen(suite: Arc<Suite>) {
    let buyer = suite.buyer("leaving", "1000000").await;
    for (rest, charged) in [(event(7), Charged::settled("7")), (text("b"), Charged::released())] {
        let gate = suite.backend.gate();
        let script = stream().then(text("a")).then(gate.step()).then(rest).then(Step::PauseMs(50)).then(text("c"));
        let call = buyer.ask(&json!({}), &script.then(Step::PauseMs(50)).then(Step::Cut));
        leave(&call, FIRST).await;
        gate.open();
        assert_eq!(buyer.charged(&call).await, charged);
    }
}

async fn the_gateway_reads_on_only_so_many_bytes(suite: Arc<Suite>) {
    let buyer = suite.buyer("leaving", "1000000").await;
    // 64 KiB are read on; the hold is 100.
    for (first, after, charge) in [(1, 2_000_000, "100"), (7000, 2_000_000, "7000"), (1, 20_000, "333")] {
        let gate = suite.backend.gate();
        let script = stream().then(event(first)).then(gate.step());
        let line = ": nothing of interest\n";
        let script = script.then(Step::Repeat(line.into(), after / line.len())).then(event(333));
        let call = buyer.ask(&json!({}), &script);
        leave(&call, &format!("data: {{\"usage\":{{\"total_tokens\":{first}}}}}\n\n")).await;
        gate.open();
        assert_eq!(buyer.charged(&call).await, Charged::settled(charge));
        let received = buyer.received().pop().unwrap();
        assert!(after < 64 * 1024 || received.body_bytes == 2);
    }
    buyer.expect_balanced().await;
}

async fn the_gateway_reads_on_only_so_long(suite: Arc<Suite>) {
    let buyer = suite.buyer("leaving", "1000000").await;
    for (first, charge) in [(1, "100"), (7000, "7000")] {
        let gate = suite.backend.gate();
        let script = stream().then(event(first)).then(gate.step());
        let script = (0..20).fold(script, |script, _| script.then(text("more")).then(Step::PauseMs(10)));
        let call = buyer.ask(&json!({}), &script.then(Step::Hang));
        leave(&call, &format!("data: {{\"usage\":{{\"total_tokens\":{first}}}}}\n\n")).await;
        gate.open();
        let begun = Instant::now();
        assert_eq!(buyer.charged(&call).await, Charged::settled(charge));
        assert!((Duration::from_millis(800)..Duration::from_secs(15)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        eventually("the backend is let go", || async { buyer.received().pop().unwrap().abandoned }).await;
    }
}

async fn a_caller_that_leaves_a_silent_backend_is_noticed(suite: Arc<Suite>) {
    let buyer = suite.buyer("leaving", "1000000").await;
    let said = |total: u64| format!("data: {{\"usage\":{{\"total_tokens\":{total}}}}}\n\n");
    let mut calls = tokio::task::JoinSet::new();
    for (first, charge) in [(None, "100"), (Some(1), "100"), (Some(7000), "7000")] {
        let buyer = buyer.clone();
        calls.spawn(async move {
            // Far less than the idle_timeout of a minute.
            let script = first.into_iter().fold(stream(), |script, total| script.then(event(total))).then(Step::Hang);
            let call = buyer.ask(&json!({}), &script);
            leave(&call, &first.map(said).unwrap_or_default()).await;
            assert_eq!(buyer.charged(&call).await, Charged::settled(charge));
        });
    }
    calls.join_all().await;
    eventually("the backend is let go", || async { buyer.received().iter().all(|received| received.abandoned) }).await;
    buyer.expect_balanced().await;
}

async fn a_caller_that_waits_for_a_silent_backend_is_not_taken_for_gone(suite: Arc<Suite>) {
    let end = "data: {\"usage\":{\"total_tokens\":7,\"prompt_tokens\":7}}\n\n";
    let comment = ": more\n";
    let expected = format!("{FIRST}{}{end}", comment.repeat(10_000));
    let mut calls = tokio::task::JoinSet::new();
    for (product, script) in [
        ("leaving", Script::chunked()),
        ("leaving", Script::status(200)),
        ("chat", Script::chunked()),
        ("asking", Script::chunked()),
    ] {
        let buyer = suite.buyer(product, "1000000").await;
        let script = script.header("content-type", "text/event-stream").then(Step::PauseMs(2300)).then(text("a"));
        let script = script.then(Step::PauseMs(1200)).then(Step::Repeat(comment.into(), 10_000)).then(Step::Text(end.into()));
        let expected = expected.clone();
        calls.spawn(async move {
            let call = buyer.ask(&json!({ "stream": true }), &script);
            let reply = buyer.expect_charge(&call, &Charged::settled("7")).await;
            assert!(reply.body == expected.as_bytes(), "{product}: {} bytes", reply.body.len());
        });
    }
    calls.join_all().await;
}

async fn a_caller_that_stops_reading_has_left(suite: Arc<Suite>) {
    let buyer = suite.buyer("hasty", "1000000").await;
    let line = format!(": {}\n", "y".repeat(1000));
    // More than every buffer on the way has room for.
    let script = stream().then(event(7)).then(Step::Repeat(line, 60_000)).then(event(1000));
    let call = buyer.ask(&json!({}), &script);
    let exchange = call.open().await.unwrap();
    assert_eq!(buyer.charged(&call).await, Charged::settled("100"), "the hold, since the end was not reached");
    if let Ok(reply) = exchange.rest().await {
        reply.assert_cut();
    }
}

async fn callers_that_leave_at_any_byte_leave_no_hold(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "100000000").await;
    let stream = crate::usage_streams::anthropic();
    let mut calls = tokio::task::JoinSet::new();
    for index in 0..60 {
        let script = Script::chunked().header("content-type", "text/event-stream");
        let script = script.then(suite.backend.keep(&stream, 40));
        let (call, stays) = (buyer.ask(&json!({}), &script), index * stream.len() / 60);
        calls.spawn(async move {
            let mut wire = call.start().await;
            wire.send(b"{}").await.unwrap();
            if stays > 0 {
                let mut exchange = Exchange::read(wire, "POST").await.unwrap();
                let mut seen = 0;
                while seen < stays {
                    let Some(piece) = exchange.piece().await.unwrap() else { break };
                    seen += piece.len();
                }
            }
            call
        });
    }
    for call in calls.join_all().await {
        // Who left before the request was there has not called.
        let id = call.request_id();
        eventually(&format!("{id} is over"), || async { !buyer.hold_is(&call).await }).await;
        let known = buyer.calls().await.into_iter().any(|record| record["request_id"] == id.as_str());
        assert!(!known || buyer.charged(&call).await == Charged::settled("102"), "{:?}", buyer.charged(&call).await);
    }
    buyer.expect_balanced().await;
}
