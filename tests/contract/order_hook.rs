//! What the hook of orders may do: answer late, twice, not at all or nonsense, and there is one order still (contract section 4).

use crate::repurchases::{customer_on, customer_with, expect_granted, expect_granted_within, granted};
use crate::support::buyer::quantity;
use crate::support::gateway::CONFIG;
use crate::support::receiver::{Answer, package_of};
use crate::support::script::{Script, Step};
use crate::support::watched::repurchase;
use crate::support::{Suite, fresh};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

crate::cases! {
    a_package_before_the_answer_is_credited_once,
    a_late_answer_counts_once,
    a_hook_that_fails_for_a_while_gets_the_same_order_again,
    a_connection_that_breaks_is_tried_again_under_the_same_id,
    an_order_that_hangs_holds_up_no_other_customer,
    the_size_of_an_order_is_decided_once,
    an_answer_that_nobody_understands_is_asked_for_again,
    an_answer_to_another_order_is_asked_for_again;
    own:
    an_answer_that_comes_twice_credits_once,
    what_a_hook_says_unasked_is_no_other_orders_answer,
}

async fn a_package_before_the_answer_is_credited_once(suite: Arc<Suite>) {
    let gate = suite.receiver.gate();
    let customer = customer_with(&suite, repurchase("8", "10"), [Answer::PackageAfter(gate.step())]).await;
    customer.charge(2, "2").await;
    let id = customer.expect_orders(1).await;
    assert_eq!(customer.deliver(&id, "10").await.status, 201);
    gate.open();
    crate::support::eventually("the answer is written", || async { customer.order_posts()[0].answered }).await;
    customer.order_in_state(&id, "succeeded").await;
    customer.gateway.tick().await;
    expect_granted(&customer, "20").await;
    customer.expect_events("repurchase.succeeded", 1).await;
}

async fn a_late_answer_counts_once(suite: Arc<Suite>) {
    let customer = customer_with(&suite, repurchase("8", "10"), [Answer::PackageAfter(Step::PauseMs(2000))]).await;
    customer.charge(2, "2").await;
    let id = customer.expect_orders(1).await;
    customer.charge(2, "4").await;
    customer.order_in_state(&id, "succeeded").await;
    assert_eq!(customer.order_posts().len(), 1, "an order is not posted again while its answer is awaited");
    expect_granted(&customer, "20").await;
}

/// Two replies to one request: the second belongs to nothing, and is on the way when the connection is used again. A gateway of its own bears it.
fn twice(answer: &str, stray: &str) -> Answer {
    let second = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{stray}", stray.len());
    Answer::Script(Script::declaring(answer.len() as u64).then(Step::Text(answer.to_owned())).then(Step::Raw(second)))
}

const PENDING: &str = r#"{"status":"pending"}"#;

async fn an_answer_that_comes_twice_credits_once(suite: Arc<Suite>) {
    let (gateway, _home) = suite.start(CONFIG).await;
    let customer = customer_on(&suite, &gateway, repurchase("8", "10"), [twice(PENDING, PENDING)]).await;
    customer.charge(2, "2").await;
    let id = customer.expect_orders(1).await;
    let order = customer.order_in_state(&id, "pending").await;
    // And the outcome from many at once.
    let mut at_once = JoinSet::new();
    for _ in 0..10 {
        let (customer, id) = (customer.clone(), id.clone());
        let outcome = json!({ "status": "succeeded", "package": package_of(&order) });
        at_once.spawn(async move { customer.outcome(&id, &outcome).await.status });
    }
    for status in at_once.join_all().await {
        assert!(matches!(status, 200 | 201), "{status}");
    }
    expect_granted(&customer, "20").await;
    customer.expect_events("repurchase.succeeded", 1).await;
    customer.expect_events("package.granted", 2).await;
}

/// An edge whose client takes what was sent unasked for an answer posts again after 5 s; where the connection breaks over it, after 30 s more. Both are stretched by
/// a fifth at most.
const AFTER_TWO_POSTS_IN_VAIN: Duration = Duration::from_secs(60);

async fn what_a_hook_says_unasked_is_no_other_orders_answer(suite: Arc<Suite>) {
    let (gateway, _home) = suite.start(CONFIG).await;
    let package = json!({ "package_id": fresh("stray"), "quantity": "777" });
    let stray = json!({ "status": "succeeded", "repurchase_id": fresh("order"), "package": package }).to_string();
    let first = customer_on(&suite, &gateway, repurchase("8", "10"), [twice(PENDING, &stray)]).await;
    let next = customer_on(&suite, &gateway, repurchase("8", "10"), [Answer::Package]).await;
    first.charge(2, "2").await;
    let id = first.expect_orders(1).await;
    first.order_in_state(&id, "pending").await;
    next.charge(2, "2").await;
    expect_granted_within(AFTER_TWO_POSTS_IN_VAIN, &next, "20").await;
    next.expect_orders(1).await;
}

async fn an_answer_to_another_order_is_asked_for_again(suite: Arc<Suite>) {
    let others = Answer::json(&json!({ "status": "failed", "reason": "spec_delisted", "repurchase_id": fresh("order") }));
    let customer = customer_with(&suite, repurchase("8", "10"), [others, Answer::Package]).await;
    customer.charge(2, "2").await;
    expect_granted(&customer, "20").await;
    assert_eq!(customer.order_posts().len(), 2);
}

async fn a_hook_that_fails_for_a_while_gets_the_same_order_again(suite: Arc<Suite>) {
    let customer = customer_with(&suite, repurchase("8", "10"), [Answer::status(503), Answer::Package]).await;
    customer.charge(2, "2").await;
    expect_granted(&customer, "20").await;
    customer.expect_orders(1).await;
    let posts = customer.order_posts();
    assert_eq!(posts.len(), 2);
    assert!(posts.iter().all(|post| post.id() == posts[0].id() && post.raw == posts[0].raw), "{posts:?}");
    assert_eq!(customer.events_of("repurchase.failed").await.len(), 0);
}

async fn a_connection_that_breaks_is_tried_again_under_the_same_id(suite: Arc<Suite>) {
    let broken =
        [Script::status(200).first(Step::Reset), Script::declaring(900).then(Step::Text("{\"sta".into())).then(Step::Cut)];
    let customers = broken.map(|script| (Answer::Script(script), Answer::Package));
    for (broken, good) in customers {
        let customer = customer_with(&suite, repurchase("8", "10"), [broken, good]).await;
        customer.charge(2, "2").await;
        expect_granted(&customer, "20").await;
        customer.expect_orders(1).await;
        assert_eq!(customer.order_posts().len(), 2);
    }
}

async fn an_order_that_hangs_holds_up_no_other_customer(suite: Arc<Suite>) {
    let gate = suite.receiver.gate();
    let waiting = customer_with(&suite, repurchase("8", "10"), [Answer::PackageAfter(gate.step())]).await;
    waiting.charge(2, "2").await;
    waiting.expect_orders(1).await;
    let other = customer_with(&suite, repurchase("8", "10"), [Answer::Package]).await;
    other.charge(2, "2").await;
    expect_granted(&other, "20").await;
    assert_eq!(granted(&waiting).await, quantity("10"));
    gate.open();
    expect_granted(&waiting, "20").await;
}

async fn the_size_of_an_order_is_decided_once(suite: Arc<Suite>) {
    let gate = suite.receiver.gate();
    let held = Script::status(503).first(gate.step());
    let customer = customer_with(&suite, repurchase("8", "10"), [Answer::Script(held), Answer::Package]).await;
    customer.charge(2, "2").await;
    customer.expect_orders(1).await;
    let mut rule = repurchase("8", "77");
    rule["package"]["price"] = json!("99");
    customer.repurchase(rule).await;
    gate.open();
    expect_granted(&customer, "20").await;
    customer.expect_orders(1).await;
    let posts = customer.order_posts();
    assert_eq!((&posts[1].body["data"]["quantity"], &posts[1].body["data"]["price"]), (&json!("10"), &json!("10")));
}

async fn an_answer_that_nobody_understands_is_asked_for_again(suite: Arc<Suite>) {
    let mut customers = Vec::new();
    for body in ["", "ok", "[]", "{}", "{\"status\":\"odd\"}", "{\"status\":\"succeeded\",\"package\":7}"] {
        let odd = Answer::Script(Script::text(body).header("content-type", "application/json"));
        let customer = customer_with(&suite, repurchase("8", "10"), [odd, Answer::Package]).await;
        customer.charge(2, "2").await;
        customers.push(customer);
    }
    for customer in customers {
        expect_granted(&customer, "20").await;
        customer.expect_orders(1).await;
        assert_eq!(customer.order_posts().len(), 2);
        assert_eq!(customer.events_of("repurchase.failed").await.len(), 0);
    }
}
