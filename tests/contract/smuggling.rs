//! Requests that two parsers might read differently: each is refused, or reaches the backend as exactly one request.

use crate::support::Suite;
use crate::support::buyer::Buyer;
use crate::support::call::connect;
use std::sync::Arc;

crate::cases! {
    a_length_and_chunks_together_smuggle_nothing,
    two_lengths_smuggle_nothing,
    odd_lengths_smuggle_nothing,
    odd_transfer_codings_smuggle_nothing,
    bad_chunk_sizes_are_cut_and_not_charged,
    a_folded_header_is_not_taken_for_two,
    whitespace_before_a_colon_hides_no_header,
    a_bare_line_feed_or_nul_in_a_header_adds_none,
    an_underscore_is_not_a_hyphen,
    an_absolute_target_is_routed_by_its_path,
    garbage_leaves_the_gateway_up,
}

/// Sends lines as they are, then reads until the gateway closes or falls silent; returns all it said.
///
/// That nothing more comes cannot be waited for as a condition, hence the silence; a longer one could only make a case stricter.
async fn say(buyer: &Buyer, lines: &[u8]) -> String {
    let mut wire = connect(buyer.gateway.address).await;
    let _ = wire.send(lines).await;
    let mut said = Vec::new();
    let mut framing = crate::support::wire::Framing::UntilClose;
    let silence = std::time::Duration::from_millis(700);
    while let Ok(Ok(Some(piece))) = tokio::time::timeout(silence, wire.piece(&mut framing)).await {
        said.extend(piece);
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// A head with the buyer's identity, some fields more, and whatever follows it.
fn request(buyer: &Buyer, fields: &str, after: &str) -> Vec<u8> {
    let (customer, request_id) = (&buyer.id, crate::support::fresh("request"));
    let identity = format!("host: x\r\nx-customer-id: {customer}\r\nx-request-id: {request_id}\r\n");
    format!("POST /translate/outer HTTP/1.1\r\n{identity}{fields}\r\n\r\n{after}").into_bytes()
}

/// A second request, hidden in what may be taken for the body of the first.
fn hidden(buyer: &Buyer) -> String {
    let customer = &buyer.id;
    format!("GET /translate/hidden-{customer} HTTP/1.1\r\nhost: x\r\nx-customer-id: {customer}\r\nx-request-id: hidden\r\n\r\n")
}

/// Each of these heads is refused before anything is forwarded.
async fn expect_all_refused(suite: &Suite, heads: &[&str]) {
    let buyer = suite.buyer("translate", "20").await;
    for fields in heads {
        let after = format!("0\r\n\r\n{}", hidden(&buyer));
        let said = say(&buyer, &request(&buyer, fields, &after)).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4") || said.starts_with("HTTP/1.1 501"), "{fields}: {said}");
        assert!(!said.contains(" 200 "), "{fields}: {said}");
        buyer.expect_nothing_forwarded();
    }
    buyer.expect_untouched().await;
}

async fn a_length_and_chunks_together_smuggle_nothing(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "20").await;
    for fields in ["content-length: 5\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 500"] {
        let before = buyer.received().len();
        let after = format!("0\r\n\r\n{}", hidden(&buyer));
        let said = say(&buyer, &request(&buyer, fields, &after)).await;
        // Refused as a whole, or read as chunks with the length dropped: then the connection must not serve what follows.
        let forwarded = buyer.received().len() - before;
        assert!(forwarded <= 1 && said.matches("HTTP/1.1 200").count() <= 1, "{fields}: {said}");
        assert!(buyer.received().iter().all(|received| received.target == "/v1/outer"));
    }
}

async fn two_lengths_smuggle_nothing(suite: Arc<Suite>) {
    let heads = ["content-length: 5\r\ncontent-length: 0", "content-length: 0\r\nContent-Length: 50", "content-length: 5, 0"];
    expect_all_refused(&suite, &heads).await;
}

async fn odd_lengths_smuggle_nothing(suite: Arc<Suite>) {
    let heads = [
        "content-length: -1",
        "content-length: +5",
        "content-length: 0x5",
        "content-length: 5 5",
        "content-length: 99999999999999999999999",
        "content-length: abc",
    ];
    expect_all_refused(&suite, &heads).await;
}

async fn odd_transfer_codings_smuggle_nothing(suite: Arc<Suite>) {
    let heads = [
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
        "transfer-encoding: identity\r\ncontent-length: 3",
    ];
    expect_all_refused(&suite, &heads).await;
}

async fn bad_chunk_sizes_are_cut_and_not_charged(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "20").await;
    let bodies = [
        "zz\r\nabc\r\n0\r\n\r\n",
        "-1\r\nabc\r\n",
        "fffffffffffffffff\r\nabc\r\n",
        "3\r\nabcXX\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
    ];
    for body in bodies {
        let after = format!("{body}{}", hidden(&buyer));
        let said = say(&buyer, &request(&buyer, "transfer-encoding: chunked", &after)).await;
        assert!(!said.contains("HTTP/1.1 200"), "{body:?}: {said}");
    }
    buyer.expect_used("0").await;
    assert_eq!(suite.backend.with_target(&format!("hidden-{}", buyer.id)).len(), 0);
    assert!(buyer.received().iter().all(|received| received.body_sha256.is_none()), "a broken body was ended as if whole");
}

async fn a_folded_header_is_not_taken_for_two(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "20").await;
    let said = say(&buyer, &request(&buyer, "x-fold: a\r\n x-customer-name: folded\r\ncontent-length: 0", "")).await;
    for received in buyer.received() {
        assert_eq!(received.headers.all("x-customer-name").len(), 0, "{said}");
    }
    assert!(said.starts_with("HTTP/1.1 400") || buyer.received().len() == 1, "{said}");
}

async fn whitespace_before_a_colon_hides_no_header(suite: Arc<Suite>) {
    expect_all_refused(&suite, &["content-length : 50", "x-odd : 1\r\ncontent-length: 0", "x odd: 1\r\ncontent-length: 0"]).await;
}

async fn a_bare_line_feed_or_nul_in_a_header_adds_none(suite: Arc<Suite>) {
    for value in ["a\nx-customer-name: smuggled", "a\rx-customer-name: smuggled", "a\0b"] {
        let buyer = suite.buyer("translate", "20").await;
        let said = say(&buyer, &request(&buyer, &format!("x-odd: {value}\r\ncontent-length: 0"), "")).await;
        match buyer.received().first() {
            None => assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{said}"),
            // A lone line feed may end a line; then the second field is the caller's own, seen by both sides alike.
            Some(received) => assert_eq!((value.contains('\n'), received.headers.one("x-odd").as_deref()), (true, Some("a"))),
        }
    }
}

async fn an_underscore_is_not_a_hyphen(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let target = format!("/translate/{}", buyer.id);
    let reply = buyer.call().target(&target).without("x-customer-id").header("x_customer_id", &buyer.id).send().await;
    reply.problem(400, "customer_id_missing");
    assert_eq!(suite.backend.with_target(&buyer.id).len(), 0);
}

async fn an_absolute_target_is_routed_by_its_path(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let reply = buyer.call().target("http://elsewhere.example/translate/x?y=1").send().await;
    if reply.status == 200 {
        assert_eq!(buyer.only_received().target, "/v1/x?y=1");
    } else {
        assert!(matches!(reply.status, 400 | 404), "{}", reply.status);
        buyer.expect_nothing_forwarded();
    }
}

async fn garbage_leaves_the_gateway_up(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let long = "G".repeat(100_000);
    let garbage: [&[u8]; 6] = [
        b"\0\0\0\0\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        long.as_bytes(),
        b"\x16\x03\x01\x02\x00",
        b"GET /translate/x HTTP/9.9\r\n\r\n",
    ];
    for bytes in garbage {
        let said = say(&buyer, bytes).await;
        assert!(!said.contains(" 200 "), "{said}");
    }
    buyer.expect_nothing_forwarded();
    buyer.call().send().await.assert_ok();
}
