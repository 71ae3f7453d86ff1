//! Where each customer's part of the ledger is an object of its own: what a call asks of it, and that it may go and come back.

use crate::support::Suite;
use crate::support::buyer::Buyer;
use crate::support::eventually;
use crate::support::gateway::{CONFIG, Gateway};
use crate::support::script::{Script, Step};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

crate::cases! {
    ;
    own:
    a_call_asks_its_customers_object_twice,
    an_object_may_be_evicted_between_admission_and_settle,
}

/// How long workerd lets an object idle before it drops it from memory.
const IDLE: Duration = Duration::from_secs(10);

/// How often objects were asked for a step of a call.
async fn asked(gateway: &Gateway, step: &str) -> u64 {
    let text = gateway.control("GET", "/metrics").send().await.text();
    let name = format!("tollgate_ledger_requests_total{{step=\"{step}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
}

async fn a_call_asks_its_customers_object_twice(suite: Arc<Suite>) {
    let (gateway, _home) = suite.start(CONFIG).await;
    let buyer = Buyer::new(&gateway, &suite.backend, "translate");
    buyer.grant("1000").await;
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let call = buyer.call();
        calls.spawn(async move { call.send().await.assert_ok() });
    }
    calls.join_all().await;
    buyer.expect_used("100").await;
    eventually("all steps are counted", || async { asked(&gateway, "settle").await == 100 }).await;
    assert_eq!(asked(&gateway, "admit").await, 100);
    assert_eq!((asked(&gateway, "probe").await, asked(&gateway, "renew").await), (0, 0));
}

async fn an_object_may_be_evicted_between_admission_and_settle(suite: Arc<Suite>) {
    // The lease is not renewed within the time that the object idles.
    let config = CONFIG.replace("[gateway]", "[gateway]\nhold_lease = \"90s\"");
    let (gateway, _home) = suite.start(&config).await;
    let buyer = Buyer::new(&gateway, &suite.backend, "translate");
    buyer.grant("10").await;
    let gate = suite.backend.gate();
    let call = buyer.call().script(&Script::chunked().then(Step::Text("begun".into())).then(gate.step()));
    let id = call.request_id();
    let running = tokio::spawn(async move { call.send().await });
    buyer.expect_forwarded(1).await;
    // Nothing says when an object has gone; after twice the time none is left that was not asked.
    tokio::time::sleep(2 * IDLE).await;
    gate.open();
    running.await.unwrap().assert_ok();
    let record = buyer.call_in_state(&id, "settled").await;
    assert_eq!((&record["charge"], &record["lost"]), (&"1".into(), &false.into()));
    buyer.expect_used("1").await;
    buyer.gateway.assert_balanced(&buyer.id).await;
}
