//! Lists: their order, their filters and their pages.

use crate::support::metered::json_of;
use crate::support::script::{Script, Step};
use crate::support::{Suite, eventually, fresh};
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

crate::cases! {
    calls_are_listed_newest_first_with_every_member,
    calls_are_filtered_by_state_and_product,
    pages_of_calls_are_disjoint_and_complete,
    pages_stay_disjoint_while_calls_arrive,
    packages_are_filtered_by_customer_product_and_state,
    pages_of_packages_are_disjoint_and_complete,
    what_one_call_took_of_many_packages_shows_in_the_list_of_everyones,
    customers_are_listed_with_their_products,
    an_unknown_call_is_not_found,
    a_limit_that_is_none_is_refused,
    a_cursor_that_is_none_is_refused,
    an_unknown_filter_is_refused,
}

fn names<'a>(list: &'a [Value], member: &str) -> Vec<&'a str> {
    list.iter().map(|item| item[member].as_str().unwrap()).collect()
}

async fn calls_are_listed_newest_first_with_every_member(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "9").await;
    let mut sent = Vec::new();
    for status in [200, 404, 204] {
        let call = buyer.call().script(&Script::status(status));
        assert_eq!(call.send().await.status, status);
        buyer.call_in_state(&call.request_id(), "settled").await;
        sent.insert(0, call.request_id());
    }
    let calls = buyer.calls().await;
    assert_eq!(names(&calls, "request_id"), sent);
    let expected = json!({
        "product_id": "translate", "state": "settled", "hold": "1", "charge": "1", "refunded": "0", "overrun": "0", "lost": false,
        "usage_missing": false, "replays": 0, "status": 404,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&calls[1][name], value, "{name} in {}", calls[1]);
    }
    for name in ["created_at", "settled_at"] {
        assert!(calls[1][name].as_str().is_some_and(|time| time.ends_with('Z')), "{name} in {}", calls[1]);
    }
    assert_eq!(calls[1]["legs"].as_array().unwrap().len(), 1);
    assert_eq!(buyer.call_record(&sent[1]).await, calls[1]);
}

async fn calls_are_filtered_by_state_and_product(suite: Arc<Suite>) {
    let buyer = suite.buyer("succeeded", "9").await;
    let settled = buyer.call();
    settled.send().await.assert_ok();
    buyer.call_in_state(&settled.request_id(), "settled").await;
    let released = buyer.call().script(&Script::status(500));
    assert_eq!(released.send().await.status, 500);
    let gate = suite.backend.gate();
    let held = buyer.call().script(&Script::chunked().then(Step::Text("a".into())).then(gate.step()));
    let exchange = held.open().await.unwrap();
    for (state, call) in [("settled", &settled), ("released", &released), ("held", &held)] {
        let calls = buyer.pages(&format!("/customers/{}/calls?state={state}", buyer.id), "calls").await;
        assert_eq!(names(&calls, "request_id"), [call.request_id()], "{state}");
    }
    let elsewhere = buyer.pages(&format!("/customers/{}/calls?product_id=translate", buyer.id), "calls").await;
    assert_eq!(elsewhere.len(), 0);
    gate.open();
    assert!(exchange.rest().await.unwrap().whole);
    let wrong = buyer.gateway.control("GET", &format!("/customers/{}/calls?state=odd", buyer.id)).send().await;
    wrong.assert_invalid();
}

async fn pages_of_calls_are_disjoint_and_complete(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "20").await;
    buyer.spend(11).await;
    let whole = buyer.calls().await;
    for limit in [1, 4, 11, 500] {
        let paged = buyer.pages(&format!("/customers/{}/calls?product_id=translate&limit={limit}", buyer.id), "calls").await;
        assert_eq!(names(&paged, "request_id"), names(&whole, "request_id"), "limit {limit}");
    }
    let first = buyer.gateway.read(&format!("/customers/{}/calls?limit=4", buyer.id)).await;
    assert_eq!(first["calls"].as_array().unwrap().len(), 4);
    assert!(first["next_cursor"].is_string());
}

async fn pages_stay_disjoint_while_calls_arrive(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "20").await;
    buyer.spend(6).await;
    let before = buyer.calls().await;
    let path = format!("/customers/{}/calls?limit=3", buyer.id);
    let first = buyer.gateway.read(&path).await;
    buyer.spend(3).await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = buyer.gateway.read(&format!("{path}&cursor={cursor}")).await;
    let mut seen = names(first["calls"].as_array().unwrap(), "request_id");
    seen.extend(names(second["calls"].as_array().unwrap(), "request_id"));
    assert_eq!(seen, names(&before, "request_id"));
}

async fn packages_are_filtered_by_customer_product_and_state(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let (active, frozen) = (buyer.grant("1").await, buyer.grant("2").await);
    buyer.change(&frozen, "freeze").await;
    let mut elsewhere = buyer.clone();
    elsewhere.product_id = "nested".into();
    let other = elsewhere.grant("3").await;
    let listed = async |query: &str| -> BTreeSet<String> {
        let packages = buyer.pages(&format!("/packages?customer_id={}{query}", buyer.id), "packages").await;
        names(&packages, "package_id").into_iter().map(str::to_owned).collect()
    };
    let set = |ids: &[&String]| ids.iter().map(|id| (*id).clone()).collect::<BTreeSet<_>>();
    assert_eq!(listed("").await, set(&[&active, &frozen, &other]));
    assert_eq!(listed("&product_id=translate").await, set(&[&active, &frozen]));
    assert_eq!(listed("&state=frozen").await, set(&[&frozen]));
    assert_eq!(listed("&product_id=nested&state=active").await, set(&[&other]));
    assert_eq!(listed("&state=expired").await, set(&[]));
}

async fn pages_of_packages_are_disjoint_and_complete(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let mut granted = BTreeSet::new();
    for _ in 0..7 {
        granted.insert(buyer.grant("1").await);
    }
    for limit in [1, 3, 7] {
        let packages = buyer.pages(&format!("/packages?customer_id={}&limit={limit}", buyer.id), "packages").await;
        assert_eq!(packages.len(), 7, "limit {limit}");
        assert_eq!(names(&packages, "package_id").into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), granted);
    }
}

async fn customers_are_listed_with_their_products(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "9").await;
    buyer.spend(1).await;
    buyer.expect_used("1").await;
    // A list across customers may lag behind a balance.
    eventually("the list says what remains", || async {
        let customers = buyer.pages("/customers?limit=100", "customers").await;
        let ids = names(&customers, "customer_id");
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "a customer is listed twice");
        let found = customers.iter().find(|customer| customer["customer_id"] == buyer.id.as_str()).unwrap();
        let text = found.to_string();
        text.contains("\"translate\"") && text.contains("\"8\"")
    })
    .await;
}

async fn an_unknown_call_is_not_found(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "9").await;
    for customer in [buyer.id.clone(), fresh("customer")] {
        let path = format!("/customers/{customer}/calls/{}?product_id=translate", fresh("request"));
        buyer.gateway.control("GET", &path).send().await.problem(404, "not_found");
    }
}

async fn a_limit_that_is_none_is_refused(suite: Arc<Suite>) {
    let gateway = suite.gateway().await;
    for limit in ["501", "0", "-1", "x", "1.5", "", "99999999999999999999"] {
        for list in ["customers", "packages"] {
            gateway.control("GET", &format!("/{list}?limit={limit}")).send().await.assert_invalid();
        }
    }
    gateway.read("/customers?limit=500").await;
}

async fn a_cursor_that_is_none_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "9").await;
    buyer.spend(1).await;
    for cursor in ["%00", "%ff%fe", "%22%7B"] {
        let calls = format!("/customers/{}/calls", buyer.id);
        for list in ["/customers", "/packages", calls.as_str()] {
            buyer.gateway.control("GET", &format!("{list}?cursor={cursor}")).send().await.assert_invalid();
        }
    }
}

async fn an_unknown_filter_is_refused(suite: Arc<Suite>) {
    let gateway = suite.gateway().await;
    gateway.control("GET", "/packages?state=odd").send().await.assert_invalid();
    gateway.control("GET", "/packages?customer_id=a%20b").send().await.assert_invalid();
}

async fn what_one_call_took_of_many_packages_shows_in_the_list_of_everyones(suite: Arc<Suite>) {
    const PACKAGES: usize = 230;
    let buyer = suite.stranger("absorbing").await;
    let granted = stream::iter(0..PACKAGES).map(|_| buyer.grant("1")).buffer_unordered(8).collect::<Vec<_>>().await;
    assert_eq!(granted.len(), PACKAGES);
    let used = json_of(&json!({ "usage": { "total_tokens": PACKAGES } }).to_string());
    buyer.ask(&json!({}), &used).send().await.assert_ok();
    buyer.expect_used(&PACKAGES.to_string()).await;
    eventually("every package is listed as used up", || async {
        let all = buyer.pages("/packages?product_id=absorbing&state=exhausted&limit=500", "packages").await;
        all.iter().filter(|package| package["customer_id"] == buyer.id.as_str() && package["used"] == "1").count() == PACKAGES
    })
    .await;
    buyer.gateway.assert_balanced(&buyer.id).await;
}
