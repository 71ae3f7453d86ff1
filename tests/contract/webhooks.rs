//! What arrives at the merchant's endpoints: signatures, bodies, retries, order, and what an endpoint may say (contract section 4).

use crate::support::gateway::{CONFIG, Gateway};
use crate::support::receiver::{Answer, HOOKS, NEXT_SECRET, ONLY_LOW, Receiver, SECRET, verify};
use crate::support::script::{Script, Step};
use crate::support::watched::{Watched, event_id};
use crate::support::{Suite, eventually};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

crate::cases! {
    a_webhook_is_signed_as_the_standard_says,
    the_body_is_the_event,
    an_endpoint_gets_the_events_it_asked_for,
    a_delivery_that_fails_is_tried_again_under_its_id,
    a_wait_that_the_endpoint_asks_for_is_honoured,
    every_answer_but_success_is_tried_again,
    a_slow_answer_counts_once,
    events_of_a_customer_arrive_in_their_order,
    a_customer_that_fails_holds_up_no_other;
    own:
    while_secrets_rotate_every_delivery_bears_both_signatures,
    gone_disables_an_endpoint_until_it_is_enabled,
    an_endpoint_that_hangs_slows_no_call,
    what_was_not_delivered_survives_a_crash,
    two_answers_to_one_delivery_count_once,
}

/// A customer whose one charge crosses a threshold.
async fn alerted(suite: &Suite) -> Watched {
    alerted_on(suite, &suite.gateway().await).await
}

async fn alerted_on(suite: &Suite, gateway: &Gateway) -> Watched {
    let customer = suite.watched_on(gateway, "translate");
    customer.grant("10").await;
    customer.alerts(json!([{ "remaining": "9" }])).await;
    customer
}

/// Waits until the events say that every delivery of a type has ended well.
async fn expect_delivered(customer: &Watched, kind: &str) -> Value {
    eventually(&format!("{kind} is delivered"), || async {
        let events = customer.events_of(kind).await;
        !events.is_empty() && events.iter().all(all_delivered)
    })
    .await;
    customer.events_of(kind).await.pop().unwrap()
}

fn all_delivered(event: &Value) -> bool {
    let deliveries = event["deliveries"].as_array().unwrap();
    !deliveries.is_empty() && deliveries.iter().all(|delivery| delivery["state"] == "delivered")
}

async fn a_webhook_is_signed_as_the_standard_says(suite: Arc<Suite>) {
    let customer = alerted(&suite).await;
    customer.charge(1, "1").await;
    let low = &customer.expect_hooks("balance.low", 1).await[0];
    let event = &customer.events_of("balance.low").await[0];
    assert_eq!(low.id(), event_id(event));
    assert_eq!(low.headers.one("content-type").as_deref(), Some("application/json"));
    let timestamp: i64 = low.headers.one("webhook-timestamp").unwrap().parse().unwrap();
    assert!((crate::support::unix_seconds(0) - timestamp).abs() < 60);
    let signatures = low.headers.one("webhook-signature").unwrap();
    assert!(signatures.split(' ').count() == 1 && signatures.starts_with("v1,"), "{signatures}");
    // The library would say so if it were another secret's, or another body's.
    verify(SECRET, &low.headers, &low.raw).unwrap();
    verify(NEXT_SECRET, &low.headers, &low.raw).unwrap_err();
    verify(SECRET, &low.headers, b"{}").unwrap_err();
}

async fn the_body_is_the_event(suite: Arc<Suite>) {
    let customer = alerted(&suite).await;
    customer.charge(1, "1").await;
    let low = &customer.expect_hooks("balance.low", 1).await[0];
    let event = &customer.events_of("balance.low").await[0];
    let members: HashSet<_> = low.body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, HashSet::from(["type", "timestamp", "data"]));
    for member in members {
        assert_eq!(low.body[member], event[member], "{member}");
    }
    assert!(low.body["timestamp"].as_str().unwrap().ends_with('Z'));
    let granted = &customer.expect_hooks("package.granted", 1).await[0];
    assert_eq!(granted.body["data"]["customer_id"], customer.id.as_str());
}

async fn an_endpoint_gets_the_events_it_asked_for(suite: Arc<Suite>) {
    let customer = alerted(&suite).await;
    customer.charge(1, "1").await;
    expect_delivered(&customer, "balance.low").await;
    expect_delivered(&customer, "package.granted").await;
    let only: Vec<_> = customer.receiver.of(ONLY_LOW, &customer.id).into_iter().map(|one| one.body["type"].clone()).collect();
    assert_eq!(only, ["balance.low"]);
    let granted = customer.events_of("package.granted").await;
    assert_eq!(granted[0]["deliveries"].as_array().unwrap().len(), 1);
    let low = customer.events_of("balance.low").await;
    let urls: Vec<_> =
        low[0]["deliveries"].as_array().unwrap().iter().map(|one| one["url"].as_str().unwrap().to_owned()).collect();
    assert!(urls.len() == 2 && urls.iter().any(|url| url.ends_with(HOOKS)) && urls.iter().any(|url| url.ends_with(ONLY_LOW)));
}

async fn a_delivery_that_fails_is_tried_again_under_its_id(suite: Arc<Suite>) {
    let customer = alerted(&suite).await;
    customer.answer_hooks("balance.low", [Answer::status(503), Answer::status(200)]);
    customer.charge(1, "1").await;
    let event = expect_delivered(&customer, "balance.low").await;
    let tries = customer.hooks("balance.low");
    assert_eq!(tries.len(), 2);
    assert!(tries.iter().all(|one| one.id() == event_id(&event) && one.raw == tries[0].raw));
    let hooks = event["deliveries"].as_array().unwrap().iter().find(|one| one["url"].as_str().unwrap().ends_with(HOOKS)).unwrap();
    assert_eq!((&hooks["attempts"], &hooks["last_status"]), (&json!(2), &json!(200)), "{hooks}");
}

async fn a_wait_that_the_endpoint_asks_for_is_honoured(suite: Arc<Suite>) {
    let customer = alerted(&suite).await;
    let later = Answer::Script(Script::status(429).header("retry-after", "8"));
    customer.answer_hooks("balance.low", [later, Answer::status(204)]);
    customer.charge(1, "1").await;
    let tries = customer.expect_hooks("balance.low", 2).await;
    // Longer than the first wait of the table with all its jitter.
    assert!(tries[1].at - tries[0].at >= Duration::from_millis(7900), "{:?}", tries[1].at - tries[0].at);
}

async fn every_answer_but_success_is_tried_again(suite: Arc<Suite>) {
    let failures = [
        Answer::status(500),
        Answer::status(404),
        Answer::Script(Script::status(302).header("location", "/elsewhere")),
        Answer::Script(Script::status(200).first(Step::Reset)),
    ];
    let mut customers = Vec::new();
    for failure in failures {
        let customer = alerted(&suite).await;
        customer.answer_hooks("balance.low", [failure, Answer::status(200)]);
        customer.charge(1, "1").await;
        customers.push(customer);
    }
    for customer in customers {
        let tries = customer.expect_hooks("balance.low", 2).await;
        // The table's first wait, less its jitter.
        assert!(tries[1].at - tries[0].at >= Duration::from_millis(3900), "{:?}", tries[1].at - tries[0].at);
        expect_delivered(&customer, "balance.low").await;
        assert_eq!(customer.receiver.of("/elsewhere", &customer.id).len(), 0, "no redirect is followed");
    }
}

async fn a_slow_answer_counts_once(suite: Arc<Suite>) {
    let customer = alerted(&suite).await;
    customer.answer_hooks("balance.low", [Answer::Script(Script::text("late").first(Step::PauseMs(2500)))]);
    customer.charge(1, "1").await;
    customer.expect_hooks("balance.low", 1).await;
    customer.charge(1, "2").await;
    customer.gateway.tick().await;
    expect_delivered(&customer, "balance.low").await;
    assert_eq!(customer.hooks("balance.low").len(), 1);
}

async fn two_answers_to_one_delivery_count_once(suite: Arc<Suite>) {
    // The second answer is on the way when the connection is used again: a gateway of its own bears it.
    let (gateway, _home) = suite.start(CONFIG).await;
    let customer = alerted_on(&suite, &gateway).await;
    let second = "HTTP/1.1 500 Odd\r\ncontent-length: 0\r\n\r\n";
    let twice = Script::declaring(2).then(Step::Text("ok".into())).then(Step::Raw(second.into()));
    customer.answer_hooks("balance.low", [Answer::Script(twice)]);
    customer.charge(10, "10").await;
    expect_delivered(&customer, "balance.low").await;
    expect_delivered(&customer, "balance.exhausted").await;
    assert_eq!(customer.hooks("balance.low").len(), 1);
}

async fn events_of_a_customer_arrive_in_their_order(suite: Arc<Suite>) {
    let customer = suite.watched("translate").await;
    customer.grant("30").await;
    customer.alerts((0..20).map(|level| json!({ "remaining": (10 + level).to_string() })).collect()).await;
    customer.charge(30, "30").await;
    let expected: Vec<_> = customer.events().await.iter().map(event_id).collect();
    assert!(expected.len() > 20, "{expected:?}");
    let arrived = || {
        let mut seen = HashSet::new();
        let all = customer.receiver.of(HOOKS, &customer.id).into_iter().map(|one| one.id());
        all.filter(|id| seen.insert(id.clone())).collect::<Vec<_>>()
    };
    eventually("every event arrives", || async { arrived().len() == expected.len() }).await;
    assert_eq!(arrived(), expected);
}

async fn a_customer_that_fails_holds_up_no_other(suite: Arc<Suite>) {
    let failing = alerted(&suite).await;
    failing.answer_hooks("balance.low", [Answer::Script(Script::status(503).header("retry-after", "600"))]);
    failing.charge(1, "1").await;
    failing.expect_hooks("balance.low", 1).await;
    let other = alerted(&suite).await;
    other.charge(1, "1").await;
    other.expect_hooks("balance.low", 1).await;
    // Nor does the failing delivery hold up what comes after it.
    failing.charge(9, "10").await;
    failing.expect_hooks("balance.exhausted", 1).await;
    assert_eq!(failing.hooks("balance.low").len(), 1);
    let event = &failing.events_of("balance.low").await[0];
    assert!(event["deliveries"].as_array().unwrap().iter().any(|one| one["state"] == "waiting" && one["last_status"] == 503));
}

/// The config with other secrets for the endpoint of all events, and without the other endpoint.
fn rotating(secrets: &str) -> String {
    let one = "/hooks\"\nsecrets = [{ secret = \"webhook_secret\" }]";
    assert!(CONFIG.contains(one));
    CONFIG.replacen(one, &format!("/hooks\"\nsecrets = [{secrets}]"), 1)
}

async fn while_secrets_rotate_every_delivery_bears_both_signatures(suite: Arc<Suite>) {
    let receiver = Receiver::listen("127.0.0.1:0").await;
    let home = crate::support::gateway::Home::new(
        &rotating("{ secret = \"koogallery_ak\" }, { secret = \"webhook_secret\" }"),
        &suite.backend,
        &receiver,
    );
    let gateway = home.start().await;
    let customer = suite.watched_on(&gateway, "translate");
    customer.grant("1").await;
    eventually("it arrives", || async { !receiver.unverified(HOOKS).is_empty() }).await;
    let both = receiver.unverified(HOOKS).pop().unwrap();
    verify(SECRET, &both.headers, &both.raw).unwrap();
    verify(NEXT_SECRET, &both.headers, &both.raw).unwrap();
    let signatures = both.headers.one("webhook-signature").unwrap();
    assert_eq!(signatures.split(' ').count(), 2, "{signatures}");
    // Rotated: the old secret is gone.
    gateway.kill();
    home.configure(&rotating("{ secret = \"koogallery_ak\" }"), &suite.backend, &receiver);
    let gateway = home.start().await;
    let customer = suite.watched_on(&gateway, "translate");
    customer.grant("1").await;
    // The first may come again, before or after: the gateway was killed before it had noted the arrival.
    let of_customer = || {
        let arrived = receiver.unverified(HOOKS);
        arrived.into_iter().find(|delivery| delivery.body["data"]["customer_id"] == customer.id.as_str())
    };
    eventually("the customer's event arrives", || async { of_customer().is_some() }).await;
    let new = of_customer().unwrap();
    verify(NEXT_SECRET, &new.headers, &new.raw).unwrap();
    verify(SECRET, &new.headers, &new.raw).unwrap_err();
}

async fn gone_disables_an_endpoint_until_it_is_enabled(suite: Arc<Suite>) {
    let (gateway, _home) = suite.start(CONFIG).await;
    let customer = suite.watched_on(&gateway, "translate");
    customer.answer_hooks("package.granted", [Answer::status(410), Answer::status(204)]);
    customer.grant("10").await;
    let endpoint = || async {
        let webhooks = gateway.read("/webhooks").await["webhooks"].as_array().unwrap().clone();
        webhooks.into_iter().find(|webhook| webhook["url"].as_str().unwrap().ends_with(HOOKS)).unwrap()
    };
    eventually("the endpoint is disabled", || async { endpoint().await["state"] == "disabled" }).await;
    // The other endpoint goes on, and what this one misses is kept.
    customer.alerts(json!([{ "remaining": "9" }])).await;
    customer.charge(1, "1").await;
    eventually("the other endpoint is told", || async { customer.receiver.of(ONLY_LOW, &customer.id).len() == 1 }).await;
    gateway.tick().await;
    assert_eq!(customer.hooks("balance.low").len(), 0);
    assert!(endpoint().await["backlog"].as_u64().unwrap() >= 1, "{}", endpoint().await);
    let n = endpoint().await["n"].as_u64().unwrap();
    let reply = gateway.write("POST", &format!("/webhooks/{n}/enable"), &json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    customer.expect_hooks("balance.low", 1).await;
    eventually("nothing is left", || async { endpoint().await["backlog"] == 0 }).await;
    assert_eq!(endpoint().await["state"], "enabled");
    let again = gateway.write("POST", &format!("/webhooks/{n}/enable"), &json!({})).await;
    assert_eq!(again.status, 200, "{}", again.text());
    gateway.write("POST", "/webhooks/99/enable", &json!({})).await.problem(404, "not_found");
}

async fn an_endpoint_that_hangs_slows_no_call(suite: Arc<Suite>) {
    let (gateway, _home) = suite.start(CONFIG).await;
    let customer = suite.watched_on(&gateway, "translate");
    let hang = || Answer::Script(Script::status(200).first(Step::Hang));
    customer.answer_hooks("package.granted", [hang(), Answer::status(204)]);
    customer.answer_hooks("balance.low", [hang(), Answer::status(204)]);
    customer.grant("100").await;
    customer.alerts(json!([{ "remaining": "90" }])).await;
    customer.expect_hooks("package.granted", 1).await;
    let begun = Instant::now();
    customer.spend(50).await;
    // Each of them would take ten seconds if it waited for the endpoint.
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    assert_eq!(customer.hooks("package.granted").len(), 1, "the endpoint hangs still");
    crate::support::eventually_within(Duration::from_secs(60), "it is given up and tried again", || async {
        customer.hooks("package.granted").len() == 2 && customer.hooks("balance.low").len() == 2
    })
    .await;
    let tries = customer.hooks("package.granted");
    assert!(tries[1].at - tries[0].at >= Duration::from_secs(10), "{:?}", tries[1].at - tries[0].at);
    // An edge has few connections, and other endpoints need them.
    eventually("no connection of a post that was given up is left", || async {
        customer.hooks("package.granted")[0].given_up && customer.hooks("balance.low")[0].given_up
    })
    .await;
}

async fn what_was_not_delivered_survives_a_crash(suite: Arc<Suite>) {
    let (gateway, home) = suite.start(CONFIG).await;
    let mut customer = suite.watched_on(&gateway, "translate");
    let gate = suite.receiver.gate();
    let held = Answer::Script(Script::status(204).first(gate.step()));
    customer.answer_hooks("balance.low", [held, Answer::status(204)]);
    customer.grant("10").await;
    customer.alerts(json!([{ "remaining": "9" }])).await;
    customer.charge(1, "1").await;
    customer.expect_hooks("balance.low", 1).await;
    gateway.kill();
    gate.open();
    customer.buyer.gateway = home.start().await;
    crate::support::eventually_within(Duration::from_secs(60), "it is delivered after the restart", || async {
        customer.gateway.tick().await;
        all_delivered(&customer.events_of("balance.low").await[0])
    })
    .await;
    let ids: HashSet<_> = customer.hooks("balance.low").iter().map(|one| one.id()).collect();
    assert_eq!(ids.len(), 1);
}
