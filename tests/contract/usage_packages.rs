//! Packages that change under live usage-metered calls, packages without a quantity, and what a wrong meter is told (contract sections 1, 3 and 4).

use crate::support::Suite;
use crate::support::buyer::Buyer;
use crate::support::gateway::{CONFIG, Home};
use crate::support::metered::{Charged, json_of, stream, text_event, usage_event};
use crate::support::script::Script;
use crate::support::stage::Gate;
use crate::support::{eventually, in_seconds};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

crate::cases! {
    a_leg_settles_whatever_became_of_its_package,
    what_a_package_that_is_not_usable_does_not_cover_comes_from_another,
    a_package_granted_meanwhile_covers_what_the_hold_did_not,
    an_unmetered_package_pays_last_and_any_amount,
    no_call_is_overrun_while_an_unmetered_package_is_usable,
    ;
    own:
    a_reply_whose_charge_is_not_durable_in_time_is_cut,
    a_meter_that_cannot_be_read_is_an_error,
}

fn total(tokens: &str) -> Script {
    json_of(&format!(r#"{{"usage":{{"total_tokens":{tokens}}}}}"#))
}

/// A call that waits at the backend, and will then have used so much.
async fn live(suite: &Suite, buyer: &Buyer, tokens: &str) -> (String, Gate, JoinHandle<()>) {
    let gate = suite.backend.gate();
    let call = buyer.ask(&json!({}), &total(tokens).first(gate.step()));
    let id = call.request_id();
    let waiting = tokio::spawn(async move { call.send().await.assert_ok() });
    let seen = || async { buyer.received().iter().any(|one| one.headers.one("x-request-id").as_deref() == Some(&id)) };
    eventually("the call is at the backend", seen).await;
    (id, gate, waiting)
}

async fn a_leg_settles_whatever_became_of_its_package(suite: Arc<Suite>) {
    for change in ["freeze", "release", "expire"] {
        let buyer = suite.stranger("absorbing").await;
        let package = buyer.grant_and("100", json!({ "expires_at": in_seconds(86_400) })).await;
        let (id, gate, waiting) = live(&suite, &buyer, "8.5").await;
        if change == "expire" {
            let soon = json!({ "expires_at": in_seconds(1) });
            let reply = buyer.gateway.write("PATCH", &format!("/packages/{package}"), &soon).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            eventually("it has expired", || async { buyer.package_state(&package).await["state"] == "expired" }).await;
        } else {
            buyer.change(&package, change).await;
        }
        gate.open();
        waiting.await.unwrap();
        assert_eq!(buyer.charged_now(&id).await, Charged::settled("8.5"), "{change}");
        let state = buyer.package_state(&package).await;
        assert_eq!((&state["used"], &state["held"]), (&json!("8.5"), &json!("0")), "{change}");
        buyer.expect_balanced().await;
    }
}

async fn what_a_package_that_is_not_usable_does_not_cover_comes_from_another(suite: Arc<Suite>) {
    let buyer = suite.stranger("absorbing").await;
    let first = buyer.grant_and("100", json!({ "priority": -1 })).await;
    let second = buyer.grant("30").await;
    let (id, gate, waiting) = live(&suite, &buyer, "45").await;
    buyer.change(&first, "freeze").await;
    gate.open();
    waiting.await.unwrap();
    let record = buyer.call_record(&id).await;
    // The leg of 10 on the frozen package, all of the other, and no more of the frozen one.
    let legs = json!([{ "package_id": first, "quantity": "10" }, { "package_id": second, "quantity": "30" }]);
    assert_eq!((&record["legs"], &record["charge"], &record["overrun"]), (&legs, &json!("40"), &json!("5")));
    buyer.expect_balanced().await;
}

async fn a_package_granted_meanwhile_covers_what_the_hold_did_not(suite: Arc<Suite>) {
    for product in ["absorbing", "carrying"] {
        let buyer = suite.buyer(product, "4").await;
        let (id, gate, waiting) = live(&suite, &buyer, "45").await;
        assert_eq!(buyer.hold_of(&id).await, "4");
        buyer.grant("100").await;
        gate.open();
        waiting.await.unwrap();
        assert_eq!(buyer.charged_now(&id).await, Charged::settled("45"));
        assert_eq!(buyer.balance().await["overrun"], "0");
        buyer.expect_balanced().await;
    }
}

async fn unmetered(buyer: &Buyer) -> String {
    let package = json!({ "customer_id": buyer.id, "product_id": buyer.product_id, "kind": "unmetered", "priority": -9 });
    buyer.grant_with(package).await
}

async fn an_unmetered_package_pays_last_and_any_amount(suite: Arc<Suite>) {
    for product in ["absorbing", "refusing"] {
        let buyer = suite.buyer(product, "25").await;
        let unmetered = unmetered(&buyer).await;
        for tokens in ["12", "20.5", "90000000"] {
            buyer.expect_charge(&buyer.ask(&json!({}), &total(tokens)), &Charged::settled(tokens)).await;
        }
        assert_eq!(buyer.package_state(&unmetered).await["used"], "90000007.5");
        buyer.expect_used("90000032.5").await;
        buyer.expect_balanced().await;
    }
}

async fn no_call_is_overrun_while_an_unmetered_package_is_usable(suite: Arc<Suite>) {
    let buyer = suite.stranger("carrying").await;
    let package = unmetered(&buyer).await;
    buyer.expect_charge(&buyer.ask(&json!({}), &total("5000")), &Charged::settled("5000")).await;
    assert_eq!(buyer.balance().await["overrun"], "0");
    buyer.change(&package, "freeze").await;
    buyer.post("{}").send().await.problem(403, "package_frozen");
    buyer.expect_balanced().await;
}

async fn a_reply_whose_charge_is_not_durable_in_time_is_cut(suite: Arc<Suite>) {
    let (gateway, home) = suite.start(CONFIG).await;
    let buyer = Buyer::new(&gateway, &suite.backend, "chat");
    buyer.grant("1000000").await;
    let gate = suite.backend.gate();
    let script = stream().then(text_event("a")).then(gate.step()).then(usage_event(7, 0));
    let call = buyer.ask(&json!({}), &script);
    let mut exchange = call.open().await.unwrap();
    exchange.piece().await.unwrap().unwrap();
    let ledger = home.lock_ledger();
    gate.open();
    let begun = Instant::now();
    let reply = exchange.rest().await.unwrap();
    reply.assert_cut();
    assert!(reply.text().contains("prompt_tokens"), "only the end waits: {}", reply.text());
    assert!((Duration::from_secs(4)..Duration::from_secs(15)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    drop(ledger);
    // What was used is charged all the same, once that can be written.
    assert_eq!(buyer.charged(&call).await, Charged::settled("7"));
    buyer.expect_balanced().await;
}

async fn a_meter_that_cannot_be_read_is_an_error(suite: Arc<Suite>) {
    let example = "meter   = { unit = \"token\" }";
    let item = |inner: &str| format!("meter = {{ unit = \"image\", items = [{{ {inner} }}] }}");
    for (meter, named) in [
        (item("field = [\"$.usage[0]\"]"), ["items[1].field", "$.usage[0]"]),
        (item("field = [\"a..b\"]"), ["items[1].field", "a..b"]),
        (item("field = [\"a\"], weight = \"-3\""), ["items[1].weight", "-3"]),
        (item("field = [\"a\"], measure = \"words\""), ["items[1].measure", "words"]),
        (item("field = [\"a\"], from = \"header\""), ["items[1].from", "header"]),
        ("meter = { unit = \"image\" }".to_owned(), ["meter.items", "missing"]),
        ("meter = { unit = \"token\", short_hold = \"maybe\" }".to_owned(), ["short_hold", "maybe"]),
        ("meter = { unit = \"token\", charge_when = \"forwarded\" }".to_owned(), ["charge_when", "unknown key"]),
        ("meter = { unit = \"token\", hold = { min = \"0\" } }".to_owned(), ["hold.min", "0"]),
    ] {
        assert!(CONFIG.contains(example));
        let said = Home::new(&CONFIG.replacen(example, &meter, 1), &suite.backend, &suite.receiver).refused().await;
        assert!(said.contains("exit status"), "{meter}: it did not end by itself: {said}");
        for word in named {
            assert!(said.contains(word), "{meter}: {word:?} is not in {said}");
        }
    }
}
