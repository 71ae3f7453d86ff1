//! The process dies or is told to leave, and the books still balance.

use crate::support::buyer::{Buyer, units};
use crate::support::gateway::{CONFIG, Gateway, short_lease};
use crate::support::load::survive_kills;
use crate::support::script::{Script, Step};
use crate::support::{Suite, eventually};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::task::JoinSet;

crate::cases! {
    ;
    own:
    killed_under_load_every_forwarded_call_is_charged_once_or_marked_lost,
    a_charge_survives_a_kill_right_after_the_reply_with_either_durability,
    an_end_that_no_hold_stands_for_is_durable_before_its_reply,
    told_to_leave_it_ends_live_calls_and_keeps_their_charges,
    the_same_id_is_charged_once_across_a_crash,
    a_gateway_told_to_leave_while_idle_leaves_at_once,
}

const KILL_ROUNDS: usize = 4;
const CALLERS: usize = 16;

async fn killed_under_load_every_forwarded_call_is_charged_once_or_marked_lost(suite: Arc<Suite>) {
    let (gateway, home) = suite.start(&short_lease("")).await;
    let mut buyer = Buyer::new(&gateway, &suite.backend, "translate");
    buyer.grant("100000").await;
    let arrivals = (1..=KILL_ROUNDS).map(|round| 150 * round);
    let served = survive_kills(&mut buyer, &home, arrivals, CALLERS, Buyer::call).await;
    expect_books_match(&buyer, &served).await;
}

/// Compares the ledger with what the backend saw and with what callers were served.
async fn expect_books_match(buyer: &Buyer, served: &HashSet<String>) {
    let calls: HashMap<_, _> =
        buyer.calls().await.into_iter().map(|call| (call["request_id"].as_str().unwrap().to_owned(), call)).collect();
    let received = buyer.received();
    let forwarded: HashSet<_> = received.iter().map(|one| one.headers.one("x-request-id").unwrap()).collect();
    assert_eq!(forwarded.len(), received.len(), "a call was forwarded twice");
    for id in &forwarded {
        let call = calls.get(id).unwrap_or_else(|| panic!("{id} was forwarded and is not in the ledger"));
        assert!(call["charge"] == "1" || call["lost"] == true, "{call}");
    }
    for id in served {
        assert_eq!(calls.get(id).unwrap_or_else(|| panic!("{id} was served and is not in the ledger"))["charge"], "1");
    }
    for (id, call) in &calls {
        let charge = units(&call["charge"]);
        assert!(charge == 0 || charge == 10_000, "{call}");
        assert!(charge == 0 || forwarded.contains(id) || call["lost"] == true, "charged and never forwarded: {call}");
    }
    let charged: i64 = calls.values().map(|call| units(&call["charge"])).sum();
    assert_eq!(units(&buyer.balance().await["used"]), charged);
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn a_charge_survives_a_kill_right_after_the_reply_with_either_durability(suite: Arc<Suite>) {
    for durability in ["power", "process"] {
        let (gateway, home) = suite.start(&short_lease(&format!("durability = \"{durability}\""))).await;
        let buyer = Buyer::new(&gateway, &suite.backend, "translate");
        buyer.grant("50").await;
        buyer.spend(7).await;
        gateway.kill();
        let buyer = Buyer { gateway: home.start().await, ..buyer };
        // A hold that stands for its charge may be settled later, but what it took is not available again.
        assert_eq!(buyer.available().await, 43 * 10_000, "{durability}");
        eventually("every call is settled", || async {
            buyer.gateway.tick().await;
            units(&buyer.balance().await["used"]) == 7 * 10_000
        })
        .await;
        buyer.gateway.assert_balanced(&buyer.id).await;
    }
}

/// A hold that would be released when it is lost is no charge yet, and one that would be charged is no release.
async fn an_end_that_no_hold_stands_for_is_durable_before_its_reply(suite: Arc<Suite>) {
    let ends = [("lost_hold = \"release\"", "translate", 200, 10_000), ("lost_hold = \"charge\"", "succeeded", 500, 0)];
    for (config, product_id, status, used) in ends {
        let (gateway, home) = suite.start(&short_lease(config)).await;
        let buyer = Buyer::new(&gateway, &suite.backend, product_id);
        buyer.grant("50").await;
        assert_eq!(buyer.call().script(&Script::status(status)).send().await.status, status);
        gateway.kill();
        let buyer = Buyer { gateway: home.start().await, ..buyer };
        let balance = buyer.balance().await;
        assert_eq!((units(&balance["used"]), units(&balance["held"])), (used, 0), "{config}");
    }
}

async fn told_to_leave_it_ends_live_calls_and_keeps_their_charges(suite: Arc<Suite>) {
    let (gateway, home) = suite.start(CONFIG).await;
    let buyer = Buyer::new(&gateway, &suite.backend, "translate");
    buyer.grant("50").await;
    let gate = suite.backend.gate();
    let streaming = Script::chunked().then(Step::Text("begun".into())).then(gate.step()).then(Step::Text(" ended".into()));
    let waiting = Script::text("late").first(gate.step());
    let mut calls = JoinSet::new();
    let mut ids = Vec::new();
    for script in [&streaming, &waiting, &streaming, &waiting] {
        let call = buyer.call().script(script);
        ids.push(call.request_id());
        calls.spawn(async move { call.send().await });
    }
    buyer.expect_forwarded(4).await;
    gateway.terminate();
    expect_no_new_calls(&gateway).await;
    gate.open();
    for reply in calls.join_all().await {
        reply.assert_ok();
        assert!(matches!(reply.text().as_str(), "begun ended" | "late"), "{}", reply.text());
    }
    let status = gateway.left().await;
    assert!(status.success(), "{status}");
    let buyer = Buyer { gateway: home.start().await, ..buyer };
    for id in ids {
        let record = buyer.call_in_state(&id, "settled").await;
        assert_eq!((&record["charge"], &record["lost"]), (&json!("1"), &json!(false)));
    }
    buyer.expect_used("4").await;
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn expect_no_new_calls(gateway: &Gateway) {
    eventually("it accepts no more", || async { tokio::net::TcpStream::connect(gateway.address).await.is_err() }).await;
}

async fn the_same_id_is_charged_once_across_a_crash(suite: Arc<Suite>) {
    let (gateway, home) = suite.start(&short_lease("")).await;
    let buyer = Buyer::new(&gateway, &suite.backend, "translate");
    buyer.grant("50").await;
    let call = buyer.call();
    call.send().await.assert_ok();
    gateway.kill();
    let buyer = Buyer { gateway: home.start().await, ..buyer };
    eventually("the call is settled", || async {
        buyer.gateway.tick().await;
        buyer.call_record(&call.request_id()).await["state"] == "settled"
    })
    .await;
    let again = buyer.call().id(&call.request_id()).send().await;
    again.assert_ok();
    assert_eq!(again.header("tollgate-replay"), "true");
    buyer.call().id(&call.request_id()).send().await.problem(409, "request_replayed");
    buyer.expect_used("1").await;
    buyer.expect_forwarded(2).await;
}

async fn a_gateway_told_to_leave_while_idle_leaves_at_once(suite: Arc<Suite>) {
    let (gateway, _home) = suite.start(CONFIG).await;
    let begun = std::time::Instant::now();
    gateway.terminate();
    assert!(gateway.left().await.success());
    // Far below the half minute that live calls may take.
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}
