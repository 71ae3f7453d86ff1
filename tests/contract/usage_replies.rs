//! Replies of usage-metered products on their way to the caller: unchanged, undelayed, and ended when their charge is durable (contract section 2).

use crate::support::call::Call;
use crate::support::metered::{Charged, JSON, json_of, reply_of, stream, text_event, usage_event, used};
use crate::support::script::{Script, Step};
use crate::support::{Suite, stage};
use serde_json::json;
use std::sync::Arc;

crate::cases! {
    a_short_declared_reply_tells_its_charge_and_waits_for_it,
    a_long_or_undeclared_reply_does_not_tell_its_charge,
    a_backends_own_charge_is_not_passed_on,
    an_event_arrives_before_the_backend_sends_the_next,
    a_piece_of_a_large_json_reply_arrives_before_the_next,
    the_end_of_a_reply_waits_for_its_charge,
    two_megabytes_of_json_pass_unchanged_and_are_charged,
    two_megabytes_of_an_event_pass_unchanged_and_are_charged,
    bytes_that_are_no_json_and_no_event_pass_unchanged,
    headers_pass_and_trailers_do_no_harm,
    the_limits_of_a_package_are_told_with_holds_counted,
}

async fn a_short_declared_reply_tells_its_charge_and_waits_for_it(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    let padded = |pad: usize| format!(r#"{{"pad":"{}","usage":{{"prompt_tokens":4,"completion_tokens":2}}}}"#, "x".repeat(pad));
    for body in [padded(0), padded(20_000), padded(65_536 - padded(0).len())] {
        let script = Script::status(200).header("content-type", JSON).then(suite.backend.keep(&body, 16_384));
        let call = buyer.ask(&json!({}), &script);
        let exchange = call.open().await.unwrap();
        assert_eq!(exchange.head.headers.one("tollgate-charge").as_deref(), Some("10"));
        // The headers are here, so the charge is durable.
        assert_eq!(buyer.charged_now(&call.request_id()).await, Charged::settled("10"));
        let reply = exchange.rest().await.unwrap();
        assert!(reply.whole && reply.text() == body && reply.header("content-length") == body.len().to_string());
    }
}

async fn a_long_or_undeclared_reply_does_not_tell_its_charge(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    let long = format!(r#"{{"pad":"{}","usage":{{"prompt_tokens":4}}}}"#, "x".repeat(65_536));
    let short = r#"{"usage":{"prompt_tokens":4}}"#;
    for script in [
        Script::status(200).header("content-type", JSON).then(suite.backend.keep(&long, 16_384)),
        Script::chunked().header("content-type", JSON).then(Step::Text(short.into())),
        Script::until_close().header("content-type", JSON).then(Step::Text(short.into())),
        stream().then(usage_event(4, 0)),
    ] {
        let reply = buyer.expect_charge(&buyer.ask(&json!({}), &script), &Charged::settled("4")).await;
        assert_eq!(reply.headers.one("tollgate-charge"), None);
    }
}

async fn a_backends_own_charge_is_not_passed_on(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    for script in [used(1, 0), stream().then(usage_event(1, 0))] {
        let script = script.header("tollgate-charge", "999").header("tollgate-replay", "true").header("x-request-id", "theirs");
        let call = buyer.ask(&json!({}), &script);
        let reply = buyer.expect_charge(&call, &Charged::settled("1")).await;
        assert_eq!((reply.headers.one("tollgate-replay"), reply.header("x-request-id")), (None, call.request_id()));
    }
}

async fn an_event_arrives_before_the_backend_sends_the_next(suite: Arc<Suite>) {
    for product in ["chat", "asking"] {
        let buyer = suite.buyer(product, "1000000").await;
        let events = [
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
            ": ping\n\n",
            "data: {\"usage\":{\"prompt_tokens\":6}}\n\n",
        ];
        let gates: Vec<_> = events.iter().map(|_| suite.backend.gate()).collect();
        let script = events
            .iter()
            .zip(&gates)
            .fold(stream(), |script, (event, gate)| script.then(Step::Text((*event).to_owned())).then(gate.step()));
        let call = buyer.ask(&json!({ "stream": true }), &script);
        let mut exchange = call.open().await.unwrap();
        for (event, gate) in events.iter().zip(&gates) {
            exchange.expect_text(event).await;
            gate.open();
        }
        let reply = exchange.rest().await.unwrap();
        assert!(reply.whole && reply.body.is_empty());
        assert_eq!(buyer.charged_now(&call.request_id()).await, Charged::settled("6"));
    }
}

async fn a_piece_of_a_large_json_reply_arrives_before_the_next(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    let gate = suite.backend.gate();
    let (begin, end) = (r#"{"data":[""#, r#""],"usage":{"prompt_tokens":7}}"#);
    let script = Script::status(200).header("content-type", JSON).then(Step::Text(begin.into()));
    let script = script.then(Step::Repeat("x".into(), 100_000)).then(gate.step()).then(Step::Text(end.into()));
    let call = buyer.ask(&json!({}), &script);
    let mut exchange = call.open().await.unwrap();
    let mut seen = 0;
    while seen < begin.len() + 90_000 {
        seen += exchange.piece().await.unwrap().unwrap().len();
    }
    assert_eq!(buyer.balance().await["used"], "0");
    gate.open();
    let reply = exchange.rest().await.unwrap();
    assert!(reply.whole && reply.text().ends_with(end));
    assert_eq!(buyer.charged_now(&call.request_id()).await, Charged::settled("7"));
}

async fn the_end_of_a_reply_waits_for_its_charge(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    let long = format!(r#"{{"pad":"{}","usage":{{"prompt_tokens":2}}}}"#, "x".repeat(300_000));
    let kept = |piece| suite.backend.keep(&long, piece);
    let events = || stream().then(text_event("a")).then(usage_event(2, 0)).then(Step::Text("data: [DONE]\n\n".into()));
    for round in 1..=5 {
        for script in [
            used(2, 0),
            Script::status(200).header("content-type", JSON).then(kept(300_000)),
            Script::status(200).header("content-type", JSON).then(kept(1000)),
            Script::chunked().header("content-type", JSON).then(kept(50_000)),
            events(),
        ] {
            // `expect_charge` looks at the ledger as soon as the whole reply is there.
            let call = buyer.ask(&json!({}), &script);
            buyer.expect_charge(&call, &Charged::settled("2")).await;
        }
        assert_eq!(buyer.balance().await["used"], (round * 10).to_string());
    }
}

async fn two_megabytes_of_json_pass_unchanged_and_are_charged(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    let item = r#"{"object":"embedding","embedding":[0.0023064255,-0.009327292,1e-7],"text":"\"usage\":{\"prompt_tokens\":9}"},"#;
    let items = item.repeat(2_000_000 / item.len());
    for body in [
        format!(r#"{{"data":[{items}{{}}],"usage":{{"prompt_tokens":8,"total_tokens":8}}}}"#),
        format!(r#"{{"usage":{{"prompt_tokens":8,"total_tokens":8}},"data":[{items}{{}}]}}"#),
    ] {
        for script in [Script::status(200), Script::chunked()] {
            let script = script.header("content-type", JSON).then(suite.backend.keep(&body, 33_333));
            let reply = buyer.expect_charge(&buyer.ask(&json!({}), &script), &Charged::settled("8")).await;
            assert!(reply.body == body.as_bytes() && reply.headers.one("tollgate-charge").is_none());
        }
    }
}

async fn two_megabytes_of_an_event_pass_unchanged_and_are_charged(suite: Arc<Suite>) {
    for product in ["chat", "asking"] {
        let buyer = suite.buyer(product, "1000000").await;
        let text = "y".repeat(2_000_000);
        let event = |json: &str| format!("data: {json}\n\n");
        let large = event(&format!(r#"{{"choices":[{{"delta":{{"content":"{text}"}}}}],"usage":{{"prompt_tokens":3}}}}"#));
        let unread = event(&format!(r#"{{"choices":[],"delta":"{text}"}}"#));
        let comment = format!(": {text}\n");
        let field = format!("{text}: x\n");
        let body = format!("{large}{comment}{field}{unread}");
        let script = stream().then(suite.backend.keep(&body, 60_000));
        let reply = buyer.expect_charge(&buyer.ask(&json!({ "stream": true }), &script), &Charged::settled("3")).await;
        assert!(reply.body == body.as_bytes(), "{}", reply.body.len());
    }
}

async fn bytes_that_are_no_json_and_no_event_pass_unchanged(suite: Arc<Suite>) {
    let buyer = suite.buyer("absorbing", "1000000").await;
    let bytes = stage::filling(0, 200_000);
    for kind in [JSON, "text/event-stream", "application/x-ndjson", "image/png", "application/json; charset=\"", "", "a,b;;="] {
        for script in [Script::status(200), Script::chunked()] {
            let script = script.header("content-type", kind).then(suite.backend.keep(&bytes, 7_777));
            let reply = buyer.expect_charge(&buyer.ask(&json!({}), &script), &Charged::hold("10")).await;
            assert!(reply.body == bytes && reply.headers.one("content-type").as_deref() == Some(kind), "{kind}");
        }
    }
}

async fn headers_pass_and_trailers_do_no_harm(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    let script = stream().header("x-own", "1").header("x-own", "2").header("cache-control", "no-cache");
    let script = script.then(usage_event(5, 0)).trailer("x-end", "yes");
    let reply = buyer.expect_charge(&buyer.ask(&json!({}), &script), &Charged::settled("5")).await;
    assert_eq!((reply.headers.all("x-own"), reply.header("cache-control")), (vec!["1".into(), "2".into()], "no-cache".into()));
    let events = reply_of("text/event-stream", "data: {\"usage\":{\"prompt_tokens\":5}}\n\n").header("etag", "\"1\"");
    let reply = buyer.expect_charge(&buyer.ask(&json!({}), &events), &Charged::settled("5")).await;
    assert_eq!((reply.header("etag").as_str(), reply.header("tollgate-charge").as_str()), ("\"1\"", "5"));
}

async fn the_limits_of_a_package_are_told_with_holds_counted(suite: Arc<Suite>) {
    let buyer = suite.buyer("absorbing", "99.5").await;
    let limits = |call: Call| async move {
        let exchange = call.open().await.unwrap();
        let told = (exchange.head.headers.one("ratelimit-policy").unwrap(), exchange.head.headers.one("ratelimit").unwrap());
        assert!(exchange.rest().await.unwrap().whole);
        told
    };
    let small = json_of(r#"{"usage":{"total_tokens":1}}"#);
    let (policy, left) = limits(buyer.ask(&json!({}), &small)).await;
    assert_eq!(policy, "\"absorbing\";q=99");
    assert!(left == "\"absorbing\";r=89" || left == "\"absorbing\";r=98", "{left}");
    let script = stream().then(Step::Text("data: {\"usage\":{\"total_tokens\":1}}\n\n".into()));
    let (_, left) = limits(buyer.ask(&json!({ "max_tokens": 5 }), &script)).await;
    assert_eq!(left, "\"absorbing\";r=48", "the stream's own hold is counted");
}
