//! Orders of the next package: when they are posted, how they end, and what they credit (contract section 4).

use crate::support::buyer::{quantity, units};
use crate::support::gateway::Gateway;
use crate::support::receiver::{Answer, package_of};
use crate::support::watched::{Watched, event_id, purchase, repurchase};
use crate::support::{DEADLINE, Suite, eventually_within, fresh};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

crate::cases! {
    an_order_is_posted_once_and_says_what_is_bought,
    an_answer_with_a_package_credits_it,
    success_alone_credits_nothing_until_its_package_arrives,
    an_outcome_credits_the_package_it_brings,
    a_package_that_names_the_order_completes_it,
    a_second_package_for_one_order_conflicts,
    a_package_for_an_order_that_is_none_is_refused,
    an_outcome_counts_once_and_contradictions_conflict,
    an_outcome_that_is_none_is_refused,
    a_disabled_rule_orders_nothing,
    a_rule_written_below_its_trigger_orders_at_once,
    freezing_what_is_left_orders,
    no_second_order_is_made_while_one_is_pending,
    calls_are_never_refused_while_packages_keep_arriving,
    orders_are_listed_by_customer_and_state,
}

/// A customer with 10 units whose next package of 10 is ordered at 8.
pub(crate) async fn customer_with(suite: &Suite, rule: Value, answers: impl IntoIterator<Item = Answer>) -> Watched {
    customer_on(suite, &suite.gateway().await, rule, answers).await
}

/// The same on a gateway.
pub(crate) async fn customer_on(
    suite: &Suite,
    gateway: &Gateway,
    rule: Value,
    answers: impl IntoIterator<Item = Answer>,
) -> Watched {
    let customer = suite.watched_on(gateway, "translate");
    customer.answer_orders(answers);
    customer.grant("10").await;
    customer.repurchase(rule).await;
    customer
}

pub(crate) async fn granted(customer: &Watched) -> i64 {
    units(&customer.balance().await["granted"])
}

/// Waits until what was granted is this, and checks that the books balance.
pub(crate) async fn expect_granted(customer: &Watched, expected: &str) {
    expect_granted_within(DEADLINE, customer, expected).await;
}

/// As [`expect_granted`], where an order may have to be posted again before.
pub(crate) async fn expect_granted_within(limit: Duration, customer: &Watched, expected: &str) {
    let what = format!("{expected} is granted");
    eventually_within(limit, &what, || async { granted(customer).await >= quantity(expected) }).await;
    assert_eq!(granted(customer).await, quantity(expected));
    customer.gateway.assert_balanced(&customer.id).await;
}

async fn an_order_is_posted_once_and_says_what_is_bought(suite: Arc<Suite>) {
    let customer = customer_with(&suite, repurchase("8", "12.5"), [Answer::pending()]).await;
    customer.charge(1, "1").await;
    assert_eq!(customer.events_of("repurchase.requested").await.len(), 0);
    customer.charge(1, "2").await;
    let id = customer.expect_orders(1).await;
    customer.order_in_state(&id, "pending").await;
    customer.charge(8, "10").await;
    customer.call().send().await.problem(402, "package_exhausted");
    customer.gateway.tick().await;
    let requested = customer.expect_events("repurchase.requested", 1).await;
    let posts = customer.order_posts();
    assert_eq!(posts.len(), 1, "{posts:?}");
    let post = &posts[0];
    assert_eq!(post.headers.one("content-type").as_deref(), Some("application/json"));
    assert_eq!((&post.body["type"], post.id()), (&json!("repurchase.requested"), event_id(&requested[0])));
    let expected = json!({
        "customer_id": customer.id, "product_id": "translate", "repurchase_id": id, "reason": null,
        "spec_id": "spec-1", "quantity": "12.5", "price": "10", "currency": "EUR",
    });
    assert_eq!((&post.body["data"], &requested[0]["data"]), (&expected, &expected));
    // Who listens to webhooks is told as well.
    let hooks = customer.expect_hooks("repurchase.requested", 1).await;
    assert_eq!(hooks[0].body, post.body);
}

async fn an_answer_with_a_package_credits_it(suite: Arc<Suite>) {
    let customer = customer_with(&suite, repurchase("8", "10"), [Answer::Package]).await;
    customer.charge(2, "2").await;
    let id = customer.expect_orders(1).await;
    let order = customer.order_in_state(&id, "succeeded").await;
    assert_eq!(order["package_id"], format!("package-{id}"));
    expect_granted(&customer, "20").await;
    let succeeded = customer.expect_events("repurchase.succeeded", 1).await;
    assert_eq!(succeeded[0]["data"]["repurchase_id"], id.as_str());
    assert_eq!(customer.order_posts().len(), 1);
    let package = customer.package_state(&format!("package-{id}")).await;
    assert_eq!((&package["granted"], &package["customer_id"]), (&json!("10"), &json!(customer.id)));
}

async fn success_alone_credits_nothing_until_its_package_arrives(suite: Arc<Suite>) {
    let customer = customer_with(&suite, repurchase("8", "10"), [Answer::succeeded()]).await;
    customer.charge(2, "2").await;
    let id = customer.expect_orders(1).await;
    customer.order_in_state(&id, "succeeded").await;
    customer.expect_events("repurchase.succeeded", 1).await;
    customer.charge(1, "3").await;
    customer.gateway.tick().await;
    assert_eq!(granted(&customer).await, quantity("10"));
    customer.expect_orders(1).await;
    assert_eq!(customer.deliver(&id, "10").await.status, 201);
    expect_granted(&customer, "20").await;
    customer.expect_events("repurchase.succeeded", 1).await;
    customer.expect_events("package.granted", 2).await;
}

async fn an_outcome_credits_the_package_it_brings(suite: Arc<Suite>) {
    let customer = customer_with(&suite, repurchase("8", "10"), [Answer::pending()]).await;
    customer.charge(2, "2").await;
    let id = customer.expect_orders(1).await;
    let order = customer.order_in_state(&id, "pending").await;
    let outcome = json!({ "status": "succeeded", "package": package_of(&order) });
    for _ in 0..3 {
        let reply = customer.outcome(&id, &outcome).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["state"], "succeeded");
    }
    expect_granted(&customer, "20").await;
    customer.expect_events("repurchase.succeeded", 1).await;
    customer.expect_events("package.granted", 2).await;
}

async fn a_package_that_names_the_order_completes_it(suite: Arc<Suite>) {
    let customer = customer_with(&suite, repurchase("8", "10"), [Answer::pending()]).await;
    customer.charge(2, "2").await;
    let id = customer.expect_orders(1).await;
    customer.order_in_state(&id, "pending").await;
    assert_eq!(customer.deliver(&id, "10").await.status, 201);
    let order = customer.order(&id).await;
    assert_eq!((&order["state"], &order["package_id"]), (&json!("succeeded"), &json!(format!("package-{id}"))));
    customer.expect_events("repurchase.succeeded", 1).await;
    expect_granted(&customer, "20").await;
    // Success told afterwards says nothing new.
    assert_eq!(customer.outcome(&id, &json!({ "status": "succeeded" })).await.status, 200);
    customer.expect_events("repurchase.succeeded", 1).await;
}

async fn a_second_package_for_one_order_conflicts(suite: Arc<Suite>) {
    let customer = customer_with(&suite, repurchase("8", "10"), [Answer::Package]).await;
    customer.charge(2, "2").await;
    let id = customer.expect_orders(1).await;
    customer.order_in_state(&id, "succeeded").await;
    expect_granted(&customer, "20").await;
    let mut another = customer.package("10");
    another["repurchase_id"] = json!(id);
    let reply = customer.gateway.write("PUT", &format!("/packages/{}", fresh("package")), &another).await;
    reply.problem(409, "conflict");
    let package = json!({ "package_id": fresh("package"), "quantity": "10" });
    customer.outcome(&id, &json!({ "status": "succeeded", "package": package })).await.problem(409, "conflict");
    // The same one again is the same.
    let order = customer.order(&id).await;
    let again = json!({ "status": "succeeded", "package": package_of(&order) });
    assert_eq!(customer.outcome(&id, &again).await.status, 200);
    expect_granted(&customer, "20").await;
}

async fn a_package_for_an_order_that_is_none_is_refused(suite: Arc<Suite>) {
    let customer = customer_with(&suite, repurchase("8", "10"), [Answer::pending()]).await;
    let other = customer_with(&suite, repurchase("8", "10"), [Answer::pending()]).await;
    other.charge(2, "2").await;
    let theirs = other.expect_orders(1).await;
    for id in [fresh("repurchase"), theirs] {
        let reply = customer.deliver(&id, "10").await;
        assert!(matches!(reply.status, 404 | 409), "{} {}", reply.status, reply.text());
    }
    assert_eq!(granted(&customer).await, quantity("10"));
}

async fn an_outcome_counts_once_and_contradictions_conflict(suite: Arc<Suite>) {
    let customer = customer_with(&suite, repurchase("8", "10"), [Answer::pending()]).await;
    customer.charge(2, "2").await;
    let id = customer.expect_orders(1).await;
    customer.order_in_state(&id, "pending").await;
    let failed = json!({ "status": "failed", "reason": "spec_delisted" });
    for _ in 0..2 {
        let reply = customer.outcome(&id, &failed).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!((&reply.json()["state"], &reply.json()["reason"]), (&json!("failed"), &json!("spec_delisted")));
    }
    customer.outcome(&id, &json!({ "status": "failed", "reason": "zero_price" })).await.problem(409, "conflict");
    customer.outcome(&id, &json!({ "status": "succeeded" })).await.problem(409, "conflict");
    customer.expect_events("repurchase.failed", 1).await;
    assert_eq!(customer.events_of("repurchase.succeeded").await.len(), 0);
}

async fn an_outcome_that_is_none_is_refused(suite: Arc<Suite>) {
    let customer = customer_with(&suite, repurchase("8", "10"), [Answer::pending()]).await;
    customer.charge(2, "2").await;
    let id = customer.expect_orders(1).await;
    let good = json!({ "status": "succeeded" });
    customer.outcome(&fresh("repurchase"), &good).await.problem(404, "not_found");
    for bad in [
        json!({}),
        json!([]),
        json!({ "status": "odd" }),
        json!({ "status": "failed" }),
        json!({ "status": "failed", "reason": "odd" }),
        json!({ "status": "succeeded", "odd": 1 }),
        json!({ "status": "succeeded", "package": { "package_id": "p", "quantity": "-1" } }),
        json!({ "status": "failed", "reason": "spec_delisted", "package": { "package_id": "p", "quantity": "1" } }),
    ] {
        customer.outcome(&id, &bad).await.assert_invalid();
    }
    assert_eq!(granted(&customer).await, quantity("10"));
    assert_eq!(customer.events_of("repurchase.failed").await.len(), 0);
}

async fn a_disabled_rule_orders_nothing(suite: Arc<Suite>) {
    let mut rule = repurchase("8", "10");
    rule["enabled"] = json!(false);
    let customer = customer_with(&suite, rule, [Answer::Package]).await;
    customer.charge(5, "5").await;
    customer.gateway.tick().await;
    assert_eq!((customer.repurchases().await.len(), customer.order_posts().len()), (0, 0));
    assert_eq!(customer.story().await, Vec::<String>::new());
}

async fn a_rule_written_below_its_trigger_orders_at_once(suite: Arc<Suite>) {
    let customer = suite.watched("translate").await;
    customer.answer_orders([Answer::Package]);
    customer.grant("10").await;
    customer.charge(5, "5").await;
    customer.repurchase(repurchase("8", "10")).await;
    customer.expect_orders(1).await;
    expect_granted(&customer, "20").await;
}

async fn freezing_what_is_left_orders(suite: Arc<Suite>) {
    let customer = suite.watched("translate").await;
    customer.answer_orders([Answer::Package]);
    let package = customer.grant("10").await;
    customer.repurchase(repurchase("8", "10")).await;
    customer.change(&package, "freeze").await;
    customer.expect_orders(1).await;
    crate::support::eventually("calls go on", || async { customer.call().send().await.status == 200 }).await;
}

async fn no_second_order_is_made_while_one_is_pending(suite: Arc<Suite>) {
    let customer = suite.watched("translate").await;
    customer.grant("200").await;
    customer.repurchase(repurchase("190", "10")).await;
    let mut callers = JoinSet::new();
    for _ in 0..250 {
        let call = customer.call();
        callers.spawn(async move { call.send().await.status });
    }
    for _ in 0..5 {
        let customer = customer.clone();
        callers.spawn(async move {
            customer.rules(&json!({ "repurchase": repurchase("190", "10") })).await;
            customer.gateway.tick().await;
            0
        });
    }
    let served = callers.join_all().await.into_iter().filter(|status| *status == 200).count();
    assert_eq!(served, 200);
    customer.expect_used("200").await;
    customer.gateway.tick().await;
    customer.expect_orders(1).await;
    customer.expect_events("repurchase.requested", 1).await;
    assert_eq!(customer.repurchases().await.len(), 1);
}

async fn calls_are_never_refused_while_packages_keep_arriving(suite: Arc<Suite>) {
    const CALLERS: usize = 4;
    const CALLS: usize = 500;
    let customer = suite.watched("translate").await;
    customer.answer_orders([Answer::Package]);
    customer.grant("900").await;
    customer.repurchase(repurchase("800", "500")).await;
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let customer = customer.clone();
        callers.spawn(async move { customer.spend(CALLS).await });
    }
    callers.join_all().await;
    customer.expect_used(&(CALLERS * CALLS).to_string()).await;
    let requested = customer.events_of("repurchase.requested").await.len();
    assert!(requested >= 3, "2000 units were used of 900 and {requested} packages of 500");
    let succeeded = || async { customer.events_of("repurchase.succeeded").await.len() == requested };
    crate::support::eventually("every order has its package", succeeded).await;
    expect_granted(&customer, &(900 + 500 * requested).to_string()).await;
    customer.expect_orders(requested).await;
}

async fn orders_are_listed_by_customer_and_state(suite: Arc<Suite>) {
    let customer = customer_with(&suite, repurchase("8", "1"), [Answer::Package, Answer::Package, Answer::pending()]).await;
    // Each package of one leaves the customer at or below the trigger, until the third order waits.
    customer.adjust(customer.packages().await[0]["package_id"].as_str().unwrap(), "-5").await;
    let pending = customer.expect_orders(3).await;
    customer.order_in_state(&pending, "pending").await;
    let path = format!("/repurchases?customer_id={}", customer.id);
    let succeeded = customer.pages(&format!("{path}&state=succeeded&limit=1"), "repurchases").await;
    assert_eq!(succeeded.len(), 2);
    let order = &customer.pages(&format!("{path}&state=pending"), "repurchases").await[0];
    assert_eq!(order["repurchase_id"], pending.as_str());
    for (member, value) in purchase("1").as_object().unwrap() {
        assert_eq!(&order[member], value, "{order}");
    }
    assert_eq!((&order["customer_id"], &order["product_id"]), (&json!(customer.id), &json!("translate")));
    customer.gateway.control("GET", "/repurchases?state=odd").send().await.assert_invalid();
}
