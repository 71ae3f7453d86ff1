//! A customer with what the merchant is told about it: its rules, events, orders and deliveries.

use super::buyer::Buyer;
use super::call::Reply;
use super::receiver::{Answer, Delivery, HOOKS, ORDERS, Receiver, package_of};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::ops::Deref;

#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) buyer: Buyer,
    pub(crate) receiver: Receiver,
}

impl Deref for Watched {
    type Target = Buyer;

    fn deref(&self) -> &Buyer {
        &self.buyer
    }
}

/// What a rule buys where a case does not say more: so much for the price of 10 EUR.
pub(crate) fn purchase(quantity: &str) -> Value {
    json!({ "spec_id": "spec-1", "quantity": quantity, "price": "10", "currency": "EUR" })
}

/// A rule that orders at `trigger` remaining, practically without a cap and without a cooldown.
pub(crate) fn repurchase(trigger: &str, quantity: &str) -> Value {
    json!({
        "enabled": true,
        "trigger": { "remaining": trigger },
        "package": purchase(quantity),
        "cap": { "count": 100, "period": "30d" },
        "cooldown": "0s",
    })
}

/// The identity of an event in the control API.
pub(crate) fn event_id(event: &Value) -> String {
    event["event_id"].as_str().unwrap_or_else(|| panic!("no event_id in {event}")).to_owned()
}

impl Watched {
    fn rules_path(&self) -> String {
        format!("/customers/{}/products/{}/rules", self.id, self.product_id)
    }

    pub(crate) async fn try_rules(&self, rules: &Value) -> Reply {
        self.gateway.write("PUT", &self.rules_path(), rules).await
    }

    /// Writes the rules, which must be good.
    pub(crate) async fn rules(&self, rules: &Value) -> Value {
        let reply = self.try_rules(rules).await;
        assert!(matches!(reply.status, 200 | 201), "{} {}", reply.status, reply.text());
        reply.json()
    }

    /// Alerts alone.
    pub(crate) async fn alerts(&self, thresholds: Value) {
        self.rules(&json!({ "alerts": thresholds })).await;
    }

    /// A repurchase rule alone.
    pub(crate) async fn repurchase(&self, rule: Value) {
        self.rules(&json!({ "repurchase": rule })).await;
    }

    pub(crate) async fn read_rules(&self) -> Value {
        self.gateway.read(&self.rules_path()).await
    }

    /// All events of the customer's product, oldest first.
    pub(crate) async fn events(&self) -> Vec<Value> {
        let mut events = self.pages(&format!("/events?customer_id={}&limit=100", self.id), "events").await;
        events.reverse();
        events.retain(|event| event["data"]["product_id"] == self.product_id.as_str());
        events
    }

    pub(crate) async fn events_of(&self, kind: &str) -> Vec<Value> {
        self.events().await.into_iter().filter(|event| event["type"] == kind).collect()
    }

    /// The types of all events, oldest first, less those of grants.
    pub(crate) async fn story(&self) -> Vec<String> {
        let events = self.events().await;
        let types = events.iter().map(|event| event["type"].as_str().unwrap().to_owned());
        types.filter(|kind| kind != "package.granted").collect()
    }

    /// Waits until there are that many events of a type, and checks that there are not more.
    pub(crate) async fn expect_events(&self, kind: &str, count: usize) -> Vec<Value> {
        super::eventually(&format!("{count} {kind}"), || async { self.events_of(kind).await.len() >= count }).await;
        let events = self.events_of(kind).await;
        assert_eq!(events.len(), count, "{events:?}");
        events
    }

    /// The thresholds that were told of, in the order of their events.
    pub(crate) async fn told(&self) -> Vec<Value> {
        self.events_of("balance.low").await.iter().map(|event| event["data"]["threshold"].clone()).collect()
    }

    /// Spends calls and waits until all that was spent until now is charged.
    pub(crate) async fn charge(&self, calls: usize, used: &str) {
        self.spend(calls).await;
        self.expect_used(used).await;
    }

    /// Charges that many units in one step: an adjustment of a package moves `remaining` as a charge does.
    pub(crate) async fn adjust(&self, package_id: &str, quantity: &str) {
        let body = json!({ "adjustment_id": super::fresh("adjustment"), "quantity": quantity, "reason": "a case" });
        let reply = self.gateway.write("POST", &format!("/packages/{package_id}/adjustments"), &body).await;
        assert!(matches!(reply.status, 200 | 201), "{} {}", reply.status, reply.text());
    }

    /// How the customer's orders are answered, in order of arrival; the last answer stands for all that follow.
    pub(crate) fn answer_orders(&self, answers: impl IntoIterator<Item = Answer>) {
        self.receiver.plan(ORDERS, &self.id, "repurchase.requested", answers);
    }

    /// How the customer's webhooks of a type are answered.
    pub(crate) fn answer_hooks(&self, kind: &str, answers: impl IntoIterator<Item = Answer>) {
        self.receiver.plan(HOOKS, &self.id, kind, answers);
    }

    /// Every post of an order that arrived.
    pub(crate) fn order_posts(&self) -> Vec<Delivery> {
        self.receiver.of(ORDERS, &self.id)
    }

    /// The ids of the orders that arrived, each once, in order of arrival.
    pub(crate) fn order_ids(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        let ids = self.order_posts().into_iter().map(|post| post.repurchase_id());
        ids.filter(|id| seen.insert(id.clone())).collect()
    }

    /// Waits until that many orders have arrived, and checks that there are not more; returns the last one's id.
    pub(crate) async fn expect_orders(&self, count: usize) -> String {
        super::eventually(&format!("{count} orders arrive"), || async { self.order_ids().len() >= count }).await;
        let mut ids = self.order_ids();
        assert_eq!(ids.len(), count, "{ids:?}");
        ids.pop().unwrap()
    }

    /// Waits until so many webhooks of a type have arrived.
    pub(crate) async fn expect_hooks(&self, kind: &str, count: usize) -> Vec<Delivery> {
        super::eventually(&format!("{count} webhooks of {kind} arrive"), || async { self.hooks(kind).len() >= count }).await;
        self.hooks(kind)
    }

    /// The webhooks of a type that arrived.
    pub(crate) fn hooks(&self, kind: &str) -> Vec<Delivery> {
        self.receiver.of(HOOKS, &self.id).into_iter().filter(|one| one.body["type"] == kind).collect()
    }

    /// All orders as the control API lists them.
    pub(crate) async fn repurchases(&self) -> Vec<Value> {
        self.pages(&format!("/repurchases?customer_id={}&limit=100", self.id), "repurchases").await
    }

    pub(crate) async fn order(&self, repurchase_id: &str) -> Value {
        let orders = self.repurchases().await;
        let found = orders.iter().find(|order| order["repurchase_id"] == repurchase_id);
        found.unwrap_or_else(|| panic!("{repurchase_id} is not in {orders:?}")).clone()
    }

    /// Waits until an order is in a state.
    pub(crate) async fn order_in_state(&self, repurchase_id: &str, state: &str) -> Value {
        super::eventually(&format!("{repurchase_id} is {state}"), || async { self.order(repurchase_id).await["state"] == state })
            .await;
        self.order(repurchase_id).await
    }

    pub(crate) async fn outcome(&self, repurchase_id: &str, outcome: &Value) -> Reply {
        self.gateway.write("POST", &format!("/repurchases/{repurchase_id}/outcome"), outcome).await
    }

    /// Grants the package of an order by naming it, as the marketplace's delivery does.
    pub(crate) async fn deliver(&self, repurchase_id: &str, quantity: &str) -> Reply {
        let order = json!({ "repurchase_id": repurchase_id, "quantity": quantity });
        let package = package_of(&order);
        let mut body = self.package(quantity);
        body["repurchase_id"] = json!(repurchase_id);
        self.gateway.write("PUT", &format!("/packages/{}", package["package_id"].as_str().unwrap()), &body).await
    }
}
