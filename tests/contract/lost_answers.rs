//! Where a customer's object is asked over a network, messages and answers get lost: what is asked again is decided once (contract section 3).

use crate::support::buyer::Buyer;
use crate::support::call::Reply;
use crate::support::gateway::{CONFIG, Gateway, Home, short_lease};
use crate::support::{Suite, eventually, fresh};
use std::sync::Arc;
use tokio::task::JoinSet;

crate::cases! {
    ;
    own:
    an_admission_whose_answer_is_lost_is_told_again,
    two_callers_of_one_id_who_both_ask_again_are_not_both_admitted,
    a_call_that_was_refused_for_want_of_an_answer_costs_nothing,
    a_settle_whose_answer_is_lost_charges_once,
    a_replay_whose_answer_is_lost_is_forwarded,
    a_replay_that_is_given_up_takes_back_no_charge,
}

/// A gateway whose customers' objects are hard to reach: see `lossy/index.js` for what a request id stands for.
async fn lossy(suite: &Suite) -> (Gateway, Home) {
    lossy_with(suite, CONFIG).await
}

async fn lossy_with(suite: &Suite, config: &str) -> (Gateway, Home) {
    let mut home = Home::new(config, &suite.backend, &suite.receiver);
    home.replace_worker("tests/contract/lossy/index.js");
    (home.start().await, home)
}

async fn buyer(suite: &Suite, gateway: &Gateway) -> Buyer {
    let buyer = Buyer::new(gateway, &suite.backend, "translate");
    buyer.grant("10").await;
    buyer
}

async fn send(buyer: &Buyer, id: &str) -> Reply {
    buyer.call().id(id).send().await
}

async fn an_admission_whose_answer_is_lost_is_told_again(suite: Arc<Suite>) {
    let (gateway, _home) = lossy(&suite).await;
    let buyer = buyer(&suite, &gateway).await;
    for fate in ["unheard", "unanswered"] {
        let id = format!("{fate}.admit.1.3.{}", fresh("call"));
        send(&buyer, &id).await.assert_ok();
        let record = buyer.call_in_state(&id, "settled").await;
        assert_eq!((&record["charge"], &record["lost"]), (&"1".into(), &false.into()));
    }
    assert_eq!(buyer.received().len(), 2);
    buyer.expect_used("2").await;
    gateway.assert_balanced(&buyer.id).await;
}

async fn two_callers_of_one_id_who_both_ask_again_are_not_both_admitted(suite: Arc<Suite>) {
    let (gateway, _home) = lossy(&suite).await;
    let buyer = buyer(&suite, &gateway).await;
    for round in 1..=5 {
        let id = format!("unheard.admit.1.2.{}", fresh("call"));
        let mut callers = JoinSet::new();
        for _ in 0..2 {
            let (buyer, id) = (buyer.clone(), id.clone());
            callers.spawn(async move { send(&buyer, &id).await });
        }
        let replies = callers.join_all().await;
        // The other is told that it runs, or is a replay of what has ended.
        let charged = |reply: &&Reply| reply.status == 200 && reply.headers.one("tollgate-replay").is_none();
        assert_eq!(replies.iter().filter(charged).count(), 1, "{replies:?}");
        assert!(replies.iter().all(|reply| matches!(reply.status, 200 | 409)), "{replies:?}");
        buyer.expect_used(&round.to_string()).await;
    }
    gateway.assert_balanced(&buyer.id).await;
}

async fn a_call_that_was_refused_for_want_of_an_answer_costs_nothing(suite: Arc<Suite>) {
    let (gateway, _home) = lossy(&suite).await;
    let buyer = buyer(&suite, &gateway).await;
    let id = format!("unanswered.admit.1.999.{}", fresh("call"));
    send(&buyer, &id).await.problem(503, "ledger_unavailable");
    let record = buyer.call_in_state(&id, "released").await;
    assert_eq!((&record["charge"], &record["lost"]), (&"0".into(), &false.into()));
    buyer.expect_nothing_forwarded();
    buyer.expect_used("0").await;
    gateway.assert_balanced(&buyer.id).await;
}

async fn a_settle_whose_answer_is_lost_charges_once(suite: Arc<Suite>) {
    let (gateway, _home) = lossy(&suite).await;
    let buyer = buyer(&suite, &gateway).await;
    let id = format!("unanswered.settle.1.3.{}", fresh("call"));
    send(&buyer, &id).await.assert_ok();
    buyer.call_in_state(&id, "settled").await;
    buyer.expect_used("1").await;
    let counted = "tollgate_calls_total{product=\"translate\",outcome=\"charged\"} ";
    let count = || async {
        let metrics = gateway.control("GET", "/metrics").send().await.text();
        metrics.lines().find_map(|line| line.strip_prefix(counted)).map(str::to_owned)
    };
    eventually("the call is counted", || async { count().await.is_some() }).await;
    assert_eq!(count().await.as_deref(), Some("1"), "it has ended once");
    gateway.assert_balanced(&buyer.id).await;
}

async fn a_replay_whose_answer_is_lost_is_forwarded(suite: Arc<Suite>) {
    let (gateway, _home) = lossy(&suite).await;
    let buyer = buyer(&suite, &gateway).await;
    let id = format!("unanswered.admit.2.3.{}", fresh("call"));
    send(&buyer, &id).await.assert_ok();
    buyer.call_in_state(&id, "settled").await;
    let replay = send(&buyer, &id).await;
    assert_eq!((replay.status, replay.header("tollgate-replay").as_str()), (200, "true"));
    let record = buyer.call_in_state(&id, "settled").await;
    assert_eq!((&record["replays"], &record["charge"]), (&1.into(), &"1".into()));
}

async fn a_replay_that_is_given_up_takes_back_no_charge(suite: Arc<Suite>) {
    let (gateway, _home) = lossy_with(&suite, &short_lease("")).await;
    let buyer = buyer(&suite, &gateway).await;
    // Its settle is never heard: its hold is lost, and charged.
    let id = format!("unheard.settle.1.999.unanswered.admit.2.999.{}", fresh("call"));
    send(&buyer, &id).await.assert_ok();
    assert_eq!(buyer.call_in_state(&id, "settled").await["lost"], true);
    send(&buyer, &id).await.problem(503, "ledger_unavailable");
    let abandoned = "tollgate_ledger_requests_total{step=\"abandon\"} 1\n";
    let metrics = || async { gateway.control("GET", "/metrics").send().await.text() };
    eventually("the replay is given up", || async {
        // What an object counted is told with what it has to tell.
        buyer.grant("1").await;
        metrics().await.contains(abandoned)
    })
    .await;
    let record = buyer.call_record(&id).await;
    assert_eq!((&record["charge"], &record["state"]), (&"1".into(), &"settled".into()));
    assert_eq!(buyer.received().len(), 1);
    buyer.expect_used("1").await;
    gateway.assert_balanced(&buyer.id).await;
}
