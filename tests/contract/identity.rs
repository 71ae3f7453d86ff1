//! Who calls, with which request id, and at which path: what is refused before anything is looked up.

use crate::support::script::Script;
use crate::support::{Suite, gateway, jwt::Token};
use serde_json::json;
use std::sync::Arc;

crate::cases! {
    a_missing_customer_id_is_refused,
    an_empty_customer_id_is_refused,
    an_invalid_customer_id_is_refused,
    a_repeated_customer_id_is_refused,
    a_customer_id_of_128_characters_is_accepted,
    an_empty_request_id_is_refused,
    an_invalid_request_id_is_refused,
    a_repeated_request_id_is_refused,
    a_request_id_of_128_characters_is_accepted,
    any_visible_ascii_is_an_id,
    an_id_with_dot_segments_in_it_is_one_segment_of_a_path,
    a_refusal_names_the_request_it_refuses,
    checks_come_in_the_order_of_the_contract,
    a_refused_call_claims_nothing,
    a_path_with_dot_segments_is_refused,
    a_path_with_encoded_dot_segments_is_refused,
    a_dot_segment_cannot_leave_a_route_or_enter_another;
    own:
    a_missing_request_id_is_refused_where_the_config_says_so,
}

/// Ids that no rule allows, as header values.
fn invalid_ids() -> Vec<Vec<u8>> {
    let texts = [".", "..", "a b", "a\tb", "kunde-ö", "\u{200b}x"];
    let mut ids: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    ids.extend([vec![b'a'; 129], vec![b'a'; 5000], b"latin-\xe9".to_vec(), b"\xff".to_vec()]);
    ids
}

async fn a_missing_customer_id_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let path = format!("/translate/{}", buyer.id);
    let reply = buyer.call().target(&path).without("x-customer-id").send().await;
    reply.problem(400, "customer_id_missing");
    assert_eq!(suite.backend.with_target(&buyer.id).len(), 0);
}

async fn an_empty_customer_id_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let reply = buyer.call().customer("").target(&format!("/translate/{}", buyer.id)).send().await;
    let code = reply.json()["code"].as_str().unwrap().to_owned();
    assert!(code == "customer_id_missing" || code == "customer_id_invalid", "{code}");
    reply.problem(400, &code);
    assert_eq!(suite.backend.with_target(&buyer.id).len(), 0);
}

async fn an_invalid_customer_id_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    for id in invalid_ids() {
        let path = format!("/translate/{}", buyer.id);
        let reply = buyer.call().target(&path).replacing("x-customer-id", &id).send().await;
        reply.problem(400, "customer_id_invalid");
        assert_eq!(suite.backend.with_target(&buyer.id).len(), 0);
    }
}

async fn a_repeated_customer_id_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let other = suite.buyer("translate", "5").await;
    for second in [&buyer.id, &other.id] {
        let reply = buyer.call().header("X-Customer-ID", second).send().await;
        buyer.expect_refused(&reply, 400, "customer_id_invalid").await;
        other.expect_untouched().await;
    }
}

async fn a_customer_id_of_128_characters_is_accepted(suite: Arc<Suite>) {
    let mut buyer = suite.stranger("translate").await;
    buyer.id = format!("{:x<128}", buyer.id);
    buyer.grant("1").await;
    buyer.spend(1).await;
    buyer.expect_used("1").await;
}

async fn an_empty_request_id_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let reply = buyer.call().id("").send().await;
    buyer.expect_refused(&reply, 400, "request_id_invalid").await;
}

async fn an_invalid_request_id_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    for id in invalid_ids() {
        let reply = buyer.call().replacing("x-request-id", &id).send().await;
        buyer.expect_refused(&reply, 400, "request_id_invalid").await;
    }
}

async fn a_repeated_request_id_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let call = buyer.call();
    for second in [call.request_id(), "another".to_owned()] {
        let reply = call.clone().header("X-REQUEST-ID", second).send().await;
        buyer.expect_refused(&reply, 400, "request_id_invalid").await;
    }
}

async fn a_request_id_of_128_characters_is_accepted(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let id = "r".repeat(128);
    buyer.call().id(&id).send().await.assert_ok();
    buyer.call_in_state(&id, "settled").await;
}

async fn any_visible_ascii_is_an_id(suite: Arc<Suite>) {
    let mut buyer = suite.stranger("translate").await;
    let odd: String = ('!'..='~').filter(|c| !c.is_ascii_alphanumeric()).collect();
    let name = buyer.id.clone();
    buyer.id = format!("{name}{odd}");
    buyer.grant("5").await;
    let request_id = format!("r{odd}");
    buyer.call().id(&request_id).send().await.assert_ok();
    // In a path an id is one percent-encoded segment.
    let encode = |id: &str| id.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let encoded = encode(&buyer.id);
    let balance = buyer.gateway.read(&format!("/customers/{encoded}/balance")).await;
    assert_eq!(balance["customer_id"], buyer.id.as_str());
    let path = format!("/customers/{encoded}/calls/{}?product_id=translate", encode(&request_id));
    assert_eq!(buyer.gateway.read(&path).await["request_id"], request_id.as_str());
}

async fn an_id_with_dot_segments_in_it_is_one_segment_of_a_path(suite: Arc<Suite>) {
    let mut buyer = suite.stranger("translate").await;
    buyer.id.push_str("/../..;/.");
    buyer.grant("5").await;
    let call = buyer.call().id("r/../x");
    call.send().await.assert_ok();
    let customer = buyer.id.replace('/', "%2F").replace(';', "%3B");
    assert_eq!(buyer.gateway.read(&format!("/customers/{customer}/balance")).await["customer_id"], buyer.id.as_str());
    let path = format!("/customers/{customer}/calls/r%2F..%2Fx?product_id=translate");
    assert_eq!(buyer.gateway.read(&path).await["request_id"], "r/../x");
}

async fn a_refusal_names_the_request_it_refuses(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let call = buyer.call();
    let problem = call.send().await.problem(403, "no_package");
    assert_eq!(problem["request_id"], call.request_id());
}

async fn checks_come_in_the_order_of_the_contract(suite: Arc<Suite>) {
    let buyer = suite.stranger("agents").await;
    let token = Token::new().sign();
    let nothing = buyer.call().without("x-customer-id").id("..");
    nothing.clone().target("/nowhere").send().await.problem(404, "no_route");
    nothing.send().await.problem(401, "caller_unauthenticated");
    let known = buyer.call().header("authorization", &token);
    known.clone().without("x-customer-id").send().await.problem(400, "customer_id_missing");
    known.clone().id("..").send().await.problem(400, "request_id_invalid");
    // The packages are looked at before the body is read.
    let large = known.method("POST").header("content-length", "3000000");
    let wire = large.start().await;
    let exchange = crate::support::call::Exchange::read(wire, "POST").await.unwrap();
    exchange.rest().await.unwrap().problem(403, "no_package");
    buyer.expect_nothing_forwarded();
}

async fn a_refused_call_claims_nothing(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let call = buyer.call();
    call.send().await.problem(403, "no_package");
    buyer.grant("1").await;
    let reply = call.clone().method("POST").target("/translate/other").send().await;
    reply.assert_ok();
    assert_eq!(reply.headers.all("tollgate-replay").len(), 0);
    buyer.expect_used("1").await;
    buyer.expect_forwarded(1).await;
}

async fn expect_path_invalid(suite: &Suite, paths: &[&str]) {
    let buyer = suite.buyer("translate", "5").await;
    for path in paths {
        let reply = buyer.call().target(path).send().await;
        assert_eq!(reply.status, 400, "{path}");
        buyer.expect_refused(&reply, 400, "path_invalid").await;
    }
}

async fn a_path_with_dot_segments_is_refused(suite: Arc<Suite>) {
    let paths = [
        "/translate/../x",
        "/translate/./x",
        "/translate/a/..",
        "/translate/.",
        "/translate/a/../../secret",
        "/translate/..?q=1",
    ];
    expect_path_invalid(&suite, &paths).await;
}

async fn a_path_with_encoded_dot_segments_is_refused(suite: Arc<Suite>) {
    let paths = [
        "/translate/%2e%2e/x",
        "/translate/%2E./x",
        "/translate/.%2e",
        "/translate/%2E/x",
        "/translate/a/%2e%2E?q=1",
        "/translate/%2e",
        "/translate/..%2fsecret",
        "/translate/..;/secret",
    ];
    expect_path_invalid(&suite, &paths).await;
}

async fn a_dot_segment_cannot_leave_a_route_or_enter_another(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    for path in ["/nowhere/../translate/x", "/../translate/x", "/_tollgate/../translate/x", "/translate/x/..%2f..%2fsecret"] {
        let reply = buyer.call().target(path).send().await;
        if reply.status == 200 {
            // An encoded slash separates nothing, so the segment is a name; it must arrive as it was.
            assert_eq!(buyer.received().pop().unwrap().target, "/v1/x/..%2f..%2fsecret");
        } else {
            assert!(matches!(reply.status, 400 | 404), "{path}: {}", reply.status);
        }
    }
    assert!(buyer.received().len() <= 1);
}

async fn a_missing_request_id_is_refused_where_the_config_says_so(suite: Arc<Suite>) {
    let config = gateway::CONFIG.replace("[gateway]", "[gateway]\nmissing_request_id = \"reject\"");
    let (gateway, _home) = suite.start(&config).await;
    let buyer = crate::support::buyer::Buyer::new(&gateway, &suite.backend, "translate");
    buyer.grant("5").await;
    let reply = buyer.call().without("x-request-id").script(&Script::text("x")).send().await;
    buyer.expect_refused(&reply, 400, "request_id_missing").await;
    buyer.call().send().await.assert_ok();
    assert_eq!(gateway.read("/customers").await["customers"][0]["customer_id"], json!(buyer.id));
}
