//! Two gateways on one ledger: what is told is told once, and what is ordered is ordered once (contract section 4).

use crate::support::buyer::units;
use crate::support::gateway::{Home, short_lease};
use crate::support::receiver::{Answer, HOOKS};
use crate::support::watched::{Watched, event_id, repurchase};
use crate::support::{Suite, eventually};
use serde_json::json;
use std::sync::Arc;
use tokio::task::JoinSet;

crate::cases! {
    ;
    own:
    two_gateways_deliver_each_event_once_and_in_order,
    two_gateways_order_once,
    what_one_gateway_left_behind_another_delivers,
    two_gateways_forward_no_more_than_was_bought,
    two_gateways_charge_one_id_once,
}

/// A customer of two gateways that share their state, and whose holds are lost soon.
async fn pair(suite: &Suite) -> (Watched, Watched, Home) {
    let home = Home::new(&short_lease(""), &suite.backend, &suite.receiver);
    let [first, second] = home.start_pair().await;
    let one = suite.watched_on(&first, "translate");
    let mut other = one.clone();
    other.buyer.gateway = second;
    (one, other, home)
}

async fn two_gateways_deliver_each_event_once_and_in_order(suite: Arc<Suite>) {
    let (one, other, _home) = pair(&suite).await;
    one.grant("60").await;
    other.alerts((1..=20).map(|step| json!({ "remaining": (3 * step - 1).to_string() })).collect()).await;
    for _ in 0..30 {
        one.spend(1).await;
        other.spend(1).await;
    }
    one.expect_used("60").await;
    let expected: Vec<_> = other.events().await.iter().map(event_id).collect();
    // 20 crossings, the grant, and the end of the package and of the balance.
    assert_eq!(expected.len(), 23);
    let all_delivered = || async {
        one.gateway.tick().await;
        other.gateway.tick().await;
        one.events()
            .await
            .iter()
            .all(|event| event["deliveries"].as_array().unwrap().iter().all(|one| one["state"] == "delivered"))
    };
    eventually("every delivery has ended", all_delivered).await;
    let arrived: Vec<_> = one.receiver.of(HOOKS, &one.id).iter().map(|delivery| delivery.id()).collect();
    assert_eq!(arrived, expected);
}

async fn two_gateways_order_once(suite: Arc<Suite>) {
    let (one, other, _home) = pair(&suite).await;
    one.answer_orders([Answer::Package]);
    one.grant("300").await;
    one.repurchase(repurchase("250", "100")).await;
    let mut callers = JoinSet::new();
    for customer in [&one, &other, &one, &other] {
        let customer = customer.clone();
        callers.spawn(async move { customer.spend(100).await });
    }
    callers.join_all().await;
    one.expect_used("400").await;
    eventually("nothing is due any more", || async {
        let orders = other.repurchases().await;
        orders.iter().all(|order| order["state"] == "succeeded") && units(&one.balance().await["remaining"]) > 250 * 10_000
    })
    .await;
    let orders = other.repurchases().await.len();
    // 300 and 100 a package, less 400, are more than 250 from the fourth on.
    assert!(orders >= 4, "{orders}");
    assert_eq!((one.order_ids().len(), one.order_posts().len()), (orders, orders));
    for kind in ["repurchase.requested", "repurchase.succeeded"] {
        one.expect_events(kind, orders).await;
    }
    assert_eq!(units(&other.balance().await["granted"]), (300 + 100 * i64::try_from(orders).unwrap()) * 10_000);
    other.gateway.assert_balanced(&one.id).await;
}

async fn what_one_gateway_left_behind_another_delivers(suite: Arc<Suite>) {
    let (one, other, _home) = pair(&suite).await;
    one.answer_orders([Answer::Package]);
    one.grant("10").await;
    one.repurchase(repurchase("8", "10")).await;
    one.spend(2).await;
    one.gateway.kill();
    eventually("the other gateway orders", || async {
        other.gateway.tick().await;
        other.repurchases().await.iter().any(|order| order["state"] == "succeeded")
    })
    .await;
    other.expect_orders(1).await;
    assert_eq!(other.balance().await["granted"], "20");
}

async fn two_gateways_forward_no_more_than_was_bought(suite: Arc<Suite>) {
    let (one, other, _home) = pair(&suite).await;
    one.grant("50").await;
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        for call in [one.call(), other.call()] {
            calls.spawn(async move { call.send().await.status });
        }
    }
    let statuses = calls.join_all().await;
    let count = |status: u16| statuses.iter().filter(|one| **one == status).count();
    assert_eq!((count(200), count(402)), (50, 150));
    assert_eq!(one.received().len(), 50);
    other.expect_used("50").await;
    other.gateway.assert_balanced(&one.id).await;
}

async fn two_gateways_charge_one_id_once(suite: Arc<Suite>) {
    let (one, other, _home) = pair(&suite).await;
    one.grant("50").await;
    let id = one.call().request_id();
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        for call in [one.call().id(&id), other.call().id(&id)] {
            calls.spawn(async move { call.send().await });
        }
    }
    let replies = calls.join_all().await;
    assert!(replies.iter().all(|reply| matches!(reply.status, 200 | 409)));
    let charged = replies.iter().filter(|reply| reply.status == 200 && reply.headers.one("tollgate-replay").is_none());
    assert_eq!(charged.count(), 1, "the others are replays");
    one.expect_used("1").await;
    other.gateway.assert_balanced(&one.id).await;
}
