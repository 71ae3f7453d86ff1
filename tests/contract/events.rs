//! The control API of events and endpoints: what was told, to whom, and telling it again (contract section 5).

use crate::support::gateway::{CONFIG, READ_TOKEN, short_lease};
use crate::support::receiver::{Answer, HOOKS, ONLY_LOW, ORDERS};
use crate::support::script::{Script, Step};
use crate::support::watched::{Watched, event_id, repurchase};
use crate::support::{Suite, eventually, fresh};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

crate::cases! {
    an_event_shows_each_of_its_deliveries,
    events_are_filtered_by_customer_type_and_delivery,
    pages_of_events_are_disjoint_and_complete,
    an_event_is_delivered_again_under_its_id,
    an_order_that_arrived_is_not_posted_again_for_its_webhooks_sake,
    an_event_that_is_unknown_is_not_redelivered,
    a_filter_of_events_that_is_none_is_refused,
    endpoints_are_listed_with_their_state_and_backlog,
    events_and_endpoints_need_a_token;
    own:
    a_lost_hold_is_told_of_and_crosses_its_threshold,
    a_tick_delivers_and_says_how_much,
}

/// A customer with every delivery of one crossing done.
async fn told(suite: &Suite) -> Watched {
    let customer = suite.watched("translate").await;
    customer.grant("10").await;
    customer.alerts(json!([{ "remaining": "9" }])).await;
    customer.charge(1, "1").await;
    expect_all_delivered(&customer).await;
    customer
}

async fn expect_all_delivered(customer: &Watched) {
    eventually("every delivery has ended", || async {
        customer.events().await.iter().all(|event| {
            let deliveries = event["deliveries"].as_array().unwrap();
            !deliveries.is_empty() && deliveries.iter().all(|delivery| delivery["state"] == "delivered")
        })
    })
    .await;
}

async fn an_event_shows_each_of_its_deliveries(suite: Arc<Suite>) {
    let customer = suite.watched("translate").await;
    customer.answer_orders([Answer::Package]);
    customer.grant("10").await;
    customer.repurchase(repurchase("8", "10")).await;
    customer.charge(2, "2").await;
    customer.expect_events("repurchase.succeeded", 1).await;
    expect_all_delivered(&customer).await;
    let ends = |event: &Value| {
        let urls = event["deliveries"].as_array().unwrap().iter().map(|one| one["url"].as_str().unwrap().to_owned());
        let ends = urls.map(|url| [HOOKS, ONLY_LOW, ORDERS].into_iter().find(|end| url.ends_with(end)).unwrap());
        ends.collect::<HashSet<_>>()
    };
    for event in customer.events().await {
        let expected =
            if event["type"] == "repurchase.requested" { HashSet::from([HOOKS, ORDERS]) } else { HashSet::from([HOOKS]) };
        assert_eq!(ends(&event), expected, "{event}");
        for delivery in event["deliveries"].as_array().unwrap() {
            assert_eq!(delivery["attempts"], 1, "{event}");
            assert!(matches!(delivery["last_status"].as_u64(), Some(200 | 204)), "{event}");
        }
    }
}

async fn events_are_filtered_by_customer_type_and_delivery(suite: Arc<Suite>) {
    let customer = told(&suite).await;
    let list = async |query: &str| -> Vec<Value> {
        customer.pages(&format!("/events?customer_id={}{query}", customer.id), "events").await
    };
    assert_eq!(list("").await.len(), 2);
    let low = list("&type=balance.low").await;
    assert_eq!((low.len(), &low[0]["type"]), (1, &json!("balance.low")));
    assert_eq!(list("&delivery=delivered").await.len(), 2);
    assert_eq!(list("&delivery=waiting").await.len(), 0);
    assert_eq!(list("&delivery=dead").await.len(), 0);
    let later = Answer::Script(Script::status(500).header("retry-after", "600"));
    customer.answer_hooks("balance.exhausted", [later]);
    customer.charge(9, "10").await;
    customer.expect_hooks("balance.exhausted", 1).await;
    eventually("it waits for its next try", || async {
        list("&delivery=waiting").await.iter().any(|one| one["type"] == "balance.exhausted")
    })
    .await;
    assert_eq!(list("&type=balance.exhausted&delivery=delivered").await.len(), 0);
}

async fn pages_of_events_are_disjoint_and_complete(suite: Arc<Suite>) {
    let customer = suite.watched("translate").await;
    for _ in 0..7 {
        customer.grant("1").await;
    }
    let expected: Vec<_> = customer.events().await.iter().rev().map(event_id).collect();
    assert_eq!(expected.len(), 7);
    for limit in [1, 3, 7] {
        let events = customer.pages(&format!("/events?customer_id={}&limit={limit}", customer.id), "events").await;
        assert_eq!(events.iter().map(event_id).collect::<Vec<_>>(), expected, "limit {limit}");
    }
}

async fn an_event_is_delivered_again_under_its_id(suite: Arc<Suite>) {
    let customer = told(&suite).await;
    let event = customer.events_of("balance.low").await.remove(0);
    let reply = customer.gateway.write("POST", &format!("/events/{}/redeliver", event_id(&event)), &json!({})).await;
    assert!(matches!(reply.status, 200 | 202), "{} {}", reply.status, reply.text());
    let deliveries = customer.expect_hooks("balance.low", 2).await;
    assert_eq!((deliveries[0].id(), &deliveries[0].raw), (deliveries[1].id(), &deliveries[1].raw));
    eventually("both endpoints get it", || async { customer.receiver.of(ONLY_LOW, &customer.id).len() == 2 }).await;
    expect_all_delivered(&customer).await;
    assert_eq!(customer.events().await.len(), 2, "no event was made of it");
}

async fn an_order_that_arrived_is_not_posted_again_for_its_webhooks_sake(suite: Arc<Suite>) {
    let customer = suite.watched("translate").await;
    let later = Answer::Script(Script::status(500).header("retry-after", "600"));
    customer.answer_hooks("repurchase.requested", [later, Answer::status(204)]);
    customer.grant("10").await;
    customer.repurchase(repurchase("8", "10")).await;
    customer.charge(2, "2").await;
    let id = customer.expect_orders(1).await;
    customer.order_in_state(&id, "pending").await;
    let states = async || {
        let event = customer.expect_events("repurchase.requested", 1).await.remove(0);
        let of = |end: &str| {
            let mut deliveries = event["deliveries"].as_array().unwrap().iter();
            let delivery = deliveries.find(|one| one["url"].as_str().unwrap().ends_with(end));
            delivery.map(|delivery| (delivery["state"].as_str().unwrap().to_owned(), delivery["last_status"].as_u64()))
        };
        (of(HOOKS), of(ORDERS))
    };
    let arrived = Some(("delivered".to_owned(), Some(200)));
    let failed = Some(("waiting".to_owned(), Some(500)));
    eventually("the webhook alone has failed", async || states().await == (failed.clone(), arrived.clone())).await;
    let path = format!("/events/{}/redeliver", event_id(&customer.events_of("repurchase.requested").await[0]));
    let redeliver = async || assert!(matches!(customer.gateway.write("POST", &path, &json!({})).await.status, 200 | 202));
    redeliver().await;
    customer.expect_hooks("repurchase.requested", 2).await;
    let told = Some(("delivered".to_owned(), Some(204)));
    eventually("both have arrived", async || states().await == (told.clone(), arrived.clone())).await;
    assert_eq!(customer.order_posts().len(), 1);
    // What has arrived everywhere goes everywhere again, and an order whose outcome is open with it.
    redeliver().await;
    eventually("it goes everywhere", async || customer.order_posts().len() == 2).await;
    let posts = customer.order_posts();
    assert_eq!((posts[0].id(), &posts[0].raw), (posts[1].id(), &posts[1].raw));
}

async fn an_event_that_is_unknown_is_not_redelivered(suite: Arc<Suite>) {
    let gateway = suite.gateway().await;
    let path = format!("/events/{}/redeliver", fresh("event"));
    gateway.write("POST", &path, &json!({})).await.problem(404, "not_found");
}

async fn a_filter_of_events_that_is_none_is_refused(suite: Arc<Suite>) {
    let gateway = suite.gateway().await;
    for query in ["type=balance.odd", "delivery=odd", "customer_id=a%20b", "limit=501", "cursor=%ff", "odd=1"] {
        gateway.control("GET", &format!("/events?{query}")).send().await.assert_invalid();
    }
}

async fn endpoints_are_listed_with_their_state_and_backlog(suite: Arc<Suite>) {
    let gateway = suite.gateway().await;
    let webhooks = gateway.read("/webhooks").await["webhooks"].as_array().unwrap().clone();
    for end in [HOOKS, ONLY_LOW] {
        let found = webhooks.iter().find(|webhook| webhook["url"].as_str().unwrap().ends_with(end));
        let webhook = found.unwrap_or_else(|| panic!("{end} is not in {webhooks:?}"));
        assert_eq!(webhook["state"], "enabled");
        assert!(webhook["backlog"].is_u64(), "{webhook}");
    }
    assert!(!json!(webhooks).to_string().contains("whsec_"), "a secret is told");
}

async fn events_and_endpoints_need_a_token(suite: Arc<Suite>) {
    let gateway = suite.gateway().await;
    for path in ["/events", "/webhooks", "/repurchases"] {
        let call = || gateway.control("GET", path);
        call().without("authorization").send().await.problem(401, "unauthorized");
        assert_eq!(call().replacing("authorization", format!("Bearer {READ_TOKEN}")).send().await.status, 200);
    }
    for path in ["/webhooks/0/enable", "/events/e/redeliver", "/repurchases/r/outcome"] {
        let call = gateway.control("POST", path).replacing("authorization", format!("Bearer {READ_TOKEN}"));
        let status = call.body("{}").send().await.status;
        assert!(matches!(status, 401 | 403), "{path} {status}");
    }
}

async fn a_lost_hold_is_told_of_and_crosses_its_threshold(suite: Arc<Suite>) {
    let (gateway, home) = suite.start(&short_lease("")).await;
    let mut customer = suite.watched_on(&gateway, "translate");
    customer.grant("5").await;
    customer.alerts(json!([{ "remaining": "4" }])).await;
    let call = customer.call().script(&Script::chunked().then(Step::Text("a".into())).then(Step::Hang));
    let exchange = call.open().await.unwrap();
    gateway.kill();
    drop(exchange);
    customer.buyer.gateway = home.start().await;
    eventually("the hold is lost", || async {
        customer.gateway.tick().await;
        !customer.events_of("call.lost").await.is_empty()
    })
    .await;
    let lost = customer.expect_events("call.lost", 1).await;
    let data = &lost[0]["data"];
    assert_eq!((&data["request_id"], &data["charge"]), (&json!(call.request_id()), &json!("1")), "{data}");
    assert_eq!(customer.told().await.len(), 1);
    eventually("both are delivered", || async { customer.hooks("call.lost").len() + customer.hooks("balance.low").len() == 2 })
        .await;
}

async fn a_tick_delivers_and_says_how_much(suite: Arc<Suite>) {
    let (gateway, _home) = suite.start(CONFIG).await;
    let customer = suite.watched_on(&gateway, "translate");
    customer.answer_hooks("package.granted", [Answer::status(500), Answer::status(204)]);
    customer.grant("1").await;
    let (delivered, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    // Deliveries run by themselves as well, so that a tick does not do all of them; each is counted once at most.
    eventually("it is delivered", || async {
        let reply = customer.gateway.write("POST", "/tick", &json!({})).await.json();
        delivered.fetch_add(reply["delivered"].as_u64().unwrap(), Ordering::Relaxed);
        failed.fetch_add(reply["failed"].as_u64().unwrap(), Ordering::Relaxed);
        for member in ["lost_holds", "pushed", "folded"] {
            assert!(reply[member].is_u64(), "{reply}");
        }
        assert!(reply["more"].is_boolean(), "{reply}");
        customer.hooks("package.granted").len() == 2
    })
    .await;
    expect_all_delivered(&customer).await;
    let (delivered, failed) = (delivered.into_inner(), failed.into_inner());
    assert!(delivered <= 1 && failed <= 1, "{delivered} and {failed}");
}
