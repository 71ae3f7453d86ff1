//! The requests of usage-metered products: read whole before admission, within a bound (contract section 2), and once per id (section 3).

use crate::support::call::{Call, Exchange};
use crate::support::metered::{Charged, JSON, json_of, used};
use crate::support::script::{Script, Step};
use crate::support::wire::{WireError, chunk};
use crate::support::{Suite, fresh, stage};
use serde_json::json;
use std::sync::Arc;

crate::cases! {
    a_request_reaches_the_backend_unchanged,
    a_body_in_chunks_is_metered_as_a_whole_one,
    nothing_is_held_or_forwarded_before_the_body_is_there,
    a_caller_that_leaves_during_its_body_leaves_nothing,
    a_caller_that_falls_silent_during_its_body_leaves_nothing,
    who_cannot_pay_is_told_before_the_body_is_read,
    a_body_that_declares_too_much_is_refused_before_admission,
    a_body_that_grows_too_large_is_refused_before_admission,
    a_body_of_exactly_the_limit_is_admitted,
    the_backend_is_asked_for_a_reply_that_can_be_read,
    the_same_id_with_another_body_is_refused,
    the_same_request_in_another_framing_is_the_same,
    a_settled_call_is_not_repeated_unless_the_product_says_so,
    a_repeated_call_is_not_charged_again_whatever_it_used,
    the_same_id_at_the_same_time_is_forwarded_once,
    a_refused_call_leaves_its_id_as_new,
    a_caller_that_waits_to_be_asked_for_its_body_is_asked_unless_it_is_refused,
    calls_of_one_connection_are_charged_each_its_own,
}

async fn a_request_reaches_the_backend_unchanged(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    let body = "{ \"stream\": false,\r\n \"text\":\"\u{e4}\\u00e4\", \"max_tokens\":1e1 }\n";
    let call = buyer.post(body).header("content-type", JSON).header("x-own", "kept").target("/chat/v1/chat%2Fx?a=b%20c");
    call.script(&used(1, 0)).send().await.assert_ok();
    let received = buyer.only_received();
    assert_eq!((received.method.as_str(), received.target.as_str()), ("POST", "/v1/chat%2Fx?a=b%20c"));
    assert_eq!(received.body, body.as_bytes());
    assert_eq!(received.headers.one("content-length"), Some(body.len().to_string()));
    assert_eq!((received.headers.one("x-own"), received.headers.one("content-type")), (Some("kept".into()), Some(JSON.into())));
}

async fn a_body_in_chunks_is_metered_as_a_whole_one(suite: Arc<Suite>) {
    let buyer = suite.buyer("characters", "1000000").await;
    for size in [1, 70_000, 600_000] {
        let body = json!({ "input": "x".repeat(size) }).to_string();
        let call = buyer.post(&body).chunked().script(&Script::text("ok"));
        buyer.expect_charge(&call, &Charged::settled(&size.to_string())).await;
        let received = buyer.received().pop().unwrap();
        assert_eq!(received.body_sha256, Some(<sha2::Sha256 as sha2::Digest>::digest(&body).into()));
    }
    let empty = buyer.post("").chunked().script(&Script::status(500));
    buyer.expect_charge(&empty, &Charged::released()).await;
    let forwarded = buyer.received().pop().unwrap();
    assert_eq!((forwarded.body_bytes, buyer.received().len()), (0, 4));
}

async fn nothing_is_held_or_forwarded_before_the_body_is_there(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    for (declared, framed) in [(Some("11"), false), (None, true)] {
        let mut call = buyer.post("").script(&used(3, 0));
        call = match declared {
            Some(length) => call.header("content-length", length),
            None => call.chunked(),
        };
        let piece = |text: &str| if framed { chunk(text.as_bytes()) } else { text.as_bytes().to_vec() };
        let mut wire = call.start().await;
        wire.send(&piece(r#"{"n":1"#)).await.unwrap();
        // Another call passes in between, so that the first had its time.
        let forwarded = buyer.received().len();
        buyer.expect_charge(&buyer.ask(&json!({}), &used(3, 0)), &Charged::settled("3")).await;
        assert_eq!(buyer.balance().await["held"], "0");
        assert_eq!(buyer.received().len(), forwarded + 1);
        wire.send(&piece(r#","a":1}"#.get(..5).unwrap())).await.unwrap();
        if framed {
            wire.send(&piece("}")).await.unwrap();
            wire.send(b"0\r\n\r\n").await.unwrap();
        }
        Exchange::read(wire, "POST").await.unwrap().rest().await.unwrap().assert_ok();
        assert_eq!(buyer.charged_now(&call.request_id()).await, Charged::settled("3"));
    }
}

async fn a_caller_that_leaves_during_its_body_leaves_nothing(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    for framed in [false, true] {
        let call = if framed { buyer.post("").chunked() } else { buyer.post("").header("content-length", "50") };
        let mut wire = call.start().await;
        wire.send(&if framed { chunk(b"begun") } else { b"begun".to_vec() }).await.unwrap();
        drop(wire);
        buyer.ask(&json!({}), &used(0, 0)).send().await.assert_ok();
        // Its id is as new.
        buyer.ask(&json!({}), &used(0, 0)).id(&call.request_id()).send().await.assert_ok();
    }
    buyer.expect_untouched().await;
    buyer.expect_forwarded(4).await;
}

async fn a_caller_that_falls_silent_during_its_body_leaves_nothing(suite: Arc<Suite>) {
    let buyer = suite.buyer("hasty", "1000").await;
    let mut wire = buyer.post("").header("content-length", "50").start().await;
    wire.send(b"begun").await.unwrap();
    match Exchange::read(wire, "POST").await {
        Ok(exchange) => assert!(exchange.head.status >= 400, "{}", exchange.head.status),
        Err(error) => assert!(matches!(error, WireError::Cut), "{error}"),
    }
    buyer.expect_untouched().await;
    buyer.expect_nothing_forwarded();
}

async fn who_cannot_pay_is_told_before_the_body_is_read(suite: Arc<Suite>) {
    let stranger = suite.stranger("chat").await;
    let declared = stranger.post("").header("content-length", "900000");
    let chunked = stranger.post("").chunked();
    for call in [declared, chunked] {
        let wire = call.start().await;
        let reply = Exchange::read(wire, "POST").await.unwrap().rest().await.unwrap();
        stranger_is_refused(&call, &reply);
    }
    stranger.expect_nothing_forwarded();
}

fn stranger_is_refused(call: &Call, reply: &crate::support::call::Reply) {
    assert_eq!(reply.problem(403, "no_package")["request_id"], call.request_id());
}

async fn a_body_that_declares_too_much_is_refused_before_admission(suite: Arc<Suite>) {
    let buyer = suite.buyer("narrow", "1000000").await;
    let call = buyer.post("").header("content-length", "4097");
    let reply = Exchange::read(call.start().await, "POST").await.unwrap().rest().await.unwrap();
    buyer.expect_refused(&reply, 413, "body_too_large").await;
    buyer.ask(&json!({}), &used(1, 0)).id(&call.request_id()).send().await.assert_ok();
    // Packages are looked at first.
    let stranger = suite.stranger("narrow").await;
    let wire = stranger.post("").header("content-length", "4097").start().await;
    Exchange::read(wire, "POST").await.unwrap().rest().await.unwrap().problem(403, "no_package");
}

async fn a_body_that_grows_too_large_is_refused_before_admission(suite: Arc<Suite>) {
    let buyer = suite.buyer("narrow", "1000000").await;
    for size in [4097, 400_000] {
        let call = buyer.post(vec![b'x'; size]).chunked();
        match call.try_send().await {
            Ok(reply) => buyer.expect_refused(&reply, 413, "body_too_large").await,
            Err(error) => assert!(matches!(error, WireError::Cut) && size > 4097, "{error}"),
        }
        buyer.expect_untouched().await;
        buyer.expect_nothing_forwarded();
        assert_eq!(buyer.calls().await.len(), 0);
    }
}

async fn a_body_of_exactly_the_limit_is_admitted(suite: Arc<Suite>) {
    let buyer = suite.buyer("narrow", "1000000").await;
    for chunked in [false, true] {
        let call = buyer.post(stage::filling(0, 4096)).script(&used(2, 0));
        let call = if chunked { call.chunked() } else { call };
        buyer.expect_charge(&call, &Charged::settled("2")).await;
        assert_eq!(buyer.received().pop().unwrap().body, stage::filling(0, 4096));
    }
}

async fn the_backend_is_asked_for_a_reply_that_can_be_read(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    for asked in [None, Some("gzip, br, zstd"), Some("identity;q=0, *")] {
        let call = buyer.ask(&json!({}), &used(1, 0));
        let call = asked.into_iter().fold(call, |call, asked| call.header("accept-encoding", asked));
        // What the gateway sets is not the caller's to nominate for one connection.
        for call in [call.clone(), call.id(&fresh("call")).header("connection", "accept-encoding, content-length")] {
            call.send().await.assert_ok();
            let received = buyer.received().pop().unwrap();
            assert_eq!(received.headers.one("accept-encoding").as_deref(), Some("identity"));
            assert_eq!(received.body, b"{}");
        }
    }
}

async fn the_same_id_with_another_body_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("retried", "1000000").await;
    for (first, other) in [("{}", "{ }"), ("", "x"), (&"x".repeat(200_000) as &str, &("x".repeat(199_999) + "y") as &str)] {
        let call = buyer.post(first).script(&used(5, 0));
        call.send().await.assert_ok();
        let forwarded = buyer.received().len();
        for chunked in [false, true] {
            let again = buyer.post(other).id(&call.request_id()).script(&used(5, 0));
            let again = if chunked { again.chunked() } else { again };
            again.send().await.problem(422, "request_id_reused");
        }
        buyer.post(first).id(&call.request_id()).method("PUT").send().await.problem(422, "request_id_reused");
        assert_eq!(buyer.received().len(), forwarded);
    }
    buyer.expect_used("15").await;
}

async fn the_same_request_in_another_framing_is_the_same(suite: Arc<Suite>) {
    let buyer = suite.buyer("retried", "1000000").await;
    let call = buyer.post(r#"{"a":1}"#).script(&used(5, 0));
    call.send().await.assert_ok();
    let again = call.clone().chunked().send().await;
    assert_eq!((again.status, again.header("tollgate-replay").as_str()), (200, "true"));
    buyer.expect_used("5").await;
}

async fn a_settled_call_is_not_repeated_unless_the_product_says_so(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    let call = buyer.ask(&json!({}), &used(5, 0));
    call.send().await.assert_ok();
    call.send().await.problem(409, "request_replayed");
    buyer.expect_forwarded(1).await;
    let buyer = suite.buyer("retried", "1000000").await;
    let call = buyer.ask(&json!({}), &used(5, 0));
    call.send().await.assert_ok();
    for _ in 0..2 {
        assert_eq!(call.send().await.header("tollgate-replay"), "true");
    }
    call.send().await.problem(409, "request_replayed");
    buyer.expect_forwarded(3).await;
}

async fn a_repeated_call_is_not_charged_again_whatever_it_used(suite: Arc<Suite>) {
    let buyer = suite.buyer("retried", "1000000").await;
    let call = buyer.ask(&json!({}), &used(5, 0));
    buyer.expect_charge(&call, &Charged::settled("5")).await;
    let more = call.clone().script(&used(5000, 1));
    let reply = more.send().await;
    assert_eq!((reply.header("tollgate-replay").as_str(), reply.header("tollgate-charge").as_str()), ("true", "0"));
    let streamed = call.script(&crate::support::metered::stream().then(crate::support::metered::usage_event(9, 9)));
    let reply = streamed.send().await;
    assert!(reply.whole && reply.header("tollgate-replay") == "true");
    assert_eq!(buyer.charged_now(&streamed.request_id()).await, Charged::settled("5"));
    assert_eq!(buyer.call_record(&streamed.request_id()).await["replays"], 2);
    buyer.expect_used("5").await;
    buyer.expect_balanced().await;
}

async fn the_same_id_at_the_same_time_is_forwarded_once(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    let gate = suite.backend.gate();
    let script = json_of(r#"{"usage":{"prompt_tokens":9}}"#).first(gate.step());
    let call = buyer.ask(&json!({}), &script);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let call = call.clone();
        calls.spawn(async move { call.send().await });
    }
    let mut served = 0;
    for answered in 1..=20 {
        let reply = calls.join_next().await.unwrap().unwrap();
        match reply.status {
            200 => served += 1,
            _ => drop(reply.problem(409, "request_in_flight")),
        }
        if answered == 19 {
            gate.open();
        }
    }
    assert_eq!(served, 1);
    buyer.expect_forwarded(1).await;
    buyer.expect_used("9").await;
}

async fn a_refused_call_leaves_its_id_as_new(suite: Arc<Suite>) {
    let buyer = suite.buyer("refusing", "9").await;
    let script = Script::status(200).header("content-type", JSON).then(Step::Text(r#"{"usage":{"total_tokens":1}}"#.into()));
    let call = buyer.ask(&json!({}), &script);
    buyer.expect_refused(&call.send().await, 402, "package_exhausted").await;
    assert_eq!(buyer.calls().await.len(), 0);
    buyer.grant("1").await;
    let other = buyer.ask(&json!({ "max_tokens": 1 }), &script).id(&call.request_id());
    buyer.expect_charge(&other, &Charged::settled("1")).await;
}

async fn a_caller_that_waits_to_be_asked_for_its_body_is_asked_unless_it_is_refused(suite: Arc<Suite>) {
    let waiting = |call: Call, length: &str| call.header("expect", "100-continue").header("content-length", length);
    let stranger = suite.stranger("chat").await;
    let mut refused = waiting(stranger.post(""), "900000").start().await;
    assert_eq!(refused.reply_head().await.unwrap().status, 403);
    let buyer = suite.buyer("chat", "1000000").await;
    let call = waiting(buyer.post("").script(&used(6, 0)), "2");
    let mut wire = call.start().await;
    assert_eq!(wire.reply_head().await.unwrap().status, 100);
    assert_eq!(buyer.balance().await["held"], "0");
    wire.send(b"{}").await.unwrap();
    Exchange::read(wire, "POST").await.unwrap().rest().await.unwrap().assert_ok();
    assert_eq!(buyer.charged_now(&call.request_id()).await, Charged::settled("6"));
    assert_eq!(buyer.only_received().headers.one("expect"), None);
}

async fn calls_of_one_connection_are_charged_each_its_own(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    let mut wire = crate::support::call::connect(buyer.gateway.address).await;
    let mut ids = Vec::new();
    for index in 1..=20_u64 {
        let (id, body) = (crate::support::fresh("request"), "x".repeat(usize::try_from(index).unwrap() * 300));
        let script = match index % 3 {
            0 => used(index, 0),
            1 => crate::support::metered::stream().then(crate::support::metered::usage_event(index, 0)),
            _ => Script::chunked()
                .header("content-type", JSON)
                .then(Step::Text(format!(r#"{{"usage":{{"input_tokens":{index}}}}}"#))),
        };
        let (customer, length, script) = (&buyer.id, body.len(), script.to_header());
        let head = format!(
            "POST /chat/call HTTP/1.1\r\nhost: x\r\nx-customer-id: {customer}\r\nx-request-id: {id}\r\nx-script: {script}\r\ncontent-length: {length}\r\n\r\n"
        );
        wire.send(format!("{head}{body}").as_bytes()).await.unwrap();
        let mut exchange = Exchange::read(wire, "POST").await.unwrap();
        assert_eq!(exchange.head.headers.one("x-request-id"), Some(id.clone()));
        while exchange.piece().await.unwrap().is_some() {}
        wire = exchange.wire;
        ids.push((id, index));
    }
    for (id, index) in ids {
        assert_eq!(buyer.charged_now(&id).await, Charged::settled(&index.to_string()));
    }
    buyer.expect_used("210").await;
}
