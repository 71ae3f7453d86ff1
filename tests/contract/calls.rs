//! A call passes through unchanged, both ways, and finds its product by the route.

use crate::support::gateway::is_workerd;
use crate::support::script::{Script, Step};
use crate::support::{Suite, stage};
use std::sync::Arc;

crate::cases! {
    the_route_is_stripped_and_the_rest_of_the_path_kept,
    path_and_query_reach_the_backend_byte_for_byte,
    a_call_to_the_route_itself_reaches_the_root_of_the_backend,
    the_longest_matching_route_wins,
    a_route_matches_whole_segments_only,
    a_path_of_no_product_is_no_route,
    the_gateways_own_prefix_is_no_products_route,
    every_method_reaches_the_backend,
    a_tunnel_is_refused,
    a_request_body_reaches_the_backend_unchanged,
    a_chunked_request_body_reaches_the_backend_unchanged,
    a_post_without_a_body_reaches_the_backend_without_one,
    status_headers_and_body_of_a_reply_reach_the_caller_unchanged,
    a_reply_ended_by_close_arrives_whole,
    a_chunked_reply_with_trailers_arrives_whole,
    a_reply_with_a_length_and_chunks_is_as_long_as_its_chunks,
    a_chunked_body_of_a_get_is_not_lost,
    a_reply_to_head_has_headers_and_no_body,
    replies_without_a_body_have_none,
    interim_replies_do_not_disturb_the_final_one,
    a_request_that_expects_100_continue_is_served,
    redirects_are_the_callers_to_follow,
    an_encoded_reply_body_is_passed_as_it_is,
    two_calls_on_one_connection_are_two_calls,
}

async fn the_route_is_stripped_and_the_rest_of_the_path_kept(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    buyer.call().target("/translate/en/de").send().await.assert_ok();
    assert_eq!(buyer.only_received().target, "/v1/en/de");
}

async fn path_and_query_reach_the_backend_byte_for_byte(suite: Arc<Suite>) {
    let targets = [
        "/a%20b%2Fc/%C3%A9?q=%C3%A9&x=1+2&&empty=",
        "/a//b///",
        "/~u/$&'()*+,;=:@?a=?/&b=[]",
        "/%7Euser/.hidden/a..b/...?next=/../x",
        "/x?",
    ];
    let buyer = suite.buyer("translate", "10").await;
    for target in targets {
        buyer.call().target(&format!("/translate{target}")).send().await.assert_ok();
        assert_eq!(buyer.received().last().unwrap().target, format!("/v1{target}"));
    }
}

async fn a_call_to_the_route_itself_reaches_the_root_of_the_backend(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    buyer.call().target("/translate?q=1").send().await.assert_ok();
    let target = buyer.only_received().target;
    assert!(target == "/v1?q=1" || target == "/v1/?q=1", "{target}");
}

async fn the_longest_matching_route_wins(suite: Arc<Suite>) {
    let buyer = suite.buyer("nested", "5").await;
    buyer.call().target("/translate/nested/x").send().await.assert_ok();
    assert_eq!(buyer.only_received().target, "/x");
    buyer.expect_used("1").await;
}

async fn a_route_matches_whole_segments_only(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    for target in ["/translatex", "/translatex/call", "/trans", "/Translate/call"] {
        let reply = buyer.call().target(target).send().await;
        buyer.expect_refused(&reply, 404, "no_route").await;
    }
    buyer.call().target("/translate/nestedx").send().await.assert_ok();
    assert_eq!(buyer.only_received().target, "/v1/nestedx");
}

async fn a_path_of_no_product_is_no_route(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    for target in ["/", "/nowhere", "/v1/call"] {
        let reply = buyer.call().target(target).send().await;
        buyer.expect_refused(&reply, 404, "no_route").await;
    }
}

async fn the_gateways_own_prefix_is_no_products_route(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    for target in ["/_tollgate", "/_tollgate/nothing", "/_tollgate/v2/packages"] {
        let reply = buyer.call().target(target).send().await;
        assert!(matches!(reply.status, 401 | 404), "{target}: {}", reply.status);
        buyer.expect_nothing_forwarded();
    }
}

async fn every_method_reaches_the_backend(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "10").await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
        buyer.call().method(method).send().await.assert_ok();
        assert_eq!(buyer.received().last().unwrap().method, method);
    }
    buyer.expect_used("7").await;
}

async fn a_tunnel_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    for target in ["/translate/x", "127.0.0.1:80"] {
        let reply = buyer.call().method("CONNECT").target(target).send().await;
        buyer.expect_refused(&reply, 405, "method_not_allowed").await;
    }
}

async fn a_request_body_reaches_the_backend_unchanged(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let body: Vec<u8> = (0..=255).cycle().take(50_000).collect();
    buyer.post(&body).header("content-type", "application/x-odd").send().await.assert_ok();
    let received = buyer.only_received();
    assert!(received.body == body);
    assert_eq!(received.headers.one("content-type").as_deref(), Some("application/x-odd"));
}

async fn a_chunked_request_body_reaches_the_backend_unchanged(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let body = stage::filling(0, 50_000);
    buyer.post(&body).chunked().send().await.assert_ok();
    assert!(buyer.only_received().body == body);
}

async fn a_post_without_a_body_reaches_the_backend_without_one(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    buyer.post("").send().await.assert_ok();
    assert_eq!(buyer.only_received().body_bytes, 0);
}

async fn status_headers_and_body_of_a_reply_reach_the_caller_unchanged(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "20").await;
    for status in [200, 201, 206, 400, 401, 402, 404, 409, 418, 429, 503, 599] {
        let script = Script::status(status).then(Step::Text("the body".into())).header("content-type", "text/odd");
        let script = script.header("set-cookie", "a=1").header("set-cookie", "b=2").header("x-odd", "a, \"b\"; c");
        let reply = buyer.call().script(&script).send().await;
        assert_eq!((reply.status, reply.text().as_str(), reply.whole), (status, "the body", true));
        assert_eq!(reply.header("content-length"), "8");
        assert_eq!(reply.header("content-type"), "text/odd");
        assert_eq!(reply.headers.all("set-cookie"), ["a=1", "b=2"]);
        assert_eq!(reply.header("x-odd"), "a, \"b\"; c");
    }
}

async fn a_reply_ended_by_close_arrives_whole(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let reply = buyer.call().script(&Script::until_close().then(Step::Fill(70_000))).send().await;
    assert!(reply.whole && reply.body == stage::filling(0, 70_000));
}

async fn a_chunked_reply_with_trailers_arrives_whole(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let script = Script::chunked().header("trailer", "x-checksum").then(Step::Fill(70_000)).trailer("x-checksum", "1");
    let reply = buyer.call().header("te", "trailers").script(&script).send().await;
    assert!(reply.whole && reply.body == stage::filling(0, 70_000));
    buyer.expect_used("1").await;
}

async fn a_reply_with_a_length_and_chunks_is_as_long_as_its_chunks(suite: Arc<Suite>) {
    for product in ["translate", "chat"] {
        let buyer = suite.buyer(product, "1000000").await;
        for length in ["2", "300"] {
            let script = Script::chunked().header("content-length", length).then(Step::Text("hello".into()));
            let call = buyer.call().script(&script);
            let reply = call.send().await;
            assert!(reply.status == 200 && reply.whole && reply.text() == "hello", "{} {}", reply.status, reply.text());
        }
    }
}

async fn a_chunked_body_of_a_get_is_not_lost(suite: Arc<Suite>) {
    // Workers forward no body of a GET at all.
    let status = if is_workerd() { 400 } else { 411 };
    for product in ["translate", "chat"] {
        let buyer = suite.buyer(product, "10000").await;
        for method in ["GET", "HEAD"] {
            let reply = buyer.call().method(method).chunked().body("hello").send().await;
            assert_eq!(reply.status, status);
            buyer.expect_nothing_forwarded();
            buyer.expect_untouched().await;
        }
    }
}

async fn a_reply_to_head_has_headers_and_no_body(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let script = Script::status(200).header("x-odd", "1").then(Step::Text("twelve bytes".into()));
    let reply = buyer.call().method("HEAD").script(&script).send().await;
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    assert_eq!((reply.header("content-length").as_str(), reply.header("x-odd").as_str()), ("12", "1"));
    buyer.expect_used("1").await;
}

async fn replies_without_a_body_have_none(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    for (call, status) in [204, 304].into_iter().enumerate() {
        let script = Script::status(status).header("etag", "\"x\"");
        let reply = buyer.call().script(&script).send().await;
        assert_eq!((reply.status, reply.body.len(), reply.whole), (status, 0, true));
        assert_eq!(reply.header("etag"), "\"x\"");
        assert_eq!(reply.headers.all("transfer-encoding").len(), 0);
        buyer.expect_used(&(call + 1).to_string()).await;
    }
}

async fn interim_replies_do_not_disturb_the_final_one(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let script = Script::text("final").first(Step::Raw(hints.into()));
    let reply = buyer.call().script(&script).send().await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "final"));
    buyer.expect_used("1").await;
}

async fn a_request_that_expects_100_continue_is_served(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let call = buyer.post("").header("expect", "100-continue").header("content-length", "5");
    let mut wire = call.start().await;
    let interim = wire.reply_head().await.unwrap();
    assert_eq!(interim.status, 100);
    wire.send(b"hello").await.unwrap();
    let reply = crate::support::call::Exchange::read(wire, "POST").await.unwrap().rest().await.unwrap();
    reply.assert_ok();
    assert_eq!(buyer.only_received().body, b"hello");
}

async fn redirects_are_the_callers_to_follow(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let reply = buyer.call().script(&Script::status(302).header("location", "/elsewhere")).send().await;
    assert_eq!((reply.status, reply.header("location").as_str()), (302, "/elsewhere"));
    assert_eq!(buyer.only_received().target, "/v1/call");
}

async fn an_encoded_reply_body_is_passed_as_it_is(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let script = Script::text("not really gzip").header("content-encoding", "gzip");
    let reply = buyer.call().header("accept-encoding", "gzip, x-odd").script(&script).send().await;
    assert_eq!((reply.header("content-encoding").as_str(), reply.text().as_str()), ("gzip", "not really gzip"));
    assert_eq!(buyer.only_received().headers.one("accept-encoding").as_deref(), Some("gzip, x-odd"));
}

async fn two_calls_on_one_connection_are_two_calls(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let head = |id: &str| {
        let customer = &buyer.id;
        format!("GET /translate/{id} HTTP/1.1\r\nhost: x\r\nx-customer-id: {customer}\r\nx-request-id: {id}-{customer}\r\n\r\n")
    };
    let mut wire = crate::support::call::connect(buyer.gateway.address).await;
    wire.send((head("first") + &head("second")).as_bytes()).await.unwrap();
    for _ in 0..2 {
        let head = wire.reply_head().await.unwrap();
        let mut framing = head.reply_framing("GET").unwrap();
        let mut body = Vec::new();
        while let Some(piece) = wire.piece(&mut framing).await.unwrap() {
            body.extend(piece);
        }
        assert_eq!((head.status, body.as_slice()), (200, b"ok".as_slice()));
    }
    buyer.expect_used("2").await;
    let targets: Vec<_> = buyer.received().into_iter().map(|received| received.target).collect();
    assert_eq!(targets, ["/v1/first", "/v1/second"]);
}
