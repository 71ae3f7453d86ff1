//! Long calls and holds whose process has died.

use crate::support::buyer::{Buyer, units};
use crate::support::gateway::short_lease;
use crate::support::script::{Script, Step};
use crate::support::{Suite, eventually};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

crate::cases! {
    ;
    own:
    a_call_ten_times_longer_than_its_lease_is_alive_and_charged_once,
    a_lost_hold_is_charged_and_marked,
    a_lost_hold_is_released_where_the_config_says_so,
}

async fn a_call_ten_times_longer_than_its_lease_is_alive_and_charged_once(suite: Arc<Suite>) {
    let (gateway, _home) = suite.start(&short_lease("")).await;
    let buyer = Buyer::new(&gateway, &suite.backend, "translate");
    buyer.grant("5").await;
    let gate = suite.backend.gate();
    let call = buyer.call().script(&Script::chunked().then(Step::Text("a".into())).then(gate.step()));
    let silent = buyer.call().script(&Script::text("late").first(gate.step()));
    let waiting = tokio::spawn(async move { (silent.send().await, silent.request_id()) });
    let exchange = call.open().await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        gateway.tick().await;
        let record = buyer.call_record(&call.request_id()).await;
        assert_eq!((&record["state"], &record["lost"]), (&json!("held"), &json!(false)), "after {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    gate.open();
    assert!(exchange.rest().await.unwrap().whole);
    let (reply, waited) = waiting.await.unwrap();
    reply.assert_ok();
    for id in [call.request_id(), waited] {
        let record = buyer.call_in_state(&id, "settled").await;
        assert_eq!((&record["charge"], &record["lost"]), (&json!("1"), &json!(false)));
    }
    buyer.expect_used("2").await;
    gateway.assert_balanced(&buyer.id).await;
}

/// Kills a gateway during a call, starts it again, and returns the call once its hold was found lost.
async fn lose_a_hold(suite: &Suite, keys: &str, state: &str) -> (Buyer, serde_json::Value) {
    let (gateway, home) = suite.start(&short_lease(keys)).await;
    let buyer = Buyer::new(&gateway, &suite.backend, "translate");
    buyer.grant("5").await;
    let call = buyer.call().script(&Script::chunked().then(Step::Text("a".into())).then(Step::Hang));
    let exchange = call.open().await.unwrap();
    gateway.kill();
    drop(exchange);
    let again = home.start().await;
    let buyer = Buyer { gateway: again, ..buyer };
    eventually("the lost hold is resolved", || async {
        buyer.gateway.tick().await;
        buyer.call_record(&call.request_id()).await["state"] == state
    })
    .await;
    let record = buyer.call_record(&call.request_id()).await;
    buyer.gateway.assert_balanced(&buyer.id).await;
    (buyer, record)
}

async fn a_lost_hold_is_charged_and_marked(suite: Arc<Suite>) {
    let (buyer, record) = lose_a_hold(&suite, "", "settled").await;
    assert_eq!((&record["lost"], &record["charge"]), (&json!(true), &json!("1")));
    buyer.expect_used("1").await;
}

async fn a_lost_hold_is_released_where_the_config_says_so(suite: Arc<Suite>) {
    let (buyer, record) = lose_a_hold(&suite, "lost_hold = \"release\"", "released").await;
    assert_eq!((&record["lost"], units(&record["charge"])), (&json!(true), 0));
    buyer.expect_untouched().await;
    buyer.spend(1).await;
    buyer.expect_used("1").await;
}
