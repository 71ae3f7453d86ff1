//! Which headers pass, which are added, and which never do.

use crate::support::Suite;
use crate::support::script::{Script, Step};
use serde_json::json;
use std::sync::Arc;

crate::cases! {
    the_callers_identity_is_forwarded,
    a_customers_name_is_opaque_bytes,
    a_missing_request_id_is_generated_as_a_uuid_of_version_7,
    trace_context_passes_through,
    hop_by_hop_headers_of_a_request_are_not_forwarded,
    hop_by_hop_headers_of_a_reply_are_not_returned,
    headers_of_identity_cannot_be_made_hop_by_hop,
    the_backends_tollgate_headers_are_removed,
    the_backends_request_id_and_rate_limit_are_replaced,
    backend_headers_replace_the_callers,
    the_charge_is_known_with_the_headers,
    rate_limit_headers_say_what_was_granted_and_what_is_available,
    rate_limit_headers_are_rounded_down,
    rate_limit_headers_are_on_an_exhausted_package_too,
    what_is_unmetered_has_no_rate_limit,
    large_headers_pass_both_ways,
    a_head_that_is_too_large_is_refused_before_its_hold,
    oversized_headers_are_refused_and_forward_nothing,
}

async fn the_callers_identity_is_forwarded(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let call = buyer.call().header("x-customer-name", "Ada");
    let reply = call.send().await;
    let received = buyer.only_received().headers;
    assert_eq!(received.one("x-request-id"), Some(call.request_id()));
    assert_eq!(received.one("x-customer-id").as_deref(), Some(buyer.id.as_str()));
    assert_eq!(received.one("x-customer-name").as_deref(), Some("Ada"));
    assert_eq!(reply.header("x-request-id"), call.request_id());
}

async fn a_customers_name_is_opaque_bytes(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let names: [&[u8]; 3] = ["云商店 Größe".as_bytes(), b"\xff\xfe latin \xe9", b"=?utf-8?q?odd?="];
    for name in names {
        buyer.call().header("x-customer-name", name).send().await.assert_ok();
        assert_eq!(buyer.received().last().unwrap().headers.bytes("x-customer-name"), Some(name));
    }
}

async fn a_missing_request_id_is_generated_as_a_uuid_of_version_7(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let reply = buyer.call().without("x-request-id").send().await;
    reply.assert_ok();
    let id = reply.header("x-request-id");
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
    assert_eq!(buyer.only_received().headers.one("x-request-id"), Some(id.clone()));
    buyer.call_in_state(&id, "settled").await;
    let other = buyer.call().without("x-request-id").send().await;
    assert_ne!(other.header("x-request-id"), id);
}

async fn trace_context_passes_through(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let call = buyer.call().header("traceparent", parent).header("tracestate", "a=1,b=2");
    call.send().await.assert_ok();
    let received = buyer.only_received().headers;
    assert_eq!(received.one("traceparent").as_deref(), Some(parent));
    assert_eq!(received.one("tracestate").as_deref(), Some("a=1,b=2"));
}

async fn hop_by_hop_headers_of_a_request_are_not_forwarded(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let call = buyer.call().header("connection", "X-Hop, keep-alive").header("connection", "x-other");
    let call = call.header("x-hop", "1").header("x-other", "1").header("keep-alive", "timeout=9").header("te", "trailers");
    call.header("proxy-connection", "keep-alive").header("x-end", "1").send().await.assert_ok();
    let received = buyer.only_received().headers;
    for name in ["x-hop", "x-other", "keep-alive", "proxy-connection"] {
        assert_eq!(received.all(name).len(), 0, "{name} was forwarded");
    }
    assert!(!received.all("connection").join(",").to_lowercase().contains("x-"), "{received:?}");
    assert_eq!(received.one("x-end").as_deref(), Some("1"));
}

async fn hop_by_hop_headers_of_a_reply_are_not_returned(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let script = Script::text("body").header("connection", "x-hop").header("x-hop", "1").header("keep-alive", "timeout=9");
    let script = script.header("proxy-connection", "keep-alive").header("upgrade", "odd").header("x-end", "1");
    let reply = buyer.call().script(&script).send().await;
    reply.assert_ok();
    for name in ["x-hop", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(reply.headers.all(name).len(), 0, "{name} was returned");
    }
    assert_eq!(reply.header("x-end"), "1");
}

async fn headers_of_identity_cannot_be_made_hop_by_hop(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    for named in ["X-Customer-Id", "x-request-id", "close, x-customer-id, x-request-id"] {
        let call = buyer.call().header("connection", named);
        let reply = call.send().await;
        if reply.status == 200 {
            let received = buyer.received().pop().unwrap().headers;
            assert_eq!(received.one("x-request-id"), Some(call.request_id()));
        } else {
            assert_eq!(reply.status, 400, "{}", reply.text());
        }
    }
    // Whatever was served was forwarded in the customer's name and charged to it.
    buyer.expect_used(&buyer.received().len().to_string()).await;
}

async fn the_backends_tollgate_headers_are_removed(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let script = Script::text("x").header("tollgate-charge", "99").header("Tollgate-Replay", "true").header("tollgate-x", "1");
    let reply = buyer.call().script(&script).send().await;
    assert_eq!(reply.header("tollgate-charge"), "1");
    assert_eq!(reply.headers.all("tollgate-replay").len(), 0);
    assert_eq!(reply.headers.all("tollgate-x").len(), 0);
}

async fn the_backends_request_id_and_rate_limit_are_replaced(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let script = Script::text("x").header("x-request-id", "theirs").header("ratelimit", "\"theirs\";r=7");
    let script = script.header("ratelimit-policy", "\"theirs\";q=8");
    let call = buyer.call().script(&script);
    let reply = call.send().await;
    assert_eq!(reply.header("x-request-id"), call.request_id());
    assert_eq!(reply.header("ratelimit"), "\"translate\";r=4");
    assert_eq!(reply.header("ratelimit-policy"), "\"translate\";q=5");
}

async fn backend_headers_replace_the_callers(suite: Arc<Suite>) {
    let buyer = suite.buyer("authorized", "5").await;
    let call = buyer.call().header("authorization", "Bearer callers-own").header("Authorization", "again");
    let reply = call.send().await;
    assert_eq!(reply.status, 200);
    let received = buyer.only_received().headers;
    let expected = crate::support::gateway::BACKEND_AUTH;
    assert_eq!(received.one("authorization").as_deref(), Some(expected));
}

async fn the_charge_is_known_with_the_headers(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let gate = suite.backend.gate();
    let script = Script::chunked().then(Step::Text("a".into())).then(gate.step()).then(Step::Text("b".into()));
    let exchange = buyer.call().script(&script).open().await.unwrap();
    assert_eq!(exchange.head.headers.one("tollgate-charge").as_deref(), Some("1"));
    gate.open();
    assert!(exchange.rest().await.unwrap().whole);
    buyer.expect_used("1").await;
}

async fn rate_limit_headers_say_what_was_granted_and_what_is_available(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "1000").await;
    for left in [999, 998] {
        let reply = buyer.call().send().await;
        assert_eq!(reply.header("ratelimit-policy"), "\"translate\";q=1000");
        assert_eq!(reply.header("ratelimit"), format!("\"translate\";r={left}"));
    }
}

async fn rate_limit_headers_are_rounded_down(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "2.9999").await;
    let reply = buyer.call().send().await;
    assert_eq!(reply.header("ratelimit-policy"), "\"translate\";q=2");
    assert_eq!(reply.header("ratelimit"), "\"translate\";r=1");
}

async fn rate_limit_headers_are_on_an_exhausted_package_too(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "1.5").await;
    buyer.spend(1).await;
    let reply = buyer.call().send().await;
    reply.problem(402, "package_exhausted");
    assert_eq!(reply.header("ratelimit-policy"), "\"translate\";q=1");
    assert_eq!(reply.header("ratelimit"), "\"translate\";r=0");
}

async fn what_is_unmetered_has_no_rate_limit(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let package = json!({ "customer_id": buyer.id, "product_id": "translate", "kind": "unmetered" });
    let package = buyer.grant_with(package).await;
    let reply = buyer.call().send().await;
    reply.assert_ok();
    assert_eq!((reply.headers.one("ratelimit"), reply.headers.one("ratelimit-policy")), (None, None));
    buyer.change(&package, "freeze").await;
    assert_eq!(buyer.call().send().await.header("ratelimit"), "\"translate\";r=3");
}

async fn large_headers_pass_both_ways(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let large = "v".repeat(4000);
    let script = Script::text("x").header("x-back", &large);
    let mut call = buyer.call().script(&script).header("x-forth", &large);
    for index in 0..40 {
        call = call.header(&format!("x-many-{index}"), index.to_string());
    }
    let reply = call.send().await;
    reply.assert_ok();
    assert_eq!(reply.header("x-back"), large);
    let received = buyer.only_received().headers;
    assert_eq!(received.one("x-forth"), Some(large));
    assert_eq!(received.one("x-many-39").as_deref(), Some("39"));
}

async fn a_head_that_is_too_large_is_refused_before_its_hold(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let large = "v".repeat(61_500);
    let (half, path) = (&large[..31_000], format!("/translate/{large}"));
    for call in [
        buyer.call().header("x-large", &large),
        buyer.call().header("x-half", half).header("x-half", half),
        buyer.call().target(&path),
        buyer.call().target(&format!("/translate?{large}")),
        buyer.post("a body").header("x-half", half).target(&path[..31_000]),
    ] {
        let reply = call.send().await;
        reply.problem(431, "headers_too_large");
        assert_eq!(reply.header("x-request-id"), call.request_id());
        buyer.expect_nothing_forwarded();
    }
    buyer.expect_untouched().await;
    // Room is left for what the gateway and the merchant add.
    buyer.call().header("x-large", &large[..60_000]).send().await.assert_ok();
    buyer.call().target(&path[..60_000]).send().await.assert_ok();
    buyer.expect_used("2").await;
}

async fn oversized_headers_are_refused_and_forward_nothing(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let huge = "v".repeat(900_000);
    for call in [buyer.call().header("x-huge", &huge), buyer.call().target(&format!("/translate/{huge}"))] {
        match call.try_send().await {
            Ok(reply) => assert!(matches!(reply.status, 400 | 413 | 414 | 431), "{}", reply.status),
            Err(error) => assert!(matches!(error, crate::support::wire::WireError::Cut), "{error}"),
        }
    }
    buyer.expect_nothing_forwarded();
    buyer.expect_untouched().await;
    buyer.call().send().await.assert_ok();
}
