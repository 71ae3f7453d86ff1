//! A ledger that cannot be written for a while: nothing is forwarded unpaid, no end of a call is lost, and all goes on by itself.

use crate::support::buyer::{Buyer, units};
use crate::support::call::Call;
use crate::support::gateway::{CONFIG, Home, is_workerd};
use crate::support::script::Script;
use crate::support::{Suite, eventually};
use std::sync::Arc;

crate::cases! {
    ;
    own:
    a_ledger_that_is_locked_forwards_nothing_until_it_is_free,
    a_ledger_that_cannot_grow_forwards_nothing_until_it_can,
    a_release_that_is_not_durable_in_time_is_no_reply_and_is_released_later,
}

/// Calls until one is refused for the ledger's sake, which costs nothing and says when to try again.
async fn expect_unavailable(buyer: &Buyer) -> Call {
    let forwarded = buyer.received().len();
    let call = buyer.call();
    let reply = call.send().await;
    reply.problem(503, "ledger_unavailable");
    assert!(reply.header("retry-after").parse::<u32>().unwrap() > 0);
    // An object's ledger is not the one that Workers are asked about.
    assert!(is_workerd() || buyer.gateway.call("GET", "/_tollgate/readyz").send().await.status == 503);
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
    let locked = home.lock_ledger();
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

async fn a_release_that_is_not_durable_in_time_is_no_reply_and_is_released_later(suite: Arc<Suite>) {
    let (gateway, home) = suite.start(CONFIG).await;
    let buyer = Buyer::new(&gateway, &suite.backend, "succeeded");
    buyer.grant("50").await;
    let gate = suite.backend.gate();
    let call = buyer.call().script(&Script::status(500).first(gate.step()));
    let sent = call.clone();
    let replied = tokio::spawn(async move { sent.try_send().await });
    buyer.expect_forwarded(1).await;
    let locked = home.lock_ledger();
    gate.open();
    // Nothing of the backend's reply was sent yet: the gateway says that it failed, or nothing.
    let reply = replied.await.unwrap().ok();
    assert!(reply.is_none_or(|reply| reply.status == 500 && reply.json()["code"] == "internal"));
    drop(locked);
    buyer.call_in_state(&call.request_id(), "released").await;
    let balance = buyer.balance().await;
    assert_eq!((units(&balance["used"]), units(&balance["held"])), (0, 0), "{balance}");
    buyer.gateway.assert_balanced(&buyer.id).await;
}
