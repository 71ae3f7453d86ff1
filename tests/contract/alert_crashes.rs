//! The process dies under load, and every crossing is told once and every order credited once (contract sections 3 and 4).

use crate::support::buyer::units;
use crate::support::gateway::short_lease;
use crate::support::receiver::{Answer, HOOKS};
use crate::support::watched::{Watched, event_id, repurchase};
use crate::support::{Suite, eventually, eventually_within};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

crate::cases! {
    ;
    own:
    killed_under_load_every_crossing_is_told_once,
    killed_under_load_every_order_is_credited_once,
}

const KILL_ROUNDS: usize = 4;
const CALLERS: usize = 8;
const CALLS_PER_ROUND: usize = 120;
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// Calls under load, kills the gateway in the middle, starts it again; several times. Nothing is held at the end.
async fn kill_under_load(suite: &Suite, customer: &mut Watched, home: &crate::support::gateway::Home) {
    for _ in 0..KILL_ROUNDS {
        let seen = customer.received().len();
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (customer, stop) = (customer.clone(), Arc::clone(&stop));
            callers.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let Ok(reply) = customer.call().try_send().await else { return };
                    assert!(!reply.whole || matches!(reply.status, 200 | 500..), "{} {}", reply.status, reply.text());
                }
            });
        }
        eventually("the load is running", || async { suite.backend.of(&customer.id).len() >= seen + CALLS_PER_ROUND }).await;
        customer.gateway.kill();
        stop.store(true, Ordering::Relaxed);
        callers.join_all().await;
        customer.buyer.gateway = home.start().await;
    }
    eventually_within(SETTLED_WITHIN, "no hold is left", || async {
        customer.gateway.tick().await;
        customer.balance().await["held"] == "0"
    })
    .await;
}

async fn killed_under_load_every_crossing_is_told_once(suite: Arc<Suite>) {
    const GRANTED: i64 = 20_000;
    let (gateway, home) = suite.start(&short_lease("")).await;
    let mut customer = suite.watched_on(&gateway, "translate");
    customer.grant(&GRANTED.to_string()).await;
    let levels: Vec<i64> = (1..=20).map(|step| GRANTED - 30 * step).collect();
    customer.alerts(levels.iter().map(|level| json!({ "remaining": level.to_string() })).collect()).await;
    kill_under_load(&suite, &mut customer, &home).await;
    let remaining = units(&customer.balance().await["remaining"]);
    let reached: Vec<Value> = levels
        .iter()
        .filter(|level| remaining <= *level * 10_000)
        .map(|level| json!({ "remaining": level.to_string() }))
        .collect();
    assert!(reached.len() >= 10, "{remaining}");
    assert_eq!(customer.told().await, reached);
    customer.gateway.assert_balanced(&customer.id).await;
    let events: HashSet<String> = customer.events().await.iter().map(event_id).collect();
    eventually_within(SETTLED_WITHIN, "every event arrives", || async {
        let arrived: HashSet<String> = customer.receiver.of(HOOKS, &customer.id).iter().map(|one| one.id()).collect();
        assert!(arrived.is_subset(&events), "what arrives is in the ledger");
        arrived == events
    })
    .await;
}

async fn killed_under_load_every_order_is_credited_once(suite: Arc<Suite>) {
    let (gateway, home) = suite.start(&short_lease("")).await;
    let mut customer = suite.watched_on(&gateway, "translate");
    customer.answer_orders([Answer::Package]);
    customer.grant("2000").await;
    customer.repurchase(repurchase("1950", "60")).await;
    kill_under_load(&suite, &mut customer, &home).await;
    let orders = || async { customer.repurchases().await };
    eventually_within(SETTLED_WITHIN, "no order is in flight and none is due", || async {
        customer.gateway.tick().await;
        let all_credited = orders().await.iter().all(|order| order["state"] == "succeeded" && order["package_id"].is_string());
        all_credited && units(&customer.balance().await["remaining"]) > 1950 * 10_000
    })
    .await;
    let orders = orders().await;
    assert!(orders.len() >= 3, "{orders:?}");
    let ids: HashSet<_> = orders.iter().map(|order| order["repurchase_id"].as_str().unwrap().to_owned()).collect();
    let packages: HashSet<_> = orders.iter().map(|order| order["package_id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), packages.len()), (orders.len(), orders.len()));
    assert_eq!(customer.order_ids().into_iter().collect::<HashSet<_>>(), ids, "what was posted is what was ordered");
    let granted = 2000 + 60 * i64::try_from(orders.len()).unwrap();
    assert_eq!(units(&customer.balance().await["granted"]), granted * 10_000);
    for kind in ["repurchase.requested", "repurchase.succeeded"] {
        customer.expect_events(kind, orders.len()).await;
    }
    customer.expect_events("repurchase.failed", 0).await;
    customer.gateway.assert_balanced(&customer.id).await;
}
