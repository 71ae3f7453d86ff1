//! The gateway dies while streams are live, fifty times, and the books balance each time.

use crate::support::buyer::{Buyer, units};
use crate::support::call::{Call, Exchange};
use crate::support::gateway::{CONFIG, short_lease};
use crate::support::load::survive_kills;
use crate::support::metered::{Charged, stream, text_event, usage_event};
use crate::support::script::Step;
use crate::support::stage::Gate;
use crate::support::{Suite, eventually};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

crate::cases! {
    ;
    own:
    killed_fifty_times_under_streams_every_call_is_charged_its_usage_or_lost,
    a_call_that_was_given_up_as_lost_and_ends_after_all_is_charged_its_usage,
    a_stream_longer_than_its_lease_is_not_lost,
    told_to_leave_it_lets_streams_end_and_charges_their_usage,
}

const KILLS: usize = 50;
const CALLERS: usize = 8;
/// What a stream of these cases used: 5 + 3 x 4.
const CHARGE: &str = "17";

/// A whole stream.
fn streamed(buyer: &Buyer) -> Call {
    let pieces = (0..8).fold(stream(), |script, _| script.then(text_event("some text of it")));
    buyer.ask(&json!({ "max_tokens": 6, "stream": true }), &pieces.then(usage_event(5, 4)))
}

async fn killed_fifty_times_under_streams_every_call_is_charged_its_usage_or_lost(suite: Arc<Suite>) {
    let (gateway, home) = suite.start(&short_lease("")).await;
    let mut buyer = Buyer::new(&gateway, &suite.backend, "chat");
    buyer.grant("100000000").await;
    // A kill at another moment of the streams' lives each time.
    let arrivals = (0..KILLS).map(|round| 12 + round % 7 * 3);
    let served = survive_kills(&mut buyer, &home, arrivals, CALLERS, streamed).await;
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
        assert!(call["charge"] == CHARGE || (call["lost"] == true && call["charge"] == call["hold"]), "{call}");
    }
    for id in served {
        let call = calls.get(id).unwrap_or_else(|| panic!("{id} was served and is not in the ledger"));
        assert_eq!((&call["charge"], &call["lost"]), (&json!(CHARGE), &json!(false)), "{call}");
    }
    for (id, call) in &calls {
        assert!(call["state"] == "settled" && (forwarded.contains(id) || call["lost"] == true), "{call}");
    }
    assert!(served.len() > KILLS && calls.values().any(|call| call["lost"] == true), "{} were served", served.len());
    let charged: i64 = calls.values().map(|call| units(&call["charge"])).sum();
    assert_eq!(units(&buyer.balance().await["used"]), charged);
    buyer.gateway.assert_balanced(&buyer.id).await;
}

/// Stops a process without its knowing, or has it go on.
fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().unwrap();
    assert!(sent.success());
}

/// A config whose holds are lost soon.
const BEGUN: &str = "data: {\"text\":\"a\"}\n\n";

/// A stream that waits in its middle, of which the caller has the beginning.
async fn begun(buyer: &Buyer, gate: &Gate, prompt: u64) -> (Call, Exchange) {
    let script = stream().then(Step::Text(BEGUN.into())).then(gate.step()).then(usage_event(prompt, 0));
    let call = buyer.ask(&json!({}), &script);
    let mut exchange = call.open().await.unwrap();
    exchange.expect_text(BEGUN).await;
    (call, exchange)
}

async fn a_call_that_was_given_up_as_lost_and_ends_after_all_is_charged_its_usage(suite: Arc<Suite>) {
    for (lost_hold, state) in [("charge", "settled"), ("release", "released")] {
        let (gateway, home) = suite.start(&short_lease(&format!("lost_hold = \"{lost_hold}\""))).await;
        let other = home.start().await;
        let buyer = Buyer::new(&gateway, &suite.backend, "chat");
        buyer.grant("1000000").await;
        for (prompt, expected) in [(5, "5"), (50_000, "50000")] {
            let gate = suite.backend.gate();
            let (call, exchange) = begun(&buyer, &gate, prompt).await;
            signal(gateway.pid(), "STOP");
            let elsewhere = Buyer { gateway: other.clone(), ..buyer.clone() };
            eventually("the hold is given up as lost", || async {
                if other.write("POST", "/tick", &json!({})).await.status == 503 {
                    // It was stopped while it had the ledger locked.
                    signal(gateway.pid(), "CONT");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    signal(gateway.pid(), "STOP");
                }
                elsewhere.call_record(&call.request_id()).await["lost"] == true
            })
            .await;
            let record = elsewhere.call_record(&call.request_id()).await;
            let given_up = if lost_hold == "charge" { record["hold"].clone() } else { json!("0") };
            assert_eq!((&record["state"], &record["charge"]), (&json!(state), &given_up));
            signal(gateway.pid(), "CONT");
            gate.open();
            assert!(exchange.rest().await.unwrap().whole);
            let record = buyer.call_record(&call.request_id()).await;
            assert_eq!((&record["charge"], &record["lost"]), (&json!(expected), &json!(true)), "{lost_hold}");
        }
        buyer.expect_used("50005").await;
        buyer.gateway.assert_balanced(&buyer.id).await;
        other.assert_balanced(&buyer.id).await;
    }
}

async fn a_stream_longer_than_its_lease_is_not_lost(suite: Arc<Suite>) {
    let (gateway, _home) = suite.start(&short_lease("")).await;
    let buyer = Buyer::new(&gateway, &suite.backend, "chat");
    buyer.grant("1000000").await;
    let gate = suite.backend.gate();
    let (stays, exchange) = begun(&buyer, &gate, 7).await;
    // One whose caller has left is read on as long, and is as little lost.
    let (leaves, left) = begun(&buyer, &gate, 7).await;
    drop(left);
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(5) {
        gateway.tick().await;
        for call in [&stays, &leaves] {
            buyer.hold_of(&call.request_id()).await;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    gate.open();
    assert!(exchange.rest().await.unwrap().whole);
    for call in [&stays, &leaves] {
        assert_eq!(buyer.charged(call).await, Charged::settled("7"));
    }
    buyer.expect_balanced().await;
}

async fn told_to_leave_it_lets_streams_end_and_charges_their_usage(suite: Arc<Suite>) {
    let (gateway, home) = suite.start(CONFIG).await;
    let buyer = Buyer::new(&gateway, &suite.backend, "chat");
    buyer.grant("1000000").await;
    let gate = suite.backend.gate();
    let script = stream().then(Step::Text(BEGUN.into())).then(gate.step()).then(usage_event(5, 4));
    let mut exchanges: Vec<(String, Exchange)> = Vec::new();
    for _ in 0..4 {
        let call = buyer.ask(&json!({}), &script);
        let mut exchange = call.open().await.unwrap();
        exchange.expect_text(BEGUN).await;
        exchanges.push((call.request_id(), exchange));
    }
    // One of the callers has left already.
    let (left, exchange) = exchanges.pop().unwrap();
    drop(exchange);
    gateway.terminate();
    eventually("it accepts no more", || async { tokio::net::TcpStream::connect(gateway.address).await.is_err() }).await;
    gate.open();
    let mut ids = vec![left];
    for (id, exchange) in exchanges {
        assert!(exchange.rest().await.unwrap().whole);
        ids.push(id);
    }
    assert!(gateway.left().await.success());
    let buyer = Buyer { gateway: home.start().await, ..buyer };
    for id in ids {
        let charged = buyer.charged_now(&id).await;
        assert_eq!((charged.state.as_str(), charged.charge.as_str()), ("settled", CHARGE), "{id}");
    }
    buyer.expect_balanced().await;
}
