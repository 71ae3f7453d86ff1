//! The measuring instrument itself: a backend and a caller that could not tell would make every other case worthless.

use crate::support::call::{Call, connect};
use crate::support::jwt::Token;
use crate::support::receiver::{Answer, NEXT_SECRET, ORDERS, SECRET, verify};
use crate::support::script::{Script, Step};
use crate::support::{Suite, fresh, in_seconds, stage, unix_seconds};
use serde_json::json;
use sha2::{Digest, Sha256};
use standardwebhooks::Webhook;
use std::sync::Arc;

crate::cases! {
    the_backend_records_what_arrived,
    the_caller_tells_a_cut_reply_from_a_whole_one,
    the_backend_holds_a_reply_back_until_its_gate_opens,
    the_backend_answers_in_every_framing,
    the_backend_notices_that_its_peer_has_left,
    times_and_tokens_have_the_right_form,
    the_receiver_tells_a_good_signature_from_a_bad_one,
    the_receiver_answers_in_the_planned_order,
}

fn to_backend(suite: &Suite, customer: &str) -> Call {
    Call::new(suite.backend.address, "POST", "/direct?a=1").customer(customer)
}

async fn the_backend_records_what_arrived(suite: Arc<Suite>) {
    let customer = fresh("customer");
    let body = stage::filling(0, 300_000);
    to_backend(&suite, &customer).header("x-twice", "1").header("x-twice", "2").body(&body).send().await.assert_ok();
    to_backend(&suite, &customer).chunked().body(&body).send().await.assert_ok();
    let received = suite.backend.of(&customer);
    assert_eq!(received.len(), 2);
    for request in &received {
        assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/direct?a=1"));
        assert_eq!(request.body_bytes, 300_000);
        assert_eq!(request.body_sha256, Some(Sha256::digest(&body).into()));
    }
    assert_eq!(received[0].headers.all("x-twice"), ["1", "2"]);
}

async fn the_caller_tells_a_cut_reply_from_a_whole_one(suite: Arc<Suite>) {
    let customer = fresh("customer");
    let cut = Script::declaring(100).then(Step::Text("only this".into())).then(Step::Cut);
    let reset = Script::chunked().then(Step::Text("only this".into())).then(Step::Reset);
    for script in [cut, reset] {
        let exchange = to_backend(&suite, &customer).script(&script).open().await.unwrap();
        assert!(!exchange.rest().await.unwrap().whole);
    }
    let before = Script::status(200).first(Step::Cut);
    assert!(to_backend(&suite, &customer).script(&before).try_send().await.is_err());
}

async fn the_backend_holds_a_reply_back_until_its_gate_opens(suite: Arc<Suite>) {
    let gate = suite.backend.gate();
    let script = Script::chunked().then(Step::Text("one".into())).then(gate.step()).then(Step::Text("two".into()));
    let mut exchange = to_backend(&suite, &fresh("customer")).script(&script).open().await.unwrap();
    exchange.expect_text("one").await;
    gate.open();
    let reply = exchange.rest().await.unwrap();
    assert_eq!((reply.text().as_str(), reply.whole), ("two", true));
}

async fn the_backend_answers_in_every_framing(suite: Arc<Suite>) {
    let filled = |script: Script| script.then(Step::Fill(100_000)).then(Step::PauseMs(1));
    let customer = fresh("customer");
    for script in [filled(Script::status(200)), filled(Script::chunked()), filled(Script::until_close())] {
        let reply = to_backend(&suite, &customer).script(&script).send().await;
        assert!(reply.whole && reply.body == stage::filling(0, 100_000));
    }
    let empty = to_backend(&suite, &customer).script(&Script::status(204)).send().await;
    assert!(empty.status == 204 && empty.whole && empty.body.is_empty());
    let trailed = Script::chunked().then(Step::Text("x".into())).trailer("x-end", "yes");
    let reply = to_backend(&suite, &customer).script(&trailed).send().await;
    assert_eq!(reply.trailers.one("x-end").as_deref(), Some("yes"));
}

async fn the_backend_notices_that_its_peer_has_left(suite: Arc<Suite>) {
    let customer = fresh("customer");
    let call = to_backend(&suite, &customer).script(&Script::chunked().then(Step::Hang));
    drop(call.open().await.unwrap());
    crate::support::eventually("the request is abandoned", || async { suite.backend.of(&customer)[0].abandoned }).await;
    let known = suite.backend.malformed().len();
    let mut wire = connect(suite.backend.address).await;
    wire.send(b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    wire.closed().await;
    assert!(suite.backend.malformed().len() > known);
}

async fn times_and_tokens_have_the_right_form(_: Arc<Suite>) {
    let date = std::process::Command::new("date").args(["-u", "-d", "+100 days", "+%Y-%m-%d"]).output().unwrap();
    let expected = String::from_utf8(date.stdout).unwrap();
    assert!(in_seconds(100 * 86_400).starts_with(expected.trim()), "{expected}");
    let token = Token::new().sign();
    assert_eq!(token.split('.').count(), 3);
    assert!(!token.contains('='));
}

/// A post to the receiver, signed with a secret at a moment.
fn to_receiver(suite: &Suite, body: &str, secret: &str, at: i64) -> Call {
    let signature = Webhook::new(secret).unwrap().sign("evt_1", at, body.as_bytes()).unwrap();
    let call = Call::new(suite.receiver.address, "POST", ORDERS).body(body);
    call.header("webhook-id", "evt_1").header("webhook-timestamp", at.to_string()).header("webhook-signature", signature)
}

async fn the_receiver_tells_a_good_signature_from_a_bad_one(suite: Arc<Suite>) {
    let customer = fresh("customer");
    let body = json!({ "type": "odd", "data": { "customer_id": customer } }).to_string();
    for (secret, at) in [(SECRET, 0), (NEXT_SECRET, 0), (SECRET, -1000)] {
        to_receiver(&suite, &body, secret, unix_seconds(at)).send().await.assert_ok();
    }
    let arrived = suite.receiver.unverified(ORDERS);
    let theirs = arrived.iter().filter(|one| one.body["data"]["customer_id"] == customer.as_str());
    let verdicts: Vec<_> = theirs.map(|one| verify(SECRET, &one.headers, &one.raw).is_ok()).collect();
    assert_eq!(verdicts, [true, false, false]);
}

async fn the_receiver_answers_in_the_planned_order(suite: Arc<Suite>) {
    let customer = fresh("customer");
    let data = json!({ "customer_id": customer, "repurchase_id": "rep_1", "quantity": "7" });
    let body = json!({ "type": "repurchase.requested", "data": data }).to_string();
    let post = || to_receiver(&suite, &body, SECRET, unix_seconds(0));
    assert_eq!(post().send().await.json(), json!({ "status": "pending" }), "where nothing is planned");
    let cut = Answer::Script(Script::status(200).first(Step::Cut));
    suite.receiver.plan(ORDERS, &customer, "repurchase.requested", [Answer::status(503), cut, Answer::Package]);
    assert_eq!(post().send().await.status, 503);
    assert!(post().try_send().await.is_err());
    for _ in 0..2 {
        let package = json!({ "package_id": "package-rep_1", "quantity": "7" });
        let answer = json!({ "status": "succeeded", "repurchase_id": "rep_1", "package": package });
        assert_eq!(post().send().await.json(), answer);
    }
    let arrived = suite.receiver.of(ORDERS, &customer);
    assert_eq!(arrived.iter().map(|one| one.answered).collect::<Vec<_>>(), [true, true, false, true, true]);
}
