//! Products that ask their backends for usage in streams (contract section 1, `request_usage`; section 2, the exceptions).

use crate::support::Suite;
use crate::support::metered::{Charged, EVENTS, JSON, used};
use crate::support::script::{Script, Step};
use serde_json::{Value, json};
use std::sync::Arc;

crate::cases! {
    a_stream_that_does_not_ask_for_usage_asks_for_it,
    a_request_that_needs_no_question_is_unchanged,
    the_usage_only_event_is_dropped_where_the_caller_did_not_ask,
    the_usage_only_event_passes_where_the_caller_asked,
    events_that_carry_more_than_usage_pass,
    an_event_that_never_ends_passes,
    a_reply_loses_its_length_and_digest_with_its_event,
    the_question_is_no_part_of_what_a_request_id_stands_for,
}

const TEXT: &str = "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}],\"usage\":null}\n\n";
const USAGE: &str = "data: {\"id\":\"1\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":10}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

async fn a_stream_that_does_not_ask_for_usage_asks_for_it(suite: Arc<Suite>) {
    let buyer = suite.buyer("asking", "1000000").await;
    for body in [
        r#"{"stream":true}"#,
        "{ \"messages\" : [ {\"role\":\"user\",\"content\":\"\\\"stream_options\\\":1 ä\"} ],\n\t\"stream\" : true }",
        r#"{"stream":true,"stream_options":null,"model":"m"}"#,
        r#"{"stream_options":{},"stream":true}"#,
        r#"{"stream_options":{"include_usage":false,"other":[1]},"stream":true}"#,
        r#"{"stream_options":{"include_usage":null},"stream":true}"#,
        r#"{"stream_options":{"other":true},"stream":true}"#,
    ] {
        for chunked in [false, true] {
            let call = buyer.post(body).header("content-type", JSON);
            let call = if chunked { call.chunked() } else { call }.script(&used(1, 0));
            buyer.expect_charge(&call, &Charged::settled("1")).await;
            let received = buyer.received().pop().unwrap();
            let mut expected: Value = serde_json::from_str(body).unwrap();
            if !expected["stream_options"].is_object() {
                expected["stream_options"] = json!({});
            }
            expected["stream_options"]["include_usage"] = json!(true);
            assert_eq!(serde_json::from_slice::<Value>(&received.body).unwrap(), expected);
            assert_eq!(received.headers.one("content-length"), Some(received.body.len().to_string()));
            // Nothing else of it is changed.
            assert!(received.body.len() <= body.len() + 45, "{}", String::from_utf8_lossy(&received.body));
        }
    }
}

async fn a_request_that_needs_no_question_is_unchanged(suite: Arc<Suite>) {
    let buyer = suite.buyer("asking", "1000000").await;
    for body in [
        r#"{"stream":false}"#,
        r#"{"stream":"true"}"#,
        r#"{ "model":"m" }"#,
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        r#"{"stream":true,"input":"Hi"}"#,
        r#"{"a":{"stream":true}}"#,
        r#"[{"stream":true}]"#,
        r#"{"stream":true"#,
        r#"{"stream":true} {}"#,
        "not JSON",
        "",
    ] {
        let call = buyer.post(body).script(&used(1, 0));
        buyer.expect_charge(&call, &Charged::settled("1")).await;
        assert_eq!(buyer.received().pop().unwrap().body, body.as_bytes());
    }
    let other = suite.buyer("chat", "1000000").await;
    other.post(r#"{"stream":true}"#).script(&used(1, 0)).send().await.assert_ok();
    assert_eq!(other.only_received().body, br#"{"stream":true}"#, "a product that does not ask");
}

async fn the_usage_only_event_is_dropped_where_the_caller_did_not_ask(suite: Arc<Suite>) {
    let buyer = suite.buyer("asking", "1000000").await;
    let crlf = |text: &str| text.replace('\n', "\r\n");
    for (stream, expected) in [
        (format!("{TEXT}{TEXT}{USAGE}{DONE}"), format!("{TEXT}{TEXT}{DONE}")),
        (format!("{TEXT}{USAGE}"), TEXT.to_owned()),
        (format!("{TEXT}: ping\n\n{USAGE}: ping\n\n{DONE}"), format!("{TEXT}: ping\n\n: ping\n\n{DONE}")),
        (crlf(&format!("{TEXT}{USAGE}{DONE}")), crlf(&format!("{TEXT}{DONE}"))),
        (USAGE.to_owned(), String::new()),
    ] {
        for piece in [1, 2, 3, 10, 33, 100_000] {
            let script = Script::chunked().header("content-type", EVENTS).then(suite.backend.keep(&stream, piece));
            let call = buyer.ask(&json!({ "stream": true }), &script);
            let reply = buyer.expect_charge(&call, &Charged::settled("39")).await;
            assert_eq!(reply.text(), expected, "in pieces of {piece}");
        }
    }
    buyer.expect_balanced().await;
}

async fn the_usage_only_event_passes_where_the_caller_asked(suite: Arc<Suite>) {
    let stream = format!("{TEXT}{USAGE}{DONE}");
    for (product, body) in [
        ("asking", json!({ "stream": true, "stream_options": { "include_usage": true } })),
        ("asking", json!({ "stream": true, "input": "Hi" })),
        ("asking", json!({})),
        ("chat", json!({ "stream": true })),
    ] {
        let buyer = suite.buyer(product, "1000000").await;
        let script = Script::chunked().header("content-type", EVENTS).then(suite.backend.keep(&stream, 20));
        let reply = buyer.expect_charge(&buyer.ask(&body, &script), &Charged::settled("39")).await;
        assert_eq!(reply.text(), stream, "{product} {body}");
    }
}

async fn events_that_carry_more_than_usage_pass(suite: Arc<Suite>) {
    let buyer = suite.buyer("asking", "1000000").await;
    let usage = r#""usage":{"prompt_tokens":9,"completion_tokens":10}"#;
    for event in [
        format!(r#"{{"choices":[{{"index":0,"delta":{{}}}}],{usage}}}"#),
        format!(r#"{{{usage},"choices":[{{"index":0,"delta":{{}}}}]}}"#),
        format!(r#"{{"type":"message_delta",{usage}}}"#),
        format!(r#"{{"choices":null,{usage}}}"#),
    ] {
        let stream = format!("data: {{\"choices\":[],\"prompt_filter_results\":[]}}\n\ndata: {event}\n\n{DONE}");
        for piece in [1, 7, 100_000] {
            let script = Script::chunked().header("content-type", EVENTS).then(suite.backend.keep(&stream, piece));
            let call = buyer.ask(&json!({ "stream": true }), &script);
            let reply = buyer.expect_charge(&call, &Charged::settled("39")).await;
            assert_eq!(reply.text(), stream);
        }
    }
}

async fn an_event_that_never_ends_passes(suite: Arc<Suite>) {
    let buyer = suite.buyer("asking", "1000000").await;
    let begun = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9}}\n";
    let script = Script::chunked().header("content-type", EVENTS).then(Step::Text(format!("{TEXT}{begun}")));
    let call = buyer.ask(&json!({ "stream": true }), &script.then(Step::Cut));
    let reply = call.send().await;
    reply.assert_cut();
    assert!(reply.text().starts_with(TEXT), "{}", reply.text());
    assert_eq!(buyer.charged(&call).await, Charged::settled("9"), "its JSON was whole");
}

async fn a_reply_loses_its_length_and_digest_with_its_event(suite: Arc<Suite>) {
    let buyer = suite.buyer("asking", "1000000").await;
    for times in [1, 2000] {
        let (stream, expected) = (format!("{}{USAGE}{DONE}", TEXT.repeat(times)), format!("{}{DONE}", TEXT.repeat(times)));
        let script = Script::status(200).header("content-type", EVENTS).header("etag", "\"a\"").header("digest", "md5=a");
        let script = script.then(suite.backend.keep(&stream, 1_000_000));
        let call = buyer.ask(&json!({ "stream": true }), &script);
        let reply = buyer.expect_charge(&call, &Charged::settled("39")).await;
        assert_eq!(reply.text(), expected);
        assert_eq!((reply.headers.one("etag"), reply.headers.one("digest")), (None, None));
        // Who asked for the event has what the backend sent.
        let asked = json!({ "stream": true, "stream_options": { "include_usage": true } });
        let reply = buyer.expect_charge(&buyer.ask(&asked, &script), &Charged::settled("39")).await;
        assert_eq!((reply.text(), reply.header("etag"), reply.header("digest")), (stream, "\"a\"".into(), "md5=a".into()));
    }
}

async fn the_question_is_no_part_of_what_a_request_id_stands_for(suite: Arc<Suite>) {
    let buyer = suite.buyer("asking", "1000000").await;
    let script = Script::chunked().header("content-type", EVENTS).then(Step::Text(format!("{TEXT}{USAGE}")));
    let call = buyer.ask(&json!({ "stream": true }), &script);
    buyer.expect_charge(&call, &Charged::settled("39")).await;
    call.send().await.problem(409, "request_replayed");
    let asked = buyer.ask(&json!({ "stream": true, "stream_options": { "include_usage": true } }), &script);
    asked.id(&call.request_id()).send().await.problem(422, "request_id_reused");
    buyer.expect_forwarded(1).await;
}
