//! The process dies at every step of a repurchase, and afterwards there is one order, credited once (contract sections 3 and 4).
//!
//! Each case kills a gateway five times at one step, with another customer each time, and checks all of them at the end: what one
//! crash left behind is resolved while the next ones happen.

use crate::support::gateway::{Gateway, short_lease};
use crate::support::receiver::{Answer, package_of};
use crate::support::script::{Script, Step};
use crate::support::watched::{Watched, repurchase};
use crate::support::{Suite, eventually, eventually_within};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

crate::cases! {
    ;
    own:
    killed_between_the_charge_and_the_post_it_orders_once,
    killed_before_the_answer_it_orders_once,
    killed_right_after_the_answer_it_credits_once,
    killed_after_a_pending_answer_it_credits_once,
    killed_while_the_outcome_is_written_it_credits_once,
    killed_while_the_package_arrives_it_credits_once,
}

const ROUNDS: u64 = 5;
/// Longer than leases of holds and of the delivery, and than the first waits of the table of retries.
const RESOLVED_WITHIN: Duration = Duration::from_secs(75);

/// One gateway that is killed again and again, and the customers it has left behind.
struct Mortal {
    suite: Arc<Suite>,
    home: crate::support::gateway::Home,
    gateway: Gateway,
    customers: Vec<Watched>,
}

impl Mortal {
    async fn new(suite: &Arc<Suite>) -> Self {
        let (gateway, home) = suite.start(&short_lease("")).await;
        Self { suite: Arc::clone(suite), home, gateway, customers: Vec::new() }
    }

    /// A customer one charge away from an alert and from an order of 10 units.
    async fn customer(&mut self, answers: impl IntoIterator<Item = Answer>) -> Watched {
        let customer = self.suite.watched_on(&self.gateway, "translate");
        customer.answer_orders(answers);
        customer.grant("10").await;
        customer.rules(&json!({ "alerts": [{ "remaining": "8" }], "repurchase": repurchase("8", "10") })).await;
        customer.spend(1).await;
        self.customers.push(customer.clone());
        customer
    }

    async fn kill(&mut self) {
        self.gateway.kill();
        self.gateway = self.home.start().await;
        for customer in &mut self.customers {
            customer.buyer.gateway = self.gateway.clone();
        }
    }

    /// Waits until every customer has its package, and checks that nothing happened twice.
    async fn expect_each_credited_once(&self) {
        assert_eq!(self.customers.len() as u64, ROUNDS);
        for customer in &self.customers {
            eventually_within(RESOLVED_WITHIN, "the order is credited", || async {
                self.gateway.tick().await;
                deliver_where_pending(customer).await;
                self.is_resolved(customer).await
            })
            .await;
        }
        for customer in &self.customers {
            self.expect_once(customer).await;
        }
    }

    async fn is_resolved(&self, customer: &Watched) -> bool {
        let orders = customer.repurchases().await;
        let balance = customer.balance().await;
        orders.iter().any(|order| order["state"] == "succeeded" && order["package_id"].is_string())
            && (&balance["used"], &balance["held"]) == (&json!("2"), &json!("0"))
    }

    async fn expect_once(&self, customer: &Watched) {
        let orders = customer.repurchases().await;
        assert_eq!(orders.len(), 1, "{orders:?}");
        let id = orders[0]["repurchase_id"].as_str().unwrap();
        assert_eq!(customer.order_ids(), [id]);
        let posts: HashSet<_> = customer.order_posts().into_iter().map(|post| (post.id(), post.raw)).collect();
        assert_eq!(posts.len(), 1, "the same order is always the same message");
        assert_eq!(customer.balance().await["granted"], "20");
        self.gateway.assert_balanced(&customer.id).await;
        for (kind, count) in [
            ("balance.low", 1),
            ("repurchase.requested", 1),
            ("repurchase.succeeded", 1),
            ("repurchase.failed", 0),
            ("package.granted", 2),
        ] {
            customer.expect_events(kind, count).await;
        }
    }
}

/// The marketplace delivers what was ordered, however often it is asked to.
async fn deliver_where_pending(customer: &Watched) {
    for order in customer.repurchases().await {
        if order["state"] == "pending" {
            let id = order["repurchase_id"].as_str().unwrap();
            let reply = customer.deliver(id, "10").await;
            assert!(matches!(reply.status, 200 | 201), "{} {}", reply.status, reply.text());
        }
    }
}

async fn moment(round: u64, step_ms: u64) {
    tokio::time::sleep(Duration::from_millis(round * step_ms)).await;
}

async fn killed_between_the_charge_and_the_post_it_orders_once(suite: Arc<Suite>) {
    let mut mortal = Mortal::new(&suite).await;
    for round in 0..ROUNDS {
        let customer = mortal.customer([Answer::Package]).await;
        customer.spend(1).await;
        // From before the settle to after the post, somewhere.
        moment(round, 25).await;
        mortal.kill().await;
    }
    mortal.expect_each_credited_once().await;
}

async fn killed_before_the_answer_it_orders_once(suite: Arc<Suite>) {
    let mut mortal = Mortal::new(&suite).await;
    for _ in 0..ROUNDS {
        let hang = Answer::Script(Script::status(200).first(Step::Hang));
        let customer = mortal.customer([hang, Answer::Package]).await;
        customer.spend(1).await;
        customer.expect_orders(1).await;
        mortal.kill().await;
    }
    mortal.expect_each_credited_once().await;
}

async fn expect_answered(customer: &Watched) {
    eventually("the answer is written", || async { customer.order_posts().iter().any(|post| post.answered) }).await;
}

async fn killed_right_after_the_answer_it_credits_once(suite: Arc<Suite>) {
    let mut mortal = Mortal::new(&suite).await;
    for round in 0..ROUNDS {
        let customer = mortal.customer([Answer::Package]).await;
        customer.spend(1).await;
        expect_answered(&customer).await;
        moment(round, 3).await;
        mortal.kill().await;
    }
    mortal.expect_each_credited_once().await;
}

async fn killed_after_a_pending_answer_it_credits_once(suite: Arc<Suite>) {
    let mut mortal = Mortal::new(&suite).await;
    for round in 0..ROUNDS {
        let customer = mortal.customer([Answer::pending()]).await;
        customer.spend(1).await;
        expect_answered(&customer).await;
        moment(round, 3).await;
        mortal.kill().await;
    }
    mortal.expect_each_credited_once().await;
}

async fn killed_while_the_outcome_is_written_it_credits_once(suite: Arc<Suite>) {
    let mut mortal = Mortal::new(&suite).await;
    for round in 0..ROUNDS {
        let customer = mortal.customer([Answer::pending()]).await;
        customer.spend(1).await;
        let id = customer.expect_orders(1).await;
        let order = customer.order_in_state(&id, "pending").await;
        let outcome = json!({ "status": "succeeded", "package": package_of(&order) });
        let path = format!("/repurchases/{id}/outcome");
        let request = customer.gateway.control("POST", &path).body(outcome.to_string());
        let writing = tokio::spawn(async move { request.try_send().await.is_ok() });
        moment(round, 2).await;
        mortal.kill().await;
        let was_answered = writing.await.unwrap();
        // Who got no answer asks again; who got one may rely on it.
        let customer = mortal.customers.last().unwrap();
        if was_answered {
            assert_eq!(customer.order(&id).await["state"], "succeeded");
        }
        let reply = customer.outcome(&id, &outcome).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    mortal.expect_each_credited_once().await;
}

async fn killed_while_the_package_arrives_it_credits_once(suite: Arc<Suite>) {
    let mut mortal = Mortal::new(&suite).await;
    for round in 0..ROUNDS {
        let customer = mortal.customer([Answer::succeeded()]).await;
        customer.spend(1).await;
        let id = customer.expect_orders(1).await;
        customer.order_in_state(&id, "succeeded").await;
        let arriving = customer.clone();
        let order = id.clone();
        let writing = tokio::spawn(async move {
            let mut body = arriving.package("10");
            body["repurchase_id"] = json!(order);
            let request = arriving.gateway.control("PUT", &format!("/packages/package-{order}")).body(body.to_string());
            request.try_send().await.is_ok()
        });
        moment(round, 2).await;
        mortal.kill().await;
        let was_answered = writing.await.unwrap();
        let customer = mortal.customers.last().unwrap();
        let again = customer.deliver(&id, "10").await.status;
        assert!(again == 200 || (again == 201 && !was_answered), "{again}");
    }
    mortal.expect_each_credited_once().await;
}
