//! What a balance says, and what counts into it.

use crate::support::buyer::{Buyer, quantity, units};
use crate::support::gateway::CONFIG;
use crate::support::metered::{Charged, used};
use crate::support::{Suite, eventually, fresh, in_seconds};
use serde_json::json;
use std::sync::Arc;

crate::cases! {
    a_balance_sums_over_usable_packages_and_what_was_used_over_all,
    a_balance_lists_every_product_and_package,
    a_balance_counts_old_packages_that_are_used_up_and_does_not_list_them,
    an_unknown_customer_has_no_balance,
    an_idle_customers_balance_has_every_member;
    own:
    the_largest_quantities_are_exact_and_their_sum_over_customers,
}

async fn a_balance_sums_over_usable_packages_and_what_was_used_over_all(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let first = buyer.grant_and("10", json!({ "priority": -1 })).await;
    buyer.spend(2).await;
    buyer.expect_used("2").await;
    let second = buyer.grant("5").await;
    buyer.grant_and("7", json!({ "starts_at": in_seconds(3600) })).await;
    buyer.grant_and("9", json!({ "starts_at": "2020-01-01T00:00:00Z", "expires_at": "2021-01-01T00:00:00Z" })).await;
    let expect = async |granted: &str, remaining: &str| {
        let balance = buyer.balance().await;
        let figures = ["granted", "used", "held", "remaining", "available"].map(|name| units(&balance[name]));
        let expected = [granted, "2", "0", remaining, remaining].map(quantity);
        assert_eq!(figures, expected, "{balance}");
    };
    expect("15", "13").await;
    buyer.change(&first, "freeze").await;
    expect("5", "5").await;
    buyer.change(&first, "unfreeze").await;
    buyer.change(&second, "release").await;
    expect("10", "8").await;
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn a_balance_lists_every_product_and_package(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let mut elsewhere = buyer.clone();
    elsewhere.product_id = "nested".into();
    let mut ids = [buyer.grant("1").await, buyer.grant("2").await];
    let other = elsewhere.grant("3").await;
    let balance = buyer.gateway.read(&format!("/customers/{}/balance", buyer.id)).await;
    assert_eq!(balance["customer_id"], buyer.id.as_str());
    assert_eq!(balance["products"].as_array().unwrap().len(), 2);
    let product = buyer.balance().await;
    let packages = product["packages"].as_array().unwrap();
    let mut listed: Vec<_> = packages.iter().map(|package| package["package_id"].as_str().unwrap()).collect();
    listed.sort_unstable();
    ids.sort_unstable();
    assert_eq!(listed, ids);
    assert_eq!(elsewhere.balance().await["packages"][0]["package_id"], other.as_str());
}

async fn a_balance_counts_old_packages_that_are_used_up_and_does_not_list_them(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let oldest = fresh("package");
    let oldest_path = format!("/packages/{oldest}");
    // Whose time came days ago: of what is spent just now, clocks that differ could think otherwise.
    let package_of = |quantity: &str| {
        let mut package = buyer.package(quantity);
        package["starts_at"] = json!("2020-01-01T00:00:00Z");
        package
    };
    assert_eq!(buyer.gateway.write("PUT", &oldest_path, &package_of("1")).await.status, 201);
    let first = buyer.call();
    first.send().await.assert_ok();
    for _ in 0..101 {
        buyer.grant_with(package_of("1")).await;
        buyer.spend(1).await;
    }
    buyer.expect_used("102").await;
    let expect = async |used: &str, available: &str, listed: usize| {
        let balance = buyer.balance().await;
        let figures = ["granted", "used", "available"].map(|name| units(&balance[name]));
        assert_eq!(figures, ["102", used, available].map(quantity), "{balance}");
        assert_eq!(balance["packages"].as_array().unwrap().len(), listed);
    };
    expect("102", "0", 100).await;
    assert_eq!(buyer.packages().await.len(), 102);
    buyer.call().send().await.problem(402, "package_exhausted");
    assert_eq!(buyer.package_state(&oldest).await["state"], "exhausted");
    assert_eq!(buyer.gateway.write("PUT", &oldest_path, &package_of("1")).await.status, 200);
    buyer.gateway.write("PUT", &oldest_path, &package_of("2")).await.problem(409, "conflict");
    let refund = buyer.refund(&first.request_id(), &json!({ "refund_id": fresh("refund"), "reason": "a case" })).await;
    assert_eq!(refund.status, 200, "{}", refund.text());
    expect("101", "1", 101).await;
    buyer.spend(1).await;
    buyer.expect_used("102").await;
    expect("102", "0", 100).await;
    buyer.gateway.assert_balanced(&buyer.id).await;
}

async fn an_unknown_customer_has_no_balance(suite: Arc<Suite>) {
    let gateway = suite.gateway().await;
    let reply = gateway.control("GET", &format!("/customers/{}/balance", fresh("customer"))).send().await;
    if reply.status == 200 {
        assert_eq!(reply.json()["products"], json!([]));
    } else {
        reply.problem(404, "not_found");
    }
}

async fn an_idle_customers_balance_has_every_member(suite: Arc<Suite>) {
    let balance = suite.buyer("translate", "12.5").await.balance().await;
    let expected = json!({
        "product_id": "translate", "unit": "call", "granted": "12.5", "used": "0", "held": "0", "remaining": "12.5",
        "available": "12.5", "overrun": "0",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&balance[name], value, "{name} in {balance}");
    }
}

/// In 1/10000 units the largest balance is just below 2^53, where a double stops being exact; two of them are beyond it.
async fn the_largest_quantities_are_exact_and_their_sum_over_customers(suite: Arc<Suite>) {
    let (gateway, _home) = suite.start(CONFIG).await;
    let buyers = [(); 2].map(|()| Buyer::new(&gateway, &suite.backend, "chat"));
    for buyer in &buyers {
        buyer.grant("899999999999.9999").await;
        buyer.grant("0.0001").await;
        let more = gateway.control("PUT", &format!("/packages/{}", fresh("package"))).body(buyer.package("0.0001").to_string());
        more.send().await.assert_invalid();
        let call = buyer.ask(&json!({}), &used(899_999_999_998, 0));
        buyer.expect_charge(&call, &Charged::settled("899999999998")).await;
        let balance = buyer.balance().await;
        assert_eq!((&balance["granted"], &balance["remaining"]), (&json!("900000000000"), &json!("2")), "{balance}");
        let call = buyer.ask(&json!({}), &used(2, 0));
        buyer.expect_charge(&call, &Charged::settled("2")).await;
        assert_eq!(buyer.balance().await["remaining"], "0");
        gateway.assert_balanced(&buyer.id).await;
    }
    eventually("the sum is told", || async {
        let metrics = gateway.control("GET", "/metrics").send().await;
        metrics.assert_ok();
        metrics.text().contains("tollgate_charged_quantity_total{product=\"chat\"} 1800000000000.0000\n")
    })
    .await;
}
