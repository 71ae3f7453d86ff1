//! A ledger that cannot be written for a while: nothing is forwarded unpaid, no end of a call is lost, and all goes on by itself.

use crate::support::buyer::{Buyer, units};
use crate::support::call::{Call, Reply};
use crate::support::gateway::{CONFIG, Home};
use crate::support::metered::{Charged, stream, usage_event};
use crate::support::script::Script;
use crate::support::{Suite, eventually};
use serde_json::json;
use std::sync::Arc;

crate::cases! {
    ;
    own:
    a_ledger_that_is_locked_forwards_nothing_until_it_is_free,
    a_ledger_that_cannot_grow_forwards_nothing_until_it_can,
    a_stream_whose_charge_is_not_durable_in_time_is_cut_and_charged_later,
    a_release_that_is_not_durable_in_time_is_no_reply_and_is_released_later,
}

/// Holds the ledger's write lock until it is dropped, as a hand in the database does.
fn lock(home: &Home) -> rusqlite::Connection {
    let ledger = rusqlite::Connection::open(&home.ledgers()[0]).unwrap();
    ledger.execute_batch("PRAGMA busy_timeout = 10000; BEGIN IMMEDIATE").unwrap();
    ledger
}

/// Calls until one is refused for the ledger's sake, which costs nothing and says when to try again.
async fn expect_unavailable(buyer: &Buyer) -> Call {
    let forwarded = buyer.received().len();
    let call = buyer.call();
    let reply = call.send().await;
    reply.problem(503, "ledger_unavailable");
    assert!(reply.header("retry-after").parse::<u32>().unwrap() > 0);
    assert_eq!(buyer.gateway.call("GET", "/_tollgate/readyz").send().await.status, 503);
    assert_eq!(buyer.gateway.call("GET", "/_tollgate/healthz").send().await.status, 200);
    assert_eq!(buyer.received().len(), forwarded, "forwarded without a hold");
    call
}

/// Checks that a refused call's id is as new, and that the books hold exactly what was served.
async fn expect_goes_on(buyer: &Buyer, refused: &Call, used: &str) {
    eventually("the gateway is ready again", || async {
        buyer.gateway.call("GET", "/_tollgate/readyz").send().await.status == 200
    })
    .await;
    let reply = refused.send().await;
    reply.assert_ok();
    assert_eq!(reply.headers.all("tollgate-replay").len(), 0);
    buyer.expect_used(used).await;
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn a_ledger_that_is_locked_forwards_nothing_until_it_is_free(suite: Arc<Suite>) {
    let (gateway, home) = suite.start(CONFIG).await;
    let buyer = Buyer::new(&gateway, &suite.backend, "translate");
    buyer.grant("50").await;
    buyer.spend(2).await;
    let locked = lock(&home);
    let refused = expect_unavailable(&buyer).await;
    drop(locked);
    expect_goes_on(&buyer, &refused, "3").await;
}

async fn a_ledger_that_cannot_grow_forwards_nothing_until_it_can(suite: Arc<Suite>) {
    let home = Home::new(CONFIG, &suite.backend, &suite.receiver);
    let gateway = home.start_told_of_limits().await;
    let buyer = Buyer::new(&gateway, &suite.backend, "translate");
    buyer.grant("100000").await;
    buyer.spend(2).await;
    // Nothing waits to be written, so that only a write of its own can find out.
    buyer.expect_used("2").await;
    gateway.limit_files("65536");
    eventually("it is seen by who only asks", || async { gateway.call("GET", "/_tollgate/readyz").send().await.status == 503 })
        .await;
    let refused = expect_unavailable(&buyer).await;
    gateway.limit_files("unlimited");
    expect_goes_on(&buyer, &refused, "3").await;
}

/// What becomes of a call whose reply the backend ends while the ledger is locked.
async fn ended_under_lock(
    suite: &Suite,
    config: &str,
    product_id: &str,
    script: impl Fn(&Suite) -> Script,
) -> (Buyer, Call, Option<Reply>) {
    let (gateway, home) = suite.start(config).await;
    let buyer = Buyer::new(&gateway, &suite.backend, product_id);
    buyer.grant("100000").await;
    let gate = suite.backend.gate();
    let call = buyer.post("{}").script(&script(suite).first(gate.step()));
    let sent = call.clone();
    let replied = tokio::spawn(async move { sent.try_send().await });
    buyer.expect_forwarded(1).await;
    let locked = lock(&home);
    gate.open();
    let reply = replied.await.unwrap().ok();
    drop(locked);
    (buyer, call, reply)
}

async fn a_stream_whose_charge_is_not_durable_in_time_is_cut_and_charged_later(suite: Arc<Suite>) {
    let script = |_: &Suite| stream().then(usage_event(4, 2));
    let (buyer, call, reply) = ended_under_lock(&suite, CONFIG, "chat", script).await;
    let reply = reply.expect("its headers and what it says arrive");
    assert!(!reply.whole && reply.status == 200 && reply.text().contains("prompt_tokens"), "{}", reply.text());
    let record = buyer.call_in_state(&call.request_id(), "settled").await;
    assert_eq!((&record["charge"], &record["lost"]), (&json!("10"), &json!(false)));
    assert_eq!(buyer.charged_now(&call.request_id()).await, Charged::settled("10"));
    buyer.expect_used("10").await;
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn a_release_that_is_not_durable_in_time_is_no_reply_and_is_released_later(suite: Arc<Suite>) {
    let (buyer, call, reply) = ended_under_lock(&suite, CONFIG, "succeeded", |_| Script::status(500)).await;
    // Nothing of the backend's reply was sent yet: the gateway says that it failed, or nothing.
    assert!(reply.is_none_or(|reply| reply.status == 500 && reply.json()["code"] == "internal"));
    buyer.call_in_state(&call.request_id(), "released").await;
    let balance = buyer.balance().await;
    assert_eq!((units(&balance["used"]), units(&balance["held"])), (0, 0), "{balance}");
    buyer.gateway.assert_balanced(&buyer.id).await;
}
